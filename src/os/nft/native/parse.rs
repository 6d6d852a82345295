//! One expression out of the kernel's attributes.
//!
//! An attribute that is not known may change what an expression means: then the expression is not
//! understood. Numbers are those of linux/netfilter/nf_tables.h.

use std::collections::BTreeMap;

use netlink_packet_core::DecodeError;

use super::super::message::each;
use crate::config::readable;
use crate::os::attributes::text;
use crate::ruleset::Reach;
use crate::ruleset::native::{Data, Expression, Register, Verdict};

/// The attributes of an expression by their numbers.
struct Given<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Given<'a> {
    fn read(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut given = BTreeMap::new();
        for (kind, value) in each(data) {
            given.insert(kind?, value);
        }
        Ok(Self(given))
    }

    /// Whether there are no others than these.
    fn only(&self, known: &[u16]) -> bool {
        self.0.keys().all(|kind| known.contains(kind))
    }

    fn has(&self, kind: u16) -> bool {
        self.0.contains_key(&kind)
    }

    fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes((*self.0.get(&kind)?).try_into().ok()?))
    }

    fn register(&self, kind: u16) -> Option<Register> {
        register(self.number(kind)?)
    }

    fn bytes(&self, kind: u16) -> Option<Vec<u8>> {
        match data(self.0.get(&kind)?)? {
            Data::Bytes(bytes) => Some(bytes),
            Data::Verdict(_) => None,
        }
    }

    fn string(&self, kind: u16) -> Option<String> {
        Some(readable(text(self.0.get(&kind)?)))
    }

    /// Two registers, or the first one twice; `Some(None)` where none is given.
    fn range(&self, low: u16, high: u16) -> Option<Option<(Register, Register)>> {
        if !self.has(low) && !self.has(high) {
            return Some(None);
        }
        let low = self.register(low)?;
        let high = if self.has(high) {
            self.register(high)?
        } else {
            low
        };
        Some(Some((low, high)))
    }
}

/// NFT_REG_1 to NFT_REG_4 are 16 bytes each; from NFT_REG32_00 (8) on there are 16 of 4 bytes in the
/// same place.
const fn register(number: u32) -> Option<Register> {
    match number {
        1..=4 => Some((number as usize - 1) * 16),
        8..=23 => Some((number as usize - 8) * 4),
        _ => None,
    }
}

/// `NFTA_DATA_…`: bytes or a verdict; `None` for a verdict that is not known.
pub(super) fn data(attributes: &[u8]) -> Option<Data> {
    const VALUE: u16 = 1;
    const VERDICT: u16 = 2;
    let given = Given::read(attributes).ok()?;
    match (given.0.get(&VALUE), given.0.get(&VERDICT)) {
        (Some(bytes), None) => Some(Data::Bytes(bytes.to_vec())),
        (None, Some(attributes)) => verdict(attributes).map(Data::Verdict),
        _ => None,
    }
}

fn verdict(attributes: &[u8]) -> Option<Verdict> {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    let given = Given::read(attributes).ok()?;
    let chain = || given.string(CHAIN);
    // NF_DROP, NF_ACCEPT, NFT_CONTINUE, NFT_JUMP, NFT_GOTO, NFT_RETURN.
    Some(match given.number(CODE)?.cast_signed() {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        _ => return None,
    })
}

/// What an expression is. One that is not understood may do anything.
pub(super) fn expression(name: &[u8], data: &[u8]) -> Result<Expression, DecodeError> {
    let given = Given::read(data)?;
    let understood = match name {
        b"meta" => meta(&given),
        b"payload" => payload(&given),
        b"ct" => ct(&given),
        b"cmp" | b"range" | b"bitwise" | b"byteorder" | b"lookup" => compare(name, &given),
        b"immediate" => immediate(&given),
        b"fib" => fib(&given),
        b"nat" | b"masq" | b"redir" => nat(name, &given),
        _ => other(name, &given),
    };
    let unknown = || Expression::Effect(readable(name), Reach::Anywhere);
    Ok(understood.unwrap_or_else(unknown))
}

fn meta(given: &Given<'_>) -> Option<Expression> {
    let (dreg, key, sreg) = (1, 2, 3);
    if !given.only(&[dreg, key, sreg]) {
        return None;
    }
    let number = given.number(key)?;
    Some(if given.has(sreg) {
        Expression::SetMeta {
            key: number,
            from: given.register(sreg)?,
        }
    } else {
        Expression::Meta {
            key: number,
            into: given.register(dreg)?,
        }
    })
}

