//! The base chains and tables that packets come to at each hook, in order; which of them matter to the
//! others, and what they make of the host as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::hook::{Hook, NAT_DESTINATION, TABLES, priority};
use crate::ruleset::native::{At, Base, Kind, NativeChain, NativeRule, NativeTable, Statement};
use crate::ruleset::{Family, Match, Reach, Rule, Ruleset, Shown, Table, Target};

/// What packets come to.
#[derive(Clone)]
pub(super) enum Station<'r> {
    /// A table of iptables.
    Table {
        layer: usize,
        name: &'static str,
        table: &'r Table,
    },
    /// A base chain of native nftables.
    Native(Hooked<'r>),
    /// Connection tracking.
    Tracking,
    /// NAT: the chains of that type, whatever their own priorities are among the other chains
    /// (`nf_nat_register_fn()` in net/netfilter/nf_nat_core.c).
    Nat(Rc<Vec<Placed<'r>>>),
}

/// With its place: below IP or above it, and the priority there.
pub(super) type Placed<'r> = ((Stage, i32), Station<'r>);

/// What the kernel comes to one after the other at one of IP's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The hooks of a bridge, before the packet comes to IP.
    Bridge,
    /// An interface by which it comes in.
    Ingress,
    /// IP's own.
    Ip,
    /// An interface by which it leaves.
    Egress,
}

/// The stations of each hook.
pub(super) type Stations<'r> = BTreeMap<Hook, Rc<Vec<Placed<'r>>>>;

/// Which stations of a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All.
    Whole,
    /// Those up to NAT of the destination.
    UpToNat,
    /// Those behind it.
    BehindNat,
    /// All but connection tracking and NAT: what comes by a second time has been there.
    Again,
}

/// The stations of every hook; `tracked` where something makes connection tracking work.
pub(super) fn stations<'r>(
    layers: &[&'r Ruleset],
    native: &'r [NativeTable],
    family: Family,
    tracked: bool,
) -> Stations<'r> {
    let native = hooked(native, family);
    let mut stations = Hook::ALL.map(|hook| (hook, at(hook, layers, &native)));
    let mut all = stations.iter().flat_map(|(_, at)| at);
    // What connection tracking says of a packet may be asked by nothing.
    if !tracked && !all.any(|(_, station)| matches!(station, Station::Nat(_))) {
        for (_, at) in &mut stations {
            at.retain(|(_, station)| !matches!(station, Station::Tracking));
        }
    }
    let shared = stations.into_iter().map(|(hook, at)| (hook, Rc::new(at)));
    shared.collect()
}

/// The base chains that may do anything at all.
fn hooked(native: &[NativeTable], family: Family) -> Vec<Hooked<'_>> {
    let tables = native.iter().filter(|table| table.family == family);
    let chains = tables.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
    let busy = chains.filter(|(_, (_, chain))| !chain.is_idle());
    busy.enumerate()
        .filter_map(|(number, (table, (name, chain)))| {
            let base = chain.base.as_ref()?;
            Some(Hooked {
                table,
                name,
                chain,
                base,
                number,
            })
        })
        .collect()
}

fn at<'r>(hook: Hook, layers: &[&'r Ruleset], native: &[Hooked<'r>]) -> Vec<Placed<'r>> {
    let (mut all, mut nat) = (Vec::new(), Vec::new());
    for (layer, ruleset) in layers.iter().enumerate() {
        for name in TABLES {
            let (Some(table), Some(priority)) = (
                ruleset.tables.get(name),
                priority(ruleset.place, name, hook),
            ) else {
                continue;
            };
            let list = if name == "nat" { &mut nat } else { &mut all };
            list.push(((Stage::Ip, priority), Station::Table { layer, name, table }));
        }
    }
    for chain in native {
        let Some(stage) = stage(chain, hook) else {
            continue;
        };
        let list = match chain.base.kind {
            Kind::Nat => &mut nat,
            Kind::Filter => &mut all,
        };
        list.push(((stage, chain.base.priority), Station::Native(*chain)));
    }
    nat.sort_by_key(|(place, _)| *place);
    if !nat.is_empty() {
        // nf_nat_ipv4_ops.
        let own = if hook.before_routing() {
            NAT_DESTINATION
        } else {
            -NAT_DESTINATION
        };
        all.push(((Stage::Ip, own), Station::Nat(Rc::new(nat))));
    }
    if hook.before_routing() {
        // NF_IP_PRI_CONNTRACK.
        all.push(((Stage::Ip, -200), Station::Tracking));
    }
    all.sort_by_key(|(place, _)| *place);
    all
}

/// How packets come to a native chain at a hook, if they do.
fn stage(chain: &Hooked<'_>, hook: Hook) -> Option<Stage> {
    if chain.table.bridge {
        // What leaves by a bridge goes to its containers.
        let comes_in = matches!(chain.base.at, At::Prerouting | At::Input);
        return (hook == Hook::Prerouting && comes_in).then_some(Stage::Bridge);
    }
    let (at, stage) = match chain.base.at {
        At::Ingress => (Hook::Prerouting, Stage::Ingress),
        At::Prerouting => (Hook::Prerouting, Stage::Ip),
        At::Input => (Hook::Input, Stage::Ip),
        At::Forward => (Hook::Forward, Stage::Ip),
        At::Output => (Hook::Output, Stage::Ip),
        At::Postrouting => (Hook::Postrouting, Stage::Ip),
        At::Egress => (Hook::Postrouting, Stage::Egress),
    };
    (at == hook).then_some(stage)
}

/// A base chain where packets come to it.
#[derive(Clone, Copy)]
pub(super) struct Hooked<'r> {
    pub(super) table: &'r NativeTable,
    pub(super) name: &'r str,
    pub(super) chain: &'r NativeChain,
    pub(super) base: &'r Base,
    /// Its number among all base chains.
    pub(super) number: usize,
}

