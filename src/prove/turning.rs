//! Packets that are addressed elsewhere, and still leave for a claim's destination.

use super::bdd::Set;
use super::class::{Destination, Origin, PacketClass};
use super::engine::Engine;
use super::follow::Follow;
use super::hook::{Hook, NAT_DESTINATION};
use super::layout::State;
use super::order::{reached, rules};
use crate::ruleset::native::{At, Base, Kind, NativeRule, NativeTable, Statement};
use crate::ruleset::{Policy, Rewrite, Rule, Shown, Side, Target};

/// What could turn packets to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turning {
    /// NAT, before they are routed.
    pub(super) by_nat: bool,
    /// The source that NAT gave a connection that was there before, undone on the way back.
    pub(super) later: bool,
}

impl<'r> Engine<'r> {
    /// The packets of a class as they would be just after something turned them to its destination.
    pub(super) fn turned_at_most(&mut self, start: Set, follow: Follow) -> Set {
        let layout = self.layout;
        let set = self.track(start);
        let new = self.state_is(State::New);
        let mut set = if let Follow::TurnedLater(replies) = follow {
            let tracked = self.tracked();
            let set = self.bdd.and(set, tracked);
            let set = self.bdd.less(set, new);
            let set = self.among_replies(replies, set);
            self.forget(set, [layout.dnat, layout.snat])
        } else {
            let set = self.bdd.and(set, new);
            self.set(set, layout.dnat, 1)
        };
        // Where they were addressed before may be anything: their twins stay free.
        for flag in [layout.moved_dst, layout.moved_dport] {
            set = self.set(set, flag, 1);
        }
        if self.marks_before_routing() {
            set = self.forget(set, [layout.mark]);
        }
        if self.marks_connections() {
            set = self.forget(set, [layout.connmark]);
        }
        set
    }

    /// Whether anything may mark packets before they are routed.
    fn marks_before_routing(&self) -> bool {
        let hooks = [Hook::Prerouting, Hook::Output];
        let tables = self.layers.iter().flat_map(|ruleset| &ruleset.tables);
        let mut rules = tables.flat_map(|(_, table)| reached(table, &hooks));
        let marks = |rule: &Rule| {
            matches!(
                rule.target,
                Target::Mark(_) | Target::RestoreMark(_) | Target::Unknown(_)
            )
        };
        let early = |table: &&NativeTable| {
            let mut bases = table
                .chains
                .values()
                .filter_map(|chain| chain.base.as_ref());
            let early = |base: &Base| matches!(base.at, At::Ingress | At::Prerouting | At::Output);
            table.bridge || bases.any(early)
        };
        let natively =
            |statement: &Statement| matches!(statement, Statement::Mark(_) | Statement::Effect(..));
        let mut native = self
            .native_tables()
            .filter(early)
            .flat_map(NativeTable::rules);
        rules.any(marks) || native.any(|rule| rule.statements.iter().any(natively))
    }

    /// Whether anything may mark connections.
    pub(super) fn marks_connections(&self) -> bool {
        let tables = self
            .layers
            .iter()
            .flat_map(|ruleset| ruleset.tables.values());
        let marks = |rule: &Rule| {
            matches!(
                rule.target,
                Target::Connmark(_) | Target::SaveMark(_) | Target::Unknown(_)
            )
        };
        let natively = |statement: &Statement| {
            matches!(statement, Statement::Connmark(_) | Statement::Effect(..))
        };
        let mut native = self.native_rules();
        tables.flat_map(rules).any(marks)
            || native.any(|(_, rule)| rule.statements.iter().any(natively))
    }

    /// What on the way could turn packets to the class's destination.
    pub(super) fn turning(&mut self, class: &PacketClass) -> Turning {
        let there = self.there(class);
        let mut turning = Turning::default();
        // Where NAT gives a connection another destination, and where another source.
        let (before, after): (&[Hook], &[Hook]) = match class.from {
            Origin::Interface(_) => (&[Hook::Prerouting], &[Hook::Postrouting]),
            Origin::Host | Origin::Cgroup(_) => (
                &[Hook::Prerouting, Hook::Output],
                &[Hook::Postrouting, Hook::Input],
            ),
        };
        let class = class.beginnings();
        let beginning = self.beginning(&class);
        let answered = self.answerable(&class, beginning);
        for ruleset in self.layers.clone() {
            for (name, table) in &ruleset.tables {
                let nat = name == "nat";
                let unreadable = matches!(table.shown, Shown::Unreadable(_));
                turning.later |= unreadable && nat;
                turning.by_nat |= nat && table.shown != Shown::Whole;
                if !nat {
                    let late = name == "filter" || name == "security";
                    let unknown = |rule: &Rule| matches!(rule.target, Target::Unknown(_));
                    turning.by_nat |= !late && rules(table).any(unknown);
                    continue;
                }
                for rule in reached(table, before) {
                    let to = match &rule.target {
                        Target::Dnat(to) => self.fits(to, self.layout.dst, Side::Dst),
                        Target::Redirect(_) => self.local_dst,
                        Target::Netmap(net) => self.layout.net(&mut self.bdd, self.layout.dst, net),
                        Target::Unknown(_) => Set::ALL,
                        _ => continue,
                    };
                    let turns = !self.bdd.and(there, to).is_empty();
                    turning.by_nat |= turns && self.meets_some(rule, beginning);
                }
                for rule in reached(table, after) {
                    let turns = matches!(
                        rule.target,
                        Target::Snat(_)
                            | Target::Masquerade(_)
                            | Target::Netmap(_)
                            | Target::Unknown(_)
                    );
                    turning.later |= turns && self.meets_some(rule, answered);
                }
            }
        }
        self.turning_natively(there, answered, &mut turning);
        turning
    }

