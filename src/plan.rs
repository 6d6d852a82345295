//! From what should be there and what is: the drift, and the ordered steps that close it.
//!
//! In every chain that concerns the guard its rules stand in one block at the top, in order, once.
//! A chain where they do not is rebuilt in a single `iptables-restore --noflush` transaction:
//! every tagged rule is deleted by its exact text and the block inserted, so that no packet ever
//! sees a chain without the rules it had before.
//!
//! A route by the loopback interface opens nothing and is added and removed last.
//!
//! Order across objects: on the way in filter rules, then NAT rules, then `route_localnet`; on the
//! way out the reverse, so that `route_localnet=1` never stands without its shield.

mod diff;
mod opening;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use self::diff::{Difference, diff};
use self::opening::{Differs, differences, object as opening_object};
pub use self::opening::{Opening, openings};
use crate::guarantee::{Guarantee, Rules, WantedRule, object, route_object};
use crate::ruleset::native::ChainPlace;
use crate::ruleset::{Chain, Family, Listed, Policy, Rewrite, Ruleset, Shown, Target};

/// What was read of one sysctl: its value, `None` where the interface is not there.
pub type SysctlValue = Option<String>;

/// A chain of iptables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainId {
    /// iptables' or ip6tables'.
    pub family: Family,
    /// The table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

impl ChainId {
    fn is(&self, (family, table, chain): (Family, &str, &str)) -> bool {
        self.family == family && self.table == table && self.chain == chain
    }
}

/// What the kernel holds of everything that the plan is about.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The iptables tables, by family. One that could not be read says so ([`Shown::Unreadable`]).
    pub rulesets: BTreeMap<Family, Ruleset>,
    /// `route_localnet` by interface: those wanted, and those that the guard once changed.
    pub route_localnet: BTreeMap<String, SysctlValue>,
    /// What to restore into the sysctls that the guard changed, by interface.
    pub previous: BTreeMap<String, String>,
    /// The addresses to which the guard's own routes by the loopback interface lead.
    pub routes: BTreeSet<Ipv4Addr>,
    /// The guard's own rules in native chains of others.
    pub openings: Vec<Opening>,
}

/// A difference between what should be there and what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Whose rule it is about.
    pub guarantee: Guarantee,
    /// How the object differs.
    pub kind: DriftKind,
    /// The rule or sysctl: `IPv4 filter FORWARD: -d 169.254.169.254/32 …`.
    pub object: String,
}

impl Drift {
    /// `route_localnet` of an interface, which is not at `value`.
    pub(crate) fn route_localnet(kind: DriftKind, interface: &str, value: &str) -> Self {
        Self {
            // The only guarantee that needs a sysctl.
            guarantee: Guarantee::TaskCredentials,
            kind,
            object: format!("net.ipv4.conf.{interface}.route_localnet={value}"),
        }
    }
}

/// How an object differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftKind {
    /// A wanted rule is not there, or a sysctl has not its value.
    Missing,
    /// A wanted rule is there, but not in its place at the top.
    Displaced,
    /// A wanted rule is there more than once.
    Doubled,
    /// A tagged rule, or a sysctl that the guard changed, is no longer wanted.
    Stray,
}

impl From<Differs> for DriftKind {
    fn from(differs: Differs) -> Self {
        match differs {
            Differs::Missing => Self::Missing,
            Differs::Displaced => Self::Displaced,
            Differs::Doubled => Self::Doubled,
            Differs::Stray => Self::Stray,
        }
    }
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Displaced => "displaced",
            Self::Doubled => "doubled",
            Self::Stray => "no longer wanted",
        })
    }
}

/// One change to the kernel. Each either happens whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Feed `input` to `iptables-restore --noflush` (or ip6tables').
    Restore {
        /// Which tool.
        family: Family,
        /// The table that `input` is about.
        table: String,
        /// The transaction, from `*table` to `COMMIT`.
        input: String,
    },
    /// Set `net.ipv4.conf.<interface>.route_localnet`.
    RouteLocalnet {
        /// `all`, or a bridge.
        interface: String,
        /// `1` to set; on the way out whatever stood there before.
        value: String,
        /// Whether this puts back what stood there before the guard.
        undo: bool,
    },
    /// Add the guard's own route to an address by the loopback interface, or remove it.
    Route {
        /// The address.
        to: Ipv4Addr,
        /// Whether it is removed.
        undo: bool,
    },
    /// Put the guard's own rule on top of a native chain of others, once, or remove it.
    Opening {
        /// The chain.
        place: ChainPlace,
        /// Whether it is removed.
        undo: bool,
    },
}

