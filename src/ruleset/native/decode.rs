//! From expressions to what they mean for packets of one family.

use std::collections::BTreeMap;

use super::super::{Family, Policy};
use super::expression::{BRIDGE, INET, IPV4, IPV6, NETDEV};
use super::reader::{LookedUp, Reader};
use super::{
    At, Base, Expression, Kind, NativeChain, NativeRule, NativeTable, RawBase, RawChain, RawRule,
    RawTable, Tables,
};

impl Tables {
    /// What packets of a family meet.
    #[must_use]
    pub fn decode(&self, family: Family) -> Vec<NativeTable> {
        let own = match family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        };
        let met = self
            .tables
            .iter()
            .filter(|t| [INET, NETDEV, BRIDGE, own].contains(&t.family));
        met.map(|table| self.table(table, family)).collect()
    }

    fn table(&self, table: &RawTable, family: Family) -> NativeTable {
        let looked_up = LookedUp::default();
        let bases = table
            .chains
            .values()
            .filter_map(|chain| chain.base.as_ref());
        let mut places = bases.filter_map(|base| base_of(table.family, base));
        let framed = places.any(|base| matches!(base.at, At::Ingress | At::Egress));
        let unframed = !framed && table.family != BRIDGE;
        let chain = |(name, chain): (&String, &RawChain)| {
            let rules = chain
                .rules
                .iter()
                .map(|rule| self.rule(table, rule, family, &looked_up, unframed))
                .collect();
            let base = chain
                .base
                .as_ref()
                .and_then(|base| base_of(table.family, base));
            (name.clone(), NativeChain { base, rules })
        };
        let family_name = match table.family {
            INET => "inet",
            IPV4 => "ip",
            NETDEV => "netdev",
            BRIDGE => "bridge",
            _ => "ip6",
        };
        NativeTable {
            family,
            name: format!("{family_name} {}", table.name),
            bridge: table.family == BRIDGE,
            chains: table.chains.iter().map(chain).collect(),
        }
    }

    fn rule(
        &self,
        table: &RawTable,
        rule: &RawRule,
        family: Family,
        looked_up: &LookedUp,
        unframed: bool,
    ) -> NativeRule {
        let sets = &table.sets;
        let bridge = table.family == BRIDGE;
        let mut reader = Reader::new(family, bridge, sets, &self.interfaces, looked_up);
        reader.unframed = unframed;
        for expression in &rule.expressions {
            reader.take(expression);
        }
        NativeRule {
            handle: rule.handle,
            ..reader.finish(rule.comment.clone())
        }
    }
}

/// What a rule means of which neither sets nor interfaces are known.
#[must_use]
pub fn decode_rule(expressions: &[Expression], family: Family) -> NativeRule {
    let (sets, interfaces, looked_up) = (BTreeMap::new(), BTreeMap::new(), LookedUp::default());
    let mut reader = Reader::new(family, false, &sets, &interfaces, &looked_up);
    for expression in expressions {
        reader.take(expression);
    }
    reader.finish(None)
}

/// A base chain's place; `None` for a hook that does not exist here.
fn base_of(family: u8, base: &RawBase) -> Option<Base> {
    let at = match (family, base.hook) {
        (NETDEV, 0) | (INET, 5) => At::Ingress,
        (NETDEV, 1) => At::Egress,
        // NF_BR_PRE_ROUTING, _LOCAL_IN, … have the numbers of IP's hooks.
        (_, 0) => At::Prerouting,
        (_, 1) => At::Input,
        (_, 2) => At::Forward,
        (_, 3) => At::Output,
        (_, 4) => At::Postrouting,
        _ => return None,
    };
    Some(Base {
        at,
        priority: base.priority,
        kind: if base.kind == "nat" {
            Kind::Nat
        } else {
            Kind::Filter
        },
        policy: if base.accepts {
            Policy::Accept
        } else {
            Policy::Drop
        },
        devices: base.devices.clone(),
    })
}
