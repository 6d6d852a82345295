//! From where packets can end to a verdict, and a packet to show for it.

use std::collections::{BTreeSet, HashMap};

use super::bdd::Set;
use super::class::{Destination, HostView, Origin, Packet, PacketClass};
use super::engine::{Care, Engine, Site};
use super::layout::{Field, Names};
use super::path::Follow;
use super::start::Odd;
use super::walk::{End, Walk};
use super::{Claim, Expect, Verdict};
use crate::ruleset::{Family, IfacePattern, Net, Ruleset, bits, protocol};

/// Proves claims about the rulesets of one family that are in force together.
pub struct Prover<'r> {
    layers: Vec<&'r Ruleset>,
    host: &'r HostView,
    patterns: BTreeSet<IfacePattern>,
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
        patterns.insert(IfacePattern::Exact("lo".to_owned()));
        Self {
            layers: rulesets.to_vec(),
            host,
            patterns,
        }
    }

    /// Whether a claim is true.
    pub fn prove(&self, claim: &Claim) -> Verdict {
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
        if matches!(addressed, Verdict::Violated { .. }) || !self.engine(class).may_turn(class) {
            return addressed;
        }
        match (addressed, self.turned(question)) {
            (_, violated @ Verdict::Violated { .. }) => violated,
            (undecided @ Verdict::Undecided { .. }, _) => undecided,
            (_, turned) => turned,
        }
    }

    /// The packets that NAT turns to the class's destination.
    fn turned(&self, question: Question<'_>) -> Verdict {
        let at_most = self.answer(Question {
            follow: Follow::TurnedAtMost,
            ..question
        });
        let walk = match at_most {
            Verdict::Held => return Verdict::Held,
            Verdict::Violated { walk } | Verdict::Undecided { walk, .. } => walk,
        };
        match self.answer(Question {
            follow: Follow::Turned,
            ..question
        }) {
            Verdict::Held if self.engine(question.class).foreign_nat(question.class) => {
                let why = "a native NAT chain may turn packets here".to_owned();
                Verdict::Undecided { why, walk }
            }
            exactly => exactly,
        }
    }

    /// Walks a class, and tells every rule it comes to and what that had to say.
    pub fn explain(&self, class: &PacketClass) -> Walk {
        let mut engine = self.engine(class);
        engine.walk = Some(Walk::default());
        engine.prepare(class);
        let start = engine.start(class, false, true);
        engine.follow(class, start);
        self.written(engine)
    }

    fn engine(&self, class: &PacketClass) -> Engine<'r> {
        let mut patterns = self.patterns.clone();
        let ifaces = match &class.from {
            Origin::Interface(ifaces) => Some(ifaces),
            Origin::Host => None,
        };
        for ifaces in ifaces.into_iter().chain(&class.out) {
            patterns.insert(ifaces.pattern.clone());
            patterns.extend(ifaces.except.iter().cloned());
        }
        let layers = self
            .layers
            .iter()
            .filter(|r| r.family == class.family)
            .copied()
            .collect();
        Engine::new(
            layers,
            self.host,
            class.family,
            Names::new(patterns),
            class.moment,
        )
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

    fn answer(&self, question: Question<'_>) -> Verdict {
        let mut engine = self.engine(question.class);
        if question.expect == Some(Expect::Dropped) {
            engine.care = Care::Least;
            if self.run(&mut engine, question, None).is_empty() && !engine.exhausted() {
                return Verdict::Held;
            }
            engine = self.engine(question.class);
            engine.care = Care::Block;
        }
        let bad = self.run(&mut engine, question, None);
        if engine.exhausted() {
            return too_much();
        }
        if bad.is_empty() {
            return Verdict::Held;
        }
        let bad = engine.original(bad);
        let certain = engine.certain(bad);
        if engine.exhausted() {
            return too_much();
        }
        let violated = !certain.is_empty();
        let chosen = Chosen::new(
            &engine,
            question.class,
            if violated { certain } else { bad },
        );
        let (walk, confirmed) = self.walk(&engine, question, &chosen);
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
        let why = unknown
            .or(odd)
            .unwrap_or_else(|| "it hangs on an answer not known".to_owned());
        Verdict::Undecided { why, walk }
    }

    /// Walks one packet; answers whether it ends badly again.
    fn walk(&self, from: &Engine<'r>, question: Question<'_>, chosen: &Chosen) -> (Walk, bool) {
        let mut engine = self.engine(question.class);
        engine.walk = Some(Walk::default());
        let answers = from.questions.iter().enumerate();
        let answers: HashMap<Site, bool> = answers
            .map(|(at, (site, _))| {
                let var = engine.layout.answers + at as u32;
                (
                    site.clone(),
                    chosen.bits.get(&var).copied().unwrap_or(false),
                )
            })
            .collect();
        engine.answers = Some(answers);
        let bad = self.run(&mut engine, question, Some(chosen));
        let confirmed = !bad.is_empty() && !engine.exhausted();
        let mut walk = self.written(engine);
        walk.example = Some(chosen.packet.clone());
        (walk, confirmed)
    }

    fn written(&self, engine: Engine<'r>) -> Walk {
        let ends = engine
            .ends
            .iter()
            .filter(|(_, set)| !set.is_empty())
            .map(|(end, _)| *end);
        let ends = ends.collect();
        Walk {
            ends,
            ..engine.walk.unwrap_or_default()
        }
    }
}