impl Step {
    /// The family that the step is about; `route_localnet` and the routes are IPv4's.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Restore { family, .. } => *family,
            Self::RouteLocalnet { .. } | Self::Route { .. } | Self::Opening { .. } => Family::V4,
        }
    }

    /// What it changes: the table's name, `route_localnet` or `route`.
    #[must_use]
    pub fn object(&self) -> &str {
        match self {
            Self::Restore { table, .. } => table,
            Self::RouteLocalnet { .. } => "route_localnet",
            Self::Route { .. } => "route",
            Self::Opening { .. } => "nftables",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore { family, table, .. } => write!(f, "rebuild {family} {table}"),
            Self::RouteLocalnet {
                interface, value, ..
            } => {
                write!(f, "set net.ipv4.conf.{interface}.route_localnet={value}")
            }
            Self::Route { to, undo: false } => write!(f, "add {}", route_object(*to)),
            Self::Route { to, undo: true } => write!(f, "remove {}", route_object(*to)),
            Self::Opening { place, undo: false } => write!(f, "open nftables {place}"),
            Self::Opening { place, undo: true } => {
                write!(f, "remove the rule from nftables {place}")
            }
        }
    }
}

/// What differs, and what to do about it, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The differences.
    pub drifts: Vec<Drift>,
    /// The steps. A step must not be taken when one before it of the same family failed.
    pub steps: Vec<Step>,
}

/// Works out what is missing. Tables that are not in the snapshot are left alone, and so are the
/// `paused` chains.
#[must_use]
pub fn plan(wanted: &Rules, actual: &Snapshot, paused: &[ChainId]) -> Plan {
    let mut drifts = Vec::new();
    let mut restores = Vec::new();
    for ruleset in actual.rulesets.values() {
        for (table, content) in &ruleset.tables {
            let mut input = String::new();
            for (name, chain) in &content.chains {
                let place = (ruleset.family, table.as_str(), name.as_str());
                let want: Vec<&WantedRule> = wanted
                    .iptables
                    .iter()
                    .filter(|rule| (rule.family, rule.table, rule.chain) == place)
                    .collect();
                let found = diff(chain, &want);
                let paused = paused.iter().any(|chain| chain.is(place));
                if !found.is_empty() && !paused {
                    rebuild(&mut input, name, &want, chain);
                    drifts.extend(found.iter().map(|different| Drift {
                        guarantee: different.guarantee,
                        kind: different.kind,
                        object: object(place, different.listed),
                    }));
                }
            }
            if !input.is_empty() {
                restores.push(Step::Restore {
                    family: ruleset.family,
                    table: table.clone(),
                    input: format!("*{table}\n{input}COMMIT\n"),
                });
            }
        }
    }
    let (set, undo) = sysctls(wanted, actual, &mut drifts);
    let mut steps = in_order(wanted, restores, set, undo);
    steps.extend(routes(wanted, actual, &mut drifts));
    for (place, differs) in differences(&wanted.openings, &actual.openings) {
        drifts.push(Drift {
            guarantee: Guarantee::TaskCredentials,
            kind: differs.into(),
            object: opening_object(&place),
        });
        let undo = differs == Differs::Stray;
        steps.push(Step::Opening { place, undo });
    }
    Plan { drifts, steps }
}

fn routes(wanted: &Rules, actual: &Snapshot, drifts: &mut Vec<Drift>) -> Vec<Step> {
    let wishes: BTreeSet<Ipv4Addr> = wanted.routes.iter().map(|wish| wish.to).collect();
    let missing = wishes.difference(&actual.routes);
    let stray = actual.routes.difference(&wishes);
    let steps = missing
        .map(|to| (*to, false))
        .chain(stray.map(|to| (*to, true)));
    steps
        .map(|(to, undo)| {
            drifts.push(Drift {
                // The only guarantee that needs a route.
                guarantee: Guarantee::TaskCredentials,
                kind: if undo {
                    DriftKind::Stray
                } else {
                    DriftKind::Missing
                },
                object: route_object(to),
            });
            Step::Route { to, undo }
        })
        .collect()
}

fn in_order(wanted: &Rules, mut restores: Vec<Step>, set: Vec<Step>, undo: Vec<Step>) -> Vec<Step> {
    restores.sort_by_key(|step| match step {
        Step::Restore { table, family, .. } if table == "filter" => u8::from(*family == Family::V6),
        _ => 2,
    });
    if wanted.sysctls.is_empty() {
        restores.reverse();
        undo.into_iter().chain(restores).collect()
    } else {
        restores.into_iter().chain(set).chain(undo).collect()
    }
}

