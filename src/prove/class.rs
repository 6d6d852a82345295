//! What a claim speaks of: a class of packets, and the host they meet.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::ruleset::native::NativeTable;
use crate::ruleset::{Family, IfacePattern, Ipset, Net, PortRange, protocol, protocol_name};

/// Interfaces: those that fit one of some patterns, but for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ifaces {
    /// The names meant; a prefix stands for every name there could be, existing or not.
    pub any_of: Vec<IfacePattern>,
    /// Names left out of them.
    pub except: Vec<IfacePattern>,
}

impl From<IfacePattern> for Ifaces {
    fn from(pattern: IfacePattern) -> Self {
        Self {
            any_of: vec![pattern],
            except: Vec::new(),
        }
    }
}

impl Ifaces {
    /// Every interface but for some.
    #[must_use]
    pub fn all_but(except: Vec<IfacePattern>) -> Self {
        Self {
            any_of: vec![IfacePattern::Prefix(String::new())],
            except,
        }
    }

    /// Whether an interface of that name is one of them.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let among = |patterns: &[IfacePattern]| patterns.iter().any(|pattern| pattern.fits(name));
        among(&self.any_of) && !among(&self.except)
    }
}

impl fmt::Display for Ifaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |patterns: &[IfacePattern], between: &str| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            patterns.join(between)
        };
        match self.any_of.as_slice() {
            [IfacePattern::Prefix(name)] if name.is_empty() => f.write_str("any interface")?,
            patterns => f.write_str(&list(patterns, " or "))?,
        }
        match self.except.as_slice() {
            [] => Ok(()),
            except => write!(f, " but {}", list(except, " and ")),
        }
    }
}

/// Addresses: those in some networks, but for those in others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addrs {
    /// The networks meant; none at all stands for every address.
    pub any_of: Vec<Net>,
    /// Networks left out of them.
    pub except: Vec<Net>,
}

impl From<Net> for Addrs {
    fn from(net: Net) -> Self {
        Self {
            any_of: vec![net],
            except: Vec::new(),
        }
    }
}

impl Addrs {
    /// Whether an address is one of them.
    #[must_use]
    pub fn has(&self, addr: IpAddr) -> bool {
        let within = |nets: &[Net]| nets.iter().any(|net| net.contains(addr));
        (self.any_of.is_empty() || within(&self.any_of)) && !within(&self.except)
    }

    /// Whether nothing is left out at all.
    fn is_every(&self) -> bool {
        self.any_of.is_empty() && self.except.is_empty()
    }
}

impl fmt::Display for Addrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nets: &[Net]| {
            nets.iter()
                .map(Net::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match self.any_of.as_slice() {
            [] => f.write_str("any address")?,
            nets => f.write_str(&list(nets))?,
        }
        if self.except.is_empty() {
            Ok(())
        } else {
            write!(f, " but {}", list(&self.except))
        }
    }
}

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In by these interfaces: PREROUTING, then FORWARD or INPUT.
    Interface(Ifaces),
    /// From a process of this host: OUTPUT.
    Host,
    /// From a process of this host in this cgroup, or in one below it: a path without a `/` at either
    /// end.
    Cgroup(String),
}

impl Origin {
    /// Whether this host sends the packets.
    pub const fn is_host(&self) -> bool {
        matches!(self, Self::Host | Self::Cgroup(_))
    }
}

/// Where packets are addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address in this network.
    Net(Net),
    /// Any address of this host, also one that the [`HostView`] does not know of if it knows none.
    ThisHost,
}

/// Which packet of a connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first packet, or one of no connection at all.
    First,
    /// A later one. NAT is not asked again for these.
    Established,
    /// Any of a connection, whichever program made it.
    Any,
}

/// A class of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketClass {
    /// The family.
    pub family: Family,
    /// Where they come from.
    pub from: Origin,
    /// By which interfaces the routing sends them out, where that is known; `None` for any.
    ///
    /// For packets of the host itself this is the route that the original destination has: the
    /// kernel shows it to every OUTPUT chain, also after NAT has turned the packet elsewhere.
    pub out: Option<Ifaces>,
    /// Their source.
    pub src: Addrs,
    /// Their destination.
    pub dst: Destination,
    /// Their protocol; `None` for every one.
    pub protocol: Option<u8>,
    /// Their source ports; `None` for any, or for a protocol without ports.
    pub sport: Option<PortRange>,
    /// Their destination ports; `None` for any, or for a protocol without ports.
    pub dport: Option<PortRange>,
    /// Which packet of a connection.
    pub moment: Moment,
    /// Whether packets addressed elsewhere, which a DNAT on the way turns to this destination, are
    /// meant too.
    pub turned: bool,
}

impl PacketClass {
    /// What the connections begin with that these packets belong to, by whatever interface it comes. An error by ICMP
    /// belongs to a connection of any protocol, and any host may send it.
    pub(super) fn beginnings(&self) -> Self {
        let strangers = matches!(
            self.protocol,
            None | Some(protocol::ICMP | protocol::ICMPV6)
        );
        Self {
            from: Origin::Interface(Ifaces::all_but(Vec::new())),
            src: if strangers {
                Addrs::default()
            } else {
                self.src.clone()
            },
            protocol: self.protocol.filter(|_| !strangers),
            moment: Moment::First,
            ..self.clone()
        }
    }
}

