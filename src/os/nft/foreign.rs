//! Telling a rule that iptables-nft made from one that only looks like it in its listing.
//!
//! iptables-nft translates a rule into a small set of expressions and always adds a counter. When it
//! lists a rule it prints the expressions it knows and silently leaves out others (seen on 1.8.9:
//! set look-ups). So a rule is trusted only if it has the counter and consists of nothing but those
//! expressions; everything else is named.
//!
//! Rules are read attribute by attribute here: decoding each whole costs ten times as much, and a
//! host may have ten thousand. Numbers of attributes and keys are those of
//! linux/netfilter/nf_tables.h.

use netlink_packet_core::DecodeError;

use super::attributes::{named, number};
use crate::os::attributes::{each, text};
use crate::ruleset::Family;

const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

/// A rule as the kernel sends it.
pub(super) struct Rule<'a> {
    /// Its chain.
    pub(super) chain: &'a [u8],
    expressions: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Rule<'a> {
    /// Reads the attributes of a rule message.
    pub(super) fn read(attributes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rule = Self {
            chain: &[],
            expressions: Vec::new(),
        };
        for (kind, value) in each(attributes) {
            match kind? {
                RULE_CHAIN => rule.chain = text(value),
                RULE_EXPRESSIONS => {
                    for (kind, expression) in each(value) {
                        kind?;
                        rule.expressions.push(named(expression)?);
                    }
                }
                _ => {}
            }
        }
        Ok(rule)
    }

    /// How many packets its counter has seen, if it has one (NFTA_COUNTER_PACKETS).
    pub(super) fn packets(&self) -> Option<u64> {
        const PACKETS: u16 = 2;
        let (_, data) = self
            .expressions
            .iter()
            .find(|(name, _)| *name == b"counter")?;
        let (_, value) = each(data).find(|(kind, _)| matches!(kind, Ok(PACKETS)))?;
        Some(u64::from_be_bytes(value.try_into().ok()?))
    }

    /// What in the rule iptables-nft would not have made; `None` where its listing can be trusted.
    pub(super) fn why_foreign(&self, family: Family) -> Option<String> {
        let mut counter = false;
        let mut base = None;
        for (name, data) in &self.expressions {
            let known = match *name {
                b"counter" => {
                    counter = true;
                    true
                }
                b"match" | b"target" | b"limit" | b"log" | b"masq" | b"redir" | b"nat"
                | b"bitwise" | b"immediate" => true,
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
                return Some(format!("a native nftables `{name}` expression"));
            }
        }
        (!counter).then(|| "a native nftables rule (it has no counter)".to_owned())
    }
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
