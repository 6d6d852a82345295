//! A claim.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::class::{Ifaces, Origin, PacketClass};

/// What a claim says becomes of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None of them leaves, or arrives.
    Dropped,
    /// Every one of them arrives at this address and port of the host.
    Delivered {
        /// The address, after all NAT.
        addr: IpAddr,
        /// The port, after all NAT.
        port: u16,
    },
}

/// What a guarantee says of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The guarantee that makes the claim.
    pub guarantee: String,
    /// The packets.
    pub packets: PacketClass,
    /// What becomes of them.
    pub expect: Expect,
}

impl Claim {
    /// The claim of the packets of both, where they differ in nothing but the interfaces that packets come in by.
    /// What holds of both together holds of each.
    #[must_use]
    pub fn with(&self, other: &Self) -> Option<Self> {
        let (Origin::Interface(one), Origin::Interface(another)) =
            (&self.packets.from, &other.packets.from)
        else {
            return None;
        };
        let from_both = |claim: &Self| {
            let any_of = one.any_of.iter().chain(&another.any_of);
            let mut claim = claim.clone();
            claim.packets.from = Origin::Interface(Ifaces {
                any_of: any_of.cloned().collect(),
                except: one.except.clone(),
            });
            claim
        };
        let both = from_both(self);
        (one.except == another.except && from_both(other) == both).then_some(both)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expect {
            Expect::Dropped => write!(f, "{} is dropped", self.packets),
            Expect::Delivered { addr, port } => {
                write!(
                    f,
                    "{} reaches {}",
                    self.packets,
                    SocketAddr::new(addr, port)
                )
            }
        }
    }
}
