//! What rules change in packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::Family;
use super::super::matches::{Masked, PortRange};
use super::super::target::{Reach, Rewrite};
use super::expression::{INET, Register};
use super::names;
use super::reader::Reader;
use super::registers::{Byte, Source};
use super::{Condition, Expression, Key, Marking, Statement};

/// The first and the last register of a range.
type Bounds = Option<(Register, Register)>;
/// A value of a map, and what it is the value of.
type Value<'a> = Option<(Source, &'a [u8])>;

impl Reader<'_> {
    /// Bytes that do not depend on the packet, but for those of a map's value.
    fn bytes(&self, from: Register, length: usize, value: Value<'_>) -> Option<Vec<u8>> {
        let byte = |byte: &Byte| match value {
            Some((source, value)) if source == byte.source => {
                Some((value.get(byte.at)? & byte.mask) ^ byte.xor)
            }
            _ => byte.known(),
        };
        let bytes = self.registers.read(from, length)?;
        bytes.iter().map(byte).collect()
    }

    fn address(&self, from: Register, value: Value<'_>) -> Option<IpAddr> {
        let length = if self.family == Family::V4 { 4 } else { 16 };
        let bytes = self.bytes(from, length, value)?;
        Some(match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        })
    }

    /// `Some(None)` where no ports are given.
    fn ports(&self, ports: Bounds, value: Value<'_>) -> Option<Option<PortRange>> {
        let Some((low, high)) = ports else {
            return Some(None);
        };
        let port = |from| {
            let bytes = self.bytes(from, 2, value)?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        let (low, high) = (port(low)?, port(high)?);
        (low <= high).then_some(Some(PortRange { low, high }))
    }

    fn rewrite(&self, addrs: Bounds, ports: Bounds, value: Value<'_>) -> Option<Rewrite> {
        let addrs = match addrs {
            Some((low, high)) => {
                let range = self.address(low, value).zip(self.address(high, value));
                Some(range.filter(|(low, high)| low <= high)?)
            }
            None => None,
        };
        let ports = self.ports(ports, value)?;
        Some(Rewrite { addrs, ports })
    }

    /// Where a map turns packets.
    fn by_map(&self, addrs: Bounds, ports: Bounds) -> Option<Vec<(Condition, Rewrite)>> {
        let from = self.read(addrs?.0, 1).first()?.source;
        let (source, values) = self.mapped.iter().find(|(source, _)| *source == from)?;
        let rewrite = |(condition, value): &(Condition, Vec<u8>)| {
            let rewrite = self.rewrite(addrs, ports, Some((*source, value)))?;
            Some((condition.clone(), rewrite))
        };
        values.iter().map(rewrite).collect()
    }

    /// What changes packets.
    pub(super) fn change(&mut self, expression: &Expression) {
        match expression {
            Expression::SetMeta { key: 3, from } => {
                let marking = self.marking(*from, Key::Mark);
                self.show.word("meta mark set");
                self.statements.push(Statement::Mark(marking));
            }
            // Priority, trace, type, security mark: nothing that a rule is understood to ask for.
            Expression::SetMeta { key, .. } => {
                self.show.word(&format!("{} set", names::meta(*key)))
            }
            Expression::SetCt { key: 3, from } => {
                self.tracks = true;
                let marking = self.marking(*from, Key::Connmark);
                self.show.word("ct mark set");
                self.statements.push(Statement::Connmark(marking));
            }
            Expression::SetCt { key, .. } => {
                self.tracks = true;
                let text = format!("{} set", names::ct(*key));
                // NFT_CT_ZONE decides which connection it is; security mark, labels and events do not.
                match key {
                    4 | 13 | 18 => self.show.word(&text),
                    _ => self.effect(&text, Reach::Packet),
                }
            }
            Expression::SetPayload {
                base,
                offset,
                length,
            } => {
                let text = format!("{} set", names::payload(*base, *offset, *length));
                let quiet = match (base, self.family) {
                    // Type of service, length, number, time to live, checksum.
                    (1, Family::V4) => matches!(
                        (*offset as usize, *offset as usize + length),
                        (0..6, 1..=6) | (8, 9) | (10.., 11..=12)
                    ),
                    (1, Family::V6) => matches!(
                        (*offset as usize, *offset as usize + length),
                        (0..4, 1..=4) | (7, 8)
                    ),
                    _ => false,
                };
                if quiet {
                    self.show.word(&text);
                    let changed = self.headers_within(*offset as usize, *length);
                    self.statements
                        .extend(changed.into_iter().map(Statement::Header));
                } else {
                    self.effect(&text, Reach::Anywhere);
                }
            }
            Expression::Notrack => {
                self.show.word("notrack");
                self.statements.push(Statement::Notrack);
            }
            _ => self.nat(expression),
        }
    }

    fn marking(&self, from: Register, own: Key) -> Marking {
        let bytes = self.read(from, 4);
        let other = if own == Key::Mark {
            Key::Connmark
        } else {
            Key::Mark
        };
        let place = |at: usize| {
            if cfg!(target_endian = "little") {
                3 - at
            } else {
                at
            }
        };
        let of = |source: Source| {
            let at = |(at, byte): (usize, &Byte)| byte.source == source && byte.at == place(at);
            bytes.len() == 4 && bytes.iter().enumerate().all(at)
        };
        let number = |byte: fn(&Byte) -> u8| {
            let bytes: Vec<u8> = bytes.iter().map(byte).collect();
            <[u8; 4]>::try_from(bytes).map_or(0, u32::from_ne_bytes)
        };
        let (mask, value) = (number(|byte| byte.mask), number(|byte| byte.xor));
        if bytes.len() == 4 && bytes.iter().all(|byte| byte.known().is_some()) {
            return Marking::Set(Masked {
                value,
                mask: u32::MAX,
            });
        }
        // A byte that is masked out wholly is a constant, wherever it came from.
        if of(Source::Number(own)) {
            return Marking::Set(Masked { value, mask: !mask });
        }
        if of(Source::Number(other)) && mask == u32::MAX && value == 0 {
            return Marking::Copy;
        }
        Marking::Unknown
    }

    fn nat(&mut self, expression: &Expression) {
        self.tracks = true;
        let own = self.own();
        let statement = match expression {
            Expression::Nat {
                source,
                family,
                addrs,
                ports,
            } => {
                if *family != own && *family != INET {
                    return;
                }
                let rewrite = self.rewrite(*addrs, *ports, None);
                let name = if *source { "snat to" } else { "dnat to" };
                let text = format!("{name} {}", names::rewrite(rewrite.as_ref()));
                self.show.word(&text);
                match rewrite {
                    Some(rewrite) if *source => Statement::Snat(rewrite),
                    Some(rewrite) => Statement::Dnat(rewrite),
                    None => match self.by_map(*addrs, *ports).filter(|_| !source) {
                        Some(all) => Statement::DnatByMap(all),
                        None => Statement::Effect(text, Reach::Packet),
                    },
                }
            }
            Expression::Masquerade(ports) => {
                self.show.word("masquerade");
                match self.ports(*ports, None) {
                    Some(ports) => Statement::Masquerade(ports),
                    None => Statement::Effect("masquerade".to_owned(), Reach::Packet),
                }
            }
            Expression::Redirect(ports) => {
                let known = self.ports(*ports, None);
                self.show
                    .word(&format!("redirect{}", names::ports(known.flatten())));
                match known {
                    Some(ports) => Statement::Redirect(ports),
                    None => Statement::Effect("redirect".to_owned(), Reach::Packet),
                }
            }
            _ => return,
        };
        self.statements.push(statement);
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::{IPV4, IPV6};
    use super::super::{Data, Element, RawChain, RawRule, RawTable, Set, Tables};
    use super::*;

    fn address(family: Family, number: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())),
        }
    }

    /// `dnat ip addr . port to numgen random mod COUNT map { NUMBER : 10.0.0.NUMBER . 8080, … }`.
    fn turned(family: Family, count: u32, numbers: &[u8]) -> Vec<Statement> {
        let bytes = |number| match address(family, number) {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let element = |number: &u8| Element {
            key: u32::from(*number).to_ne_bytes().to_vec(),
            data: Some(Data::Bytes(
                [bytes(*number), vec![0x1f, 0x90, 0, 0]].concat(),
            )),
            ..Element::default()
        };
        let own = if family == Family::V4 { IPV4 } else { IPV6 };
        let behind = bytes(0).len();
        let map = Set {
            fields: vec![4],
            elements: numbers.iter().map(element).collect(),
            ..Set::default()
        };
        let (first, into) = (0, 0);
        let lookup = Expression::Lookup {
            set: "map".to_owned(),
            from: 0,
            negated: false,
            verdict: false,
            into: Some((0, 16)),
        };
        let nat = Expression::Nat {
            source: false,
            family: own,
            addrs: Some((0, 0)),
            ports: Some((behind, behind)),
        };
        let rule = RawRule {
            expressions: vec![Expression::Numgen { first, count, into }, lookup, nat],
            ..RawRule::default()
        };
        let chain = RawChain {
            base: None,
            rules: vec![rule],
        };
        let table = RawTable {
            family: own,
            chains: [("c".to_owned(), chain)].into(),
            sets: [("map".to_owned(), map)].into(),
            ..RawTable::default()
        };
        let tables = Tables {
            tables: vec![table],
            ..Tables::default()
        };
        let decoded = tables.decode(family);
        decoded[0].chains["c"].rules[0].statements.clone()
    }

    #[test]
    fn where_a_map_turns_packets_is_known() {
        let chance = |count| Condition::Either(format!("numgen mod {count}"));
        let always = Condition::Always(true);
        for family in [Family::V4, Family::V6] {
            let to = |number| {
                let address = address(family, number);
                Rewrite {
                    addrs: Some((address, address)),
                    ports: Some(PortRange::from(8080)),
                }
            };
            assert_eq!(
                turned(family, 1, &[0]),
                [Statement::DnatByMap(vec![(always.clone(), to(0))])]
            );
            let both = vec![(chance(2), to(0)), (always.clone(), to(1))];
            assert_eq!(
                turned(family, 2, &[0, 1]),
                [Statement::DnatByMap(both)],
                "one of two, and never none"
            );
            let some = vec![(chance(2), to(0))];
            assert_eq!(
                turned(family, 2, &[0, 7]),
                [Statement::Test(chance(2)), Statement::DnatByMap(some)],
                "never 7, and perhaps none"
            );
        }
    }
}