    /// The packets of a class that begin connections, as NAT sees them.
    fn beginning(&mut self, class: &PacketClass) -> Set {
        let [new, related] = [State::New, State::Related].map(|state| self.state_is(state));
        let seen = self.bdd.or(new, related);
        let unfit = self.unfit_to_begin();
        let set = self.bdd.less(seen, unfit);
        class.protocol.map_or(set, |number| {
            let same = self.layout.protocol.equals(&mut self.bdd, number.into());
            self.bdd.and(set, same)
        })
    }

    /// The same of what packets of a class answer: it comes from where they are for, and is for where they come from, by
    /// whatever interface (a container may be on two networks). Where NAT gave it another source, that is undone in them.
    fn answerable(&mut self, class: &PacketClass, beginning: Set) -> Set {
        let from = match class.dst {
            Destination::Net(net) => self.layout.net(&mut self.bdd, self.layout.src, &net),
            Destination::ThisHost => Set::ALL,
        };
        let to = self.in_nets(Side::Dst, &class.src.any_of, &class.src.except);
        let back = self.bdd.and(from, to);
        self.bdd.and(beginning, back)
    }

    fn meets_some(&mut self, rule: &'r Rule, set: Set) -> bool {
        !self.hit(rule, set).set.is_empty()
    }

    /// Whether NAT to there can turn packets to a destination.
    fn leads(&mut self, to: &Rewrite, there: Set) -> bool {
        let fits = self.fits(to, self.layout.dst, Side::Dst);
        !self.bdd.and(there, fits).is_empty()
    }

    /// The same of native rules.
    fn turning_natively(&mut self, there: Set, answered: Set, turning: &mut Turning) {
        let redirected = !self.bdd.and(there, self.local_dst).is_empty();
        let rules: Vec<_> = self.native_rules().collect();
        for (nat, rule) in rules {
            for statement in &rule.statements {
                match statement {
                    Statement::Dnat(to) => turning.by_nat |= self.leads(to, there),
                    Statement::DnatByMap(all) => {
                        for (_, to) in all {
                            turning.by_nat |= self.leads(to, there);
                        }
                    }
                    Statement::Redirect(_) => turning.by_nat |= redirected,
                    Statement::Effect(..) if nat => {
                        turning.by_nat = true;
                        turning.later = true;
                    }
                    Statement::Snat(_) | Statement::Masquerade(_) if !turning.later => {
                        turning.later = self.some_meet(rule, answered);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The native tables of the family.
    fn native_tables(&self) -> impl Iterator<Item = &'r NativeTable> + use<'r> {
        let (family, host) = (self.layout.family, self.host);
        let tables = host.native.iter();
        tables.filter(move |table| table.family == family)
    }

    /// Every native rule, and whether its table does NAT.
    fn native_rules(&self) -> impl Iterator<Item = (bool, &'r NativeRule)> + use<'r> {
        self.native_tables().flat_map(|table| {
            let mut bases = table
                .chains
                .values()
                .filter_map(|chain| chain.base.as_ref());
            let nat = bases.any(|base| base.kind == Kind::Nat);
            table.rules().map(move |rule| (nat, rule))
        })
    }

    /// Whether what NAT does at the last hook matters: it may drop, or something behind it may ask for
    /// what it changed.
    pub(super) fn nat_stops_leaving(&self) -> bool {
        let mut tables = self
            .layers
            .iter()
            .filter_map(|ruleset| ruleset.tables.get("nat"));
        let stops = tables.any(|table| {
            let chain = table.chains.get(Hook::Postrouting.chain());
            let policy = chain.and_then(|chain| chain.policy);
            let stops = |rule: &Rule| {
                matches!(
                    rule.target,
                    Target::Drop | Target::Reject | Target::Unknown(_)
                )
            };
            policy == Some(Policy::Drop) || table.shown != Shown::Whole || rules(table).any(stops)
        });
        let mut native = self.native_tables().filter(|table| !table.bridge);
        stops
            || native.any(|table| {
                let mut bases = table
                    .chains
                    .values()
                    .filter_map(|chain| chain.base.as_ref());
                bases.any(|base| match (base.at, base.kind) {
                    (At::Postrouting, Kind::Nat) => {
                        let ends = |rule: &NativeRule| {
                            let effect = |s: &Statement| matches!(s, Statement::Effect(..));
                            rule.drops() || rule.statements.iter().any(effect)
                        };
                        base.policy == Policy::Drop || table.rules().any(ends)
                    }
                    (At::Postrouting, Kind::Filter) => base.priority >= -NAT_DESTINATION,
                    (At::Egress, _) => true,
                    _ => false,
                })
            })
    }
}