fn payload(given: &Given<'_>) -> Option<Expression> {
    let (dreg, base, offset, length, sreg) = (1, 2, 3, 4, 5);
    let checksum = [6, 7, 8];
    if !given.only(&[&[dreg, base, offset, length, sreg][..], &checksum].concat()) {
        return None;
    }
    let (base, offset, length) = (
        given.number(base)?,
        given.number(offset)?,
        given.number(length)? as usize,
    );
    Some(if given.has(sreg) {
        Expression::SetPayload {
            base,
            offset,
            length,
        }
    } else {
        Expression::Payload {
            base,
            offset,
            length,
            into: given.register(dreg)?,
        }
    })
}

fn ct(given: &Given<'_>) -> Option<Expression> {
    let (dreg, key, direction, sreg) = (1, 2, 3, 4);
    if !given.only(&[dreg, key, direction, sreg]) {
        return None;
    }
    let number = given.number(key)?;
    Some(if given.has(sreg) {
        Expression::SetCt {
            key: number,
            from: given.register(sreg)?,
        }
    } else {
        Expression::Ct {
            key: number,
            into: given.register(dreg)?,
        }
    })
}

fn compare(name: &[u8], given: &Given<'_>) -> Option<Expression> {
    let from = |kind| given.register(kind);
    Some(match name {
        b"cmp" if given.only(&[1, 2, 3]) => Expression::Compare {
            from: from(1)?,
            operator: given.number(2)?,
            bytes: given.bytes(3)?,
        },
        b"range" if given.only(&[1, 2, 3, 4]) => Expression::Range {
            from: from(1)?,
            negated: match given.number(2)? {
                0 => false,
                1 => true,
                _ => return None,
            },
            low: given.bytes(3)?,
            high: given.bytes(4)?,
        },
        b"bitwise" => {
            // NFT_BITWISE_MASK_XOR; shifts, and operations on two registers, are not computed.
            let plain = given.only(&[1, 2, 3, 4, 5, 6]) && given.number(6).unwrap_or(0) == 0;
            let length = given.number(3)? as usize;
            if !plain {
                let (text, into) = ("bitwise".to_owned(), given.register(2)?);
                return Some(Expression::Unknown { text, into, length });
            }
            let (mask, xor) = (given.bytes(4)?, given.bytes(5)?);
            if mask.len() != length || xor.len() != length {
                return None;
            }
            Expression::Bitwise {
                from: from(1)?,
                into: given.register(2)?,
                mask,
                xor,
            }
        }
        b"byteorder" if given.only(&[1, 2, 3, 4, 5]) => Expression::Swap {
            from: from(1)?,
            into: given.register(2)?,
            length: given.number(4)? as usize,
            size: given.number(5)? as usize,
        },
        b"lookup" if given.only(&[1, 2, 3, 4, 5]) => {
            let verdict = given.number(3) == Some(0);
            let into = if verdict || !given.has(3) {
                None
            } else {
                Some((given.register(3)?, 16))
            };
            let negated = match given.number(5).unwrap_or(0) {
                0 => false,
                1 => true,
                _ => return None,
            };
            Expression::Lookup {
                set: given.string(1)?,
                from: from(2)?,
                negated,
                verdict,
                into,
            }
        }
        _ => return None,
    })
}

fn immediate(given: &Given<'_>) -> Option<Expression> {
    if !given.only(&[1, 2]) {
        return None;
    }
    Some(match data(given.0.get(&2)?)? {
        Data::Bytes(bytes) => Expression::Load {
            into: given.register(1)?,
            bytes,
        },
        Data::Verdict(verdict) => Expression::Verdict(verdict),
    })
}

fn fib(given: &Given<'_>) -> Option<Expression> {
    // NFT_FIB_RESULT_ADDRTYPE; NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR.
    const TYPE: u32 = 3;
    let into = given.register(1)?;
    Some(
        match (given.only(&[1, 2, 3]), given.number(2)?, given.number(3)?) {
            (true, TYPE, 1) => Expression::AddressType { source: true, into },
            (true, TYPE, 2) => Expression::AddressType {
                source: false,
                into,
            },
            _ => Expression::Unknown {
                text: "fib".to_owned(),
                into,
                length: 16,
            },
        },
    )
}

