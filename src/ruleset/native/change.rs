//! What rules change in packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::Family;
use super::super::matches::{Masked, PortRange};
use super::super::target::{Reach, Rewrite};
use super::expression::{INET, IPV4, IPV6, Register};
use super::names;
use super::reader::Reader;
use super::registers::{Byte, Source};
use super::{Expression, Key, Marking, Statement};

impl Reader<'_> {
    fn address(&self, from: Register) -> Option<IpAddr> {
        let length = if self.family == Family::V4 { 4 } else { 16 };
        let bytes = self.registers.known(from, length)?;
        Some(match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        })
    }

    /// `Some(None)` where no ports are given.
    fn ports(&self, ports: Option<(Register, Register)>) -> Option<Option<PortRange>> {
        let Some((low, high)) = ports else {
            return Some(None);
        };
        let port = |from| {
            let bytes = self.registers.known(from, 2)?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        let (low, high) = (port(low)?, port(high)?);
        (low <= high).then_some(Some(PortRange { low, high }))
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
        let own = if self.family == Family::V4 {
            IPV4
        } else {
            IPV6
        };
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
                let range = match addrs {
                    Some((low, high)) => {
                        let range = self.address(*low).zip(self.address(*high));
                        range.filter(|(low, high)| low <= high).map(Some)
                    }
                    None => Some(None),
                };
                let rewrite = range
                    .zip(self.ports(*ports))
                    .map(|(addrs, ports)| Rewrite { addrs, ports });
                let name = if *source { "snat to" } else { "dnat to" };
                let text = format!("{name} {}", names::rewrite(rewrite.as_ref()));
                self.show.word(&text);
                match rewrite {
                    Some(rewrite) if *source => Statement::Snat(rewrite),
                    Some(rewrite) => Statement::Dnat(rewrite),
                    None => Statement::Effect(text, Reach::Packet),
                }
            }
            Expression::Masquerade(ports) => {
                self.show.word("masquerade");
                match self.ports(*ports) {
                    Some(ports) => Statement::Masquerade(ports),
                    None => Statement::Effect("masquerade".to_owned(), Reach::Packet),
                }
            }
            Expression::Redirect(ports) => {
                let known = self.ports(*ports);
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
