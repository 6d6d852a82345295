//! What a rule asks about, loaded into registers: what nft says, and what it leaves out.
//!
//! A packet has ports only if its protocol has some, and nft leaves out that a rule asks for the protocol
//! where what it asks next says so. Here it is asked again, as nft itself does when it reads its own text.

use serde_json::Value;

use super::super::super::matches::protocol;
use super::super::super::names::protocol_name;
use super::super::Expression;
use super::super::expression::{INET, IPV4, IPV6, Register};
use super::value::{Datatype, Interfaces, entry, only, several};

/// `NFT_META_PROTOCOL`, `_NFPROTO`, `_L4PROTO`.
const META_PROTOCOL: u32 = 1;
const META_FAMILY: u32 = 15;
const META_L4: u32 = 16;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// The registers hold so many bytes.
const ROOM: usize = 64;

/// What a rule has asked so far.
pub(super) struct Asked<'t> {
    /// The table's family.
    pub(super) table: u8,
    /// The names of interfaces.
    pub(super) interfaces: &'t mut Interfaces,
    /// What the rule consists of.
    pub(super) out: Vec<Expression>,
    /// The family of the packets that come here, once it was asked.
    family: Option<u8>,
    /// Their protocol.
    protocol: Option<u8>,
}

impl<'t> Asked<'t> {
    pub(super) fn new(table: u8, interfaces: &'t mut Interfaces) -> Self {
        let family = (table == IPV4 || table == IPV6).then_some(table);
        Self {
            table,
            interfaces,
            out: Vec::new(),
            family,
            protocol: None,
        }
    }

    fn is(&mut self, key: u32, bytes: Vec<u8>) {
        self.out.push(Expression::Meta { key, into: 0 });
        self.out.push(Expression::Compare {
            from: 0,
            operator: 0,
            bytes,
        });
    }

    /// Asks for a family, where that was not done.
    fn need_family(&mut self, family: u8) {
        match self.family {
            Some(known) if known == family => return,
            Some(_) => self
                .out
                .push(Expression::Condition("another family".to_owned())),
            None if self.table == INET => self.is(META_FAMILY, vec![family]),
            None => {
                let ether_type = if family == IPV4 { [8, 0] } else { [0x86, 0xdd] };
                self.is(META_PROTOCOL, ether_type.to_vec());
                // `ether type ip ip daddr 1.2.3.4` is listed as `ip daddr 1.2.3.4`.
                let text = "ether type".to_owned();
                self.out.push(Expression::Perhaps { family: 0, text });
            }
        }
        self.family = Some(family);
    }

    /// The same where nft may leave it out although the rule does not ask for it: `meta l4proto icmp icmp
    /// type echo-request` is listed as `icmp type echo-request`, which alone is of IPv4.
    pub(super) fn perhaps_family(&mut self, family: u8) {
        if self.family.is_none() {
            let name = if family == IPV4 { "ipv4" } else { "ipv6" };
            let text = format!("meta nfproto {name}");
            self.out.push(Expression::Perhaps { family, text });
        }
    }

    /// Asks for a protocol, where that was not done.
    pub(super) fn need_protocol(&mut self, number: u8) {
        match self.protocol {
            Some(known) if known == number => return,
            Some(_) => self
                .out
                .push(Expression::Condition("another protocol".to_owned())),
            None => self.is(META_L4, vec![number]),
        }
        if self.table == IPV6 && self.protocol.is_none() {
            // `ip6 nexthdr tcp tcp dport 80` is listed as `tcp dport 80`.
            let text = format!("ip6 nexthdr {}", protocol_name(number));
            self.out.push(Expression::Perhaps { family: 0, text });
        }
        self.protocol = Some(number);
    }

    /// Takes note of what a rule asked for itself.
    pub(super) fn learn(&mut self, kind: Datatype, bytes: &[u8]) {
        match (kind, bytes) {
            (Datatype::Protocol, [number]) => self.protocol = Some(*number),
            (Datatype::Family, [family]) => self.family = Some(*family),
            (Datatype::EtherType, [8, 0]) => self.family = Some(IPV4),
            (Datatype::EtherType, [0x86, 0xdd]) => self.family = Some(IPV6),
            _ => {}
        }
    }