/// Whether what packets meet there depends on, or changes, more than whether they are dropped.
pub(super) fn interacts(station: &Station<'_>) -> bool {
    match station {
        Station::Table { table, .. } => table.shown != Shown::Whole || rules(table).any(changes),
        Station::Native(chain) => chain.table.rules().any(NativeRule::changes),
        Station::Tracking | Station::Nat(_) => true,
    }
}

pub(super) fn rules(table: &Table) -> impl Iterator<Item = &Rule> {
    let chains = table.chains.values();
    chains
        .flat_map(|chain| &chain.rules)
        .map(|listed| &listed.rule)
}

/// The rules that a packet may come to at one of these hooks; all, where not all of the table is shown.
pub(super) fn reached<'r>(table: &'r Table, hooks: &[Hook]) -> impl Iterator<Item = &'r Rule> {
    let mut left: Vec<&str> = hooks.iter().map(|hook| hook.chain()).collect();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    while let Some(name) = left.pop() {
        let Some(chain) = table.chains.get(name).filter(|_| names.insert(name)) else {
            continue;
        };
        let targets = chain.rules.iter().map(|listed| &listed.rule.target);
        left.extend(targets.filter_map(|target| match target {
            Target::Jump(to) | Target::Goto(to) => Some(to.as_str()),
            _ => None,
        }));
    }
    let whole = table.shown == Shown::Whole;
    let chains = table.chains.iter();
    chains
        .filter(move |(name, _)| !whole || names.contains(name.as_str()))
        .flat_map(|(_, chain)| &chain.rules)
        .map(|listed| &listed.rule)
}

fn changes(rule: &Rule) -> bool {
    match rule.target {
        Target::None
        | Target::Accept
        | Target::Drop
        | Target::Reject
        | Target::Return
        | Target::Jump(_)
        | Target::Goto(_)
        | Target::Passive(_) => false,
        Target::Tos(_)
        | Target::Mark(_)
        | Target::Connmark(_)
        | Target::SaveMark(_)
        | Target::RestoreMark(_)
        | Target::Notrack
        | Target::Dnat(_)
        | Target::Redirect(_)
        | Target::Snat(_)
        | Target::Masquerade(_)
        | Target::Netmap(_)
        | Target::Unknown(_) => true,
    }
}

/// Whether anything in the rules makes connection tracking work, and with it reassembly: a NAT
/// target or a match on the connection (their `checkentry` calls `nf_ct_netns_get`).
pub(super) fn tracks(layers: &[&Ruleset], native: &[NativeTable], family: Family) -> bool {
    let mut natively = native
        .iter()
        .filter(|table| table.family == family && !table.bridge);
    if natively.any(|table| table.rules().any(|rule| rule.tracks)) {
        return true;
    }
    let tables = layers.iter().flat_map(|ruleset| ruleset.tables.values());
    tables.flat_map(rules).any(|rule| {
        let target = matches!(
            rule.target,
            Target::Dnat(_)
                | Target::Redirect(_)
                | Target::Snat(_)
                | Target::Masquerade(_)
                | Target::Netmap(_)
                | Target::Connmark(_)
                | Target::SaveMark(_)
                | Target::RestoreMark(_)
        );
        let asks = |m: &Match| {
            matches!(
                m,
                Match::State(_) | Match::Connection(_) | Match::Connmark(_)
            )
        };
        target || rule.matches.iter().any(asks)
    })
}

/// Whether something that is not understood may send packets of its own, or turn them anywhere.
pub(super) fn sends(layers: &[&Ruleset], native: &[NativeTable], family: Family) -> bool {
    let mut natively = native
        .iter()
        .filter(|table| table.family == family)
        .flat_map(NativeTable::rules);
    let anywhere =
        |statement: &Statement| matches!(statement, Statement::Effect(_, Reach::Anywhere));
    if natively.any(|rule| rule.statements.iter().any(anywhere)) {
        return true;
    }
    let mut tables = layers.iter().flat_map(|ruleset| ruleset.tables.values());
    let sending = |rule: &Rule| matches!(&rule.target, Target::Unknown(text) if Reach::of(text) == Reach::Anywhere);
    tables.any(|table| table.shown != Shown::Whole || rules(table).any(sending))
}
