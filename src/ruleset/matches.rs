//! The conditions a rule can have, each with the meaning the kernel gives it.

use std::net::IpAddr;

use super::value::{IfacePattern, Net};

/// The protocol numbers that rules treat specially.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
    /// The protocols whose packets begin with a source and a destination port.
    pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDPLITE];
}

/// A comparison, and whether `!` turns it round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test<T> {
    /// Written with `!`.
    pub negated: bool,
    /// What is compared with.
    pub value: T,
}

impl<T> Test<T> {
    /// True of what fits the value.
    pub const fn is(value: T) -> Self {
        Self {
            negated: false,
            value,
        }
    }

    /// True of what does not.
    pub const fn not(value: T) -> Self {
        Self {
            negated: true,
            value,
        }
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest port.
    pub low: u16,
    /// The highest port, itself included.
    pub high: u16,
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self {
            low: port,
            high: port,
        }
    }
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where it comes from.
    Src,
    /// Where it goes.
    Dst,
}

impl Side {
    /// The opposite end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Src => Self::Dst,
            Self::Dst => Self::Src,
        }
    }
}

/// `--tcp-flags MASK SET`: of the flags in `mask`, exactly those in `set` are raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpFlags {
    /// The flags looked at, in the bits of the TCP header (FIN 1, SYN 2, RST 4, PSH 8, ACK 16,
    /// URG 32).
    pub mask: u8,
    /// The ones of them that are raised.
    pub set: u8,
}

/// An ICMP type and an inclusive range of its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpType {
    /// The type.
    pub kind: u8,
    /// The lowest code.
    pub code_low: u8,
    /// The highest code: 255 with a low of 0 where only a type was given.
    pub code_high: u8,
}

/// `-m set --match-set NAME src,dst`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetLookup {
    /// The set.
    pub name: String,
    /// Which end of the packet each part of an entry is compared with.
    pub sides: Vec<Side>,
}

/// The address of an interface on Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Six bytes in hexadecimal, with colons.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let byte = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())?;
        let bytes = text.split(':').map(byte).collect::<Option<Vec<u8>>>()?;
        bytes.try_into().ok().map(Self)
    }

    /// As a number, the first byte the highest.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
            .iter()
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }
}

/// The lower 48 bits.
impl From<u64> for Mac {
    fn from(bits: u64) -> Self {
        let [_, _, mac @ ..] = bits.to_be_bytes();
        Self(mac)
    }
}

/// The states `--ctstate` and `--state` list. A packet has one of the first five, and `SNAT` or
/// `DNAT` besides when its connection is translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CtStates(u8);

impl CtStates {
    /// The first packet of a connection.
    pub const NEW: Self = Self(1);
    /// Of a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(2);
    /// Belongs to another connection (an ICMP error, an FTP data stream).
    pub const RELATED: Self = Self(4);
    /// Conntrack could make nothing of it.
    pub const INVALID: Self = Self(8);
    /// Exempted by `NOTRACK`.
    pub const UNTRACKED: Self = Self(16);
    /// The connection's source is translated.
    pub const SNAT: Self = Self(32);
    /// The connection's destination is translated.
    pub const DNAT: Self = Self(64);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every state of `other` is listed here.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One way of a connection's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// That of its first packet.
    Original,
    /// That of what answers it.
    Reply,
}

/// One thing that is asked of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtPart {
    /// `--ctdir REPLY`: the packet goes that way.
    Reply,
    /// `--ctproto`: its protocol.
    Protocol(u8),
    /// `--ctorigsrc` and its like: an address that its packets have that way, before NAT.
    Addr(Way, Side, Net),
    /// `--ctorigsrcport` and its like: a port likewise.
    Port(Way, Side, PortRange),
    /// `--ctstatus`: any of these.
    Status(Vec<CtStatus>),
    /// `--ctexpire`, with its operand: how many seconds it would live without another packet.
    Expires(String),
}

/// What became of a connection so far (`IPS_…` of linux/netfilter/nf_conntrack_common.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtStatus {
    /// A helper expected it.
    Expected,
    /// Something answered.
    SeenReply,
    /// It is not to be given up early.
    Assured,
    /// A packet of it came out behind the last hook.
    Confirmed,
}

/// All that one match asks. A packet without a connection meets nothing but the state (`conntrack_mt()` in
/// xt_conntrack.c): that alone, if it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// `--ctstate`.
    pub state: Option<Test<CtStates>>,
    /// The rest.
    pub parts: Vec<Test<CtPart>>,
}

/// Whose an address is, or to whom a frame was addressed. An IPv4 address has one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddrType {
    /// This host's own.
    Local,
    /// One host's.
    Unicast,
    /// A group's.
    Multicast,
    /// That of all hosts in a network.
    Broadcast,
}

impl AddrType {
    /// Each by its name.
    pub const NAMES: [(&str, Self); 4] = [
        ("LOCAL", Self::Local),
        ("UNICAST", Self::Unicast),
        ("MULTICAST", Self::Multicast),
        ("BROADCAST", Self::Broadcast),
    ];

