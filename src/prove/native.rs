//! Packets through chains of native nftables.

use super::bdd::Set;
use super::engine::{Answer, Engine, Known};
use super::order::Hooked;
use super::walk::{End, Outcome};
use crate::ruleset::native::{
    At, Condition, Marking, NativeChain, NativeRule, NativeTable, Statement, Verdict,
};
use crate::ruleset::{IfacePattern, Policy, Reach};

/// The most that jumps may be deep: the kernel's own limit (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// The chain at hand.
struct Place<'r> {
    table: &'r NativeTable,
    /// The chains on the way here, the innermost last.
    names: Vec<&'r str>,
}

impl<'r> Engine<'r> {
    /// Packets through a base chain; answers those that go on.
    pub(super) fn hooked(&mut self, hooked: Hooked<'r>, set: Set) -> Set {
        let (here, past) = self.at_devices(hooked, set);
        if here.is_empty() {
            return past;
        }
        self.site = vec![self.hook as usize, 60, hooked.number];
        self.known = Known::default();
        let outer = std::mem::replace(&mut self.accepted, Set::EMPTY);
        let place = Place {
            table: hooked.table,
            names: vec![hooked.name],
        };
        let mut rest = self.native_chain(&place, hooked.chain, here);
        if !rest.is_empty() {
            let policy = hooked.base.policy;
            let text = match policy {
                Policy::Accept => "policy accept",
                Policy::Drop => "policy drop",
            };
            if policy == Policy::Drop || !hooked.chain.rules.is_empty() {
                let (table, name) = (&hooked.table.name, hooked.name);
                self.note(table, name, None, text, || {
                    (Outcome::Matched, String::new())
                });
            }
            if policy == Policy::Drop {
                self.end(End::Dropped, rest);
                rest = Set::EMPTY;
            }
        }
        let accepted = std::mem::replace(&mut self.accepted, outer);
        let passed = self.bdd.or(accepted, rest);
        self.bdd.or(passed, past)
    }

    /// The packets that pass one of its interfaces, and the others. Below an interface of IP there may
    /// be others, as the ports of a bridge: whether a packet passes one of those is not known.
    fn at_devices(&mut self, hooked: Hooked<'r>, set: Set) -> (Set, Set) {
        let field = match hooked.base.at {
            _ if hooked.table.bridge => return self.perhaps(hooked, set),
            At::Ingress => self.layout.input,
            At::Egress => self.layout.output,
            _ => return (set, Set::EMPTY),
        };
        let mut own = Set::EMPTY;
        for device in &hooked.base.devices {
            let device = IfacePattern::Exact(device.clone());
            let one = self.names.fits(&mut self.bdd, field, &device);
            own = self.bdd.or(own, one);
        }
        let (passing, others) = (self.bdd.and(set, own), self.bdd.less(set, own));
        if others.is_empty() {
            return (passing, Set::EMPTY);
        }
        let (below, past) = self.perhaps(hooked, others);
        (self.bdd.or(passing, below), past)
    }

    /// The packets that pass a chain, and those that do not, where it is not known which do.
    fn perhaps(&mut self, hooked: Hooked<'r>, set: Set) -> (Set, Set) {
        self.site = vec![self.hook as usize, 61, hooked.number];
        let passing = self.ask(Answer::Unknown);
        (self.bdd.and(set, passing), self.bdd.less(set, passing))
    }

    /// Packets through a chain; answers those that come to its end or return.
    fn native_chain(&mut self, place: &Place<'r>, chain: &'r NativeChain, mut set: Set) -> Set {
        let mut returned = Set::EMPTY;
        for (index, rule) in chain.rules.iter().enumerate() {
            if set.is_empty() || self.exhausted() {
                break;
            }
            if self.has_enough() {
                return Set::EMPTY;
            }
            self.visits += 1;
            self.site.push(index);
            set = self.native_rule(place, index, rule, set, &mut returned);
            self.site.pop();
        }
        self.bdd.or(returned, set)
    }

