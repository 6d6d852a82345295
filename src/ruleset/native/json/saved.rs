//! What was read, as the kernel holds it.

use std::collections::BTreeMap;

use super::super::expression::{IPV4, IPV6};
use super::super::{Expression, NativeTable, RawChain, RawRule, RawTable, Tables, Verdict};
use super::rule::Sets;
use super::value::Interfaces;
use crate::ruleset::{Family, Reach};

/// A ruleset of nf_tables as nft lists it.
#[derive(Debug, Default)]
pub struct Saved {
    pub(super) tables: BTreeMap<(u8, String), Table>,
    pub(super) interfaces: Interfaces,
}

/// A table under construction.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) chains: BTreeMap<String, RawChain>,
    pub(super) sets: Sets,
    /// Whether nft left out what xtables does in it.
    pub(super) partial: bool,
    pub(super) sleeps: Sleeps,
}

/// Whether a table sleeps: then no packet meets its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sleeps {
    #[default]
    No,
    Yes,
    Perhaps,
}

impl Saved {
    /// What packets of a family meet. The chains of iptables are left out where its own listing is given
    /// beside this.
    #[must_use]
    pub fn decode(&self, family: Family, listed: bool) -> Vec<NativeTable> {
        let awake = self
            .tables
            .iter()
            .filter(|(_, table)| table.sleeps != Sleeps::Yes);
        let tables = awake.map(|((proto, name), table)| table.raw(*proto, name, listed));
        let walked = |table: &RawTable| table.chains.values().any(|chain| chain.base.is_some());
        let tables = Tables {
            tables: tables.filter(walked).collect(),
            interfaces: self.interfaces.clone(),
        };
        tables.decode(family)
    }
}

impl Table {
    /// What the kernel holds of it, as far as that is known.
    fn raw(&self, family: u8, name: &str, listed: bool) -> RawTable {
        let mut chains = self.chains.clone();
        for (chain_name, chain) in &mut chains {
            if listed && is_of_iptables(family, name, chain_name, chain) {
                chain.base = None;
            }
            if self.partial {
                chain.rules = vec![not_shown(family)];
            } else if self.sleeps == Sleeps::Perhaps && chain.base.is_some() {
                chain.rules.insert(0, perhaps_asleep());
            }
        }
        let sets = self.sets.known.iter().map(|(name, known)| {
            let mut set = known.set.clone();
            if self.sets.changing.contains(name) {
                set.unclear = Some(format!("@{name} changes by itself"));
            }
            (name.clone(), set)
        });
        RawTable {
            family,
            name: name.to_owned(),
            chains,
            sets: sets.collect(),
        }
    }
}

/// Whether iptables lists the chain.
fn is_of_iptables(family: u8, table: &str, name: &str, chain: &RawChain) -> bool {
    let tables = ["raw", "mangle", "nat", "filter", "security"];
    let hook = match chain.base.as_ref().map(|base| base.hook) {
        Some(0) => "PREROUTING",
        Some(1) => "INPUT",
        Some(2) => "FORWARD",
        Some(3) => "OUTPUT",
        Some(4) => "POSTROUTING",
        _ => return false,
    };
    (family == IPV4 || family == IPV6) && tables.contains(&table) && name == hook
}

fn not_shown(family: u8) -> RawRule {
    let (option, save) = if family == IPV6 {
        ("--ruleset6", "ip6tables-save")
    } else {
        ("another --ruleset", "iptables-save")
    };
    let why = format!(
        "what iptables' extensions do here, which nft does not print: give the output of {save} as well, with {option}"
    );
    RawRule {
        expressions: vec![Expression::Effect(why, Reach::Anywhere)],
        ..RawRule::default()
    }
}

fn perhaps_asleep() -> RawRule {
    let asks = "the table is dormant, which nft does not print";
    RawRule {
        expressions: vec![
            Expression::Condition(asks.to_owned()),
            Expression::Verdict(Verdict::Accept),
        ],
        ..RawRule::default()
    }
}
