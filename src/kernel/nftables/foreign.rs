//! Telling a rule that iptables-nft made from one that only looks like it in its listing.
//!
//! iptables-nft translates a rule into a small set of expressions and always adds a counter. When it
//! lists a rule it prints the expressions it knows and silently leaves out others (seen on 1.8.9:
//! set look-ups). So a rule is trusted only if it has the counter and consists of nothing but those
//! expressions; everything else is named.

use netlink_packet_netfilter::nftables::{
    Cmp, ExpressionAttribute, Expressions, ListAttribute, Meta, MetaKey, Operator, Payload,
    RuleAttribute, RuleMessage,
};

use crate::ruleset::Family;

/// Bases of the payload expression (enum nft_payload_bases, linux/netfilter/nf_tables.h).
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// What in the rule iptables-nft would not have made; `None` where its listing can be trusted.
pub(super) fn why(family: Family, rule: &RuleMessage) -> Option<String> {
    let mut counter = false;
    let mut base = 0;
    for expression in expressions(rule) {
        let (name, known) = match expression {
            Expressions::Meta(parts) => ("meta", known_meta(parts)),
            Expressions::Cmp(parts) => ("cmp", known_comparison(parts)),
            Expressions::Payload(parts) => {
                let field = Field::of(parts);
                base = field.base;
                ("payload", field.known(family))
            }
            Expressions::Bitwise(_) => ("bitwise", true),
            Expressions::Immediate(_) => ("immediate", true),
            Expressions::Lookup(_) => ("lookup", false),
            Expressions::Other {
                expression_type, ..
            } => match expression_type.as_str() {
                "counter" => {
                    counter = true;
                    ("counter", true)
                }
                name @ ("match" | "target" | "limit" | "log" | "masq" | "redir" | "nat") => {
                    (name, true)
                }
                // iptables has ranges of ports only; ranges of addresses are a match of their own.
                "range" => ("range", base == TRANSPORT),
                name => (name, false),
            },
            _ => ("unnamed", false),
        };
        if !known {
            return Some(format!("a native nftables `{name}` expression"));
        }
    }
    (!counter).then(|| "a native nftables rule (it has no counter)".to_owned())
}

fn expressions(rule: &RuleMessage) -> impl Iterator<Item = &Expressions> {
    rule.attributes
        .iter()
        .filter_map(|attribute| match attribute {
            RuleAttribute::Expressions(list) => Some(list),
            _ => None,
        })
        .flatten()
        .filter_map(|item| match item {
            ListAttribute::Element(parts) => Some(parts),
            _ => None,
        })
        .flatten()
        .filter_map(|part| match part {
            ExpressionAttribute::Data(expression) => Some(expression),
            _ => None,
        })
}

fn known_meta(parts: &[Meta]) -> bool {
    parts.iter().all(|part| match part {
        Meta::Key(key) => matches!(
            key,
            MetaKey::L4Proto | MetaKey::Iifname | MetaKey::Oifname | MetaKey::Mark
        ),
        Meta::DestinationRegister(_) => true,
        _ => false,
    })
}

fn known_comparison(parts: &[Cmp]) -> bool {
    parts.iter().all(|part| match part {
        Cmp::Op(operator) => matches!(operator, Operator::Equal | Operator::NotEqual),
        _ => true,
    })
}

/// A piece of the packet that a payload expression loads.
#[derive(Default)]
struct Field {
    base: u32,
    offset: u32,
    length: u32,
    writes: bool,
}

impl Field {
    fn of(parts: &[Payload]) -> Self {
        let mut field = Self::default();
        for part in parts {
            match part {
                Payload::Base(value) => field.base = *value,
                Payload::Offset(value) => field.offset = *value,
                Payload::Len(value) => field.length = *value,
                Payload::SourceRegister(_) => field.writes = true,
                _ => {}
            }
        }
        field
    }

    /// Addresses (also their first bytes only, for a prefix), the protocol, the fragment offset;
    /// ports and TCP flags.
    fn known(&self, family: Family) -> bool {
        let place = (self.base, self.offset, self.length);
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
        (transport || network) && !self.writes
    }
}
