//! Packets through tables, chains and rules.

use super::bdd::Set;
use super::condition::Hit;
use super::engine::{Engine, Known};
use super::hook::TABLES;
use super::walk::{End, Outcome, Step};
use crate::ruleset::{Chain, Listed, Policy, Reach, Rule, Shown, Table, Target};

/// The chain at hand.
pub(super) struct At<'r> {
    table_name: &'static str,
    table: &'r Table,
    /// The chains on the way here, the innermost last.
    names: Vec<&'r str>,
}

/// What is to be said of a rule for a cgroup that is no more.
const DEAD: &str =
    "dead: its cgroup was deleted, or made again since; this rule matches no process";

/// How deep chains may call each other: far more than nf_tables' 16, and a bound for ourselves.
const DEPTH: usize = 64;

impl<'r> Engine<'r> {
    /// Packets through one table's chain of the hook at hand; answers those that it accepts.
    pub(super) fn table(
        &mut self,
        layer: usize,
        table_name: &'static str,
        table: &'r Table,
        set: Set,
    ) -> Set {
        self.site = vec![self.hook as usize, table_number(table_name), layer];
        self.learn(set);
        let at = At {
            table_name,
            table,
            names: Vec::new(),
        };
        self.base(&at, set)
    }

    /// Packets through a base chain; answers what it accepts.
    fn base(&mut self, at: &At<'r>, set: Set) -> Set {
        let chain_name = self.hook.chain();
        match &at.table.shown {
            Shown::Whole => {}
            Shown::Partly(why) => {
                self.note(at.table_name, chain_name, None, why, || {
                    (
                        Outcome::Unknown(why.clone()),
                        "one of them may do anything".into(),
                    )
                });
                let changed = self.unknown(Reach::Anywhere, set);
                return self.visible(at, chain_name, changed);
            }
            Shown::Unreadable(why) => {
                self.note(at.table_name, chain_name, None, why, || {
                    (Outcome::Unknown(why.clone()), why.clone())
                });
                let changed = self.seized_and_changed(set);
                return self.sent_anywhere(changed);
            }
        }
        self.visible(at, chain_name, set)
    }

    fn visible(&mut self, at: &At<'r>, chain_name: &'static str, set: Set) -> Set {
        let Some((name, chain)) = at.table.chains.get_key_value(chain_name) else {
            return set;
        };
        let Some(policy) = chain.policy else {
            // A chain of that name that nothing is attached to: packets do not come here.
            let why = "a chain that is not attached to its hook";
            self.note(at.table_name, chain_name, None, why, || {
                (
                    Outcome::Unknown(why.into()),
                    "what it says may count for nothing".into(),
                )
            });
            return self.seized(set);
        };
        let outer = std::mem::replace(&mut self.accepted, Set::EMPTY);
        let here = At {
            names: vec![name.as_str()],
            ..*at
        };
        let rest = self.chain(&here, chain, set);
        let accepted = std::mem::replace(&mut self.accepted, outer);
        if rest.is_empty() {
            return accepted;
        }
        self.note(
            at.table_name,
            chain_name,
            None,
            &format!("policy {policy}"),
            || (Outcome::Matched, String::new()),
        );
        match policy {
            Policy::Accept => self.bdd.or(accepted, rest),
            Policy::Drop => {
                self.end(End::Dropped, rest);
                accepted
            }
        }
    }

    /// Packets through a chain; answers those that come to its end or RETURN.
    fn chain(&mut self, at: &At<'r>, chain: &'r Chain, mut set: Set) -> Set {
        let mut returned = Set::EMPTY;
        for (index, listed) in chain.rules.iter().enumerate() {
            let rule = &listed.rule;
            if set.is_empty() || self.exhausted() {
                break;
            }
            if self.has_enough() {
                return Set::EMPTY;
            }
            self.visits += 1;
            let drops = matches!(rule.target, Target::Drop | Target::Reject);
            if drops && self.spares_drops() && self.misses_sample(rule) {
                continue;
            }
            self.site.push(index);
            let hit = self.hit(rule, set);
            if self.walk.is_some() {
                self.write_down(at, index, listed, set, &hit);
            }
            if !hit.set.is_empty() {
                let rest = self.bdd.less(set, hit.condition);
                let gone_on = self.act(at, rule, hit.set, &mut returned);
                set = self.bdd.or(rest, gone_on);
            }
            self.site.pop();
        }
        self.bdd.or(returned, set)
    }

