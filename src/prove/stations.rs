//! What the packets of a hook come to, in the kernel's order.
//!
//! Base chains come in the order of their priorities. Of two with the same one the kernel asks the one
//! first that was registered last (`nf_hook_entries_grow()` in net/netfilter/core.c), which nothing
//! tells. Where it makes a difference, because one of them changes what another may ask for, both
//! orders are walked, and which of them it is is a question that stays open.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::bdd::Set;
use super::engine::{Answer, Engine};
use super::hook::{Hook, NAT_DESTINATION, TABLES, priority};
use super::layout::State;
use crate::ruleset::{Match, Rule, Ruleset, Shown, Table, Target};

/// What packets come to.
#[derive(Clone)]
pub(super) enum Station<'r> {
    /// A table of iptables.
    Table {
        layer: usize,
        name: &'static str,
        table: &'r Table,
    },
    /// Connection tracking.
    Tracking,
    /// NAT: the chains of that type, whatever their own priorities are among the other chains
    /// (`nf_nat_register_fn()` in net/netfilter/nf_nat_core.c).
    Nat(Rc<Vec<Placed<'r>>>),
}

/// With its priority.
pub(super) type Placed<'r> = (i32, Station<'r>);

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

/// The most stations of one priority of which every order is walked.
const ORDERS: usize = 3;

/// The stations of every hook.
pub(super) fn stations<'r>(layers: &[&'r Ruleset]) -> Stations<'r> {
    Hook::ALL
        .into_iter()
        .map(|hook| (hook, Rc::new(at(hook, layers))))
        .collect()
}

fn at<'r>(hook: Hook, layers: &[&'r Ruleset]) -> Vec<Placed<'r>> {
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
            list.push((priority, Station::Table { layer, name, table }));
        }
    }
    // nf_nat_ipv4_ops and nf_conntrack_ops.
    nat.sort_by_key(|(priority, _)| *priority);
    if !nat.is_empty() {
        let own = if hook.before_routing() {
            NAT_DESTINATION
        } else {
            -NAT_DESTINATION
        };
        all.push((own, Station::Nat(Rc::new(nat))));
    }
    if hook.before_routing() {
        all.push((-200, Station::Tracking));
    }
    all.sort_by_key(|(priority, _)| *priority);
    all
}

