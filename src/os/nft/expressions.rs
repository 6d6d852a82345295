//! Native rules as the kernel's expressions, and whether two rules say the same.
//!
//! The few expressions that the seal needs, written by hand: meta, payload, socket, cmp, immediate,
//! counter, nat and redir, with the numbers of linux/netfilter/nf_tables.h.

use std::net::Ipv4Addr;

use netlink_packet_core::DecodeError;

use super::message::{Attributes, each, expressions, number as number_in, value};
use super::rules::RawRule;
use crate::guarantee::edge::{self, FrameDrop};
use crate::guarantee::{EdgePass, NativeRule, NativeVerdict};
use crate::ruleset::{Family, IfacePattern, protocol};

/// `NFT_REG_1` and `NFT_REG_2`, registers of 16 bytes; `NFT_REG_VERDICT`.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
const VERDICT: u32 = 0;

/// Keys of the meta expression: `NFT_META_…`.
const PROTOCOL: u32 = 1;
const PRIORITY: u32 = 2;
const MARK: u32 = 3;
const IIFNAME: u32 = 6;
const RTCLASSID: u32 = 13;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const CGROUP: u32 = 23;

/// `NFT_PAYLOAD_LL_HEADER`, `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// `NFT_SOCKET_CGROUPV2`, a key of the socket expression since Linux 5.13.
const CGROUPV2: u32 = 3;

/// The length of an interface's name in the kernel (`IFNAMSIZ`, linux/if.h).
const NAME_LENGTH: usize = 16;

/// The rule as the kernel takes it.
#[must_use]
pub fn encode(rule: &NativeRule) -> RawRule {
    let mut list = Expressions::default();
    match &rule.iif {
        Some(IfacePattern::Exact(name)) => {
            let mut whole = name.as_bytes().to_vec();
            whole.resize(NAME_LENGTH, 0);
            list = list.meta(IIFNAME).equals(&whole);
        }
        // Fewer bytes than a name has are compared with its beginning; of "every name" none.
        Some(IfacePattern::Prefix(prefix)) if !prefix.is_empty() => {
            list = list.meta(IIFNAME).equals(prefix.as_bytes());
        }
        Some(IfacePattern::Prefix(_)) | None => {}
    }
    // NFPROTO_IPV4, NFPROTO_IPV6; the destination's place in each header.
    let (proto, offset) = match rule.family {
        Family::V4 => (2, 16),
        Family::V6 => (10, 24),
    };
    list = list.meta(NFPROTO).equals(&[proto]);
    list = match rule.dst {
        std::net::IpAddr::V4(address) => list.payload(NETWORK, offset, 4).equals(&address.octets()),
        std::net::IpAddr::V6(address) => {
            list.payload(NETWORK, offset, 16).equals(&address.octets())
        }
    };
    if let Some(cgroup) = &rule.cgroup {
        // A number in the host's own order (nft_sock_get_eval_cgroupv2() in net/netfilter/nft_socket.c).
        list = list.cgroup(cgroup.level()).equals(&cgroup.id.to_ne_bytes());
    }
    if let Some(port) = rule.tcp_port {
        list = list.meta(L4PROTO).equals(&[protocol::TCP]);
        list = list.payload(TRANSPORT, 2, 2).equals(&port.to_be_bytes());
    }
    list = Expressions(list.0.counter(0));
    let list = match rule.verdict {
        NativeVerdict::Drop => list.drop(),
        NativeVerdict::Dnat(address, port) => list
            .load(FIRST, &address.octets())
            .load(SECOND, &port.to_be_bytes())
            .dnat(proto),
        NativeVerdict::Redirect(port) => list.load(FIRST, &port.to_be_bytes()).redirect(),
        NativeVerdict::Mark(EdgePass { mark, priority }) => {
            list.set_meta(MARK, mark).set_meta(PRIORITY, priority)
        }
    };
    RawRule::made_of(list.0)
}

/// The rules of the edge.
impl RawRule {
    /// Drops and counts the frames that a value of the edge means.
    #[must_use]
    pub fn dropping(frames: &FrameDrop) -> Self {
        let mut list = Expressions::default();
        for at in &frames.at {
            list = list.bytes(at, &at.bytes);
        }
        Self::made_of(Expressions(list.0.counter(0)).drop().0)
    }