impl fmt::Display for PacketClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            None => f.write_str("every protocol")?,
            Some(number) => f.write_str(&protocol_name(number).to_uppercase())?,
        }
        match &self.from {
            Origin::Interface(ifaces) => write!(f, " from {ifaces}")?,
            Origin::Host => f.write_str(" from this host")?,
            Origin::Cgroup(path) if path.is_empty() => write!(f, " from any process here")?,
            Origin::Cgroup(path) => write!(f, " from processes in cgroup {path}")?,
        }
        if !self.src.is_every() {
            write!(f, ", source {}", self.src)?;
        }
        match &self.dst {
            Destination::Net(net) if net.family() == Family::V6 && self.dport.is_some() => {
                write!(f, " to [{net}]")?;
            }
            Destination::Net(net) => write!(f, " to {net}")?,
            Destination::ThisHost if self.dport.is_some() => f.write_str(" to this host, port ")?,
            Destination::ThisHost => f.write_str(" to this host")?,
        }
        if let Some(PortRange { low, high }) = self.dport {
            if self.dst != Destination::ThisHost {
                f.write_str(":")?;
            }
            write!(f, "{low}")?;
            if high != low {
                write!(f, "-{high}")?;
            }
        }
        if self.moment == Moment::Established {
            f.write_str(", in an established connection")?;
        }
        Ok(())
    }
}

/// What an interface of the host contributes to a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Iface {
    /// Its addresses of both families in the kernel's order: the first of a family is the one that
    /// REDIRECT turns packets to.
    pub addrs: Vec<IpAddr>,
    /// Whether 127.0.0.0/8 may arrive by it: its own `route_localnet`, or that of `all`.
    pub route_localnet: bool,
}

/// What a proof must know of the host besides its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The interfaces by name.
    pub interfaces: BTreeMap<String, Iface>,
    /// Whether `net.ipv4.conf.all.route_localnet` is on: then it is on for every interface, also
    /// for one yet to come.
    pub route_localnet: bool,
    /// The tables of native nftables that packets pass, but for the guard's own.
    pub native: Vec<NativeTable>,
    /// What the sets of ipset hold that rules ask for; `None` where that is not understood, or may change with every
    /// packet. Of others nothing is known.
    pub ipsets: BTreeMap<String, Option<Ipset>>,
    /// The number that each of these cgroups has now, `None` where it is not there. Of others nothing
    /// is known.
    pub cgroups: BTreeMap<String, Option<u64>>,
    /// The addresses to which the host itself has no route: what it sends there meets no rule.
    pub unroutable: Vec<IpAddr>,
    /// The interfaces by which this host sends to some addresses, as its routes say. What it forwards may go
    /// elsewhere by a rule of policy routing, so this tells examples and not what is held.
    pub ways: Vec<(IpAddr, String)>,
    /// Networks that are this host's own by a route of type local, beside its addresses.
    pub local: Vec<Net>,
    /// The addresses of all hosts in a network of this host (routes of type broadcast).
    pub broadcast: Vec<Net>,
    /// The interfaces that accept packets which carry their own route (`accept_source_route`,
    /// `seg6_enabled`, `rpl_seg_enabled`), with the family and the sysctl that says so.
    pub source_routed: Vec<(Family, String, String)>,
}

/// What is out of the ordinary about a packet. The class of a block has such packets too, so that a block is proved for
/// them; few of them show it to be broken, since whether the others get anywhere depends on more than the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// Conntrack calls it INVALID (a length, a checksum or a tag that cannot be, impossible flags).
    Invalid = 1,
    /// A later fragment. Conntrack puts fragments together before any table sees them, where
    /// anything uses it.
    Fragment = 2,
    /// IPv6 headers that do not lead to a protocol.
    Headless = 3,
    /// From outside, with a source that is this host's, loopback, or no host's at all.
    Spoofed = 4,
    /// Sent by the kernel itself, without a socket.
    Socketless = 5,
    /// Marked by the process that sent it (`SO_MARK`).
    Marked = 6,
    /// Of a connection that was there before. A container that may write packets of its own can make
    /// one to any address: the first packet, with that address as its source, comes back to it.
    Later = 7,
}

impl Odd {
    pub(super) const ALL: [Self; 7] = [
        Self::Invalid,
        Self::Fragment,
        Self::Headless,
        Self::Spoofed,
        Self::Socketless,
        Self::Marked,
        Self::Later,
    ];
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "one that conntrack calls INVALID",
            Self::Fragment => "a later fragment, where nothing puts fragments together",
            Self::Headless => "IPv6 headers that lead to no protocol",
            Self::Spoofed => "a source address that routing may refuse",
            Self::Socketless => "sent without a socket",
            Self::Marked => "marked by its sender",
            Self::Later => {
                "one of an established connection, which was there before or which a container with CAP_NET_RAW makes itself"
            }
        })
    }
}

/// As people read it.
impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