    pub(super) fn named(text: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter();
        names.find(|(name, _)| *name == text).map(|(_, one)| *one)
    }
}

/// A number compared, or set, under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Masked {
    /// The number.
    pub value: u32,
    /// The bits that count.
    pub mask: u32,
}

/// What headers say beside addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Header {
    /// How long the packet is, in bytes, IP's header included: 16 bits.
    Length,
    /// How far it may still go, TTL or hop limit: 8 bits.
    Ttl,
    /// The byte of its class of service.
    Tos,
    /// Who sent the frame that it came in: 48 bits.
    Mac,
}

/// What can be said of a match whose answer depends on the moment, the rate or chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chance {
    /// It certainly applies to some packets and certainly not to others (`limit`, `hashlimit`,
    /// `statistic`, `time`).
    Both,
    /// It may apply; to some packets it certainly does not (`recent --rcheck`: the list begins
    /// empty, and what would fill it is not known).
    SurelyMisses,
    /// It may fail to apply; to some packets it certainly applies (`recent ! --rcheck`).
    SurelyApplies,
    /// It applies to every packet and has side effects only (`recent --set`).
    Always,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `-i`: the interface the packet came in by.
    In(Test<IfacePattern>),
    /// `-o`: the interface it will leave by.
    Out(Test<IfacePattern>),
    /// `-s` or `-d`.
    Addr(Side, Test<Net>),
    /// `-m iprange`: an inclusive range of addresses.
    AddrRange(Side, Test<(IpAddr, IpAddr)>),
    /// `-s` or `-d` with a mask that has holes: the address, and the mask.
    AddrMask(Side, Test<(IpAddr, IpAddr)>),
    /// `-m addrtype --src-type` or `--dst-type`: of one of these types.
    AddrType(Side, Test<Vec<AddrType>>),
    /// `-m pkttype --pkt-type`: to whom the frame was addressed that the packet came in.
    PacketType(Test<AddrType>),
    /// `-m physdev --physdev-is-bridged`: forwarded by a bridge, and not by IP.
    Bridged(Test<()>),
    /// `-m set`: in a set of ipset.
    Set(Test<SetLookup>),
    /// `-p`, by number.
    Protocol(Test<u8>),
    /// `-f`: a fragment other than the first.
    LaterFragment(Test<()>),
    /// `-m tcp` and its like without an option: the packet carries the protocol's header, as later
    /// fragments do not.
    Header,
    /// `--sport`, `--dport`, and multiport's lists. Never true of a packet without a header,
    /// negated or not.
    Port(Side, Test<Vec<PortRange>>),
    /// `-m multiport --ports`: the source or the destination port.
    EitherPort(Test<Vec<PortRange>>),
    /// `--tcp-flags`, also `--syn`.
    Flags(Test<TcpFlags>),
    /// `--icmp-type` or `--icmpv6-type`.
    Icmp(Test<IcmpType>),
    /// `-m conntrack --ctstate` or `-m state --state`.
    State(Test<CtStates>),
    /// `-m conntrack` with more than a state.
    Connection(Connection),
    /// `-m length`: an inclusive range of bytes, IP's header included.
    Length(Test<(u16, u16)>),
    /// `-m ttl`, `-m hl`: an inclusive range of what is left at this hook.
    Ttl(Test<(u8, u8)>),
    /// `-m tos`, `-m dscp`: the byte of the class of service, as far as the mask goes.
    Tos(Test<Masked>),
    /// `-m mac --mac-source`: whose frame it came in.
    Mac(Test<Mac>),
    /// `-m mark`: true where the packet's mark under the mask equals the value.
    Mark(Test<Masked>),
    /// `-m connmark`: the same of the connection's mark.
    Connmark(Test<Masked>),
    /// `-m owner --uid-owner`: an inclusive range of user ids.
    Uid(Test<(u32, u32)>),
    /// `-m owner --gid-owner`: an inclusive range of group ids.
    Gid(Test<(u32, u32)>),
    /// `-m cgroup --path`: the cgroup in which the socket was made, or one above it; the path without
    /// a `/` at either end. The kernel looked the path up when the rule was made, and keeps to that
    /// cgroup also after it was deleted, and another made under its name.
    Cgroup(Test<String>),
    /// A match understood, but whose answer no ruleset can tell; with its text.
    Either(Chance, String),
    /// `-m comment`.
    Comment(String),
    /// Not understood to the last word; with its text.
    Unknown(String),
}

impl Match {
    /// The header that it asks for, if that is one of these.
    #[must_use]
    pub const fn header(&self) -> Option<Header> {
        match self {
            Self::Length(_) => Some(Header::Length),
            Self::Ttl(_) => Some(Header::Ttl),
            Self::Tos(_) => Some(Header::Tos),
            Self::Mac(_) => Some(Header::Mac),
            _ => None,
        }
    }
}