    /// Drops and counts the frames that are said to carry a tag: ETH_P_8021Q, ETH_P_8021AD
    /// (linux/if_ether.h).
    #[must_use]
    pub fn dropping_tagged() -> [Self; 2] {
        [0x8100_u16, 0x88a8].map(|kind| {
            let list = Expressions::default().meta(PROTOCOL);
            let list = list.equals(&kind.to_be_bytes());
            Self::made_of(Expressions(list.0.counter(0)).drop().0)
        })
    }

    /// Accepts what has a socket of this network namespace: the kernel gives up a rule that asks for
    /// the class of anything else (nft_meta_get_eval_cgroup() in net/netfilter/nft_meta.c). Whatever
    /// the class is, it is not below 0.
    #[must_use]
    pub fn accepting_sockets() -> Self {
        let list = Expressions::default().meta(CGROUP).at_least_zero();
        Self::made_of(Expressions(list.0.counter(0)).verdict(ACCEPT, None).0)
    }

    /// Accepts what bears this.
    #[must_use]
    pub fn accepting_marked(pass: EdgePass) -> Self {
        let list = Expressions::default().meta(MARK);
        let list = list.equals(&pass.mark.to_ne_bytes()).meta(PRIORITY);
        let list = list.equals(&pass.priority.to_ne_bytes());
        Self::made_of(Expressions(list.0.counter(0)).verdict(ACCEPT, None).0)
    }

