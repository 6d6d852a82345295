//! Telling a rule that iptables-nft made from one that only looks like it in its listing.
//!
//! iptables-nft translates a rule into a small set of expressions and always adds a counter. When it
//! lists a rule it prints the expressions it knows and silently leaves out others (seen on 1.8.9:
//! set look-ups). So a rule is trusted only if it has the counter and consists of nothing but those
//! expressions; everything else is named.
//!
//! Numbers of attributes and keys are those of linux/netfilter/nf_tables.h.

use netlink_packet_core::DecodeError;

use super::message::{expressions, number};
use crate::ruleset::Family;

/// What in a rule, given its expressions, iptables-nft would not have made; `None` where its listing
/// can be trusted.
pub(super) fn why_foreign(list: &[u8], family: Family) -> Result<Option<String>, DecodeError> {
    let mut counter = false;
    let mut base = None;
    for expression in expressions(list) {
        let (name, data) = expression?;
        let known = match name {
            b"counter" => {
                counter = true;
                true
            }
            b"match" | b"target" | b"limit" | b"log" | b"masq" | b"redir" | b"nat" | b"bitwise"
            | b"immediate" => true,
            b"meta" => known_meta(data),
            b"cmp" => known_comparison(data),
            b"payload" => {
                let field = Field::of(data);
                base = field.base;
                field.known(family)
            }
            // iptables has ranges of ports only; ranges of addresses are a match of their own.
            b"range" => base == Some(TRANSPORT),
            _ => false,
        };
        if !known {
            let name = String::from_utf8_lossy(name);
            return Ok(Some(format!("a native nftables `{name}` expression")));
        }
    }
    Ok((!counter).then(|| "a native nftables rule (it has no counter)".to_owned()))
}

/// Loads the protocol, an interface's name or the mark into a register, and sets nothing.
fn known_meta(data: &[u8]) -> bool {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    // NFT_META_MARK, _IIFNAME, _OIFNAME, _L4PROTO.
    const KEYS: [u32; 4] = [3, 6, 7, 16];
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
        let transport = matches!(place, (TRANSPORT, 0 | 2, 2) | (TRANSPORT, 13, 1));
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
