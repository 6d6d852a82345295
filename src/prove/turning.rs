//! Packets that are addressed elsewhere, and leave for a claim's destination all the same.

use super::bdd::Set;
use super::class::{Destination, Origin, PacketClass};
use super::engine::Engine;
use super::hook::Hook;
use super::layout::State;
use super::path::Follow;
use crate::ruleset::{Match, Policy, Reach, Rule, Ruleset, Shown, Side, Table, Target};

/// What could turn packets to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turning {
    /// NAT, before they are routed.
    pub(super) by_nat: bool,
    /// NAT of a connection that was there before: its destination, or its source undone on the way
    /// back.
    pub(super) later: bool,
}

impl Engine<'_> {
    /// The packets of a class as they would be just after something turned them to its destination.
    pub(super) fn turned_at_most(&mut self, start: Set, follow: Follow) -> Set {
        let layout = self.layout;
        let set = self.track(start);
        let new = self.state_is(State::New);
        let mut set = if follow == Follow::TurnedLater {
            let tracked = self.tracked();
            let set = self.bdd.and(set, tracked);
            let set = self.bdd.less(set, new);
            let set = self.forget(set, layout.dnat);
            self.forget(set, layout.snat)
        } else {
            let set = self.bdd.and(set, new);
            self.set(set, layout.dnat, 1)
        };
        // Where they were addressed before may be anything: their twins stay free.
        for flag in [layout.moved_dst, layout.moved_dport] {
            set = self.set(set, flag, 1);
        }
        if self.marks(true) {
            set = self.forget(set, layout.mark);
            set = self.forget(set, layout.connmark);
        }
        set
    }

    /// Whether anything may set marks: anywhere, or before routing.
    pub(super) fn marks(&self, early: bool) -> bool {
        let late = |name: &str| name == "filter" || name == "security";
        let tables = self.layers.iter().flat_map(|ruleset| &ruleset.tables);
        let mut rules = tables
            .filter(|(name, _)| !early || !late(name))
            .flat_map(|(_, table)| rules(table));
        let marks = rules.any(|rule| {
            matches!(
                rule.target,
                Target::Mark(_)
                    | Target::Connmark(_)
                    | Target::SaveMark(_)
                    | Target::RestoreMark(_)
                    | Target::Unknown(_)
            )
        });
        marks || !self.host.foreign.is_empty()
    }

    /// What on the way could turn packets to the class's destination.
    pub(super) fn turning(&mut self, class: &PacketClass) -> Turning {
        let there = self.there(class);
        let redirected = !self.bdd.and(there, self.local_dst).is_empty();
        let mut turning = Turning {
            by_nat: self.foreign_nat(class),
            ..Turning::default()
        };
        for ruleset in self.layers.clone() {
            for (name, table) in &ruleset.tables {
                let nat = name == "nat";
                let unreadable = matches!(table.shown, Shown::Unreadable(_));
                turning.later |= unreadable && nat;
                turning.by_nat |= nat && table.shown != Shown::Whole;
                for rule in rules(table) {
                    match &rule.target {
                        Target::Dnat(to) if nat => {
                            let fits = self.fits(to, self.layout.dst, Side::Dst);
                            turning.by_nat |= !self.bdd.and(there, fits).is_empty();
                        }
                        Target::Redirect(_) if nat => turning.by_nat |= redirected,
                        Target::Snat(_) | Target::Masquerade(_) if nat => {
                            turning.later |= admits(rule, class);
                        }
                        Target::Unknown(_) => {
                            turning.by_nat |= name != "filter" && name != "security";
                            turning.later |= nat && admits(rule, class);
                        }
                        _ => {}
                    }
                }
            }
        }
        turning.later |= turning.by_nat;
        turning
    }

    /// Whether NAT at the last hook may drop what leaves.
    pub(super) fn nat_stops_leaving(&self) -> bool {
        let mut tables = self
            .layers
            .iter()
            .filter_map(|ruleset| ruleset.tables.get("nat"));
        tables.any(|table| {
            let policy = table
                .chains
                .get(Hook::Postrouting.chain())
                .and_then(|chain| chain.policy);
            let stops = |rule: &Rule| {
                matches!(
                    rule.target,
                    Target::Drop | Target::Reject | Target::Unknown(_)
                )
            };
            policy == Some(Policy::Drop) || table.shown != Shown::Whole || rules(table).any(stops)
        })
    }

    /// Whether a native chain of others could turn packets.
    pub(super) fn foreign_nat(&self, class: &PacketClass) -> bool {
        let hook = match class.from {
            Origin::Interface(_) => Hook::Prerouting,
            Origin::Host | Origin::Cgroup(_) => Hook::Output,
        };
        self.host.foreign.iter().any(|chain| {
            chain.nat && chain.hook == hook && chain.family.is_none_or(|f| f == class.family)
        })
    }
}

/// Whether a rule that gives packets another source may do so with one that comes from the class's
/// destination: undone on the way back, that turns packets there.
fn admits(rule: &Rule, class: &PacketClass) -> bool {
    let Destination::Net(to) = class.dst else {
        return true;
    };
    rule.matches.iter().all(|m| match m {
        Match::Addr(Side::Src, test) => {
            let overlaps = test.value.contains(to.addr()) || to.contains(test.value.addr());
            let within = test.value.contains(to.addr()) && test.value.prefix() <= to.prefix();
            if test.negated { !within } else { overlaps }
        }
        _ => true,
    })
}

/// Whether something that is not understood may send packets of its own, or turn them anywhere.
pub(super) fn sends(layers: &[&Ruleset]) -> bool {
    let mut tables = layers.iter().flat_map(|ruleset| ruleset.tables.values());
    let sending = |rule: &Rule| matches!(&rule.target, Target::Unknown(text) if Reach::of(text) == Reach::Anywhere);
    tables.any(|table| matches!(table.shown, Shown::Unreadable(_)) || rules(table).any(sending))
}

fn rules(table: &Table) -> impl Iterator<Item = &Rule> {
    let chains = table.chains.values();
    chains
        .flat_map(|chain| &chain.rules)
        .map(|listed| &listed.rule)
}