    /// What packets bear from this rule on, where it gives them a mark and a priority.
    #[must_use]
    pub fn marks(&self) -> Option<EdgePass> {
        let mut loaded = None;
        let (mut mark, mut priority) = (None, None);
        for (name, data) in expressions(&self.expressions).flatten() {
            match name {
                // NFTA_IMMEDIATE_DATA, NFTA_DATA_VALUE.
                b"immediate" => loaded = value(data, 2).and_then(|data| value(data, 1)),
                // NFTA_META_KEY, NFTA_META_SREG.
                b"meta" if value(data, 3).is_some() => {
                    let number = loaded.and_then(|bytes| bytes.try_into().ok());
                    match number_in(data, 2) {
                        Some(MARK) => mark = number.map(u32::from_ne_bytes),
                        Some(PRIORITY) => priority = number.map(u32::from_ne_bytes),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let (mark, priority) = (mark?, priority?);
        Some(EdgePass { mark, priority })
    }

    /// Accepts what has a route without a realm, as nearly all packets do. The kernel is quicker to
    /// compare four bytes for equality than in any other way (nft_cmp_fast_eval() in
    /// net/netfilter/nf_tables_core.c).
    #[must_use]
    pub fn accepting_routed() -> Self {
        let list = Expressions::default().meta(RTCLASSID).equals(&[0; 4]);
        Self::made_of(list.verdict(ACCEPT, None).0)
    }

    /// Goes on in another chain with the frames in which the first four bytes of this address stand,
    /// again since four are quick to compare.
    #[must_use]
    pub fn first_bytes_to(at: &edge::At, chain: &str) -> Self {
        let first = &at.bytes[..at.bytes.len().min(4)];
        let list = Expressions::default().bytes(at, first);
        Self::made_of(list.verdict(GOTO, Some(chain)).0)
    }

    /// Goes on in another chain with what has a route, which the realm shows in the same way.
    #[must_use]
    pub fn routed_to(chain: &str) -> Self {
        let list = Expressions::default().meta(RTCLASSID).at_least_zero();
        Self::made_of(list.verdict(GOTO, Some(chain)).0)
    }

    /// Goes on in another chain with everything.
    #[must_use]
    pub fn going_to(chain: &str) -> Self {
        Self::made_of(Expressions::default().verdict(GOTO, Some(chain)).0)
    }
}

impl RawRule {
    /// Accepts TCP to a port of an address, where a rule of this host turned it there (IPS_DST_NAT in
    /// the connection's status); with a comment.
    #[must_use]
    pub fn accepting_translated(address: Ipv4Addr, port: u16, comment: &str) -> Self {
        const DST_NAT: u32 = 0x20;
        // NFPROTO_IPV4, and the destination's place in the header.
        let mut list = Expressions::default().meta(NFPROTO).equals(&[2]);
        list = list.payload(NETWORK, 16, 4).equals(&address.octets());
        list = list.meta(L4PROTO).equals(&[protocol::TCP]);
        list = list.payload(TRANSPORT, 2, 2).equals(&port.to_be_bytes());
        list = list.ct_status().masked(DST_NAT).differs(&[0; 4]);
        let list = Expressions(list.0.counter(0)).verdict(ACCEPT, None);
        Self::made_of(list.0).with_comment(comment)
    }
}

/// `NF_DROP`, `NF_ACCEPT` (linux/netfilter.h), `NFT_GOTO`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const GOTO: u32 = (-4_i32).cast_unsigned();

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED` (linux/netfilter/nf_nat.h); the kernel
/// adds them by itself and tells them when it is asked.
const MAP_IPS: u32 = 1;
const PROTO_SPECIFIED: u32 = 2;

#[derive(Default)]
struct Expressions(Attributes);

impl Expressions {
    fn with(self, name: &str, data: &Attributes) -> Self {
        Self(self.0.expression(name, data))
    }

    fn meta(self, key: u32) -> Self {
        let data = Attributes::default().number(1, FIRST).number(2, key);
        self.with("meta", &data)
    }

    fn set_meta(self, key: u32, to: u32) -> Self {
        // NFTA_META_KEY, NFTA_META_SREG; marks and priorities are in the host's own order.
        let data = Attributes::default().number(2, key).number(3, FIRST);
        self.load(FIRST, &to.to_ne_bytes()).with("meta", &data)
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        let data = Attributes::default()
            .number(1, FIRST)
            .number(2, base)
            .number(3, offset)
            .number(4, length);
        self.with("payload", &data)
    }

    /// Whether these bytes stand there.
    fn bytes(self, at: &edge::At, bytes: &[u8]) -> Self {
        let base = match at.from {
            edge::Start::Link => LINK,
            edge::Start::Network => NETWORK,
        };
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        self.payload(base, at.offset, length).equals(bytes)
    }

    /// The number of the cgroup at that level above, or of, the one in which the socket was made.
    fn cgroup(self, level: u32) -> Self {
        // NFTA_SOCKET_KEY, _DREG, _LEVEL.
        let data = Attributes::default()
            .number(1, CGROUPV2)
            .number(2, FIRST)
            .number(3, level);
        self.with("socket", &data)
    }

    fn equals(self, bytes: &[u8]) -> Self {
        // NFT_CMP_EQ.
        self.compare(0, bytes)
    }

    fn differs(self, bytes: &[u8]) -> Self {
        // NFT_CMP_NEQ.
        self.compare(1, bytes)
    }

    fn ct_status(self) -> Self {
        // NFTA_CT_DREG, _KEY; NFT_CT_STATUS.
        let data = Attributes::default().number(1, FIRST).number(2, 2);
        self.with("ct", &data)
    }

    /// A number's bits that are in the mask.
    fn masked(self, mask: u32) -> Self {
        let bytes = |value: u32| Attributes::default().put(1, &value.to_ne_bytes());
        // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
        let data = Attributes::default()
            .number(1, FIRST)
            .number(2, FIRST)
            .number(3, 4)
            .nest(4, &bytes(mask))
            .nest(5, &bytes(0));
        self.with("bitwise", &data)
    }

    /// True of every number; without a comparison nft does not show the rule's condition.
    fn at_least_zero(self) -> Self {
        // NFT_CMP_GTE.
        self.compare(5, &[0; 4])
    }

    fn compare(self, operator: u32, bytes: &[u8]) -> Self {
        let value = Attributes::default().put(1, bytes);
        let data = Attributes::default()
            .number(1, FIRST)
            .number(2, operator)
            .nest(3, &value);
        self.with("cmp", &data)
    }

    fn load(self, register: u32, bytes: &[u8]) -> Self {
        let value = Attributes::default().put(1, bytes);
        let data = Attributes::default().number(1, register).nest(2, &value);
        self.with("immediate", &data)
    }

    fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    fn verdict(self, code: u32, chain: Option<&str>) -> Self {
        // NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN.
        let mut verdict = Attributes::default().number(1, code);
        if let Some(chain) = chain {
            verdict = verdict.text(2, chain);
        }
        // NFTA_DATA_VERDICT.
        let value = Attributes::default().nest(2, &verdict);
        let data = Attributes::default().number(1, VERDICT).nest(2, &value);
        self.with("immediate", &data)
    }

    fn dnat(self, proto: u8) -> Self {
        // NFT_NAT_DNAT; the smallest and the largest address and port are the same.
        let data = Attributes::default()
            .number(1, 1)
            .number(2, u32::from(proto))
            .number(3, FIRST)
            .number(4, FIRST)
            .number(5, SECOND)
            .number(6, SECOND)
            .number(7, MAP_IPS | PROTO_SPECIFIED);
        self.with("nat", &data)
    }

    fn redirect(self) -> Self {
        let data = Attributes::default()
            .number(1, FIRST)
            .number(2, FIRST)
            .number(3, PROTO_SPECIFIED);
        self.with("redir", &data)
    }
}

impl RawRule {
    /// Whether both say the same, counters aside.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.compare(other, true)
    }

    /// Whether both say the same, also if one was made for an earlier cgroup of that name.
    #[must_use]
    pub fn was(&self, other: &Self) -> bool {
        self.compare(other, false)
    }

    /// Expression by expression, to the first that differs; counters aside, and the numbers of cgroups
    /// unless they are `compared`.
    fn compare(&self, other: &Self, compared: bool) -> bool {
        let mut others = expressions(&other.expressions);
        let mut after_socket = false;
        for expression in expressions(&self.expressions) {
            let (Ok((name, data)), Some(Ok((other, others)))) = (expression, others.next()) else {
                return false;
            };
            let any = name == b"counter" || (after_socket && !compared);
            let same = || data.len() == others.len() && same_values(name, data, others);
            if name != other || !(any || data == others || same()) {
                return false;
            }
            after_socket = name == b"socket";
        }
        others.next().is_none()
    }

    /// The number of the cgroup that it asks for.
    #[must_use]
    pub fn cgroup(&self) -> Option<u64> {
        let mut list = expressions(&self.expressions)
            .flatten()
            .skip_while(|(name, _)| *name != b"socket");
        list.next()?;
        let (name, data) = list.next()?;
        // NFTA_CMP_DATA, NFTA_DATA_VALUE.
        let number = value(value(data, 3).filter(|_| name == b"cmp")?, 1)?;
        Some(u64::from_ne_bytes(number.try_into().ok()?))
    }
}

/// A value with the numbers of the attributes around it; 0 is none.
type Leaf<'a> = ([u16; 3], &'a [u8]);

/// Whether the data of two expressions of that name say the same, however the kernel orders and flags them.
fn same_values(name: &[u8], one: &[u8], other: &[u8]) -> bool {
    let leaves = |data| {
        let mut found = Vec::new();
        descend(name, (&mut [0; 3], 0), data, &mut found).map(|()| {
            found.sort_unstable();
            found
        })
    };
    leaves(one).is_ok_and(|one| leaves(other).is_ok_and(|other| one == other))
}

fn descend<'a>(
    name: &[u8],
    (path, depth): (&mut [u16; 3], usize),
    data: &'a [u8],
    found: &mut Vec<Leaf<'a>>,
) -> Result<(), DecodeError> {
    for (kind, value) in each(data) {
        path[depth] = kind?;
        if holds_attributes(name, &path[..=depth]) {
            descend(name, (path, depth + 1), value, found)?;
        } else {
            found.push((*path, value));
        }
        path[depth] = 0;
    }
    Ok(())
}

/// Which attributes of these expressions hold others; older kernels do not flag them as such.
fn holds_attributes(name: &[u8], path: &[u16]) -> bool {
    match name {
        // NFTA_CMP_DATA.
        b"cmp" => path == [3],
        // NFTA_IMMEDIATE_DATA, and in it NFTA_DATA_VERDICT.
        b"immediate" => path == [2] || path == [2, 2],
        _ => false,
    }
}
