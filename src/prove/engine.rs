//! The state of one symbolic walk, and the small operations that all its parts share.

use std::collections::{BTreeMap, HashMap};

use super::bdd::{Bdd, Quantifier, Set};
use super::class::{Destination, HostView, Moment, Origin, PacketClass};
use super::hook::Hook;
use super::layout::{Field, Layout, Names, State};
use super::order::{Stations, sends, stations, tracks};
use super::walk::{End, Walk};
use crate::ruleset::native::Condition;
use crate::ruleset::{Family, IfacePattern, Match, Net, Ruleset};

/// One visit of one match whose answer cannot be known beforehand: the numbers of hook, table, layer,
/// of the rules on the way there, and of the question. A packet that comes to a rule twice may get
/// two answers, so the way is part of it.
pub(super) type Site = Vec<usize>;

/// How carefully drops are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// As [`Care::Least`], and of each base chain only what its first accepting rule lets through: enough for an
    /// example where a block does not hold, and ten thousand accepting rules cost as much as one.
    First,
    /// Drops that spare a packet taken at random are passed over: what is let through comes out
    /// too large. Where even that is nothing, a block holds, and a blocklist of ten thousand
    /// addresses was passed in no time.
    Least,
    /// What is dropped is cut off, and forgotten.
    Block,
    /// What is dropped is cut off and kept.
    Full,
}

/// The source of an answer that cannot be known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The moment, the rate, chance: both answers do come.
    Either,
    /// Something not understood: one of the answers may never come.
    Unknown,
}

/// What all packets at hand have in common, or what one of them is like. Most rules of a long chain
/// name other addresses, and one comparison here settles them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) src: Option<u128>,
    pub(super) dst: Option<u128>,
    pub(super) protocol: Option<u128>,
    pub(super) input: Option<u128>,
    pub(super) output: Option<u128>,
}

/// One walk of a set of packets.
pub(super) struct Engine<'r> {
    pub(super) bdd: Bdd,
    pub(super) layout: Layout,
    pub(super) names: Names,
    pub(super) host: &'r HostView,
    /// The rulesets in force at the same time (iptables-legacy's and iptables-nft's).
    pub(super) layers: Vec<&'r Ruleset>,
    /// What packets come to at each hook.
    pub(super) stations: Stations<'r>,
    /// Whether connection tracking works for certain.
    pub(super) tracks: bool,
    /// Whether something may send packets of its own, or turn them anywhere.
    pub(super) sends: bool,
    /// Whether a rule asks for more of headers than addresses and ports: else nothing is said of the rest.
    pub(super) headers: bool,
    pub(super) moment: Moment,
    /// The packets with an address of this host as source, and as destination.
    pub(super) local_src: Set,
    pub(super) local_dst: Set,
    /// Where the packets come from.
    pub(super) from: Origin,
    /// The packets that are on their way to where a block says that none goes.
    pub(super) claimed: Set,
    /// The interfaces packets may leave by.
    pub(super) out: Set,
    /// What is the same for every packet of the chain at hand.
    pub(super) known: Known,
    /// One of its packets.
    pub(super) sample: Known,
    /// How carefully drops are looked at.
    pub(super) care: Care,
    /// Whether the walk left nothing out for [`Care::First`].
    pub(super) whole: bool,
    /// Conditions that do not change, by the address of their match in the ruleset.
    pub(super) conditions: HashMap<*const Match, Set>,
    /// The same of native rules.
    pub(super) native_conditions: HashMap<*const Condition, Set>,
    /// Whether NAT had several destinations, sources or ports to choose from.
    pub(super) choices: bool,
    /// Whether connections are looked at also that a helper expects, and whose first packets are RELATED.
    pub(super) expecting: bool,
    /// Whether an example is sought among packets that are out of the ordinary and can be sent all the same: see
    /// [`Engine::sendable`].
    pub(super) odd_examples: bool,
    /// Where packets ended.
    pub(super) ends: BTreeMap<End, Set>,
    /// What the base chain at hand has accepted, and what its NAT has translated.
    pub(super) accepted: Set,
    pub(super) translated: Set,
    /// How many rules were visited.
    pub(super) visits: usize,
    /// Hook, table and layer, then the rules on the way.
    pub(super) site: Site,
    /// Every open question, in the order of its bit, and what answers.
    pub(super) questions: Vec<(Site, Answer)>,
    /// The answers to give when a single packet is walked.
    pub(super) answers: Option<HashMap<Site, bool>>,
    /// The walk to write down, if one is wanted.
    pub(super) walk: Option<Walk>,
    /// The hook at hand.
    pub(super) hook: Hook,
}

impl<'r> Engine<'r> {
    /// How many rules one walk may visit: a file of 10,000 rules passes, chains that call each other
    /// in ever new ways do not.
    const VISITS: usize = 200_000;
    /// How many open questions one walk may meet.
    const QUESTIONS: usize = 4_000;

