//! Messages to nf_tables, written attribute by attribute.
//!
//! netlink-packet-netfilter carries tables, chains and rules, but neither batches nor the
//! expressions of compat matches, NAT and redirection, and rules are replayed here with the very
//! bytes that the kernel gave. Numbers are those of linux/netfilter/nfnetlink.h and
//! linux/netfilter/nf_tables.h.

use netlink_packet_core::{Emitable as _, NetlinkHeader};

use crate::ruleset::Family;

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of every message's type.
pub(super) const SUBSYSTEM: u16 = 10;

/// Lengths of `struct nlmsghdr` and `struct nfgenmsg`.
pub(super) const HEADER: usize = 16;
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

/// Attributes under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(pub(super) Vec<u8>);

/// The attribute holds attributes (`NLA_F_NESTED`, linux/netlink.h).
const NESTED: u16 = 0x8000;

impl Attributes {
    /// Adds an attribute as it is; `kind` may have flags.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        // A value that long never occurs: names are bounded and expressions are small.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

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

    /// Attributes within one.
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
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
    (kind, flags, sequence): (u16, u16, u32),
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    let length = HEADER + NFGENMSG + attributes.len();
    let mut header = NetlinkHeader::default();
    header.length = length as u32;
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let start = bytes.len();
    bytes.resize(start + HEADER, 0);
    if let Some(place) = bytes.get_mut(start..) {
        header.emit(place);
    }
    // Version NFNETLINK_V0.
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
