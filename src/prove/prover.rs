//! From where packets can end to a verdict, and a packet to show for it.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::bdd::{Bdd, Set};
use super::claim::{Claim, Expect};
use super::class::{HostView, Moment, Origin, PacketClass};
use super::engine::{Care, Engine};
use super::example::Chosen;
use super::follow::{Follow, Replies};
use super::header::MTU;
use super::layout::Names;
use super::turning::Turning;
use super::walk::{End, Walk};
use crate::ruleset::native::NativeTable;
use crate::ruleset::{IfacePattern, Ruleset, bits};
use crate::verdict::Verdict;

/// Proves claims about the rulesets of one family that are in force together.
pub struct Prover<'r> {
    pub(super) layers: Vec<&'r Ruleset>,
    pub(super) host: &'r HostView,
    patterns: BTreeSet<IfacePattern>,
    headers: bool,
    /// The sets of the walks before: the next one needs many of them again.
    sets: Cell<Option<Bdd>>,
}

/// What one walk is about.
#[derive(Clone, Copy)]
struct Question<'c> {
    class: &'c PacketClass,
    expect: Option<Expect>,
    follow: Follow,
}

impl<'r> Prover<'r> {
    /// A prover for the rulesets of one family that are in force at the same time: usually one, two
    /// where iptables-legacy and iptables-nft both hold rules. Rulesets of another family than a
    /// claim's are not looked at.
    pub fn new(rulesets: &[&'r Ruleset], host: &'r HostView) -> Self {
        let mut patterns = Names::of_rulesets(rulesets);
        patterns.extend(host.interfaces.keys().cloned().map(IfacePattern::Exact));
        patterns.extend(Names::of_native(&host.native));
        patterns.insert(IfacePattern::Exact("lo".to_owned()));
        let mut native = host.native.iter().flat_map(NativeTable::rules);
        Self {
            layers: rulesets.to_vec(),
            host,
            patterns,
            headers: rulesets.iter().any(|ruleset| ruleset.asks_for_headers())
                || native.any(|rule| !rule.headers.is_empty()),
            sets: Cell::default(),
        }
    }

    /// Whether a claim is true.
    pub fn prove(&self, claim: &Claim) -> Verdict {
        if let Some(walk) = self.host.unroutable(claim) {
            return Verdict::Violated { walk };
        }
        let class = &claim.packets;
        let question = Question {
            class,
            expect: Some(claim.expect),
            follow: Follow::Addressed,
        };
        let addressed = self.answer(question);
        if claim.expect != Expect::Dropped || !class.turned {
            return addressed;
        }
        if is_shown(&addressed) {
            return addressed;
        }
        if let (Verdict::Held, Some(why)) = (&addressed, self.host.source_routed(class)) {
            let walk = Walk::default();
            return Verdict::Undecided { why, walk };
        }
        let turning = self.with_engine(class, |engine| engine.turning(class));
        let turned = self.turned(question, turning);
        if is_shown(&turned) {
            return turned;
        }
        let undone = |verdict| match turning.later {
            true => self.undone(class).unwrap_or(verdict),
            false => verdict,
        };
        match (addressed, turned) {
            (Verdict::Held, Verdict::Held) => Verdict::Held,
            (Verdict::Held, turned @ Verdict::Undecided { .. }) => undone(turned),
            (addressed @ Verdict::Undecided { .. }, Verdict::Undecided { .. }) => undone(addressed),
            (Verdict::Held | Verdict::Undecided { .. }, violated @ Verdict::Violated { .. }) => {
                violated
            }
            (addressed, _) => addressed,
        }
    }

    /// The packets that something turns to the class's destination.
    fn turned(&self, question: Question<'_>, turning: Turning) -> Verdict {
        let follow = |follow| self.answer(Question { follow, ..question });
        let first = if self.with_engine(question.class, |engine| engine.sends) {
            follow(Follow::Turned)
        } else if turning.by_nat {
            self.turned_by_nat(question)
        } else {
            Verdict::Held
        };
        if first != Verdict::Held || question.class.moment != Moment::Any {
            return first;
        }
        let replies = if turning.by_nat && self.begun_elsewhere(question) {
            Replies::ANY
        } else if turning.later {
            self.replies(question.class)
        } else {
            Replies::NONE
        };
        match replies {
            Replies::NONE => Verdict::Held,
            replies => follow(Follow::TurnedLater(replies)),
        }
    }

    /// What comes back to the class's destination where NAT undoes another source.
    fn replies(&self, class: &PacketClass) -> Replies {
        self.with_engine(&class.answered(), |engine| engine.replies(class))
    }

    /// Whether a connection that NAT turned to the class's destination may have begun at another interface, where its
    /// first packet is let through.
    fn begun_elsewhere(&self, question: Question<'_>) -> bool {
        let Origin::Interface(_) = question.class.from else {
            return true;
        };
        let class = &question.class.beginnings();
        self.with_engine(class, |engine| engine.sends)
            || self.turned_by_nat(Question { class, ..question }) != Verdict::Held
    }

    /// The packets that NAT turns to the class's destination before they are routed.
    fn turned_by_nat(&self, question: Question<'_>) -> Verdict {
        let follow = |follow| self.answer(Question { follow, ..question });
        match follow(Follow::TurnedAtMost) {
            Verdict::Held => Verdict::Held,
            Verdict::Violated { .. } | Verdict::Undecided { .. } => follow(Follow::Turned),
        }
    }

    /// Walks a class, and tells every rule it comes to and what that had to say.
    pub fn explain(&self, class: &PacketClass) -> Walk {
        self.with_engine(class, |engine| {
            engine.walk = Some(Walk::default());
            engine.prepare(class);
            let start = engine.start(class, false, true);
            engine.follow(class, start);
            written(engine)
        })
    }

    /// Lends an engine, which starts from the sets of those before it.
    fn with_engine<T>(&self, class: &PacketClass, work: impl FnOnce(&mut Engine<'r>) -> T) -> T {
        let sets = self.sets.take().map_or_else(Bdd::new, Bdd::renewed);
        let mut engine = self.engine(class, sets);
        let result = work(&mut engine);
        self.sets.set(Some(engine.bdd));
        result
    }

    pub(super) fn engine(&self, class: &PacketClass, sets: Bdd) -> Engine<'r> {
        let mut patterns = self.patterns.clone();
        let ifaces = match &class.from {
            Origin::Interface(ifaces) => Some(ifaces),
            Origin::Host | Origin::Cgroup(_) => None,
        };
        for ifaces in ifaces.into_iter().chain(&class.out) {
            patterns.extend(ifaces.any_of.iter().chain(&ifaces.except).cloned());
        }
        let layers = self
            .layers
            .iter()
            .filter(|r| r.family == class.family)
            .copied()
            .collect();
        let names = Names::new(patterns);
        let engine = Engine::new(sets, layers, self.host, class.family, names, class.moment);
        Engine {
            headers: self.headers,
            ..engine
        }
    }

    /// Walks the packets in question; answers where they set out and the bad ones.
    fn run(&self, engine: &mut Engine<'r>, question: Question<'_>, only: Option<&Chosen>) -> Set {
        let Question {
            class,
            expect,
            follow,
        } = question;
        engine.prepare(class);
        let delivery = matches!(expect, Some(Expect::Delivered { .. }));
        let mut start = engine.start(class, follow == Follow::Turned, delivery);
        if let Some(chosen) = only {
            start = chosen.restrict(engine, class, start);
        }
        match expect {
            Some(Expect::Delivered { addr, port }) => {
                let wanted = engine.layout.dst.equals(&mut engine.bdd, bits(addr));
                let at_port = engine.layout.dport.equals(&mut engine.bdd, port.into());
                let wanted = engine.bdd.and(wanted, at_port);
                engine.deliver(class, start, wanted);
                let good = engine.ended(End::Delivered);
                let sure = engine.layout.tainted.equals(&mut engine.bdd, 0);
                let unsure = engine.bdd.less(good, sure);
                [
                    End::Dropped,
                    End::Martian,
                    End::Elsewhere,
                    End::Misdelivered,
                ]
                .into_iter()
                .map(|end| engine.ended(end))
                .collect::<Vec<_>>()
                .into_iter()
                .fold(unsure, |all, set| engine.bdd.or(all, set))
            }
            Some(Expect::Dropped) | None => {
                engine.block(class, start, follow);
                engine.ended(End::LetThrough)
            }
        }
    }

    /// The least careful look that settles it.
    fn answer(&self, question: Question<'_>) -> Verdict {
        let mut care = match question.expect {
            Some(Expect::Dropped) => Care::First,
            _ => Care::Full,
        };
        loop {
            let look = |engine: &mut Engine<'r>| {
                engine.care = care;
                self.look(engine, question)
            };
            match self.with_engine(question.class, look) {
                Ok(verdict) => return verdict,
                Err(more) => care = more,
            }
        }
    }

