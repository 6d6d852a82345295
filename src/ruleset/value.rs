//! The values that rules compare: networks and interface names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// The longest interface name the kernel has, in bytes (IFNAMSIZ less its final zero).
pub(crate) const IFNAME_MAX: usize = 15;

/// The name of an interface, or the beginning of names (`docker+`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IfacePattern {
    /// One interface.
    Exact(String),
    /// Every interface whose name begins so, also the one named exactly so.
    Prefix(String),
}

impl IfacePattern {
    /// Reads the spelling of iptables: a final `+` makes it a prefix.
    ///
    /// `None` where the name has bytes that no tool gives an interface. iptables prints names
    /// without quotes, so one with a blank in it could pass for other words of the rule.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, prefix) = match text.strip_suffix('+') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:".contains(c);
        if name.starts_with('-')
            || name.len() > IFNAME_MAX
            || name.starts_with('-')
            || !name.chars().all(plain)
            || (name.is_empty() && !prefix)
        {
            return None;
        }
        let name = name.to_owned();
        Some(if prefix {
            Self::Prefix(name)
        } else {
            Self::Exact(name)
        })
    }

    /// Whether an interface of this name is meant.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    /// Whether every name that `other` stands for is also one of this pattern's.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(a), Self::Exact(b) | Self::Prefix(b)) => b.starts_with(a.as_str()),
        }
    }
}

impl fmt::Display for IfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(name) => write!(f, "{name}+"),
        }
    }
}

/// A network: an address and the length of its prefix. The bits beyond the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    addr: IpAddr,
    prefix: u8,
}

impl Net {
    /// The network of that prefix length that contains the address; `None` if it is too long.
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(addr);
        if prefix > width {
            return None;
        }
        let mask = mask_of(prefix, width);
        Some(Self {
            addr: from_bits(bits(addr) & mask, addr),
            prefix,
        })
    }

    /// The network that consists of one address.
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            prefix: width(addr),
        }
    }

    /// Every address of a family.
    pub fn all(family: Family) -> Self {
        let addr = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { addr, prefix: 0 }
    }

    /// The addresses of a host that talks to itself: 127.0.0.0/8, or ::1.
    pub fn loopback(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                addr: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
                prefix: 8,
            },
            Family::V6 => Self::host(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        }
    }

    /// Its lowest address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length of its prefix, in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its family.
    pub fn family(&self) -> Family {
        family_of(self.addr)
    }

    /// Whether the address is in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.family() == family_of(addr) && Self::new(addr, self.prefix) == Some(*self)
    }

    /// Reads `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, a bare address, or the IPv6 likes of them.
    ///
    /// `None` for a mask with holes (legal, but no range of addresses) and for IPv4 bits beyond the
    /// mask: iptables clears these when it takes a rule, so their writer meant a rule
    /// that the kernel never matches. For IPv6 the kernel ignores them.
    pub fn parse(family: Family, text: &str) -> Option<Self> {
        let (addr, mask) = match text.split_once('/') {
            Some((addr, mask)) => (addr, Some(mask)),
            None => (text, None),
        };
        let addr = parse_addr(family, addr)?;
        let width = width(addr);
        let prefix = match mask {
            None => width,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(dotted) => {
                let mask = bits(parse_addr(family, dotted)?);
                (0..=width).find(|p| mask_of(*p, width) == mask)?
            }
        };
        let net = Self::new(addr, prefix)?;
        (net.addr == addr || family == Family::V6).then_some(net)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.addr) {
            write!(f, "{}", self.addr)
        } else {
            write!(f, "{}/{}", self.addr, self.prefix)
        }
    }
}

/// The family an address belongs to.
pub(crate) fn family_of(addr: IpAddr) -> Family {
    match addr {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// Reads an address of that family.
pub(crate) fn parse_addr(family: Family, text: &str) -> Option<IpAddr> {
    match family {
        Family::V4 => text.parse().ok().map(IpAddr::V4),
        Family::V6 => text.parse().ok().map(IpAddr::V6),
    }
}

/// The bits of an address as a number, right-aligned.
pub(crate) fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// The address with these bits, of the same family as `like`.
fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        // The caller masked a 32-bit number, so nothing is cut off.
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from((bits & u128::from(u32::MAX)) as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

fn width(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn mask_of(prefix: u8, width: u8) -> u128 {
    let all = u128::MAX >> (128 - u32::from(width));
    let host_bits = u32::from(width - prefix.min(width));
    all & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}
