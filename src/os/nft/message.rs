//! Messages of nf_tables, taken apart and written attribute by attribute.
//!
//! Rules are replayed with the very bytes that the kernel gave. Numbers are those of
//! linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.

use netlink_packet_core::DecodeError;

use crate::config::readable;
use crate::os::attributes;
pub(super) use crate::os::attributes::{Attributes, each, value};
use crate::os::netlink::{self, Message};
pub(super) use crate::os::netlink::{HEADER, NFGENMSG};
use crate::ruleset::Family;

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of every message's type.
pub(super) const SUBSYSTEM: u16 = 10;

/// `NFTA_TABLE_…`, and the flags of a table: `NFT_TABLE_F_…`.
pub(super) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USE: u16 = 3;
    pub(crate) const OWNED_BY: u16 = 7;

    /// No packet meets its rules.
    pub const DORMANT: u32 = 1;
    /// Only one socket can change it (Linux 5.12).
    pub const OWNER: u32 = 2;
    /// It outlives that socket (Linux 6.9).
    pub const PERSIST: u32 = 4;
}

/// `NFTA_CHAIN_…`.
pub(super) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const KIND: u16 = 7;
    pub(crate) const FLAGS: u16 = 10;

    /// It is hooked in.
    pub(crate) const BASE: u32 = 1;
}

/// `NFTA_HOOK_…`.
pub(super) mod hook {
    pub(crate) const NUMBER: u16 = 1;
    pub(crate) const PRIORITY: u16 = 2;
    pub(crate) const DEVICE: u16 = 3;
}

/// `NFTA_RULE_…` and `NFTA_RULE_COMPAT_…`.
pub(super) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const COMPAT: u16 = 5;
    pub(crate) const USERDATA: u16 = 7;

    pub(crate) const COMPAT_PROTOCOL: u16 = 1;
    pub(crate) const COMPAT_FLAGS: u16 = 2;
}

/// `NFTA_EXPR_…`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// `NFTA_COUNTER_…`.
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// What a message asks for: `NFT_MSG_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verb {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    GetSet = 10,
    GetSetElements = 13,
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
    /// Frames at an interface, before or after everything else.
    Netdev = 5,
    /// IPv6.
    Ipv6 = 10,
}

impl Proto {
    /// The family with that number, if packets of IP pass its chains.
    pub(super) const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Inet),
            2 => Some(Self::Ipv4),
            5 => Some(Self::Netdev),
            10 => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// As nft calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Netdev => "netdev",
            Self::Ipv6 => "ip6",
        }
    }

    /// `None` where packets of both families pass.
    pub(super) const fn family(self) -> Option<Family> {
        match self {
            Self::Ipv4 => Some(Family::V4),
            Self::Ipv6 => Some(Family::V6),
            Self::Inet | Self::Netdev => None,
        }
    }
}

impl From<Family> for Proto {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

/// What messages of netfilter have in common.
impl Message<'_> {
    /// The attributes behind `struct nfgenmsg`.
    pub(super) fn attributes(&self) -> &[u8] {
        self.payload.get(NFGENMSG..).unwrap_or_default()
    }

    /// The family in `struct nfgenmsg`.
    pub(super) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
}

/// A number, which nf_tables has in network order.
pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let bytes = value(attributes, kind)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// A longer number.
pub(super) fn long(attributes: &[u8], kind: u16) -> Option<u64> {
    let bytes = value(attributes, kind)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// A string's bytes, without the NUL at their end.
pub(super) fn text(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    value(attributes, kind).map(attributes::text)
}

/// The same as text; bytes that are none are escaped.
pub(super) fn string(attributes: &[u8], kind: u16) -> String {
    readable(text(attributes, kind).unwrap_or_default())
}

/// An expression of a rule: its name and data.
pub(super) type Expression<'a> = (&'a [u8], &'a [u8]);

/// The expressions of a rule.
pub(super) fn expressions(
    list: &[u8],
) -> impl Iterator<Item = Result<Expression<'_>, DecodeError>> {
    each(list).map(|(kind, expression)| {
        kind?;
        let (mut name, mut data): Expression<'_> = (&[], &[]);
        for (kind, value) in each(expression) {
            match kind? {
                EXPRESSION_NAME => name = attributes::text(value),
                EXPRESSION_DATA => data = value,
                _ => {}
            }
        }
        Ok((name, data))
    })
}

/// How many packets the first counter among the expressions has seen; `None` where there is none.
pub(super) fn packets(list: &[u8]) -> Option<u64> {
    let mut counters = expressions(list).flatten();
    let (_, data) = counters.find(|(name, _)| *name == b"counter")?;
    long(data, COUNTER_PACKETS)
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
        let expression = Self::default()
            .text(EXPRESSION_NAME, name)
            .nest(EXPRESSION_DATA, data);
        self.nest(LIST_ELEMENT, &expression)
    }

    /// A counter that begins at `packets`.
    pub(super) fn counter(self, packets: u64) -> Self {
        let data = Self::default()
            .put(COUNTER_BYTES, &0_u64.to_be_bytes())
            .put(COUNTER_PACKETS, &packets.to_be_bytes());
        self.expression("counter", &data)
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
