//! The hooks in the order in which the kernel comes to them.

use super::bdd::Set;
use super::class::{Destination, Origin, PacketClass};
use super::engine::Engine;
use super::follow::Follow;
use super::hook::Hook;
use super::order::Part;
use super::walk::{End, Outcome};
use crate::ruleset::{Family, IfacePattern, Net, Side};

impl Engine<'_> {
    /// Where this host's own names for things matter before the first packet sets out.
    pub(super) fn prepare(&mut self, class: &PacketClass) {
        if class.dst == Destination::ThisHost && !self.knows_addresses() {
            self.local_dst = Set::ALL;
        }
    }

    /// Follows packets until they leave for the class's destination, reach it on this host, go
    /// elsewhere, or are dropped.
    pub(super) fn block(&mut self, class: &PacketClass, start: Set, follow: Follow) {
        let there = self.there(class);
        self.claimed = there;
        let set = match (&class.from, follow) {
            (_, Follow::TurnedAtMost | Follow::TurnedLater(_)) => {
                self.turned_at_most(start, follow)
            }
            (Origin::Interface(_), _) => self.prerouting(start),
            (Origin::Host | Origin::Cgroup(_), _) => {
                let set = start;
                self.through(Hook::Output, Part::UpToNat, set)
            }
        };
        for set in self.by_interface(class, set) {
            self.block_from_routing_on(class, set, follow);
        }
    }

    /// The packets that came in by the interfaces of each pattern. Rules name interfaces, and what is a drop of
    /// all packets at hand settles more than one that spares some ([`Care::Least`](super::engine::Care)).
    fn by_interface(&mut self, class: &PacketClass, set: Set) -> Vec<Set> {
        let Origin::Interface(ifaces) = &class.from else {
            return vec![set];
        };
        let (mut sets, mut rest) = (Vec::new(), set);
        for pattern in &ifaces.any_of {
            let fits = self.names.fits(&mut self.bdd, self.layout.input, pattern);
            sets.push(self.bdd.and(rest, fits));
            rest = self.bdd.less(rest, fits);
        }
        sets.push(rest);
        sets.retain(|set| !set.is_empty());
        sets
    }

    /// The rest of the way of packets that a block is about.
    fn block_from_routing_on(&mut self, class: &PacketClass, set: Set, follow: Follow) {
        let there = self.claimed;
        let elsewhere = self.bdd.less(set, there);
        let mut set = self.bdd.and(set, there);
        if follow == Follow::Turned {
            let turned = self.layout.dnat.equals(&mut self.bdd, 1);
            let tainted = self.layout.tainted.equals(&mut self.bdd, 1);
            let either = self.bdd.or(turned, tainted);
            set = self.bdd.and(set, either);
        }
        if self.sends {
            // What is addressed elsewhere by now may still come to something that turns it.
            set = self.bdd.or(set, elsewhere);
        } else {
            self.end(End::Elsewhere, elsewhere);
        }
        if class.from.is_host() {
            set = self.through(Hook::Output, Part::BehindNat, set);
        }
        let (local, beyond) = self.route(class, set);
        let arrived = match class.from {
            Origin::Interface(_) => self.input(local),
            Origin::Host | Origin::Cgroup(_) => self.by_loopback(local),
        };
        let left = match class.from {
            Origin::Interface(_) => self.forward(beyond),
            Origin::Host | Origin::Cgroup(_) => self.leaving(beyond),
        };
        // What a target not understood did on the way may have turned packets elsewhere again.
        for passed in [arrived, left] {
            let through = self.bdd.and(passed, there);
            let elsewhere = self.bdd.less(passed, there);
            self.end(End::LetThrough, through);
            self.end(End::Elsewhere, elsewhere);
        }
    }

    /// Follows packets until they reach an address and a port of this host, or do not.
    pub(super) fn deliver(&mut self, class: &PacketClass, start: Set, wanted: Set) {
        let set = self.before_routing(class, start);
        let (local, beyond) = self.route(class, set);
        self.end(End::Elsewhere, beyond);
        let arrived = match class.from {
            Origin::Interface(_) => self.input(local),
            Origin::Host | Origin::Cgroup(_) => self.by_loopback(local),
        };
        let good = self.bdd.and(arrived, wanted);
        let bad = self.bdd.less(arrived, wanted);
        self.end(End::Delivered, good);
        self.end(End::Misdelivered, bad);
    }

    /// Follows packets wherever they go.
    pub(super) fn follow(&mut self, class: &PacketClass, start: Set) {
        let set = self.before_routing(class, start);
        let (local, beyond) = self.route(class, set);
        let (arrived, left) = match class.from {
            Origin::Interface(_) => (self.input(local), self.forward(beyond)),
            Origin::Host | Origin::Cgroup(_) => (self.by_loopback(local), self.leaving(beyond)),
        };
        self.end(End::Delivered, arrived);
        self.end(End::LetThrough, left);
    }

    /// Follows packets from outside wherever they go, and NAT to the end; answers those that come out.
    pub(super) fn passed(&mut self, class: &PacketClass, start: Set) -> Set {
        let set = self.prerouting(start);
        let (local, beyond) = self.route(class, set);
        let arrived = self.input(local);
        let set = self.forwarded(beyond);
        let left = self.postrouting(set, Part::Whole);
        self.bdd.or(arrived, left)
    }

    /// Follows what answers packets of a connection, to the source that NAT changed in those: they are turned to there
    /// where NAT turns destinations.
    pub(super) fn undone(&mut self, class: &PacketClass, start: Set) {
        let layout = self.layout;
        let there = self.there(class);
        self.claimed = there;
        let translated = self.set(start, layout.snat, 1);
        let set = self.through(Hook::Prerouting, Part::UpToNat, translated);
        if let Destination::Net(net) = &class.dst {
            self.say(
                "destination",
                &format!("{net}, the source that NAT changed"),
            );
        }
        let set = self.move_aside(set, layout.dst);
        let set = self.move_aside(set, layout.dport);
        let set = self.bdd.and(set, there);
        let set = self.through(Hook::Prerouting, Part::BehindNat, set);
        self.block_from_routing_on(class, set, Follow::Addressed);
    }

    fn before_routing(&mut self, class: &PacketClass, start: Set) -> Set {
        match &class.from {
            Origin::Interface(_) => self.prerouting(start),
            Origin::Host | Origin::Cgroup(_) => {
                let set = start;
                self.through(Hook::Output, Part::Whole, set)
            }
        }
    }

    fn prerouting(&mut self, set: Set) -> Set {
        self.through(Hook::Prerouting, Part::Whole, set)
    }

    /// Splits packets into those for this host and those for others. Nothing for 127.0.0.0/8 comes
    /// in from outside but where `route_localnet` is on (ip_route_input_slow).
    fn route(&mut self, class: &PacketClass, set: Set) -> (Set, Set) {
        let layout = self.layout;
        let local = self.bdd.and(set, self.local_dst);
        let beyond = self.bdd.less(set, self.local_dst);
        if class.from.is_host() {
            return (local, beyond);
        }
        let loopback = self.in_nets(Side::Dst, &[Net::loopback(layout.family)], &[]);
        let to_loopback = self.bdd.and(local, loopback);
        if to_loopback.is_empty() {
            return (local, beyond);
        }
        let admitted = match layout.family {
            Family::V4 => self.localnet_interfaces(),
            // ::1 from outside is refused before the first hook; whether one that NAT made is, the
            // kernel's documentation does not say.
            Family::V6 => layout.tainted.equals(&mut self.bdd, 1),
        };
        let refused = self.bdd.less(to_loopback, admitted);
        if !refused.is_empty() {
            self.hook = Hook::Prerouting;
            self.note(
                "routing",
                "",
                None,
                "127.0.0.0/8 without route_localnet",
                || (Outcome::Matched, "refused".to_owned()),
            );
        }
        self.end(End::Martian, refused);
        (self.bdd.less(local, refused), beyond)
    }

    fn localnet_interfaces(&mut self) -> Set {
        if self.host.route_localnet {
            return Set::ALL;
        }
        let host = self.host;
        let named = host
            .interfaces
            .iter()
            .filter(|(_, iface)| iface.route_localnet);
        let names = named.map(|(name, _)| name.as_str()).chain(["lo"]);
        names.fold(Set::EMPTY, |all, name| {
            let name = IfacePattern::Exact(name.to_owned());
            let one = self.names.fits(&mut self.bdd, self.layout.input, &name);
            self.bdd.or(all, one)
        })
    }

    fn input(&mut self, set: Set) -> Set {
        self.through(Hook::Input, Part::Whole, set)
    }

    fn forward(&mut self, set: Set) -> Set {
        let set = self.forwarded(set);
        self.leaving(set)
    }

    fn forwarded(&mut self, set: Set) -> Set {
        let set = self.sent_on(set);
        let free = self.forget(set, [self.layout.output]);
        let set = self.bdd.and(free, self.out);
        self.through(Hook::Forward, Part::Whole, set)
    }

    /// Packets that leave this host. What NAT gives them as source is no concern of any claim; what
    /// is dropped there is.
    fn leaving(&mut self, set: Set) -> Set {
        let part = if self.nat_stops_leaving() {
            Part::Whole
        } else {
            Part::Again
        };
        self.postrouting(set, part)
    }

    fn postrouting(&mut self, set: Set, part: Part) -> Set {
        self.through(Hook::Postrouting, part, set)
    }

    /// A packet of this host for this host leaves by lo and comes in by lo. NAT has decided about
    /// its connection by then, and is not asked a second time.
    fn by_loopback(&mut self, set: Set) -> Set {
        let layout = self.layout;
        let lo = IfacePattern::Exact("lo".to_owned());
        let set = self.move_aside(set, layout.output);
        let leaving = self.names.fits(&mut self.bdd, layout.output, &lo);
        let set = self.bdd.and(set, leaving);
        let set = self.postrouting(set, Part::Whole);
        let set = self.forget(set, [layout.output]);
        let nowhere = self.names.none(&mut self.bdd, layout.output);
        let set = self.bdd.and(set, nowhere);
        let set = self.forget(set, [layout.input]);
        let entering = self.names.fits(&mut self.bdd, layout.input, &lo);
        let set = self.bdd.and(set, entering);
        let set = self.through(Hook::Prerouting, Part::Again, set);
        self.through(Hook::Input, Part::Again, set)
    }
}
