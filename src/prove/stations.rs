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
use super::native::Hooked;
use crate::ruleset::native::{At, Kind, NativeRule, NativeTable};
use crate::ruleset::{Family, Match, Rule, Ruleset, Shown, Table, Target};

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

/// The most stations of one priority of which every order is walked.
const ORDERS: usize = 3;

/// The stations of every hook.
pub(super) fn stations<'r>(
    layers: &[&'r Ruleset],
    native: &'r [NativeTable],
    family: Family,
) -> Stations<'r> {
    let native = hooked(native, family);
    let at = |hook| (hook, Rc::new(at(hook, layers, &native)));
    Hook::ALL.into_iter().map(at).collect()
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

impl<'r> Engine<'r> {
    /// Packets through the stations of a hook; answers those that come out, as they come out.
    pub(super) fn through(&mut self, hook: Hook, part: Part, set: Set) -> Set {
        self.hook = hook;
        let stations = self.stations.get(&hook).cloned().unwrap_or_default();
        let wanted = |((_, priority), station): &&Placed<'r>| match part {
            Part::Whole => true,
            Part::UpToNat => *priority <= NAT_DESTINATION,
            Part::BehindNat => *priority > NAT_DESTINATION,
            Part::Again => !matches!(station, Station::Tracking | Station::Nat(_)),
        };
        let stations: Vec<Placed<'r>> = stations.iter().filter(wanted).cloned().collect();
        let below = stations.partition_point(|((stage, _), _)| *stage < Stage::Ip);
        let (below, above) = stations.split_at(below);
        if below.is_empty() || set.is_empty() {
            return self.by_priority(above, set);
        }
        // With br_netfilter, packets that come in by a bridge meet IP's hooks before those of the
        // bridge's own interface.
        self.site = vec![hook as usize, 97];
        let bridged = self.ask(Answer::Unknown);
        let (first, last) = (self.bdd.less(set, bridged), self.bdd.and(set, bridged));
        let first = self.by_priority(below, first);
        let first = self.by_priority(above, first);
        let last = self.by_priority(above, last);
        let last = self.by_priority(below, last);
        self.bdd.or(first, last)
    }

    fn by_priority(&mut self, stations: &[Placed<'r>], mut set: Set) -> Set {
        for group in stations.chunk_by(|(a, _), (b, _)| a == b) {
            let priority = group.first().map_or(0, |((_, priority), _)| *priority);
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
            Station::Native(chain) => self.hooked(*chain, set),
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
        Station::Native(chain) => chain.table.rules().any(NativeRule::changes),
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
                | Target::Connmark(_)
                | Target::SaveMark(_)
                | Target::RestoreMark(_)
        );
        let asks = |m: &Match| matches!(m, Match::State(_) | Match::Connmark(_));
        target || rule.matches.iter().any(asks)
    })
}
