//! What a rule loads of packets into registers.

use std::collections::BTreeSet;

use super::super::Family;
use super::super::matches::{Header, Side, protocol};
use super::expression::Register;
use super::names;
use super::reader::Reader;
use super::registers::{Byte, Source, ct, meta};
use super::{Condition, Key, Presence};

impl Reader<'_> {
    pub(super) fn meta(&mut self, key: u32, into: Register) {
        // NFT_META_PROTOCOL, _NFPROTO, _PKTTYPE. What was sent to another machine is not forwarded
        // (ip_forward()), and what the kernel delivers was sent to this one: PACKET_HOST, 0.
        let ethertype: [u8; 2] = match self.family {
            Family::V4 => [8, 0],
            Family::V6 => [0x86, 0xdd],
        };
        let nfproto = self.own();
        let constant: Option<&[u8]> = match key {
            1 => Some(&ethertype),
            15 if !self.bridge => Some(std::slice::from_ref(&nfproto)),
            19 if !self.bridge => Some(&[0]),
            _ => None,
        };
        if let Some(bytes) = constant {
            let bytes: Vec<Byte> = bytes.iter().map(|byte| Byte::constant(*byte)).collect();
            self.registers.write(into, &bytes);
            return;
        }
        // NFT_META_LEN: a number of 32 bits.
        if key == 0 && self.unframed {
            self.headers.push(Header::Length);
            let number = Source::Number(Key::Header(Header::Length));
            self.registers.load(into, number, 2, false);
            let mut bytes = vec![Byte::constant(0); 2];
            bytes.extend(self.read(into, 2));
            if cfg!(target_endian = "little") {
                bytes.reverse();
            }
            self.registers.write(into, &bytes);
            return;
        }
        // In a bridge the interfaces are its ports.
        let port = self.bridge && matches!(key, 4..=7);
        match meta(key).filter(|_| !port) {
            Some((source, length, native, presence)) => {
                self.test(presence.map_or(Condition::Always(true), Condition::Has));
                self.registers.load(into, source, length, native);
            }
            None => {
                let text = names::meta(key);
                self.test(Condition::Unknown(format!("{text} exists")));
                self.registers.unknown(into, &text, 16);
            }
        }
    }

    pub(super) fn ct(&mut self, key: u32, into: Register) {
        self.tracks = true;
        // A bridge has connection tracking of its own.
        match ct(key).filter(|_| !self.bridge) {
            Some((source, length, native, presence)) => {
                self.test(presence.map_or(Condition::Always(true), Condition::Has));
                self.registers.load(into, source, length, native);
            }
            None => {
                let text = names::ct(key);
                self.test(Condition::Has(Presence::Connection));
                self.test(Condition::Unknown(format!("{text} exists")));
                self.registers.unknown(into, &text, 16);
            }
        }
    }

    /// Byte by byte: what lies at that place of the packet.
    pub(super) fn payload(&mut self, base: u32, offset: u32, length: usize, into: Register) {
        const NETWORK: u32 = 1;
        const TRANSPORT: u32 = 2;
        let place = offset as usize;
        if base == TRANSPORT {
            self.test(Condition::Has(Presence::Header));
        }
        let bytes: Option<Vec<Byte>> = (place..place + length)
            .map(|at| {
                let (source, at) = match base {
                    NETWORK => self.network(at)?,
                    TRANSPORT => self.transport(at)?,
                    _ => return None,
                };
                Some(Byte {
                    source,
                    at,
                    mask: 0xff,
                    xor: 0,
                })
            })
            .collect();
        match bytes {
            Some(bytes) => {
                let headers = bytes.iter().filter_map(|byte| byte.source.header());
                self.headers.extend(headers);
                self.registers.write(into, &bytes);
            }
            None => {
                let text = names::payload(base, offset, length);
                let header = if self.family == Family::V4 { 20 } else { 40 };
                if base != NETWORK || place + length > header {
                    self.test(Condition::Unknown(format!("{text} exists")));
                }
                self.registers.unknown(into, &text, length);
            }
        }
    }

    fn network(&self, at: usize) -> Option<(Source, usize)> {
        let (src, dst) = (Key::Addr(Side::Src), Key::Addr(Side::Dst));
        let header = |header| Source::Number(Key::Header(header));
        Some(match (self.family, at) {
            (Family::V4, 1) => (header(Header::Tos), 0),
            (Family::V4, 2 | 3) => (header(Header::Length), at - 2),
            (Family::V4, 6 | 7) => (Source::Fragment, at - 6),
            (Family::V4, 8) => (header(Header::Ttl), 0),
            (Family::V4, 9) => (Source::Number(Key::Protocol), 0),
            (Family::V4, 12..16) => (Source::Number(src), at - 12),
            (Family::V4, 16..20) => (Source::Number(dst), at - 16),
            (Family::V6, 0 | 1) => (Source::Class, at),
            (Family::V6, 7) => (header(Header::Ttl), 0),
            (Family::V6, 8..24) => (Source::Number(src), at - 8),
            (Family::V6, 24..40) => (Source::Number(dst), at - 24),
            // IPv6's next header need not be the protocol.
            _ => return None,
        })
    }

    /// What of headers lies within some bytes of IP's.
    pub(super) fn headers_within(&self, offset: usize, length: usize) -> BTreeSet<Header> {
        let places = offset..offset.saturating_add(length);
        let source = |at| self.network(at).and_then(|(source, _)| source.header());
        places.filter_map(source).collect()
    }

    /// What lies there depends on the protocol, which most rules ask for before.
    fn transport(&self, at: usize) -> Option<(Source, usize)> {
        let icmp = match self.family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        };
        let side = if at < 2 { Side::Src } else { Side::Dst };
        let with_ports = |protocol: &u8| protocol::WITH_PORTS.contains(protocol);
        let (key, at) = match (self.protocols.as_deref(), at) {
            (Some([one]), 0) if *one == icmp => (Key::IcmpType, 0),
            (Some([one]), 1) if *one == icmp => (Key::IcmpCode, 0),
            (Some([protocol::TCP]), 13) => (Key::TcpFlags, 0),
            (Some(all), 0..4) if all.iter().all(with_ports) => (Key::Port(side), at % 2),
            (_, 0..4) => (Key::AnyPort(side), at % 2),
            _ => return None,
        };
        Some((Source::Number(key), at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::{BRIDGE, INET, NETDEV};
    use super::super::{
        Expression, NativeRule, RawBase, RawChain, RawRule, RawTable, Statement, Tables,
    };
    use super::*;

    fn loaded(offset: u32, length: usize) -> Expression {
        Expression::Payload {
            base: 1,
            offset,
            length,
            into: 0,
        }
    }

    fn compared(operator: u32, bytes: &[u8]) -> Expression {
        Expression::Compare {
            from: 0,
            operator,
            bytes: bytes.to_vec(),
        }
    }

    fn masked(mask: &[u8]) -> Expression {
        Expression::Bitwise {
            from: 0,
            into: 0,
            mask: mask.to_vec(),
            xor: vec![0; mask.len()],
        }
    }

    fn within(
        family: Family,
        table: u8,
        expressions: &[Expression],
        others: &[RawBase],
    ) -> NativeRule {
        let rule = RawRule {
            expressions: expressions.to_vec(),
            ..RawRule::default()
        };
        let chain = |(number, base): (usize, &RawBase)| {
            let base = Some(base.clone());
            let rules = Vec::new();
            (number.to_string(), RawChain { base, rules })
        };
        let base = Some(RawBase::default());
        let rules = vec![rule];
        let chains = others.iter().enumerate().map(chain);
        let table = RawTable {
            family: table,
            chains: chains
                .chain([("c".to_owned(), RawChain { base, rules })])
                .collect(),
            ..RawTable::default()
        };
        let tables = Tables {
            tables: vec![table],
            ..Tables::default()
        };
        tables.decode(family)[0].chains["c"].rules[0].clone()
    }

    fn read(family: Family, expressions: &[Expression]) -> NativeRule {
        within(family, INET, expressions, &[])
    }

    fn bits(header: Header, mask: u128, value: u128) -> Statement {
        let key = Key::Header(header);
        Statement::Test(Condition::Bits { key, mask, value })
    }

    fn between(header: Header, width: u32, low: u128, high: u128) -> Condition {
        Condition::Between {
            key: Key::Header(header),
            shift: 0,
            width,
            low,
            high,
        }
    }

    #[test]
    fn what_headers_say_is_read_at_its_place() {
        use Family::{V4, V6};
        use Header::{Length, Tos, Ttl};
        for (family, expressions, header, wanted) in [
            (
                V4,
                vec![loaded(8, 1), compared(0, &[64])],
                Ttl,
                bits(Ttl, 0xff, 64),
            ),
            (
                V6,
                vec![loaded(7, 1), compared(0, &[64])],
                Ttl,
                bits(Ttl, 0xff, 64),
            ),
            (
                V4,
                vec![loaded(2, 2), compared(0, &[1, 2])],
                Length,
                bits(Length, 0xffff, 0x102),
            ),
            (
                V4,
                vec![loaded(1, 1), masked(&[0xfc]), compared(0, &[0x28])],
                Tos,
                bits(Tos, 0xfc, 0x28),
            ),
            (
                V6,
                vec![loaded(0, 2), masked(&[0x0f, 0xc0]), compared(0, &[2, 0x80])],
                Tos,
                bits(Tos, 0xfc, 0x28),
            ),
            (
                V4,
                vec![loaded(8, 1), compared(4, &[64])],
                Ttl,
                Statement::Test(between(Ttl, 8, 0, 64).negated()),
            ),
        ] {
            let rule = read(family, &expressions);
            assert_eq!(rule.statements, [wanted], "{expressions:?}");
            assert_eq!(rule.headers[0], header);
        }
    }

    #[test]
    fn what_lies_beside_the_class_of_service_is_not_computed() {
        for mask in [[0xff, 0xc0], [0x0f, 0xc1], [0xff, 0xff]] {
            let rule = read(
                Family::V6,
                &[loaded(0, 2), masked(&mask), compared(0, &[0, 0])],
            );
            let [Statement::Test(Condition::Unknown(text))] = rule.statements.as_slice() else {
                panic!("{:?}", rule.statements);
            };
            assert_eq!(text, "ip6 dscp");
        }
        let never = read(
            Family::V6,
            &[loaded(0, 2), masked(&[0x0f, 0xc0]), compared(0, &[1, 0x10])],
        );
        assert_eq!(
            never.statements,
            [Statement::Test(Condition::Always(false))]
        );
    }

    #[test]
    fn the_length_that_the_kernel_has_of_a_packet_is_its_own_where_ip_sees_it() {
        let length = |low: [u8; 4]| {
            let loaded = Expression::Meta { key: 0, into: 0 };
            let turned = Expression::Swap {
                from: 0,
                into: 0,
                length: 4,
                size: 4,
            };
            [loaded, turned, compared(5, &low)]
        };
        let wanted = |low| Statement::Test(between(Header::Length, 16, low, 0xffff));
        let rule = |low| read(Family::V4, &length(low)).statements;
        assert_eq!(rule([0, 0, 1, 2]), [wanted(0x102)]);
        assert_eq!(
            rule([0, 1, 0, 0]),
            [Statement::Test(Condition::Always(false))]
        );
        let ingress = RawBase {
            hook: 5,
            ..RawBase::default()
        };
        for (table, others) in [(INET, &[ingress][..]), (BRIDGE, &[]), (NETDEV, &[])] {
            let rule = within(Family::V4, table, &length([0, 0, 1, 2]), others);
            let open = rule.statements.iter().any(|statement| match statement {
                Statement::Test(condition) => condition.open().is_some(),
                _ => false,
            });
            assert!(open, "{table}: {:?}", rule.statements);
        }
    }

    #[test]
    fn what_a_rule_changes_of_headers_is_known_by_its_place() {
        let changed = |family, offset, length| {
            let change = Expression::SetPayload {
                base: 1,
                offset,
                length,
            };
            read(family, &[change]).statements
        };
        let header = Statement::Header;
        assert_eq!(changed(Family::V4, 8, 1), [header(Header::Ttl)]);
        assert_eq!(
            changed(Family::V4, 0, 4),
            [header(Header::Length), header(Header::Tos)]
        );
        assert_eq!(changed(Family::V4, 10, 2), []);
        assert_eq!(changed(Family::V6, 0, 2), [header(Header::Tos)]);
        assert_eq!(changed(Family::V6, 7, 1), [header(Header::Ttl)]);
    }

    #[test]
    fn the_way_of_a_packet_in_its_connection_is_one_of_two() {
        let way = |operator, value| {
            let loaded = Expression::Ct { key: 1, into: 0 };
            read(Family::V4, &[loaded, compared(operator, &[value])]).statements
        };
        let has = Statement::Test(Condition::Has(Presence::Connection));
        let test = |condition| vec![has.clone(), Statement::Test(condition)];
        assert_eq!(way(0, 1), test(Condition::Reply));
        assert_eq!(way(0, 0), test(Condition::Reply.negated()));
        assert_eq!(way(1, 0), test(Condition::Reply));
        assert_eq!(way(0, 2), test(Condition::Always(false)));
        assert_eq!(way(3, 1), std::slice::from_ref(&has));
    }
}