    /// What a rule does with the packets that meet it; answers those that go on behind it.
    fn act(&mut self, at: &At<'r>, rule: &'r Rule, set: Set, returned: &mut Set) -> Set {
        match &rule.target {
            Target::None => set,
            Target::Passive(text) => self.passed_on(text, set),
            Target::Accept => {
                self.accepted = self.bdd.or(self.accepted, set);
                Set::EMPTY
            }
            Target::Drop | Target::Reject => {
                self.end(End::Dropped, set);
                Set::EMPTY
            }
            Target::Return => {
                *returned = self.bdd.or(*returned, set);
                Set::EMPTY
            }
            Target::Jump(name) => match self.called(at, name) {
                Some((inner, chain)) => self.chain(&inner, chain, set),
                None => self.anything(set),
            },
            Target::Goto(name) => match self.called(at, name) {
                Some((inner, chain)) => {
                    let back = self.chain(&inner, chain, set);
                    *returned = self.bdd.or(*returned, back);
                    Set::EMPTY
                }
                None => self.anything(set),
            },
            Target::Tos(value) => self.set_tos(set, *value),
            Target::Mark(value) => self.set_mark(self.layout.mark, set, *value),
            Target::Connmark(value) => {
                let (with, without) = self.with_connection(set);
                let marked = self.set_mark(self.layout.connmark, with, *value);
                self.bdd.or(marked, without)
            }
            Target::SaveMark(mask) => self.copy_mark(set, self.layout.mark, *mask),
            Target::RestoreMark(mask) => self.copy_mark(set, self.layout.connmark, *mask),
            Target::Notrack if at.table_name == "raw" => self.untrack(set),
            Target::Dnat(to) if at.table_name == "nat" => {
                let done = self.dnat(set, to);
                self.translated(done)
            }
            Target::Redirect(ports) if at.table_name == "nat" => {
                let done = self.redirect(set, *ports);
                self.translated(done)
            }
            Target::Snat(to) if at.table_name == "nat" => {
                let done = self.snat(set, to);
                self.translated(done)
            }
            Target::Masquerade(ports) if at.table_name == "nat" => {
                let done = self.masquerade(set, *ports);
                self.translated(done)
            }
            Target::Netmap(net) if at.table_name == "nat" => {
                let done = self.netmap(set, net);
                self.translated(done)
            }
            // The kernel refuses these elsewhere, so the text is not what it seems.
            Target::Notrack
            | Target::Dnat(_)
            | Target::Redirect(_)
            | Target::Snat(_)
            | Target::Masquerade(_)
            | Target::Netmap(_) => self.anything(set),
            Target::Unknown(text) => self.unknown(Reach::of(text), set),
        }
    }

    /// Packets that NAT has decided about; no rule behind sees them.
    pub(super) fn translated(&mut self, done: Set) -> Set {
        self.translated = self.bdd.or(self.translated, done);
        Set::EMPTY
    }

    /// The user chain a rule calls. The kernel refuses loops, and calls without a chain.
    fn called(&self, at: &At<'r>, name: &str) -> Option<(At<'r>, &'r Chain)> {
        let (name, chain) = at.table.chains.get_key_value(name)?;
        let loops = at.names.contains(&name.as_str()) || at.names.len() >= DEPTH;
        (!loops && chain.policy.is_none()).then(|| {
            let mut names = at.names.clone();
            names.push(name);
            (At { names, ..*at }, chain)
        })
    }