    /// Packets through a rule; answers those that go on behind it.
    fn native_rule(
        &mut self,
        place: &Place<'r>,
        index: usize,
        rule: &'r NativeRule,
        set: Set,
        returned: &mut Set,
    ) -> Set {
        // The packets that left the rule, and those that are still in it.
        let (mut left, mut within) = (Set::EMPTY, set);
        let mut statements = rule.statements.iter();
        let mut open = None;
        // What it asks before it does anything: then it is known whether it applies at all.
        let mut next = statements.next();
        while let Some(Statement::Test(condition)) = next {
            let met = self.condition(condition, within);
            open = open.or(condition.open());
            within = self.bdd.and(within, met);
            if within.is_empty() {
                break;
            }
            next = statements.next();
        }
        let out = self.bdd.less(set, within);
        left = self.bdd.or(left, out);
        self.write_rule_down(place, index, rule, (set, within), open);
        if within.is_empty() {
            return left;
        }
        while let Some(statement) = next {
            if within.is_empty() {
                break;
            }
            match statement {
                Statement::Test(condition) => {
                    let met = self.condition(condition, within);
                    let out = self.bdd.less(within, met);
                    left = self.bdd.or(left, out);
                    within = self.bdd.and(within, met);
                }
                Statement::Verdict(verdict) => {
                    let (on, behind) = self.verdict(place, verdict, within, returned);
                    within = on;
                    left = self.bdd.or(left, behind);
                }
                Statement::Map(entries) => {
                    let conditions = entries.iter().map(|(condition, _)| condition);
                    let (shares, rest) = self.share_out(conditions, within);
                    within = Set::EMPTY;
                    for ((_, verdict), these) in entries.iter().zip(shares) {
                        let (on, behind) = self.verdict(place, verdict, these, returned);
                        within = self.bdd.or(within, on);
                        left = self.bdd.or(left, behind);
                    }
                    left = self.bdd.or(left, rest);
                }
                Statement::DnatByMap(all) => {
                    let conditions = all.iter().map(|(condition, _)| condition);
                    let (shares, rest) = self.share_out(conditions, within);
                    within = Set::EMPTY;
                    for ((_, to), these) in all.iter().zip(shares) {
                        if !these.is_empty() {
                            let done = self.dnat(these, to);
                            self.translated(done);
                        }
                    }
                    left = self.bdd.or(left, rest);
                }
                other => within = self.effect(other, within),
            }
            next = statements.next();
        }
        self.bdd.or(left, within)
    }

    /// The packets of which each condition is the first that they meet, and those that meet none. All are asked
    /// before anything is done with any: so a question has the same number whatever is done.
    fn share_out(
        &mut self,
        conditions: impl Iterator<Item = &'r Condition>,
        set: Set,
    ) -> (Vec<Set>, Set) {
        let (mut shares, mut rest) = (Vec::new(), set);
        for condition in conditions {
            if rest.is_empty() {
                break;
            }
            let met = self.condition(condition, rest);
            shares.push(self.bdd.and(rest, met));
            rest = self.bdd.less(rest, met);
        }
        (shares, rest)
    }

    /// What a verdict does with packets: those that go on in the rule, and those that go on behind it.
    fn verdict(
        &mut self,
        place: &Place<'r>,
        verdict: &'r Verdict,
        set: Set,
        returned: &mut Set,
    ) -> (Set, Set) {
        if set.is_empty() {
            return (Set::EMPTY, Set::EMPTY);
        }
        match verdict {
            Verdict::Accept => self.accepted = self.bdd.or(self.accepted, set),
            Verdict::Drop => self.end(End::Dropped, set),
            Verdict::Continue => return (set, Set::EMPTY),
            Verdict::Return => *returned = self.bdd.or(*returned, set),
            Verdict::Jump(name) => return (Set::EMPTY, self.call(place, name, set)),
            Verdict::Goto(name) => {
                let back = self.call(place, name, set);
                *returned = self.bdd.or(*returned, back);
            }
        }
        (Set::EMPTY, Set::EMPTY)
    }

