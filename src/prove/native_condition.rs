//! Each condition of native rules as the set of packets that meet it.

use super::bdd::Set;
use super::engine::{Answer, Engine};
use super::layout::{Field, Shape, State};
use crate::ruleset::native::{Condition, Key, NativeRule, Presence, Statement};
use crate::ruleset::{CtStates, Header, Side};

impl<'r> Engine<'r> {
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
    pub(super) fn condition(&mut self, condition: &'r Condition, within: Set) -> Set {
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
            Condition::Shared(inner) => {
                // By the address of what is shared, once for all rules that have it.
                let shared = std::ptr::from_ref(inner.as_ref());
                if let Some(known) = self.native_conditions.get(&shared) {
                    return *known;
                }
                let met = self.condition(inner, Set::ALL);
                self.native_conditions.insert(shared, met);
                met
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
            // What is left to go is not the same at every hook.
            Condition::Bits {
                key: Key::Header(Header::Ttl),
                mask,
                value,
            } => match (*mask, u8::try_from(*value)) {
                (0xff, Ok(ttl)) => self.left_to_go((ttl, ttl)),
                _ => self.ask(Answer::Unknown),
            },
            Condition::Between {
                key: Key::Header(Header::Ttl),
                low,
                high,
                ..
            } => {
                let byte = |value: &u128| u8::try_from(*value).unwrap_or(u8::MAX);
                self.left_to_go((byte(low), byte(high)))
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
            Condition::Reply => self.answers_the_first(),
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
            | Condition::Not(_)
            | Condition::Shared(_) => Set::ALL,
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
            Key::Header(header) => (layout.header(header), 0),
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
}
