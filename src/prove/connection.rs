//! What is known of the connection that a packet belongs to.
//!
//! The first packet tells all of it. Of a later one its own way is known; the other only where NAT made nothing of the
//! connection. An ICMP error tells nothing of the connection that it is about.

use super::bdd::Set;
use super::engine::Engine;
use super::layout::{Field, State};
use crate::ruleset::{Connection, CtPart, CtStates, CtStatus, Test, Way};

/// The packets that meet what is asked of their connection.
#[derive(Clone, Copy)]
pub(super) struct Connected {
    /// Those that do.
    pub(super) sure: Set,
    /// Those of which it is not known.
    pub(super) open: Set,
}

impl Engine<'_> {
    /// The packets that meet all that a match asks.
    pub(super) fn connection(&mut self, asked: &Connection) -> Connected {
        let tracked = self.tracked();
        let (mut sure, mut perhaps) = (tracked, tracked);
        for test in &asked.parts {
            let Connected { sure: met, open } = self.part(test);
            let either = self.bdd.or(met, open);
            sure = self.bdd.and(sure, met);
            perhaps = self.bdd.and(perhaps, either);
        }
        let mut open = self.bdd.less(perhaps, sure);
        if let Some(state) = &asked.state {
            let listed = self.states(state.value);
            let listed = self.turn(state, listed);
            // Without a connection there is nothing else to ask.
            let alone = self.bdd.less(Set::ALL, tracked);
            sure = self.bdd.or(sure, alone);
            sure = self.bdd.and(sure, listed);
            open = self.bdd.and(open, listed);
        }
        Connected { sure, open }
    }

    /// One part, of packets with a connection.
    fn part(&mut self, test: &Test<CtPart>) -> Connected {
        let tracked = self.tracked();
        let Connected { sure, open } = match &test.value {
            CtPart::Reply => Connected {
                sure: self.answers_the_first(),
                open: Set::EMPTY,
            },
            CtPart::Protocol(number) => {
                let (errors, same) = (self.errors(), self.protocols(&[*number]));
                let sure = self.bdd.less(same, errors);
                Connected { sure, open: errors }
            }
            CtPart::Addr(way, side, net) => {
                let ends = [*side, side.other()].map(|side| self.address_of(side));
                self.tuple(*way, ends, &|engine, field| {
                    engine.layout.net(&mut engine.bdd, field, net)
                })
            }
            CtPart::Port(way, side, range) => {
                let ends = [*side, side.other()].map(|side| self.port_of(side));
                let Connected { sure, open } = self.tuple(*way, ends, &|engine, field| {
                    field.between(&mut engine.bdd, range.low.into(), range.high.into())
                });
                // What stands there for other protocols is not computed.
                let with_ports = self.with_ports();
                let others = self.bdd.less(tracked, with_ports);
                let sure = self.bdd.less(sure, others);
                let open = self.bdd.or(open, others);
                Connected { sure, open }
            }
            CtPart::Status(all) => {
                let none = Connected {
                    sure: Set::EMPTY,
                    open: Set::EMPTY,
                };
                all.iter().fold(none, |any, one| {
                    let one = self.status(*one);
                    let sure = self.bdd.or(any.sure, one.sure);
                    let open = self.bdd.or(any.open, one.open);
                    Connected { sure, open }
                })
            }
            CtPart::Expires(_) => Connected {
                sure: Set::EMPTY,
                open: tracked,
            },
        };
        if !test.negated {
            return Connected { sure, open };
        }
        let others = self.bdd.less(tracked, sure);
        let sure = self.bdd.less(others, open);
        Connected { sure, open }
    }

    /// ICMP that belongs to a connection because it is an error about one.
    fn errors(&mut self) -> Set {
        let (related, icmp) = (self.state_is(State::Related), self.icmp());
        self.bdd.and(related, icmp)
    }

    /// The packets of connections that go the other way than the first.
    pub(super) fn answers_the_first(&mut self) -> Set {
        let (established, errors) = (self.state_is(State::Established), self.errors());
        let later = self.bdd.or(established, errors);
        let reply = self.layout.reply.equals(&mut self.bdd, 1);
        self.bdd.and(later, reply)
    }

    /// What became of a connection by the time of this packet: `nf_conntrack_in()` notes an answer before any rule.
    fn status(&mut self, status: CtStatus) -> Connected {
        let established = self.state_is(State::Established);
        let related = self.state_is(State::Related);
        let errors = self.errors();
        let expected = self.bdd.less(related, errors);
        let later = self.bdd.or(established, errors);
        let (sure, open) = match status {
            CtStatus::Expected => (expected, later),
            CtStatus::SeenReply => (established, errors),
            CtStatus::Assured => (Set::EMPTY, later),
            // A first packet may have come before, and out behind the last hook.
            CtStatus::Confirmed => {
                let new = self.state_is(State::New);
                (later, self.bdd.or(new, expected))
            }
        };
        Connected { sure, open }
    }

    /// The packets of connections that have that in one end, as packets of a way come before NAT; given are that end
    /// and the opposite one.
    fn tuple(
        &mut self,
        way: Way,
        [same, opposite]: [Field; 2],
        fits: &dyn Fn(&mut Self, Field) -> Set,
    ) -> Connected {
        let tracked = self.tracked();
        let errors = self.errors();
        let replies = self.answers_the_first();
        let established = self.state_is(State::Established);
        // Packets of this way, and of the other.
        let (own, other) = match way {
            Way::Original => (self.bdd.less(tracked, replies), replies),
            Way::Reply => (replies, self.bdd.less(tracked, replies)),
        };
        let sent = self.as_sent(same, fits);
        let by_own = self.bdd.and(own, sent);
        // NAT has made of a first packet by now what it makes of the connection, as far as it has come.
        let now = fits(self, opposite);
        let by_other = self.bdd.and(other, now);
        let sure = self.bdd.or(by_own, by_other);
        let translated = self.states(CtStates::SNAT.with(CtStates::DNAT));
        let later = self.bdd.and(other, established);
        let touched = self.bdd.and(later, translated);
        let open = self.bdd.or(touched, errors);
        let sure = self.bdd.less(sure, open);
        Connected { sure, open }
    }

    /// The packets that had that in a field as their sender sent them.
    fn as_sent(&mut self, field: Field, fits: &dyn Fn(&mut Self, Field) -> Set) -> Set {
        let now = fits(self, field);
        let Some(moved) = self.layout.moved(field) else {
            return now;
        };
        let moved = moved.equals(&mut self.bdd, 1);
        let before = fits(self, field.twin());
        let before = self.bdd.and(moved, before);
        let now = self.bdd.less(now, moved);
        self.bdd.or(before, now)
    }
}
