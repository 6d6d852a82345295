//! Each match as the set of packets that meet it.

use std::borrow::Cow;

use super::bdd::Set;
use super::cgroup::Membership;
use super::connection::Connected;
use super::engine::{Answer, Engine, Known};
use super::hook::Hook;
use super::layout::{Field, Shape, State};
use crate::ruleset::{
    AddrType, Chance, CtStates, Masked, Match, PortRange, Rule, Side, Test, bits,
};

/// The packets that meet a rule's conditions.
pub(super) struct Hit<'r> {
    /// All that do, of any packets.
    pub(super) condition: Set,
    /// Those of the packets at hand.
    pub(super) set: Set,
    /// The condition that none of them meets, if it is one alone.
    pub(super) missed: Option<&'r Match>,
    /// Whether that is one on a cgroup that is no more.
    pub(super) dead: bool,
    /// The condition that is not understood, if the others are met.
    pub(super) unknown: Option<Cow<'r, str>>,
    /// The condition that depends on the moment, if the others are met.
    pub(super) either: Option<&'r str>,
}

impl<'r> Engine<'r> {
    /// Learns what all packets of a set have in common.
    pub(super) fn learn(&mut self, set: Set) {
        let layout = self.layout;
        let mut sample = vec![false; layout.answers as usize];
        for (var, value) in self.bdd.pick(set, &|_| false) {
            if let Some(bit) = sample.get_mut(var as usize) {
                *bit = value;
            }
        }
        let agreed = self.bdd.agreed(set, layout.answers);
        let is = |bits: &[bool], var: u32| bits.get(var as usize).copied().unwrap_or(false);
        let known = |wanted: &dyn Fn(Field) -> bool| {
            let value = |field| wanted(field).then(|| field.read(&|var| is(&sample, var)));
            Known {
                src: value(layout.src),
                dst: value(layout.dst),
                protocol: value(layout.protocol),
                input: value(layout.input),
                output: value(layout.output),
            }
        };
        self.sample = known(&|_| true);
        self.known = known(&|field| field.vars().all(|var| is(&agreed, var)));
    }

