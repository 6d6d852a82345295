//! Telling a rule that iptables-nft made from one that only looks like it in its listing.
//!
//! iptables-nft translates a rule into a small set of expressions and always adds a counter. When it
//! lists a rule it prints the expressions it knows and silently leaves out others (seen on 1.8.9:
//! set look-ups). So a rule is trusted only if it has the counter and consists of nothing but those
//! expressions; everything else is named.
//!
//! Numbers of attributes and keys are those of linux/netfilter/nf_tables.h.

use netlink_packet_core::DecodeError;

use super::message::{expressions, number, value};
use crate::ruleset::Family;

/// What in a rule, given its expressions, iptables-nft would not have made; `None` where its listing
/// can be trusted.
///
/// iptables asks for each thing once, and always in one way: a load, perhaps a mask, a comparison.
/// It prints other sequences of the same expressions as something that they are not.
pub(super) fn why_foreign(list: &[u8], family: Family) -> Result<Option<String>, DecodeError> {
    let mut counter = false;
    let mut loaded: Option<Loaded> = None;
    let mut masked = false;
    let mut asked = Vec::new();
    for expression in expressions(list) {
        let (name, data) = expression?;
        let known = match name {
            b"counter" => {
                counter = true;
                true
            }
            b"match" | b"target" | b"limit" | b"log" | b"masq" | b"redir" | b"nat"
            | b"immediate" => unused(loaded.take()),
            b"meta" | b"payload" => {
                let before = loaded.take();
                loaded = Loaded::of(name, data, family).filter(|new| !asked.contains(new));
                asked.extend(loaded);
                masked = false;
                unused(before) && loaded.is_some()
            }
            b"bitwise" => {
                masked = true;
                loaded.is_some() && masks(data)
            }
            b"cmp" => match loaded.take() {
                // Of the fragment's place without its flags, as `-f` does.
                Some(FRAGMENT) if family == Family::V4 && !masked => false,
                loaded => loaded.is_some() && known_comparison(data),
            },
            // iptables has ranges of ports only; ranges of addresses are a match of their own.
            b"range" => matches!(loaded.take(), Some(Loaded::Payload(TRANSPORT, 0 | 2))),
            _ => false,
        };
        if !known {
            let name = String::from_utf8_lossy(name);
            return Ok(Some(format!("a native nftables `{name}` expression")));
        }
    }
    Ok((!counter).then(|| "a native nftables rule (it has no counter)".to_owned()))
}

/// What a rule asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    /// A key of the meta expression.
    Meta(u32),
    /// A place of the packet: which header, and where in it.
    Payload(u32, u32),
    /// Both ports, which iptables compares at once where it is given one of each.
    Ports,
}

/// Whether iptables loads this without a comparison: the name of an interface, for `-i +`.
fn unused(loaded: Option<Loaded>) -> bool {
    matches!(loaded, None | Some(Loaded::Meta(IIFNAME | OIFNAME)))
}

/// IPv4's flags and offset of a fragment.
const FRAGMENT: Loaded = Loaded::Payload(NETWORK, 6);

impl Loaded {
    fn of(name: &[u8], data: &[u8], family: Family) -> Option<Self> {
        if name == b"meta" {
            return number(data, 2).filter(|_| known_meta(data)).map(Self::Meta);
        }
        let field = Field::of(data);
        let known = field.known(family);
        if (field.base, field.length) == (Some(TRANSPORT), Some(4)) {
            return known.then_some(Self::Ports);
        }
        field
            .base
            .zip(field.offset)
            .filter(|_| known)
            .map(|(base, at)| Self::Payload(base, at))
    }
}

/// Leaves out bits, and sets none.
fn masks(data: &[u8]) -> bool {
    // NFTA_BITWISE_XOR, NFTA_BITWISE_OP (NFT_BITWISE_MASK_XOR, also where it is not given),
    // NFTA_DATA_VALUE.
    let xor = value(data, 5)
        .and_then(|xor| value(xor, 1))
        .unwrap_or_default();
    number(data, 6).unwrap_or(0) == 0 && xor.iter().all(|byte| *byte == 0)
}

/// `NFT_META_IIFNAME`, `NFT_META_OIFNAME`.
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;

/// Loads the protocol, an interface's name or the mark into a register, and sets nothing.
fn known_meta(data: &[u8]) -> bool {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    // NFT_META_MARK, NFT_META_L4PROTO.
    const KEYS: [u32; 4] = [3, IIFNAME, OIFNAME, 16];
    number(data, DREG).is_some() && number(data, KEY).is_some_and(|key| KEYS.contains(&key))
}

/// Equal, or not equal.
fn known_comparison(data: &[u8]) -> bool {
    const OPERATOR: u16 = 2;
    number(data, OPERATOR).is_some_and(|operator| operator <= 1)
}

/// Bases of the payload expression.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// A piece of the packet that a payload expression loads into a register.
struct Field {
    base: Option<u32>,
    offset: Option<u32>,
    length: Option<u32>,
    loads: bool,
}

impl Field {
    fn of(data: &[u8]) -> Self {
        Self {
            loads: number(data, 1).is_some(),
            base: number(data, 2),
            offset: number(data, 3),
            length: number(data, 4),
        }
    }

    /// Addresses (also their first bytes only, for a prefix), the protocol, the fragment offset;
    /// ports and TCP flags.
    fn known(&self, family: Family) -> bool {
        let (Some(base), Some(offset), Some(length)) = (self.base, self.offset, self.length) else {
            return false;
        };
        let place = (base, offset, length);
        let transport = matches!(
            place,
            (TRANSPORT, 0 | 2, 2) | (TRANSPORT, 0, 4) | (TRANSPORT, 13, 1)
        );
        let network = match family {
            Family::V4 => {
                matches!(
                    place,
                    (NETWORK, 12 | 16, 1..=4) | (NETWORK, 9, 1) | (NETWORK, 6, 2)
                )
            }
            Family::V6 => matches!(place, (NETWORK, 8 | 24, 1..=16) | (NETWORK, 6, 1)),
        };
        (transport || network) && self.loads
    }
}