fn too_much() -> Verdict {
    let why = "the rules are more than a proof may look at".to_owned();
    Verdict::Undecided {
        why,
        walk: Walk::default(),
    }
}

/// One packet out of a set.
struct Chosen {
    bits: HashMap<u32, bool>,
    wishes: HashMap<u32, bool>,
    packet: Packet,
}

impl Chosen {
    /// Takes a packet out of a set, one that looks familiar if there is such.
    fn new(engine: &Engine<'_>, class: &PacketClass, set: Set) -> Self {
        let wishes = wishes(engine, class);
        let wish = |var: u32| wishes.get(&var).copied().unwrap_or(false);
        let bits = engine.bdd.pick(set, &wish);
        let picked = |var: u32| bits.get(&var).copied().unwrap_or_else(|| wish(var));
        let packet = read(engine, class, &picked);
        Self {
            bits,
            wishes,
            packet,
        }
    }

    /// The one packet, out of those that set out.
    fn restrict(&self, engine: &mut Engine<'_>, class: &PacketClass, start: Set) -> Set {
        let layout = engine.layout;
        let value = |field: Field| {
            field.read(&|var| {
                let wish = || self.wishes.get(&var).copied().unwrap_or(false);
                self.bits.get(&var).copied().unwrap_or_else(wish)
            })
        };
        let mut fields = vec![
            layout.odd,
            layout.shape,
            layout.protocol,
            layout.dst,
            layout.dport,
            layout.src,
            layout.sport,
            layout.icmp,
            layout.flags,
            layout.uid,
            layout.gid,
        ];
        let out = layout.output.equals(&mut engine.bdd, value(layout.output));
        // How it leaves is part of a packet that this host sends, and chosen by routing for others.
        match class.from {
            Origin::Host => fields.push(layout.output),
            Origin::Interface(_) => {
                fields.push(layout.input);
                if value(layout.output) != engine.names.nowhere() as u128 {
                    engine.out = engine.bdd.and(engine.out, out);
                }
            }
        }
        fields.into_iter().fold(start, |set, field| {
            let same = field.equals(&mut engine.bdd, value(field));
            engine.bdd.and(set, same)
        })
    }
}

/// Values that an example should have where nothing speaks against it.
fn wishes(engine: &Engine<'_>, class: &PacketClass) -> HashMap<u32, bool> {
    let layout = engine.layout;
    let echo = if class.family == Family::V4 {
        8 << 8
    } else {
        128 << 8
    };
    let (net, offset) = match class.src.any_of.first() {
        Some(net) => (*net, 2),
        None => {
            let usual = match class.family {
                Family::V4 => "172.17.0.2",
                Family::V6 => "fd00::2",
            };
            (
                Net::parse(class.family, usual).unwrap_or(Net::all(class.family)),
                0,
            )
        }
    };
    let dst = match &class.dst {
        Destination::Net(net) => bits(net.addr()),
        Destination::ThisHost => 0,
    };
    let eth0 = engine.names.kinds(&IfacePattern::Exact("eth0".to_owned()));
    let wished = [
        (layout.output, eth0.map_or(0, |(kind, _)| kind as u128)),
        (layout.protocol, protocol::TCP.into()),
        (layout.src, bits(net.addr()) | offset),
        (layout.sport, 40_000),
        (layout.dst, dst),
        (layout.dport, 80),
        (layout.icmp, echo),
        (layout.flags, 2),
    ];
    let bits = wished
        .into_iter()
        .flat_map(|(field, value): (Field, u128)| {
            field
                .bits()
                .map(move |(var, weight)| (var, value & weight != 0))
        });
    bits.collect()
}

fn read(engine: &Engine<'_>, class: &PacketClass, picked: &dyn Fn(u32) -> bool) -> Packet {
    let layout = engine.layout;
    let number = |field: Field| field.read(picked);
    let name = |field: Field| engine.names.example(usize::try_from(number(field)).ok()?);
    let protocol = u8::try_from(number(layout.protocol)).unwrap_or_default();
    let odd = number(layout.odd);
    let whole = number(layout.shape) == 0;
    let port = |field: Field| {
        let has = whole && protocol::WITH_PORTS.contains(&protocol);
        has.then(|| u16::try_from(number(field)).unwrap_or_default())
    };
    let is_icmp = match class.family {
        Family::V4 => protocol == protocol::ICMP,
        Family::V6 => protocol == protocol::ICMPV6,
    };
    let icmp = number(layout.icmp);
    let from_host = class.from == Origin::Host;
    let id = |field: Field| {
        from_host
            .then(|| u32::try_from(number(field)).ok())
            .flatten()
    };
    Packet {
        iif: if from_host { None } else { name(layout.input) },
        oif: name(layout.output),
        src: layout.address(number(layout.src)),
        dst: layout.address(number(layout.dst)),
        protocol,
        sport: port(layout.sport),
        dport: port(layout.dport),
        icmp: (whole && is_icmp).then_some(((icmp >> 8) as u8, icmp as u8)),
        flags: (whole && protocol == protocol::TCP)
            .then(|| u8::try_from(number(layout.flags)).unwrap_or_default()),
        uid: id(layout.uid),
        gid: id(layout.gid),
        odd: Odd::describe(odd),
    }
}
