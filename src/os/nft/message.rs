//! Messages to nf_tables, written attribute by attribute.
//!
//! netlink-packet-netfilter carries tables, chains and rules, but neither batches nor the
//! expressions of compat matches, NAT and redirection, and rules are replayed here with the very
//! bytes that the kernel gave. Numbers are those of linux/netfilter/nfnetlink.h and
//! linux/netfilter/nf_tables.h.

pub(super) use crate::os::attributes::Attributes;
use crate::os::netlink;
pub(super) use crate::os::netlink::HEADER;
use crate::ruleset::Family;

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of every message's type.
pub(super) const SUBSYSTEM: u16 = 10;

/// The length of `struct nfgenmsg`.
pub(super) const NFGENMSG: usize = 4;

/// What a message asks for: `NFT_MSG_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verb {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewGen = 15,
    GetGen = 16,
}

impl Verb {
    /// The message's type.
    pub(super) const fn kind(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// The families of nf_tables: `NFPROTO_…` of linux/netfilter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Proto {
    /// Both at once.
    Inet = 1,
    /// IPv4.
    Ipv4 = 2,
    /// IPv6.
    Ipv6 = 10,
}

impl From<Family> for Proto {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

impl Attributes {
    /// A number; nf_tables has them in network order.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A string.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// An expression in a list of them.
    pub(super) fn expression(self, name: &str, data: &Self) -> Self {
        const LIST_ELEMENT: u16 = 1;
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        let expression = Self::default().text(NAME, name).nest(DATA, data);
        self.nest(LIST_ELEMENT, &expression)
    }
}

/// Appends a whole message to `bytes`.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    message: (u16, u16, u32),
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    // Version NFNETLINK_V0.
    let [high, low] = resource.to_be_bytes();
    netlink::append(bytes, message, &[family, 0, high, low], attributes);
}