    /// Loads what an expression stands for; answers the types of its fields. What the rule has to ask
    /// before stands in it afterwards even where the expression is not understood.
    pub(super) fn load(&mut self, from: &Value, into: Register) -> Option<Vec<Datatype>> {
        let mut loads = Vec::new();
        let types = self.fields(from, into, &mut loads)?;
        self.out.append(&mut loads);
        Some(types)
    }

    fn fields(
        &mut self,
        from: &Value,
        into: Register,
        loads: &mut Vec<Expression>,
    ) -> Option<Vec<Datatype>> {
        let Some(list) = only(from, "concat") else {
            return Some(vec![self.field(from, into, loads)?]);
        };
        let mut types = Vec::new();
        let mut at = into;
        for one in list.as_array()? {
            let kind = self.field(one, at, loads)?;
            types.push(kind);
            at += kind.length().next_multiple_of(4);
            if at > ROOM {
                return None;
            }
        }
        (types.len() > 1).then_some(types)
    }

    fn field(
        &mut self,
        from: &Value,
        into: Register,
        loads: &mut Vec<Expression>,
    ) -> Option<Datatype> {
        let (key, value) = entry(from)?;
        match key {
            "meta" => {
                let (key, kind) = meta(only(value, "key")?.as_str()?)?;
                loads.push(Expression::Meta { key, into });
                Some(kind)
            }
            "ct" => {
                let (key, kind) = match only(value, "key")?.as_str()? {
                    "state" => (0, Datatype::State),
                    "direction" => (1, Datatype::Direction),
                    "status" => (2, Datatype::Status),
                    "mark" => (3, Datatype::Mark),
                    _ => return None,
                };
                loads.push(Expression::Ct { key, into });
                Some(kind)
            }
            "fib" => {
                let source = address_type(value)?;
                loads.push(Expression::AddressType { source, into });
                Some(Datatype::AddressType)
            }
            "payload" => self.payload(value, into, loads),
            "&" => {
                let [from, mask] = value.as_array()?.as_slice() else {
                    return None;
                };
                let kind = self.field(from, into, loads)?;
                let mask = kind.one(mask, false, self.interfaces)?;
                let xor = vec![0; mask.len()];
                let bitwise = Expression::Bitwise {
                    from: into,
                    into,
                    mask,
                    xor,
                };
                loads.push(bitwise);
                Some(kind)
            }
            _ => None,
        }
    }

    fn payload(
        &mut self,
        value: &Value,
        into: Register,
        loads: &mut Vec<Expression>,
    ) -> Option<Datatype> {
        let payload = value.as_object()?;
        if let (3, Some(base)) = (payload.len(), payload.get("base")) {
            let (base, kind) = raw(base, payload.get("offset")?, payload.get("len")?)?;
            loads.push(Expression::Payload {
                base: base.0,
                offset: base.1,
                length: kind.length(),
                into,
            });
            return Some(kind);
        }
        let name = payload.get("protocol")?.as_str()?;
        self.need(name);
        let field = payload.get("field")?.as_str()?;
        let (base, offset, kind) = place(name, field).filter(|_| payload.len() == 2)?;
        loads.push(Expression::Payload {
            base,
            offset,
            length: kind.length(),
            into,
        });
        let mask = match kind {
            Datatype::Dscp4 => vec![0xfc],
            Datatype::Dscp6 => vec![0x0f, 0xc0],
            _ => return Some(kind),
        };
        let xor = vec![0; mask.len()];
        loads.push(Expression::Bitwise {
            from: into,
            into,
            mask,
            xor,
        });
        Some(kind)
    }

    /// Asks for what a header is there only with.
    pub(super) fn need(&mut self, header: &str) {
        match header {
            "ip" => self.need_family(IPV4),
            "ip6" => self.need_family(IPV6),
            "icmp" | "igmp" => self.perhaps_family(IPV4),
            "icmpv6" => self.perhaps_family(IPV6),
            _ => {}
        }
        let number = match header {
            "icmp" => protocol::ICMP,
            "igmp" => 2,
            "tcp" => protocol::TCP,
            "udp" => protocol::UDP,
            "dccp" => protocol::DCCP,
            "esp" => 50,
            "ah" => 51,
            "icmpv6" => protocol::ICMPV6,
            "comp" => 108,
            "sctp" => protocol::SCTP,
            "udplite" => protocol::UDPLITE,
            _ => return,
        };
        self.need_protocol(number);
    }
}