    pub(super) fn new(
        bdd: Bdd,
        layers: Vec<&'r Ruleset>,
        host: &'r HostView,
        family: Family,
        names: Names,
        moment: Moment,
    ) -> Self {
        let layout = Layout::new(family, &names);
        let tracks = tracks(&layers, &host.native, family);
        let mut engine = Self {
            bdd,
            layout,
            names,
            host,
            stations: stations(&layers, &host.native, family, tracks),
            tracks,
            sends: sends(&layers, &host.native, family),
            layers,
            headers: false,
            moment,
            local_src: Set::EMPTY,
            local_dst: Set::EMPTY,
            from: Origin::Host,
            claimed: Set::ALL,
            out: Set::ALL,
            known: Known::default(),
            sample: Known::default(),
            care: Care::Full,
            whole: true,
            choices: false,
            expecting: false,
            odd_examples: false,
            conditions: HashMap::new(),
            native_conditions: HashMap::new(),
            ends: BTreeMap::new(),
            accepted: Set::EMPTY,
            translated: Set::EMPTY,
            visits: 0,
            site: Site::new(),
            questions: Vec::new(),
            answers: None,
            walk: None,
            hook: Hook::Prerouting,
        };
        engine.local_src = engine.local(layout.src);
        engine.local_dst = engine.local(layout.dst);
        engine
    }

    /// The packets with an address of this host in that field.
    fn local(&mut self, field: Field) -> Set {
        let family = self.layout.family;
        let addrs = self.host.interfaces.values().flat_map(|iface| &iface.addrs);
        let own = addrs
            .map(|addr| Net::host(*addr))
            .filter(|net| net.family() == family);
        let routed = self
            .host
            .local
            .iter()
            .copied()
            .filter(|net| net.family() == family);
        let nets: Vec<Net> = own.chain([Net::loopback(family)]).chain(routed).collect();
        nets.iter().fold(Set::EMPTY, |all, net| {
            let one = self.layout.net(&mut self.bdd, field, net);
            self.bdd.or(all, one)
        })
    }

    /// Whether the bounds of the walk were passed, so that nothing it found can be believed.
    pub(super) fn exhausted(&self) -> bool {
        self.bdd.overflown() || self.visits > Self::VISITS || self.questions.len() > Self::QUESTIONS
    }

    /// Whether drops that spare a packet taken at random are passed over.
    pub(super) fn spares_drops(&self) -> bool {
        matches!(self.care, Care::First | Care::Least)
    }

    /// Whether nothing more of the base chain at hand is wanted; the walk is then not whole.
    pub(super) fn has_enough(&mut self) -> bool {
        let first = self.care == Care::First && !self.accepted.is_empty();
        let enough = first || self.spares_drops() && !self.ended(End::LetThrough).is_empty();
        self.whole &= !enough;
        enough
    }

    /// Notes where packets end.
    pub(super) fn end(&mut self, end: End, set: Set) {
        if self.care != Care::Full && end != End::LetThrough {
            return;
        }
        let before = self.ends.get(&end).copied().unwrap_or(Set::EMPTY);
        let both = self.bdd.or(before, set);
        self.ends.insert(end, both);
    }

    /// Packets that something not understood may have sent anywhere; answers those to be followed further: none
    /// where only a block is in question, which does not hold already, and for no packet of these certainly not.
    pub(super) fn sent_anywhere(&mut self, set: Set) -> Set {
        self.end(End::LetThrough, set);
        match self.care {
            Care::First | Care::Least | Care::Block => Set::EMPTY,
            Care::Full => set,
        }
    }

    /// The packets that ended there.
    pub(super) fn ended(&self, end: End) -> Set {
        self.ends.get(&end).copied().unwrap_or(Set::EMPTY)
    }

    pub(super) fn state_is(&mut self, state: State) -> Set {
        self.layout.state.equals(&mut self.bdd, state as u128)
    }

    /// The packets that have an entry in connection tracking.
    pub(super) fn tracked(&mut self) -> Set {
        [State::New, State::Established, State::Related]
            .into_iter()
            .fold(Set::EMPTY, |all, s| {
                let one = self.state_is(s);
                self.bdd.or(all, one)
            })
    }

    /// Forgets what some fields were.
    pub(super) fn forget<const N: usize>(&mut self, set: Set, fields: [Field; N]) -> Set {
        let vars = fields.into_iter().flat_map(Field::vars).collect();
        self.bdd.quantify(Quantifier::Some, set, &vars)
    }

    /// Gives a field a value.
    pub(super) fn set(&mut self, set: Set, field: Field, value: u128) -> Set {
        let free = self.forget(set, [field]);
        let fixed = field.equals(&mut self.bdd, value);
        self.bdd.and(free, fixed)
    }

    /// Marks packets as having been in hands that are not understood.
    pub(super) fn taint(&mut self, set: Set) -> Set {
        self.set(set, self.layout.tainted, 1)
    }

    /// Puts the original value of a field aside, for its first time, and frees the field.
    pub(super) fn move_aside(&mut self, set: Set, field: Field) -> Set {
        let Some(flag) = self.layout.moved(field) else {
            return set;
        };
        let moved = flag.equals(&mut self.bdd, 1);
        let again = self.bdd.and(set, moved);
        let first = self.bdd.less(set, moved);
        let again = self.forget(again, [field]);
        let first = self.bdd.shift(first, &field.vars().collect(), 1);
        let first = self.set(first, flag, 1);
        self.bdd.or(again, first)
    }