    /// The verdict, or how carefully to look again: always more so.
    fn look(&self, engine: &mut Engine<'r>, question: Question<'_>) -> Result<Verdict, Care> {
        let bad = self.run(engine, question, None);
        let settled = !engine.exhausted();
        match engine.care {
            Care::First | Care::Least if settled && engine.whole && bad.is_empty() => {
                Ok(Verdict::Held)
            }
            // Another look that spares drops would find them again.
            Care::First if settled && !bad.is_empty() => {
                self.example(engine, question, bad).ok_or(Care::Block)
            }
            Care::First => Err(Care::Least),
            Care::Least => Err(Care::Block),
            // What else could become of the packets matters where NAT had a choice.
            Care::Block if !bad.is_empty() && engine.choices => Err(Care::Full),
            Care::Block | Care::Full => Ok(self.judge(engine, question, bad)),
        }
    }

    /// What becomes of one of these packets for certain, where it ends badly: what the look at all of them passed
    /// over, and the answers that cannot be known, are looked at for this one.
    fn example(&self, from: &mut Engine<'r>, question: Question<'_>, bad: Set) -> Option<Verdict> {
        let bad = from.ordinary(question.class, bad);
        if bad.is_empty() {
            return None;
        }
        let bad = from.original(bad);
        let chosen = Chosen::new(from, question.class, bad);
        let mut engine = self.engine(question.class, Bdd::new());
        let bad = self.run(&mut engine, question, Some(&chosen));
        let verdict = self.judge(&mut engine, question, bad);
        matches!(verdict, Verdict::Violated { .. }).then_some(verdict)
    }

