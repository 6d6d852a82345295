//! What the kernel holds: tables, chains, sets, and rules as lists of expressions.

use std::collections::BTreeMap;

use super::super::target::Reach;

/// `NFPROTO_…` of linux/netfilter.h.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const NETDEV: u8 = 5;
pub(super) const BRIDGE: u8 = 7;
pub(super) const IPV6: u8 = 10;

/// Everything of nf_tables that packets pass in a network namespace, but for what iptables lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The tables.
    pub tables: Vec<RawTable>,
    /// The names of interfaces by their numbers.
    pub interfaces: BTreeMap<u32, String>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawTable {
    /// `NFPROTO_…` of linux/netfilter.h: 1 inet, 2 ip, 5 netdev, 7 bridge, 10 ip6.
    pub family: u8,
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: BTreeMap<String, RawChain>,
    /// Its sets and maps, anonymous ones too.
    pub sets: BTreeMap<String, Set>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawChain {
    /// How it is hooked in, if it is and is to be walked.
    pub base: Option<RawBase>,
    /// Its rules.
    pub rules: Vec<RawRule>,
}

/// How a chain is hooked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawBase {
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// `NF_INET_…` or `NF_NETDEV_…`.
    pub hook: u32,
    /// Lower comes first.
    pub priority: i32,
    /// Whether what no rule decides about goes on.
    pub accepts: bool,
    /// The interfaces, where it has such.
    pub devices: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRule {
    /// What it consists of.
    pub expressions: Vec<Expression>,
    /// Its comment.
    pub comment: Option<String>,
    /// The kernel's number for it.
    pub handle: u64,
}

/// A place among the registers, in bytes: the kernel has 16 of 4 bytes.
pub type Register = usize;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The base chain ends, the packet goes on.
    Accept,
    /// The packet ends.
    Drop,
    /// The rule goes on.
    Continue,
    /// Back to the calling chain.
    Return,
    /// Calls a chain.
    Jump(String),
    /// Goes to a chain for good.
    Goto(String),
}

/// A value of a map, or one that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// A set or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its elements are the borders of intervals.
    pub intervals: bool,
    /// The lengths of the fields of which its keys consist.
    pub fields: Vec<usize>,
    /// Its elements.
    pub elements: Vec<Element>,
    /// Why it is not known what is in it.
    pub unclear: Option<String>,
}

/// An element of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The key, or the least one.
    pub key: Vec<u8>,
    /// The greatest key, where every field is a range.
    pub last: Option<Vec<u8>>,
    /// Whether it only ends the interval before it.
    pub ends: bool,
    /// Whether it stands for all keys that are not there.
    pub otherwise: bool,
    /// What it maps to.
    pub data: Option<Data>,
}

/// An expression; numbers of keys are those of linux/netfilter/nf_tables.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads what is known of the packet beside its bytes.
    Meta {
        /// `NFT_META_…`.
        key: u32,
        /// Where to.
        into: Register,
    },
    /// Changes that.
    SetMeta {
        /// `NFT_META_…`.
        key: u32,
        /// Where from.
        from: Register,
    },
    /// Loads bytes of the packet.
    Payload {
        /// `NFT_PAYLOAD_…`: 0 link, 1 network, 2 transport.
        base: u32,
        /// Where in that header.
        offset: u32,
        /// How many.
        length: usize,
        /// Where to.
        into: Register,
    },
    /// Changes bytes of the packet.
    SetPayload {
        /// As above.
        base: u32,
        /// As above.
        offset: u32,
        /// As above.
        length: usize,
    },
    /// Loads what is known of its connection.
    Ct {
        /// `NFT_CT_…`.
        key: u32,
        /// Where to.
        into: Register,
    },
    /// Changes that.
    SetCt {
        /// `NFT_CT_…`.
        key: u32,
        /// Where from.
        from: Register,
    },
    /// Loads the type of an address.
    AddressType {
        /// Whether of the source.
        source: bool,
        /// Where to.
        into: Register,
    },
    /// Loads what nothing here knows, with its text; the rule ends where there is no such thing.
    Unknown {
        /// As nft would print it.
        text: String,
        /// Where to.
        into: Register,
        /// How many bytes.
        length: usize,
    },
    /// Loads a number that chance or a round gives: one of so many, from the first on.
    Numgen {
        /// The least of them.
        first: u32,
        /// How many.
        count: u32,
        /// Where to.
        into: Register,
    },
    /// Loads bytes.
    Load {
        /// Where to.
        into: Register,
        /// Which.
        bytes: Vec<u8>,
    },
    /// Decides.
    Verdict(Verdict),
    /// Compares.
    Compare {
        /// What.
        from: Register,
        /// `NFT_CMP_…`: 0 ==, 1 !=, 2 <, 3 <=, 4 >, 5 >=.
        operator: u32,
        /// With what.
        bytes: Vec<u8>,
    },
    /// Compares with a range.
    Range {
        /// What.
        from: Register,
        /// Written with `!=`.
        negated: bool,
        /// The least value.
        low: Vec<u8>,
        /// The greatest.
        high: Vec<u8>,
    },
    /// `(value & mask) ^ xor`.
    Bitwise {
        /// Where from.
        from: Register,
        /// Where to.
        into: Register,
        /// The mask.
        mask: Vec<u8>,
        /// The bits to flip.
        xor: Vec<u8>,
    },
    /// Turns the bytes of each number round.
    Swap {
        /// Where from.
        from: Register,
        /// Where to.
        into: Register,
        /// How many bytes in all.
        length: usize,
        /// How many a number.
        size: usize,
    },
    /// Looks up a key.
    Lookup {
        /// The set's name.
        set: String,
        /// The key.
        from: Register,
        /// Met by what is not in it.
        negated: bool,
        /// Takes the element's verdict.
        verdict: bool,
        /// Where its value goes.
        into: Option<(Register, usize)>,
    },
    /// Gives another destination or source.
    Nat {
        /// Whether the source.
        source: bool,
        /// `NFPROTO_…`.
        family: u8,
        /// The least and the greatest address.
        addrs: Option<(Register, Register)>,
        /// The least and the greatest port.
        ports: Option<(Register, Register)>,
    },
    /// The source becomes an address of this host.
    Masquerade(Option<(Register, Register)>),
    /// The destination becomes this host.
    Redirect(Option<(Register, Register)>),
    /// Drops, and tells the sender.
    Reject,
    /// Exempts from connection tracking.
    Notrack,
    /// Does nothing that a rule can ask for.
    Passive(&'static str),
    /// Met at some moments.
    Either(String),
    /// Perhaps met.
    Condition(String),
    /// Met by packets of a family. Whether others must meet it, and do, is not known.
    Perhaps {
        /// `NFPROTO_…`.
        family: u8,
        /// What may have to be met.
        text: String,
    },
    /// Does something that is not understood, or not computed.
    Effect(String, Reach),
}
