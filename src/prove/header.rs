//! What headers say beside addresses and ports: a packet's length, how far it may still go, its class of service, and
//! who sent the frame that it came in.

use super::bdd::Set;
use super::class::PacketClass;
use super::engine::Engine;
use super::hook::Hook;
use super::layout::Shape;
use super::packet::USUAL_TTL;
use crate::ruleset::native::NativeTable;
use crate::ruleset::{Family, Header, Mac, Masked, Test, protocol};

/// The MAC of a packet that came in no frame of Ethernet.
pub(super) const NO_MAC: u128 = 1 << 48;

/// The longest packet that every Ethernet carries whole.
pub(super) const MTU: u16 = 1500;

/// The most that TCP's header can be (RFC 9293, 3.1), and IPv4's (RFC 791, 3.1).
const LONGEST_HEADER: u16 = 60;

/// The shortest that headers behind IP's are: TCP, UDP, SCTP, and ICMP of both families.
const SHORTEST: [(u8, u16); 5] = [
    (protocol::TCP, 20),
    (protocol::UDP, 8),
    (protocol::SCTP, 12),
    (protocol::ICMP, 8),
    (protocol::ICMPV6, 8),
];

impl Engine<'_> {
    /// Whether a rule asks for that.
    pub(super) fn asks(&self, wanted: Header) -> bool {
        if !self.headers {
            return false;
        }
        let rules = self.layers.iter().flat_map(|ruleset| ruleset.listed());
        let mut matches = rules.flat_map(|listed| &listed.rule.matches);
        let mut native = self.host.native.iter().flat_map(NativeTable::rules);
        matches.any(|m| m.header() == Some(wanted))
            || native.any(|rule| rule.headers.contains(&wanted))
    }

    /// The packets with that much left at this hook. One is taken off before the rules of FORWARD (`ip_forward()`,
    /// `ip6_forward()`); the field has what the packet came with.
    pub(super) fn left_to_go(&mut self, (low, high): (u8, u8)) -> Set {
        let forwarded = match self.hook {
            Hook::Forward => true,
            Hook::Postrouting => !self.from.is_host(),
            Hook::Prerouting | Hook::Input | Hook::Output => false,
        };
        let spent = u8::from(forwarded);
        match low.checked_add(spent) {
            Some(low) => {
                let high = high.saturating_add(spent);
                self.layout
                    .ttl
                    .between(&mut self.bdd, low.into(), high.into())
            }
            None => Set::EMPTY,
        }
    }

    /// The packets that are sent on: the others had no way left to go.
    pub(super) fn sent_on(&mut self, set: Set) -> Set {
        if !self.headers {
            return set;
        }
        let enough = self.layout.ttl.between(&mut self.bdd, 2, u8::MAX.into());
        self.bdd.and(set, enough)
    }

    /// The packets whose frame that MAC sent. Without one the answer is no, also to `!` (`mac_mt()`).
    pub(super) fn sent_by(&mut self, test: &Test<Mac>) -> Set {
        let mac = self.layout.mac;
        let none = mac.equals(&mut self.bdd, NO_MAC);
        let same = mac.equals(&mut self.bdd, u128::from(test.value.bits()));
        let turned = if test.negated {
            self.bdd.not(same)
        } else {
            same
        };
        self.bdd.less(turned, none)
    }

    /// The packets of a length between these, both included.
    pub(super) fn of_length(&mut self, low: u16, high: u16) -> Set {
        self.layout
            .length
            .between(&mut self.bdd, low.into(), high.into())
    }

    const fn ip_header(&self) -> u16 {
        match self.layout.family {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }

    /// The packets with headers as they can set out at all.
    pub(super) fn possible_headers(&mut self, class: &PacketClass) -> Set {
        if !self.headers {
            return Set::ALL;
        }
        let long_enough = self.of_length(self.ip_header(), u16::MAX);
        let mac = self.layout.mac;
        let mac = if class.from.is_host() {
            mac.equals(&mut self.bdd, NO_MAC)
        } else {
            mac.between(&mut self.bdd, 0, NO_MAC)
        };
        self.bdd.and(long_enough, mac)
    }

    /// The packets that are as long as their headers, at least.
    pub(super) fn whole_headers(&mut self) -> Set {
        if !self.headers {
            return Set::ALL;
        }
        let whole = self.shape_is(Shape::Whole);
        SHORTEST
            .into_iter()
            .fold(Set::ALL, |all, (number, length)| {
                let of = self.protocols(&[number]);
                let of = self.bdd.and(of, whole);
                let enough = self.of_length(self.ip_header() + length, u16::MAX);
                let short = self.bdd.less(of, enough);
                self.bdd.less(all, short)
            })
    }

    /// What Linux sends as first packets of TCP.
    pub(super) fn usual_syn(&mut self) -> Set {
        let layout = self.layout;
        let syn = layout.flags.equals(&mut self.bdd, 2);
        if !self.headers {
            return syn;
        }
        let short = self.of_length(0, 2 * LONGEST_HEADER);
        let ttl = layout.ttl.equals(&mut self.bdd, USUAL_TTL.into());
        let tos = layout.tos.equals(&mut self.bdd, 0);
        [short, ttl, tos]
            .into_iter()
            .fold(syn, |all, one| self.bdd.and(all, one))
    }

    /// The packets that anybody can send over Ethernet: none longer than it carries, and no frame from nobody or from a
    /// group, which a bridge drops (`br_handle_frame()`).
    pub(super) fn over_ethernet(&mut self, class: &PacketClass) -> Set {
        if !self.headers {
            return Set::ALL;
        }
        let short = self.of_length(0, MTU);
        if class.from.is_host() {
            return short;
        }
        let mac = self.layout.mac;
        let nobody = mac.equals(&mut self.bdd, 0);
        let single = mac.masked(&mut self.bdd, 0, NO_MAC | 1 << 40);
        let single = self.bdd.less(single, nobody);
        self.bdd.and(short, single)
    }

    /// Another class of service, as `TOS` and `DSCP` set it.
    pub(super) fn set_tos(&mut self, set: Set, new: Masked) -> Set {
        if !self.headers {
            return set;
        }
        let (tos, moved) = (self.layout.tos, self.layout.moved_tos);
        let aside = moved.equals(&mut self.bdd, 1);
        let again = self.bdd.and(set, aside);
        let first = self.bdd.less(set, aside);
        let pairs: Vec<(u32, u32)> = tos.vars().zip(tos.twin().vars()).collect();
        let first = self.copy(first, &pairs);
        let first = self.set(first, moved, 1);
        let both = self.bdd.or(again, first);
        self.set_mark(tos, both, new)
    }

    /// What goes on behind a target that changes nothing but what few rules ask for: `TOS` and its like in a form that
    /// is not computed, and `TCPMSS`, which may add an option.
    pub(super) fn passed_on(&mut self, target: &str, set: Set) -> Set {
        let changed = match target.split(' ').next() {
            Some("TOS" | "DSCP") => Header::Tos,
            Some("TCPMSS") => Header::Length,
            _ => return set,
        };
        self.set_header(set, changed)
    }

    /// Packets of which something changed what a header says to what is not computed.
    pub(super) fn set_header(&mut self, set: Set, changed: Header) -> Set {
        if !self.asks(changed) {
            return set;
        }
        let set = self.taint(set);
        self.forget(set, [self.layout.header(changed)])
    }
}
