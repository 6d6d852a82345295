//! What comes back in connections whose source NAT changed: that is undone in it.

use super::bdd::Set;
use super::class::{Addrs, Destination, PacketClass};
use super::engine::{Care, Engine};
use super::follow::Replies;
use super::layout::State;
use crate::ruleset::Side;

impl PacketClass {
    /// The first packets of the connections in which packets of this class may come back: from where those are for, to
    /// anywhere, by any interface. Who answers need not be whom they are for: any host may send an ICMP error.
    pub(super) fn answered(&self) -> Self {
        let src = match self.dst {
            Destination::Net(net) => net.into(),
            Destination::ThisHost => Addrs::default(),
        };
        Self {
            out: None,
            src,
            protocol: None,
            sport: None,
            dport: None,
            ..self.beginnings()
        }
    }
}

impl Engine<'_> {
    /// What comes back to a class's destination in connections that such packets begin ([`PacketClass::answered`])
    /// and to which the rules give another source: at least all of it.
    pub(super) fn replies(&mut self, class: &PacketClass) -> Replies {
        if self.sends {
            return Replies::ANY;
        }
        (self.care, self.expecting) = (Care::Block, true);
        let first = class.answered();
        let start = self.start(&first, true, false);
        let passed = self.passed(&first, start);
        let another = self.layout.snat.equals(&mut self.bdd, 1);
        let tainted = self.layout.tainted.equals(&mut self.bdd, 1);
        let another = self.bdd.or(another, tainted);
        let all = self.bdd.and(passed, another);
        if self.exhausted() {
            return Replies::ANY;
        }
        // What answers comes from where the first packet went in the end.
        let back = self.in_nets(Side::Dst, &class.src.any_of, &class.src.except);
        let direct = self.bdd.and(all, back);
        let mut replies = Replies::NONE;
        replies.related = !all.is_empty();
        for number in 0..=u8::MAX {
            let same = self.protocols(&[number]);
            if !self.bdd.and(direct, same).is_empty() {
                replies.add(number);
            }
        }
        replies
    }

    /// Of packets of a connection, those that may be such replies.
    pub(super) fn among_replies(&mut self, replies: Replies, set: Set) -> Set {
        if replies == Replies::ANY {
            return set;
        }
        let direct = self.protocols(&replies.numbers());
        let expected = self.expected();
        let errors = self.icmp_errors();
        let related = self.state_is(State::Related);
        let of_others = self.bdd.or(expected, errors);
        let of_others = match replies.related {
            true => self.bdd.and(related, of_others),
            false => Set::EMPTY,
        };
        let any = self.bdd.or(direct, of_others);
        self.bdd.and(set, any)
    }
}