    /// The packets as their sender sent them.
    pub(super) fn original(&mut self, mut set: Set) -> Set {
        for (field, flag) in self.layout.movable() {
            let moved = flag.equals(&mut self.bdd, 1);
            let aside = self.bdd.and(set, moved);
            let same = self.bdd.less(set, moved);
            let back = self.forget(aside, [field]);
            let twin = field.twin();
            let back = self.bdd.shift(back, &twin.vars().collect(), -1);
            set = self.bdd.or(back, same);
            set = self.forget(set, [flag]);
        }
        let layout = self.layout;
        let made = [
            layout.state,
            layout.snat,
            layout.dnat,
            layout.mark,
            layout.connmark,
        ];
        self.forget(set, made)
    }

    /// The packets, as their sender sent them, that can end elsewhere than among the bad ones, with
    /// the same answers to all questions.
    pub(super) fn spared(&mut self, bad: Set) -> Set {
        let ends: Vec<Set> = self.ends.values().copied().collect();
        let all = ends.into_iter().fold(Set::EMPTY, |a, b| self.bdd.or(a, b));
        let good = self.bdd.less(all, bad);
        let good = self.forget(good, [self.layout.tainted]);
        let good = self.original(good);
        // One that ended before it was known how it would leave.
        let nowhere = self.names.none(&mut self.bdd, self.layout.output);
        let early = self.bdd.and(good, nowhere);
        let early = self.forget(early, [self.layout.output]);
        self.bdd.or(good, early)
    }

    /// The packets of a class that nothing not understood had its hands on, that nothing sets apart (or that can be
    /// sent all the same, where such are sought), and that leave by the host's way, or nowhere yet: only such a one
    /// can be an example.
    pub(super) fn ordinary(&mut self, class: &PacketClass, set: Set) -> Set {
        let layout = self.layout;
        let untainted = layout.tainted.equals(&mut self.bdd, 0);
        let set = self.bdd.and(set, untainted);
        let ethernet = self.over_ethernet(class);
        let set = self.bdd.and(set, ethernet);
        let set = if self.odd_examples {
            self.sendable(class, set)
        } else {
            let plain = layout.odd.equals(&mut self.bdd, 0);
            self.bdd.and(set, plain)
        };
        let Some(name) = self.way(class) else {
            return set;
        };
        let pattern = IfacePattern::Exact(name.to_owned());
        let there = self.names.fits(&mut self.bdd, layout.output, &pattern);
        let nowhere = self.names.none(&mut self.bdd, layout.output);
        let either = self.bdd.or(there, nowhere);
        self.bdd.and(set, either)
    }

    /// The interface by which packets of a class leave, as the host's routes say.
    pub(super) fn way(&self, class: &PacketClass) -> Option<&'r str> {
        let (Origin::Interface(_), Destination::Net(net)) = (&class.from, &class.dst) else {
            return None;
        };
        let mut ways = self.host.ways.iter();
        let (_, name) = ways.find(|(to, _)| Net::host(*to) == *net)?;
        let meant = class.out.as_ref().is_none_or(|out| out.fits(name));
        meant.then_some(name.as_str())
    }

    /// The ordinary packets of a set that end there whatever the answers are that something not understood gives.
    pub(super) fn certain(&mut self, class: &PacketClass, set: Set) -> Set {
        let set = self.ordinary(class, set);
        let questions = (self.layout.answers..).zip(&self.questions);
        let unknown = questions.filter(|(_, (_, answer))| *answer == Answer::Unknown);
        let unknown = unknown.map(|(var, _)| var).collect();
        self.bdd.quantify(Quantifier::Every, set, &unknown)
    }

    /// Of packets that end so, as they were sent, those that end so for certain: whatever the answers are, and whatever
    /// NAT takes where it has a choice (a range, one of several addresses, a port), by rules of the kernel's own.
    pub(super) fn unspared(&mut self, class: &PacketClass, set: Set) -> Set {
        let spared = self.spared(set);
        let set = self.original(set);
        let certain = self.bdd.less(set, spared);
        let certain = self.certain(class, certain);
        if self.exhausted() {
            Set::EMPTY
        } else {
            certain
        }
    }

    /// The packets that get "yes" as the answer to a question that only now comes up.
    pub(super) fn ask(&mut self, answer: Answer) -> Set {
        let mut site = self.site.clone();
        let number = self
            .questions
            .iter()
            .rev()
            .take_while(|(s, _)| s.starts_with(&site))
            .count();
        site.push(number);
        if let Some(answers) = &self.answers {
            let yes = answers.get(&site).copied().unwrap_or(false);
            self.questions.push((site, answer));
            return if yes { Set::ALL } else { Set::EMPTY };
        }
        let var = self.layout.answers + self.questions.len() as u32;
        self.questions.push((site, answer));
        self.bdd.bit(var, true)
    }
}