fn nat(name: &[u8], given: &Given<'_>) -> Option<Expression> {
    Some(match name {
        b"nat" if given.only(&[1, 2, 3, 4, 5, 6, 7]) => {
            // NF_NAT_RANGE_NETMAP.
            if given.number(7).unwrap_or(0) & 0x40 != 0 {
                return Some(Expression::Effect(
                    "nat to a prefix".to_owned(),
                    Reach::Packet,
                ));
            }
            Expression::Nat {
                source: given.number(1)? == 0,
                family: u8::try_from(given.number(2)?).ok()?,
                addrs: given.range(3, 4)?,
                ports: given.range(5, 6)?,
            }
        }
        b"masq" if given.only(&[1, 2, 3]) => Expression::Masquerade(given.range(2, 3)?),
        b"redir" if given.only(&[1, 2, 3]) => Expression::Redirect(given.range(1, 2)?),
        _ => return None,
    })
}

/// Names of expressions that nothing else can ask about.
const PASSIVE: [(&[u8], &str); 3] = [(b"counter", "counter"), (b"log", "log"), (b"last", "last")];

fn other(name: &[u8], given: &Given<'_>) -> Option<Expression> {
    let word = || readable(name);
    if let Some((_, text)) = PASSIVE.iter().find(|(passive, _)| *passive == name) {
        return Some(Expression::Passive(text));
    }
    Some(match name {
        b"limit" => Expression::Either("limit".to_owned()),
        b"reject" => Expression::Reject,
        b"notrack" => Expression::Notrack,
        b"quota" | b"connlimit" | b"dynset" => Expression::Condition(word()),
        b"dup" | b"fwd" | b"queue" | b"synproxy" => Expression::Effect(word(), Reach::Copies),
        b"tproxy" => Expression::Effect(word(), Reach::Packet),
        // NFTA_NG_DREG, _MODULUS, _TYPE, _OFFSET.
        b"numgen" if given.only(&[1, 2, 3, 4]) => Expression::Numgen {
            first: given.number(4).unwrap_or(0),
            count: given.number(2)?,
            into: given.register(1)?,
        },
        // A register of 16 bytes is the most that they fill but for these.
        b"numgen" | b"hash" | b"rt" | b"osf" | b"xfrm" | b"tunnel" => {
            let register = if name == b"hash" || name == b"tunnel" {
                2
            } else {
                1
            };
            unknown_into(name, given, register)?
        }
        b"socket" => unknown_into(name, given, 2)?,
        b"exthdr" => match given.register(1) {
            Some(_) => unknown_into(name, given, 1)?,
            // Changes or removes an option, such as the largest segment; the rule ends where there is none
            // (nft_exthdr_tcp_set_eval() in net/netfilter/nft_exthdr.c).
            None => Expression::Condition("exthdr set".to_owned()),
        },
        b"match" => {
            let name = given.string(1)?;
            match name.as_str() {
                "comment" => Expression::Passive(""),
                _ => Expression::Condition(format!("xt match {name}")),
            }
        }
        b"target" => {
            let name = given.string(1)?;
            let reach = Reach::of(&format!("-j {name}"));
            Expression::Effect(format!("xt target {name}"), reach)
        }
        b"objref" => object(given)?,
        _ => return None,
    })
}

fn unknown_into(name: &[u8], given: &Given<'_>, register: u16) -> Option<Expression> {
    Some(Expression::Unknown {
        text: readable(name),
        into: given.register(register)?,
        length: 16,
    })
}

/// `NFT_OBJECT_…`: counters, helpers, timeouts, security marks and expectations change nothing that
/// a rule is understood to ask for.
fn object(given: &Given<'_>) -> Option<Expression> {
    const KIND: u16 = 1;
    if !given.has(KIND) {
        // One out of a map.
        return Some(Expression::Effect(
            "an object of a map".to_owned(),
            Reach::Anywhere,
        ));
    }
    Some(match given.number(KIND)? {
        1 | 3 | 7 | 8 | 9 => Expression::Passive("object"),
        2 | 5 => Expression::Condition("quota".to_owned()),
        4 => Expression::Either("limit".to_owned()),
        _ => return None,
    })
}
