//! Packets through chains of native nftables.

use super::bdd::Set;
use super::engine::{Answer, Engine, Known};
use super::layout::{Field, Shape, State};
use super::walk::{End, Outcome};
use crate::ruleset::native::{
    At, Base, Condition, Key, Marking, NativeChain, NativeRule, NativeTable, Presence, Statement,
    Verdict,
};
use crate::ruleset::{CtStates, IfacePattern, Policy, Reach, Side};

/// The most that jumps may be deep: the kernel's own limit (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// A base chain where packets come to it.
#[derive(Clone, Copy)]
pub(super) struct Hooked<'r> {
    pub(super) table: &'r NativeTable,
    pub(super) name: &'r str,
    pub(super) chain: &'r NativeChain,
    pub(super) base: &'r Base,
    /// Its number among all base chains.
    pub(super) number: usize,
}

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
                    let mut rest = within;
                    within = Set::EMPTY;
                    for (condition, verdict) in entries {
                        if rest.is_empty() {
                            break;
                        }
                        let met = self.condition(condition, rest);
                        let these = self.bdd.and(rest, met);
                        rest = self.bdd.less(rest, met);
                        let (on, behind) = self.verdict(place, verdict, these, returned);
                        within = self.bdd.or(within, on);
                        left = self.bdd.or(left, behind);
                    }
                    left = self.bdd.or(left, rest);
                }
                other => within = self.effect(other, within),
            }
            next = statements.next();
        }
        self.bdd.or(left, within)
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
                self.forget(set, layout.mark)
            }
            Statement::Connmark(marking) => {
                let (with, without) = self.with_connection(set);
                let marked = match marking {
                    Marking::Set(mark) => self.set_mark(layout.connmark, with, *mark),
                    Marking::Copy => self.copy_mark(with, layout.mark, u32::MAX),
                    Marking::Unknown => {
                        let set = self.taint(with);
                        self.forget(set, layout.connmark)
                    }
                };
                self.bdd.or(marked, without)
            }
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
            Statement::Test(_) | Statement::Map(_) | Statement::Verdict(_) => set,
        }
    }

    /// Whether some packets of a set meet all that a rule asks, as far as that is understood.
    pub(super) fn some_meet(&mut self, rule: &'r NativeRule, mut set: Set) -> bool {
        for statement in &rule.statements {
            if let Statement::Test(condition) = statement
                && condition.open().is_none()
            {
                let met = self.condition(condition, set);
                set = self.bdd.and(set, met);
            }
        }
        !set.is_empty()
    }

    /// The packets that meet a condition; of those that are not `within`, it need not be right.
    fn condition(&mut self, condition: &'r Condition, within: Set) -> Set {
        if let Some(known) = self.native_conditions.get(&std::ptr::from_ref(condition)) {
            return *known;
        }
        match condition {
            Condition::Either(_) => self.ask(Answer::Either),
            Condition::Unknown(_) => self.ask(Answer::Unknown),
            Condition::All(list) => {
                let (mut met, mut left) = (Set::ALL, within);
                for one in list {
                    if left.is_empty() {
                        return Set::EMPTY;
                    }
                    let one = self.condition(one, left);
                    met = self.bdd.and(met, one);
                    left = self.bdd.and(left, one);
                }
                met
            }
            Condition::Any(list) => {
                let (mut met, mut left) = (Set::EMPTY, within);
                for one in list {
                    if left.is_empty() {
                        break;
                    }
                    let one = self.condition(one, left);
                    met = self.bdd.or(met, one);
                    left = self.bdd.less(left, one);
                }
                met
            }
            Condition::Not(inner) => {
                let met = self.condition(inner, within);
                self.bdd.not(met)
            }
            Condition::Bits {
                key: Key::AnyPort(_),
                ..
            }
            | Condition::Between {
                key: Key::AnyPort(_),
                ..
            } => {
                let with_ports = self.with_ports();
                let met = self.build_native(condition);
                let met = self.bdd.and(met, with_ports);
                let others = self.bdd.less(within, with_ports);
                if others.is_empty() {
                    return met;
                }
                // What stands there in other protocols is not computed.
                let perhaps = self.ask(Answer::Unknown);
                let perhaps = self.bdd.less(perhaps, with_ports);
                self.bdd.or(met, perhaps)
            }
            _ => {
                let built = self.build_native(condition);
                self.native_conditions
                    .insert(std::ptr::from_ref(condition), built);
                built
            }
        }
    }

    /// The packets that meet a condition that every packet answers for itself.
    fn build_native(&mut self, condition: &Condition) -> Set {
        let layout = self.layout;
        match condition {
            Condition::Always(met) => {
                if *met {
                    Set::ALL
                } else {
                    Set::EMPTY
                }
            }
            Condition::Bits { key, mask, value } => {
                let (field, above) = self.field(*key);
                let bits = field.masked(&mut self.bdd, value << above, mask << above);
                self.owned(*key, bits)
            }
            Condition::Between {
                key,
                shift,
                width,
                low,
                high,
            } => {
                let (field, above) = self.field(*key);
                let part = field.part(shift + above, *width);
                let bits = part.between(&mut self.bdd, *low, *high);
                self.owned(*key, bits)
            }
            Condition::In(pattern) => self.names.fits(&mut self.bdd, layout.input, pattern),
            Condition::Out(pattern) => self.names.fits(&mut self.bdd, layout.output, pattern),
            Condition::NoInterface(Side::Src) => self.names.none(&mut self.bdd, layout.input),
            Condition::NoInterface(Side::Dst) => self.names.none(&mut self.bdd, layout.output),
            Condition::State(states) => self.native_states(*states),
            Condition::Local(Side::Src) => self.local_src,
            Condition::Local(Side::Dst) => self.local_dst,
            Condition::LaterFragment => self.shape_is(Shape::Fragment),
            Condition::Has(Presence::Protocol) => {
                let headless = self.shape_is(Shape::Headless);
                self.bdd.not(headless)
            }
            Condition::Has(Presence::Header) => self.shape_is(Shape::Whole),
            Condition::Has(Presence::Connection) => self.tracked(),
            Condition::Has(Presence::Owner) => {
                layout.uid.between(&mut self.bdd, 0, u128::from(u32::MAX))
            }
            Condition::Either(_)
            | Condition::Unknown(_)
            | Condition::All(_)
            | Condition::Any(_)
            | Condition::Not(_) => Set::ALL,
        }
    }

    /// The field of a number, and which of its bits is the number's lowest.
    fn field(&self, key: Key) -> (Field, u32) {
        let layout = &self.layout;
        match key {
            Key::Addr(Side::Src) => (layout.src, 0),
            Key::Addr(Side::Dst) => (layout.dst, 0),
            Key::Port(Side::Src) | Key::AnyPort(Side::Src) => (layout.sport, 0),
            Key::Port(Side::Dst) | Key::AnyPort(Side::Dst) => (layout.dport, 0),
            Key::Protocol => (layout.protocol, 0),
            Key::TcpFlags => (layout.flags, 0),
            Key::IcmpType => (layout.icmp, 8),
            Key::IcmpCode => (layout.icmp, 0),
            Key::Mark => (layout.mark, 0),
            Key::Connmark => (layout.connmark, 0),
            Key::Uid => (layout.uid, 0),
            Key::Gid => (layout.gid, 0),
        }
    }

    /// The ids of a field that has a bit for having none.
    fn owned(&mut self, key: Key, set: Set) -> Set {
        let field = match key {
            Key::Uid => self.layout.uid,
            Key::Gid => self.layout.gid,
            _ => return set,
        };
        let some = field.between(&mut self.bdd, 0, u128::from(u32::MAX));
        self.bdd.and(set, some)
    }

    /// A state, or what NAT did: never both in one condition.
    fn native_states(&mut self, states: CtStates) -> Set {
        let both = [
            (CtStates::SNAT, self.layout.snat),
            (CtStates::DNAT, self.layout.dnat),
        ];
        let mut all = Set::EMPTY;
        for (name, field) in both {
            if states.has(name) {
                let one = field.equals(&mut self.bdd, 1);
                all = self.bdd.or(all, one);
            }
        }
        for (name, state) in [
            (CtStates::NEW, State::New),
            (CtStates::ESTABLISHED, State::Established),
            (CtStates::RELATED, State::Related),
            (CtStates::INVALID, State::Invalid),
            (CtStates::UNTRACKED, State::Untracked),
        ] {
            if states.has(name) {
                let one = self.state_is(state);
                all = self.bdd.or(all, one);
            }
        }
        all
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