    /// Which of the packets meet every condition of a rule.
    pub(super) fn hit(&mut self, rule: &'r Rule, set: Set) -> Hit<'r> {
        let nothing = |missed, dead| Hit {
            condition: Set::EMPTY,
            set: Set::EMPTY,
            missed,
            dead,
            unknown: None,
            either: None,
        };
        let mut condition = Set::ALL;
        let (mut unknown, mut either) = (None, None);
        for m in &rule.matches {
            match m {
                Match::Comment(_) | Match::Either(Chance::Always, _) => {}
                Match::Unknown(text) => unknown = unknown.or(Some(text.into())),
                Match::Either(Chance::Both, text) => either = either.or(Some(text.as_str())),
                // One of the answers may never come.
                Match::Either(_, text) => unknown = unknown.or(Some(text.into())),
                Match::Cgroup(test) => match self.membership(rule, test) {
                    Membership::Member => {}
                    Membership::Stranger => return nothing(Some(m), false),
                    Membership::Dead => return nothing(Some(m), true),
                    Membership::Unknown => unknown = unknown.or(Some(m.to_string().into())),
                },
                _ if self.hides(m) => unknown = unknown.or(Some(m.to_string().into())),
                _ => match self.known_answer(&self.known, m) {
                    Some(true) => {}
                    Some(false) => return nothing(Some(m), false),
                    None => {
                        let meets = self.meets(m);
                        condition = self.bdd.and(condition, meets);
                    }
                },
            }
        }
        let mut met = self.bdd.and(set, condition);
        if met.is_empty() {
            let recording = self.walk.is_some();
            let mut matches = rule.matches.iter();
            let missed = matches.find(|m| recording && self.none_meet(m, set));
            return nothing(missed, false);
        }
        // Only now: a question to which no packet comes is not asked.
        for m in &rule.matches {
            let answered = match m {
                Match::Unknown(_) => self.ask(Answer::Unknown),
                Match::Either(chance, _) => self.chance(*chance),
                Match::Cgroup(test) if self.membership(rule, test) == Membership::Unknown => {
                    self.ask(Answer::Unknown)
                }
                _ if self.hides(m) => self.ask(Answer::Unknown),
                Match::Connection(asked) => {
                    let Connected { sure, open } = self.connection(asked);
                    if open.is_empty() {
                        continue;
                    }
                    if !self.bdd.and(met, open).is_empty() {
                        unknown = unknown.or(Some(m.to_string().into()));
                    }
                    let perhaps = self.ask(Answer::Unknown);
                    let perhaps = self.bdd.and(open, perhaps);
                    self.bdd.or(sure, perhaps)
                }
                _ => continue,
            };
            condition = self.bdd.and(condition, answered);
            met = self.bdd.and(met, answered);
        }
        Hit {
            condition,
            set: met,
            missed: None,
            dead: false,
            unknown,
            either,
        }
    }

    fn none_meet(&mut self, m: &Match, set: Set) -> bool {
        let open = matches!(
            m,
            Match::Unknown(_) | Match::Either(..) | Match::Comment(_) | Match::Cgroup(_)
        );
        !open && !self.hides(m) && {
            let meets = self.meets(m);
            self.bdd.and(set, meets).is_empty()
        }
    }

    /// Whether what a match asks for is understood, and not known of these packets.
    fn hides(&self, m: &Match) -> bool {
        match m {
            Match::PacketType(test) => self.packet_type(test).is_none(),
            Match::Set(test) => self.entries(&test.value).is_none(),
            _ => false,
        }
    }

    /// Whether a rule says nothing of the packet that [`Engine::learn`] took out of those at hand.
    pub(super) fn misses_sample(&self, rule: &Rule) -> bool {
        rule.matches
            .iter()
            .any(|m| self.known_answer(&self.sample, m) == Some(false))
    }

    /// The answer of a match, where what is known of the packets settles it.
    fn known_answer(&self, known: &Known, m: &Match) -> Option<bool> {
        let iface = |value: Option<u128>, test: &Test<_>| {
            let (first, last) = self.names.kinds(&test.value)?;
            let fits = (first as u128..=last as u128).contains(&value?);
            Some(fits != test.negated)
        };
        match m {
            Match::In(test) => iface(known.input, test),
            Match::Out(test) => iface(known.output, test),
            Match::Addr(side, test) => {
                let value = match side {
                    Side::Src => known.src?,
                    Side::Dst => known.dst?,
                };
                Some(test.value.contains(self.layout.address(value)) != test.negated)
            }
            Match::Protocol(test) => {
                // A packet without a readable protocol meets neither `-p` nor `! -p`.
                let differs = known.protocol? != u128::from(test.value);
                (differs && !test.negated).then_some(false)
            }
            Match::PacketType(test) => self.packet_type(test),
            _ => None,
        }
    }

    /// The packets that meet one condition.
    fn meets(&mut self, m: &Match) -> Set {
        if let Some(set) = self.conditions.get(&std::ptr::from_ref(m)) {
            return *set;
        }
        let set = self.build(m);
        // Everything else means the same at every hook.
        if matches!(m, Match::Ttl(_)) {
            return set;
        }
        self.conditions.insert(std::ptr::from_ref(m), set);
        set
    }

    fn build(&mut self, m: &Match) -> Set {
        let layout = self.layout;
        match m {
            Match::In(test) => {
                let fits = self.names.fits(&mut self.bdd, layout.input, &test.value);
                self.turn(test, fits)
            }
            Match::Out(test) => {
                let fits = self.names.fits(&mut self.bdd, layout.output, &test.value);
                self.turn(test, fits)
            }
            Match::Addr(side, test) => {
                let field = self.address_of(*side);
                let within = layout.net(&mut self.bdd, field, &test.value);
                self.turn(test, within)
            }
            Match::AddrRange(side, test) => {
                let (low, high) = test.value;
                let field = self.address_of(*side);
                let within = field.between(&mut self.bdd, bits(low), bits(high));
                self.turn(test, within)
            }
            Match::AddrMask(side, test) => {
                let field = self.address_of(*side);
                let (addr, mask) = test.value;
                let same = field.masked(&mut self.bdd, bits(addr), bits(mask));
                self.turn(test, same)
            }
            Match::AddrType(side, test) => {
                let listed = self.of_types(*side, &test.value);
                self.turn(test, listed)
            }
            Match::Bridged(test) => self.turn(test, Set::EMPTY),
            Match::Set(test) => {
                let within = self.in_ipset(&test.value);
                self.turn(test, within)
            }
            Match::Protocol(test) => {
                let same = layout
                    .protocol
                    .equals(&mut self.bdd, u128::from(test.value));
                let turned = self.turn(test, same);
                let headless = self.shape_is(Shape::Headless);
                self.bdd.less(turned, headless)
            }
            Match::LaterFragment(test) => {
                let fragment = self.shape_is(Shape::Fragment);
                self.turn(test, fragment)
            }
            Match::Header => self.shape_is(Shape::Whole),
            Match::Port(side, test) => {
                let within = self.ports(*side, &test.value);
                let turned = self.turn(test, within);
                self.whole(turned)
            }
            Match::EitherPort(test) => {
                let src = self.ports(Side::Src, &test.value);
                let dst = self.ports(Side::Dst, &test.value);
                let within = self.bdd.or(src, dst);
                let turned = self.turn(test, within);
                self.whole(turned)
            }
            Match::Flags(test) => {
                let (mask, set) = (test.value.mask, test.value.set);
                let same = match set & !mask {
                    0 => layout.flags.masked(&mut self.bdd, set.into(), mask.into()),
                    _ => Set::EMPTY,
                };
                let turned = self.turn(test, same);
                self.whole(turned)
            }
            Match::Icmp(test) => {
                let kind = u128::from(test.value.kind) << 8;
                let low = u128::from(test.value.code_low);
                let high = u128::from(test.value.code_high);
                let within = layout.icmp.between(&mut self.bdd, kind | low, kind | high);
                let turned = self.turn(test, within);
                self.whole(turned)
            }
            Match::State(test) => {
                let listed = self.states(test.value);
                self.turn(test, listed)
            }
            Match::Connection(asked) => {
                let Connected { sure, open } = self.connection(asked);
                self.bdd.or(sure, open)
            }
            Match::Length(test) => {
                let (low, high) = test.value;
                let within = self.of_length(low, high);
                self.turn(test, within)
            }
            Match::Ttl(test) => {
                let within = self.left_to_go(test.value);
                self.turn(test, within)
            }
            Match::Tos(test) => {
                let same = self.masked(layout.tos, test.value);
                self.turn(test, same)
            }
            Match::Mac(test) => self.sent_by(test),
            Match::Mark(test) => {
                let same = self.masked(layout.mark, test.value);
                self.turn(test, same)
            }
            Match::Connmark(test) => {
                let same = self.masked(layout.connmark, test.value);
                let turned = self.turn(test, same);
                // xt_connmark: without a connection the answer is no, also to `!`.
                let tracked = self.tracked();
                self.bdd.and(turned, tracked)
            }
            Match::Uid(test) => self.ids(layout.uid, test),
            Match::Gid(test) => self.ids(layout.gid, test),
            // Not a set of packets: the sender is the same for all of a class, and the frame.
            Match::Cgroup(_)
            | Match::PacketType(_)
            | Match::Either(..)
            | Match::Comment(_)
            | Match::Unknown(_) => Set::ALL,
        }
    }

    fn chance(&mut self, chance: Chance) -> Set {
        match chance {
            Chance::Always => Set::ALL,
            Chance::Both => self.ask(Answer::Either),
            Chance::SurelyMisses => {
                let (moment, possible) = (self.ask(Answer::Either), self.ask(Answer::Unknown));
                self.bdd.and(moment, possible)
            }
            Chance::SurelyApplies => {
                let (moment, possible) = (self.ask(Answer::Either), self.ask(Answer::Unknown));
                let both = self.bdd.and(moment, possible);
                self.bdd.not(both)
            }
        }
    }

    pub(super) fn turn<T>(&mut self, test: &Test<T>, set: Set) -> Set {
        if test.negated { self.bdd.not(set) } else { set }
    }

    pub(super) fn shape_is(&mut self, shape: Shape) -> Set {
        self.layout.shape.equals(&mut self.bdd, shape as u128)
    }

    /// Without its header a packet meets no condition on it, negated or not (tcp_mt and its like
    /// return false for a later fragment before they look at the inversion).
    fn whole(&mut self, set: Set) -> Set {
        let whole = self.shape_is(Shape::Whole);
        self.bdd.and(set, whole)
    }

    pub(super) fn ports(&mut self, side: Side, ranges: &[PortRange]) -> Set {
        let field = self.port_of(side);
        ranges.iter().fold(Set::EMPTY, |all, range| {
            let one = field.between(&mut self.bdd, range.low.into(), range.high.into());
            self.bdd.or(all, one)
        })
    }

    /// Whether the frame was addressed so, `!` included. IP forwards what was addressed to this host alone
    /// (`ip_forward()`), and what a host sends counts as such; other frames come as far as INPUT.
    fn packet_type(&self, test: &Test<AddrType>) -> Option<bool> {
        let settled = matches!(self.hook, Hook::Forward | Hook::Output | Hook::Postrouting);
        settled.then(|| (test.value == AddrType::Unicast) != test.negated)
    }

    pub(super) fn states(&mut self, listed: CtStates) -> Set {
        let states = [
            (CtStates::NEW, State::New),
            (CtStates::ESTABLISHED, State::Established),
            (CtStates::RELATED, State::Related),
            (CtStates::INVALID, State::Invalid),
            (CtStates::UNTRACKED, State::Untracked),
        ];
        let mut all = Set::EMPTY;
        for (name, state) in states {
            if listed.has(name) {
                let one = self.state_is(state);
                all = self.bdd.or(all, one);
            }
        }
        for (name, field) in [
            (CtStates::SNAT, self.layout.snat),
            (CtStates::DNAT, self.layout.dnat),
        ] {
            if listed.has(name) {
                let translated = field.equals(&mut self.bdd, 1);
                let tracked = self.tracked();
                let one = self.bdd.and(translated, tracked);
                all = self.bdd.or(all, one);
            }
        }
        all
    }

    fn masked(&mut self, field: Field, wanted: Masked) -> Set {
        match wanted.value & !wanted.mask {
            0 => field.masked(&mut self.bdd, wanted.value.into(), wanted.mask.into()),
            _ => Set::EMPTY,
        }
    }

    /// owner_mt: without a socket only the negated comparisons hold.
    fn ids(&mut self, field: Field, test: &Test<(u32, u32)>) -> Set {
        let (low, high) = test.value;
        let within = field.between(&mut self.bdd, low.into(), high.into());
        self.turn(test, within)
    }
}