/// `NFT_META_…`.
fn meta(key: &str) -> Option<(u32, Datatype)> {
    Some(match key {
        "length" => (0, Datatype::Length),
        "protocol" => (META_PROTOCOL, Datatype::EtherType),
        "mark" => (3, Datatype::Mark),
        "iif" => (4, Datatype::Index),
        "oif" => (5, Datatype::Index),
        "iifname" => (6, Datatype::Name),
        "oifname" => (7, Datatype::Name),
        "skuid" => (10, Datatype::User),
        "skgid" => (11, Datatype::Group),
        "nfproto" => (META_FAMILY, Datatype::Family),
        "l4proto" => (META_L4, Datatype::Protocol),
        "pkttype" => (19, Datatype::PacketType),
        _ => return None,
    })
}

/// Whether of the source; `None` for what else can be looked up in the routes.
fn address_type(fib: &Value) -> Option<bool> {
    let fib = fib.as_object().filter(|fib| fib.len() == 2)?;
    let [flag] = several(fib.get("flags")) else {
        return None;
    };
    match (fib.get("result")?.as_str()?, flag.as_str()?) {
        ("type", "saddr") => Some(true),
        ("type", "daddr") => Some(false),
        _ => None,
    }
}

/// Where a field stands: the header, the place in it in bytes, and its type. Those of which nothing is
/// understood are left out.
fn place(header: &str, field: &str) -> Option<(u32, u32, Datatype)> {
    Some(match (header, field) {
        ("ip", "dscp") => (NETWORK, 1, Datatype::Dscp4),
        ("ip", "length") => (NETWORK, 2, Datatype::Number(2)),
        ("ip", "ttl") => (NETWORK, 8, Datatype::Number(1)),
        ("ip6", "dscp") => (NETWORK, 0, Datatype::Dscp6),
        ("ip6", "hoplimit") => (NETWORK, 7, Datatype::Number(1)),
        ("ip", "protocol") => (NETWORK, 9, Datatype::Protocol),
        ("ip", "saddr") => (NETWORK, 12, Datatype::Address4),
        ("ip", "daddr") => (NETWORK, 16, Datatype::Address4),
        ("ip", "frag-off") => (NETWORK, 6, Datatype::Number(2)),
        ("ip6", "nexthdr") => (NETWORK, 6, Datatype::Protocol),
        ("ip6", "saddr") => (NETWORK, 8, Datatype::Address6),
        ("ip6", "daddr") => (NETWORK, 24, Datatype::Address6),
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "th", "sport") => {
            (TRANSPORT, 0, Datatype::Port)
        }
        ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "th", "dport") => {
            (TRANSPORT, 2, Datatype::Port)
        }
        ("tcp", "flags") => (TRANSPORT, 13, Datatype::TcpFlags),
        ("icmp", "type") => (TRANSPORT, 0, Datatype::IcmpType),
        ("icmp", "code") => (TRANSPORT, 1, Datatype::IcmpCode),
        ("icmpv6", "type") => (TRANSPORT, 0, Datatype::Icmp6Type),
        ("icmpv6", "code") => (TRANSPORT, 1, Datatype::Icmp6Code),
        _ => return None,
    })
}

/// `@nh,128,32`: whole bytes of a header, by their place in bits.
fn raw(base: &Value, offset: &Value, length: &Value) -> Option<((u32, u32), Datatype)> {
    let base = match base.as_str()? {
        "ll" => 0,
        "nh" => NETWORK,
        "th" => TRANSPORT,
        _ => return None,
    };
    let (offset, length) = (offset.as_u64()?, length.as_u64()?);
    let whole = offset % 8 == 0 && matches!(length, 8 | 16 | 32 | 64);
    let length = usize::try_from(length / 8).ok()?;
    whole.then_some((
        (base, u32::try_from(offset / 8).ok()?),
        Datatype::Number(length),
    ))
}