    /// The kernel refuses loops, and jumps that are too deep.
    fn call(&mut self, place: &Place<'r>, name: &'r str, set: Set) -> Set {
        let known = place.table.chains.get(name);
        let loops = place.names.contains(&name) || place.names.len() >= DEPTH;
        match known.filter(|_| !loops) {
            Some(chain) => {
                let mut names = place.names.clone();
                names.push(name);
                let inner = Place {
                    names,
                    table: place.table,
                };
                self.native_chain(&inner, chain, set)
            }
            None => self.unknown(Reach::Anywhere, set),
        }
    }

    /// What a statement changes in packets; answers those that go on in the rule.
    fn effect(&mut self, statement: &'r Statement, set: Set) -> Set {
        let layout = self.layout;
        match statement {
            Statement::Mark(Marking::Set(mark)) => self.set_mark(layout.mark, set, *mark),
            Statement::Mark(Marking::Copy) => self.copy_mark(set, layout.connmark, u32::MAX),
            Statement::Mark(Marking::Unknown) => {
                let set = self.taint(set);
                self.forget(set, [layout.mark])
            }
            Statement::Connmark(marking) => {
                let (with, without) = self.with_connection(set);
                let marked = match marking {
                    Marking::Set(mark) => self.set_mark(layout.connmark, with, *mark),
                    Marking::Copy => self.copy_mark(with, layout.mark, u32::MAX),
                    Marking::Unknown => {
                        let set = self.taint(with);
                        self.forget(set, [layout.connmark])
                    }
                };
                self.bdd.or(marked, without)
            }
            Statement::Header(changed) => self.set_header(set, *changed),
            Statement::Notrack => self.untrack(set),
            Statement::Dnat(to) => {
                let done = self.dnat(set, to);
                self.translated(done)
            }
            Statement::Snat(to) => {
                let done = self.snat(set, to);
                self.translated(done)
            }
            Statement::Redirect(ports) => {
                let done = self.redirect(set, *ports);
                self.translated(done)
            }
            Statement::Masquerade(ports) => {
                let done = self.masquerade(set, *ports);
                self.translated(done)
            }
            Statement::Effect(_, reach) => self.unknown(*reach, set),
            Statement::Test(_)
            | Statement::Map(_)
            | Statement::DnatByMap(_)
            | Statement::Verdict(_) => set,
        }
    }

    fn write_rule_down(
        &mut self,
        place: &Place<'r>,
        index: usize,
        rule: &'r NativeRule,
        (set, met): (Set, Set),
        open: Option<&'r Condition>,
    ) {
        if self.walk.is_none() {
            return;
        }
        let applies = match met {
            Set::EMPTY => "taken as not applying",
            all if all == set => "taken as applying",
            _ => "it may apply or not",
        };
        let effect = rule
            .statements
            .iter()
            .find_map(|statement| match statement {
                Statement::Effect(text, _) => Some(text),
                _ => None,
            });
        let (outcome, note) = match (open, effect) {
            (Some(Condition::Unknown(text)), _) => (
                Outcome::Unknown(text.clone()),
                format!("`{text}` cannot be known; {applies}"),
            ),
            (None, Some(text)) if !met.is_empty() => (
                Outcome::Unknown(text.clone()),
                format!("`{text}` is not computed"),
            ),
            (Some(Condition::Either(text)), _) => (
                outcome(set, met),
                format!("`{text}` depends on the moment; {applies}"),
            ),
            _ => (outcome(set, met), String::new()),
        };
        let chain = place.names.last().copied().unwrap_or_default();
        self.note(
            &place.table.name,
            chain,
            Some(index + 1),
            &rule.text,
            || (outcome, note),
        );
    }
}

fn outcome(set: Set, met: Set) -> Outcome {
    match met {
        Set::EMPTY => Outcome::NotMatched,
        all if all == set => Outcome::Matched,
        _ => Outcome::Partly,
    }
}
