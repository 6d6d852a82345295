//! A claim.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::class::PacketClass;

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