    /// The violation that a packet out of the ordinary is an example of.
    fn odd_example(&self, care: Care, question: Question<'_>) -> Option<Verdict> {
        if question.expect != Some(Expect::Dropped) || question.follow != Follow::Addressed {
            return None;
        }
        let mut engine = self.engine(question.class, Bdd::new());
        engine.care = care;
        engine.odd_examples = true;
        let bad = self.run(&mut engine, question, None);
        let verdict = self.judge(&mut engine, question, bad);
        matches!(verdict, Verdict::Violated { .. }).then_some(verdict)
    }

    /// The verdict, when that is where packets of the question end badly.
    fn judge(&self, engine: &mut Engine<'r>, question: Question<'_>, bad: Set) -> Verdict {
        if engine.exhausted() {
            return too_much();
        }
        if bad.is_empty() {
            return Verdict::Held;
        }
        // No packet is an example that some choice of NAT's would spare.
        let certain = engine.unspared(question.class, bad);
        let bad = engine.original(bad);
        if engine.exhausted() {
            return too_much();
        }
        let violated = !certain.is_empty();
        // Another walk, where it may find something.
        if !violated
            && !engine.odd_examples
            && !engine.sendable(question.class, bad).is_empty()
            && let Some(verdict) = self.odd_example(engine.care, question)
        {
            return verdict;
        }
        let chosen = Chosen::new(engine, question.class, if violated { certain } else { bad });
        let (walk, confirmed) = self.walk(engine, question, &chosen);
        if violated && confirmed {
            return Verdict::Violated { walk };
        }
        let unknown = walk.unknown().map(|step| {
            let rule = step
                .rule
                .map_or(String::new(), |number| format!(" rule {number}"));
            let what = if step.note.is_empty() {
                &step.text
            } else {
                &step.note
            };
            format!("{} {}{rule}: {what}", step.table, step.chain)
        });
        let odd = chosen
            .packet
            .odd
            .map(|odd| format!("only this gets through: {odd}"));
        let astray = match (engine.way(question.class), &chosen.packet.oif) {
            (Some(way), Some(oif)) if way != oif => Some(format!(
                "only what leaves by {oif} gets through, and this host sends it by {way} (`ip route get`)"
            )),
            _ => None,
        };
        let carried = engine.over_ethernet(question.class);
        let uncarried = engine.bdd.and(bad, carried).is_empty().then(|| {
            format!("only what Ethernet does not carry gets through: more than {MTU} bytes, or no MAC that sends")
        });
        let fallback = if engine.choices {
            "it hangs on which address or port NAT takes"
        } else {
            "it hangs on what a target made of the packet"
        };
        let why = unknown
            .or(odd)
            .or(astray)
            .or(uncarried)
            .unwrap_or_else(|| fallback.to_owned());
        Verdict::Undecided { why, walk }
    }

    /// Walks one packet; answers whether it ends badly again.
    fn walk(&self, from: &Engine<'r>, question: Question<'_>, chosen: &Chosen) -> (Walk, bool) {
        let mut engine = self.engine(question.class, Bdd::new());
        engine.walk = Some(Walk::default());
        engine.odd_examples = from.odd_examples;
        engine.answers = Some(chosen.answers(from));
        let bad = self.run(&mut engine, question, Some(chosen));
        let confirmed = !bad.is_empty() && !engine.exhausted();
        let mut walk = written(&mut engine);
        walk.example = Some(chosen.packet.clone());
        (walk, confirmed)
    }
}

pub(super) fn written(engine: &mut Engine<'_>) -> Walk {
    let ends = engine.ends.iter();
    let ends = ends.filter(|(_, set)| !set.is_empty());
    Walk {
        ends: ends.map(|(end, _)| *end).collect(),
        ..engine.walk.take().unwrap_or_default()
    }
}

/// Whether an ordinary packet shows a violation: where one does, that is the example.
fn is_shown(verdict: &Verdict) -> bool {
    let Verdict::Violated { walk } = verdict else {
        return false;
    };
    walk.example
        .as_ref()
        .is_none_or(|packet| packet.odd.is_none() && packet.answers.is_none())
}

fn too_much() -> Verdict {
    let why = "the rules are more than a proof may look at".to_owned();
    Verdict::Undecided {
        why,
        walk: Walk::default(),
    }
}