    /// A target that is not understood. Where it may send packets of its own, what becomes of those is
    /// not known, whatever becomes of the ones that it was given.
    pub(super) fn unknown(&mut self, reach: Reach, set: Set) -> Set {
        match reach {
            Reach::Packet => self.anything(set),
            Reach::Copies => {
                let copies = self.seized(set);
                let copies = self.bdd.and(copies, self.claimed);
                self.end(End::LetThrough, copies);
                self.anything(set)
            }
            Reach::Anywhere => {
                let changed = self.seized_and_changed(set);
                let changed = self.sent_anywhere(changed);
                self.accepted = self.bdd.or(self.accepted, changed);
                changed
            }
        }
    }

    /// What may do anything to packets: accept them, let them go on, change them or not.
    fn anything(&mut self, set: Set) -> Set {
        let changed = self.seized_and_changed(set);
        self.accepted = self.bdd.or(self.accepted, changed);
        changed
    }

    /// Packets that something not understood may have dropped, or marked.
    pub(super) fn seized(&mut self, set: Set) -> Set {
        let layout = self.layout;
        let set = self.taint(set);
        self.forget(set, [layout.mark, layout.connmark])
    }

    /// Packets that something not understood may have dropped or changed in any way.
    pub(super) fn seized_and_changed(&mut self, set: Set) -> Set {
        self.known = Known::default();
        let layout = self.layout;
        let mut set = self.seized(set);
        for field in [
            layout.dst,
            layout.dport,
            layout.src,
            layout.sport,
            layout.tos,
        ] {
            set = self.move_aside(set, field);
        }
        let free = [
            layout.state,
            layout.snat,
            layout.dnat,
            layout.length,
            layout.ttl,
            layout.mac,
        ];
        self.forget(set, free)
    }

    /// Adds to the walk, if one is written down.
    pub(super) fn note(
        &mut self,
        table: &str,
        chain: &str,
        rule: Option<usize>,
        text: &str,
        say: impl FnOnce() -> (Outcome, String),
    ) {
        let hook = self.hook;
        if let Some(walk) = &mut self.walk {
            let (outcome, note) = say();
            let (table, chain, text) = (table.to_owned(), chain.to_owned(), text.to_owned());
            walk.push(Step {
                hook,
                table,
                chain,
                rule,
                text,
                outcome,
                note,
            });
        }
    }

    fn write_down(
        &mut self,
        at: &At<'r>,
        index: usize,
        listed: &'r Listed,
        set: Set,
        hit: &Hit<'r>,
    ) {
        let applies = match hit.set {
            Set::EMPTY => "taken as not applying",
            all if all == set => "taken as applying",
            _ => "it may apply or not",
        };
        let (outcome, note) = match (hit.unknown.as_deref(), hit.either, &listed.rule.target) {
            (Some(text), ..) => (
                Outcome::Unknown(text.to_owned()),
                format!("`{text}` cannot be known; {applies}"),
            ),
            (None, Some(text), _) => {
                let outcome = match hit.set {
                    Set::EMPTY => Outcome::NotMatched,
                    all if all == set => Outcome::Matched,
                    _ => Outcome::Partly,
                };
                (
                    outcome,
                    format!("`{text}` depends on the moment; {applies}"),
                )
            }
            (None, None, _) if hit.dead => (Outcome::NotMatched, DEAD.to_owned()),
            (None, None, _) if hit.set.is_empty() => (
                Outcome::NotMatched,
                hit.missed
                    .map_or(String::new(), |missed| format!("not {missed}")),
            ),
            (None, None, Target::Unknown(text)) => (
                Outcome::Unknown(text.clone()),
                "a target that is not understood".to_owned(),
            ),
            (None, None, _) if hit.set == set => (Outcome::Matched, String::new()),
            _ => (Outcome::Partly, String::new()),
        };
        let chain = at.names.last().copied().unwrap_or_default();
        self.note(at.table_name, chain, Some(index + 1), &listed.text, || {
            (outcome, note)
        });
    }
}

fn table_number(name: &str) -> usize {
    TABLES.iter().position(|table| *table == name).unwrap_or(9)
}