/// The ruleset as it will be when the plan has been carried out, for proofs about what is not there
/// yet. Chains that the table does not show are made.
#[must_use]
pub fn applied(wanted: &Rules, ruleset: &Ruleset) -> Ruleset {
    let mut result = ruleset.clone();
    for table in result.tables.values_mut() {
        for chain in table.chains.values_mut() {
            chain.rules.retain(|listed| !is_own(listed));
        }
    }
    let rules = wanted.iptables.iter();
    // Backwards, each on top: so they stand in order.
    for wish in rules.rev().filter(|rule| rule.family == ruleset.family) {
        let table = result.tables.entry(wish.table.to_owned()).or_default();
        let chain = table
            .chains
            .entry(wish.chain.to_owned())
            .or_insert_with(|| Chain {
                policy: Some(Policy::Accept),
                rules: Vec::new(),
            });
        chain.rules.insert(0, wish.listed.clone());
    }
    result
}

/// Whether the rule is in its chain, wherever it stands there.
#[must_use]
pub fn stands(rule: &WantedRule, actual: &Snapshot) -> bool {
    let table = actual
        .rulesets
        .get(&rule.family)
        .and_then(|ruleset| ruleset.tables.get(rule.table));
    let chain = table.and_then(|table| table.chains.get(rule.chain));
    chain.is_some_and(|chain| {
        let found = diff(chain, &[rule]);
        !found.iter().any(|d| d.kind == DriftKind::Missing)
    })
}

/// Whether a rule bears the tag of one of the guarantees.
fn is_own(listed: &Listed) -> bool {
    Guarantee::owning(&listed.rule).is_some()
}

fn rebuild(input: &mut String, name: &str, want: &[&WantedRule], chain: &Chain) {
    use std::fmt::Write as _;
    for listed in chain.rules.iter().filter(|listed| is_own(listed)) {
        let _infallible = writeln!(input, "-D {name} {}", listed.text);
    }
    for (place, wish) in want.iter().enumerate() {
        let _infallible = writeln!(input, "-I {name} {} {}", place + 1, wish.listed.text);
    }
}

fn sysctls(wanted: &Rules, actual: &Snapshot, drifts: &mut Vec<Drift>) -> (Vec<Step>, Vec<Step>) {
    let mut drift = |kind, interface: &str, value: &str| {
        drifts.push(Drift::route_localnet(kind, interface, value));
    };
    let step = |interface: &str, value: &str, undo| Step::RouteLocalnet {
        interface: interface.to_owned(),
        value: value.to_owned(),
        undo,
    };
    let (mut set, mut undo) = (Vec::new(), Vec::new());
    for wish in &wanted.sysctls {
        let current = actual
            .route_localnet
            .get(&wish.interface)
            .cloned()
            .flatten();
        if current.is_none_or(|value| value == "1") {
            continue;
        }
        drift(DriftKind::Missing, &wish.interface, "1");
        if shield_is_sure(wanted, actual) {
            set.push(step(&wish.interface, "1", false));
        }
    }
    if others_need_route_localnet(actual) {
        return (set, undo);
    }
    for (interface, before) in &actual.previous {
        let wanted = wanted
            .sysctls
            .iter()
            .any(|wish| wish.interface == *interface);
        let current = actual
            .route_localnet
            .get(interface)
            .and_then(Option::as_deref);
        if wanted || current != Some("1") || before == "1" {
            continue;
        }
        drift(DriftKind::Stray, interface, "1");
        undo.push(step(interface, before, true));
    }
    (set, undo)
}

/// Whether every IPv4 table that the wanted rules stand in could be read: what cannot be read cannot
/// be known to hold the shield.
fn shield_is_sure(wanted: &Rules, actual: &Snapshot) -> bool {
    let Some(ruleset) = actual.rulesets.get(&Family::V4) else {
        return false;
    };
    let shown = |name: &str| {
        ruleset
            .tables
            .get(name)
            .is_some_and(|table| !matches!(table.shown, Shown::Unreadable(_)))
    };
    let of_ipv4 = wanted
        .iptables
        .iter()
        .filter(|rule| rule.family == Family::V4);
    of_ipv4.into_iter().all(|rule| shown(rule.table))
}

/// Whether another program's NAT rule (ecs-init's own, an admin's) sends packets to loopback: taking
/// `route_localnet` back would cut it off.
fn others_need_route_localnet(actual: &Snapshot) -> bool {
    let nat = actual
        .rulesets
        .get(&Family::V4)
        .and_then(|ruleset| ruleset.tables.get("nat"));
    nat.into_iter()
        .flat_map(|table| table.chains.values())
        .flat_map(|chain| &chain.rules)
        .any(|listed| !is_own(listed) && to_loopback(&listed.rule.target))
}

/// Whether a NAT target may send packets to the host's own loopback addresses.
fn to_loopback(target: &Target) -> bool {
    match target {
        Target::Dnat(Rewrite {
            addrs: Some((first, last)),
            ..
        }) => first.is_loopback() || last.is_loopback(),
        // One that is not understood to the last word.
        Target::Unknown(text) => text.contains("--to-destination 127."),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
