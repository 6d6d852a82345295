//! What the packets of a hook come to, in the kernel's order.
//!
//! Base chains come in the order of their priorities. Of two with the same one the kernel asks the one
//! first that was registered last (`nf_hook_entries_grow()` in net/netfilter/core.c), which nothing
//! tells. Where it makes a difference, because one of them changes what another may ask for, both
//! orders are walked, and which of them it is is a question that stays open.

use super::bdd::Set;
use super::engine::{Answer, Engine};
use super::hook::{Hook, NAT_DESTINATION};
use super::layout::State;
use super::order::{Part, Placed, Stage, Station, interacts};

/// The most stations of one priority of which every order is walked.
const ORDERS: usize = 3;

impl<'r> Engine<'r> {
    /// Packets through the stations of a hook; answers those that come out, as they come out.
    pub(super) fn through(&mut self, hook: Hook, part: Part, set: Set) -> Set {
        self.hook = hook;
        let stations = self.stations.get(&hook).cloned().unwrap_or_default();
        let wanted = |((_, priority), station): &&Placed<'r>| match part {
            Part::Whole => true,
            Part::UpToNat => *priority <= NAT_DESTINATION,
            Part::BehindNat => *priority > NAT_DESTINATION,
            Part::Again => !matches!(station, Station::Tracking | Station::Nat(_)),
        };
        let stations: Vec<Placed<'r>> = stations.iter().filter(wanted).cloned().collect();
        let below = stations.partition_point(|((stage, _), _)| *stage < Stage::Ip);
        let (below, above) = stations.split_at(below);
        if below.is_empty() || set.is_empty() {
            return self.by_priority(above, set);
        }
        // With br_netfilter, packets that come in by a bridge meet IP's hooks before those of the
        // bridge's own interface.
        self.site = vec![hook as usize, 97];
        let bridged = self.ask(Answer::Unknown);
        let (first, last) = (self.bdd.less(set, bridged), self.bdd.and(set, bridged));
        let first = self.by_priority(below, first);
        let first = self.by_priority(above, first);
        let last = self.by_priority(above, last);
        let last = self.by_priority(below, last);
        self.bdd.or(first, last)
    }

    fn by_priority(&mut self, stations: &[Placed<'r>], mut set: Set) -> Set {
        for group in stations.chunk_by(|(a, _), (b, _)| a == b) {
            let priority = group.first().map_or(0, |((_, priority), _)| *priority);
            let group: Vec<&Station<'r>> = group.iter().map(|(_, station)| station).collect();
            set = self.in_any_order(priority, &group, set);
        }
        set
    }

    /// Packets through stations of the same priority.
    fn in_any_order(&mut self, priority: i32, group: &[&Station<'r>], set: Set) -> Set {
        let indifferent = group.len() < 2 || !group.iter().any(|station| interacts(station));
        if set.is_empty() || indifferent {
            return group
                .iter()
                .fold(set, |set, station| self.station(station, set));
        }
        if group.len() > ORDERS {
            let set = self.seized_and_changed(set);
            return group
                .iter()
                .fold(set, |set, station| self.station(station, set));
        }
        let (mut passed, mut rest) = (Set::EMPTY, set);
        for first in 0..group.len() {
            let last = first + 1 == group.len();
            let chosen = if last {
                Set::ALL
            } else {
                self.site = vec![
                    self.hook as usize,
                    100 + first,
                    priority.unsigned_abs() as usize,
                ];
                self.ask(Answer::Unknown)
            };
            let these = self.bdd.and(rest, chosen);
            rest = self.bdd.less(rest, chosen);
            let mut others = group.to_vec();
            let station = others.remove(first);
            let these = self.station(station, these);
            let these = self.in_any_order(priority, &others, these);
            passed = self.bdd.or(passed, these);
        }
        passed
    }

    fn station(&mut self, station: &Station<'r>, set: Set) -> Set {
        if set.is_empty() {
            return set;
        }
        match station {
            Station::Table { layer, name, table } => self.table(*layer, name, table, set),
            Station::Native(chain) => self.hooked(*chain, set),
            Station::Tracking => self.tracking(set),
            Station::Nat(chains) => self.nat(chains, set),
        }
    }

    /// Connection tracking, where anything asks for it.
    fn tracking(&mut self, set: Set) -> Set {
        if self.tracks {
            return self.track(set);
        }
        self.site = vec![self.hook as usize, 98];
        let works = self.ask(Answer::Unknown);
        let seen = self.bdd.and(set, works);
        let unseen = self.bdd.less(set, works);
        let seen = self.track(seen);
        self.bdd.or(seen, unseen)
    }

    /// NAT is asked for the first packet of a connection; the first chain that gives it another
    /// address is the last one it comes to. An ICMP error fares as the connection does that it is about
    /// (`nf_nat_ipv4_fn()`, `nf_nat_ipv6_fn()`).
    fn nat(&mut self, chains: &[Placed<'r>], set: Set) -> Set {
        let (new, related) = (self.state_is(State::New), self.state_is(State::Related));
        let icmp = self.icmp();
        let expected = self.bdd.less(related, icmp);
        let first = self.bdd.or(new, expected);
        let asked = self.bdd.and(set, first);
        let bypassing = self.bdd.less(set, first);
        let outer = std::mem::replace(&mut self.translated, Set::EMPTY);
        let passed = self.by_priority(chains, asked);
        let translated = std::mem::replace(&mut self.translated, outer);
        let passed = self.bdd.or(passed, translated);
        self.bdd.or(bypassing, passed)
    }
}