impl<'r> Engine<'r> {
    /// Packets through the stations of a hook; answers those that come out, as they come out.
    pub(super) fn through(&mut self, hook: Hook, part: Part, set: Set) -> Set {
        self.hook = hook;
        let stations = self.stations.get(&hook).cloned().unwrap_or_default();
        let wanted = |(priority, station): &&Placed<'r>| match part {
            Part::Whole => true,
            Part::UpToNat => *priority <= NAT_DESTINATION,
            Part::BehindNat => *priority > NAT_DESTINATION,
            Part::Again => !matches!(station, Station::Tracking | Station::Nat(_)),
        };
        let stations: Vec<Placed<'r>> = stations.iter().filter(wanted).cloned().collect();
        self.by_priority(&stations, set)
    }

    fn by_priority(&mut self, stations: &[Placed<'r>], mut set: Set) -> Set {
        for group in stations.chunk_by(|(a, _), (b, _)| a == b) {
            let priority = group.first().map_or(0, |(priority, _)| *priority);
            let group: Vec<&Station<'r>> = group.iter().map(|(_, station)| station).collect();
            set = self.in_any_order(priority, &group, set);
        }
        set
    }

    /// Packets through stations of the same priority.
    fn in_any_order(&mut self, priority: i32, group: &[&Station<'r>], set: Set) -> Set {
        let indifferent = group.len() < 2 || !group.iter().any(|station| interacts(station));
        if set.is_empty() || indifferent {
            return group
                .iter()
                .fold(set, |set, station| self.station(station, set));
        }
        if group.len() > ORDERS {
            let set = self.seized_and_changed(set);
            return group
                .iter()
                .fold(set, |set, station| self.station(station, set));
        }
        let (mut passed, mut rest) = (Set::EMPTY, set);
        for first in 0..group.len() {
            let last = first + 1 == group.len();
            let chosen = if last {
                Set::ALL
            } else {
                self.site = vec![
                    self.hook as usize,
                    100 + first,
                    priority.unsigned_abs() as usize,
                ];
                self.ask(Answer::Unknown)
            };
            let these = self.bdd.and(rest, chosen);
            rest = self.bdd.less(rest, chosen);
            let mut others = group.to_vec();
            let station = others.remove(first);
            let these = self.station(station, these);
            let these = self.in_any_order(priority, &others, these);
            passed = self.bdd.or(passed, these);
        }
        passed
    }

    fn station(&mut self, station: &Station<'r>, set: Set) -> Set {
        if set.is_empty() {
            return set;
        }
        match station {
            Station::Table { layer, name, table } => self.table(*layer, name, table, set),
            Station::Tracking => self.tracking(set),
            Station::Nat(chains) => self.nat(chains, set),
        }
    }

    /// Connection tracking, where anything asks for it.
    fn tracking(&mut self, set: Set) -> Set {
        if self.tracks {
            return self.track(set);
        }
        self.site = vec![self.hook as usize, 98];
        let works = self.ask(Answer::Unknown);
        let seen = self.bdd.and(set, works);
        let unseen = self.bdd.less(set, works);
        let seen = self.track(seen);
        self.bdd.or(seen, unseen)
    }

    /// NAT is asked for the first packet of a connection; the first chain that gives it another
    /// address is the last one it comes to.
    fn nat(&mut self, chains: &[Placed<'r>], set: Set) -> Set {
        let (new, related) = (self.state_is(State::New), self.state_is(State::Related));
        let first = self.bdd.or(new, related);
        let asked = self.bdd.and(set, first);
        let bypassing = self.bdd.less(set, first);
        let outer = std::mem::replace(&mut self.translated, Set::EMPTY);
        let passed = self.by_priority(chains, asked);
        let translated = std::mem::replace(&mut self.translated, outer);
        let passed = self.bdd.or(passed, translated);
        self.bdd.or(bypassing, passed)
    }
}

/// Whether what packets meet there depends on, or changes, more than whether they are dropped.
fn interacts(station: &Station<'_>) -> bool {
    match station {
        Station::Table { table, .. } => table.shown != Shown::Whole || rules(table).any(changes),
        Station::Tracking | Station::Nat(_) => true,
    }
}

fn rules(table: &Table) -> impl Iterator<Item = &Rule> {
    let chains = table.chains.values();
    chains
        .flat_map(|chain| &chain.rules)
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
        Target::Mark(_)
        | Target::Connmark(_)
        | Target::SaveMark(_)
        | Target::RestoreMark(_)
        | Target::Notrack
        | Target::Dnat(_)
        | Target::Redirect(_)
        | Target::Snat(_)
        | Target::Masquerade(_)
        | Target::Unknown(_) => true,
    }
}

/// Whether anything in the rules makes connection tracking work, and with it reassembly: a NAT
/// target or a match on the connection (their `checkentry` calls `nf_ct_netns_get`).
pub(super) fn tracks(layers: &[&Ruleset]) -> bool {
    let tables = layers.iter().flat_map(|ruleset| ruleset.tables.values());
    tables.flat_map(rules).any(|rule| {
        let target = matches!(
            rule.target,
            Target::Dnat(_)
                | Target::Redirect(_)
                | Target::Snat(_)
                | Target::Masquerade(_)
                | Target::Connmark(_)
                | Target::SaveMark(_)
                | Target::RestoreMark(_)
        );
        let asks = |m: &Match| matches!(m, Match::State(_) | Match::Connmark(_));
        target || rule.matches.iter().any(asks)
    })
}
