//! A way around a block in two packets. The first begins a connection: a container sends it in the name of the block's
//! destination, and NAT changes its source. The second answers it, and NAT turns it to where the first said it came from,
//! behind every rule that looks at destinations before. `rp_filter` would refuse the first; rules cannot.

use std::net::IpAddr;

use super::bdd::{Bdd, Quantifier, Set};
use super::class::{Destination, Iface, Moment, Origin, PacketClass};
use super::engine::Engine;
use super::example::{Chosen, nearest, sender};
use super::hook::{Hook, NAT_DESTINATION};
use super::order::{Stage, Station};
use super::packet::Packet;
use super::prover::{Prover, written};
use super::walk::{End, Walk};
use crate::ruleset::{IfacePattern, Net, bits, protocol};
use crate::verdict::Verdict;

/// By how many interfaces it is tried.
const INTERFACES: usize = 16;

/// Of how many addresses NAT may take one: a host has few.
const SOURCES: usize = 64;

/// A packet that NAT gives another source.
struct Begun {
    chosen: Chosen,
    /// The addresses of the interface that it leaves by.
    own: Vec<IpAddr>,
    class: PacketClass,
    /// What its source may become.
    sources: Vec<u128>,
}

impl Prover<'_> {
    /// The violation that such an answer is an example of: one of UDP, which needs no more than that.
    pub(super) fn undone(&self, class: &PacketClass) -> Option<Verdict> {
        if !matches!(class.protocol, None | Some(protocol::UDP)) {
            return None;
        }
        let engine = self.engine(class, Bdd::new());
        // Marks that the first packet leaves behind are not carried over.
        if engine.marks_connections() || !engine.turns_alone() {
            return None;
        }
        let names = nearest(&engine, class);
        if engine.knows_addresses() {
            let mut names = names.iter().take(INTERFACES);
            return names.find_map(|name| self.undone_by(class, name));
        }
        // Who is behind an interface reaches the host by an address that it has there, whatever that is.
        let name = names.first()?;
        let gateway = sender(&engine, class, None).checked_sub(1)?;
        let iface = Iface {
            addrs: vec![engine.layout.address(gateway)],
            ..Iface::default()
        };
        let mut host = self.host.clone();
        host.interfaces.insert(name.clone(), iface);
        Prover::new(&self.layers, &host).undone_by(class, name)
    }

    fn undone_by(&self, class: &PacketClass, name: &str) -> Option<Verdict> {
        let begun = self.begun(class, name)?;
        self.answer_to(class, &begun)
    }

    /// A packet from behind an interface, and for who is there, that NAT gives another source whatever else becomes of
    /// packets.
    fn begun(&self, class: &PacketClass, name: &str) -> Option<Begun> {
        let Destination::Net(there) = class.dst else {
            return None;
        };
        let by = IfacePattern::Exact(name.to_owned());
        let engine = self.engine(class, Bdd::new());
        let own = engine.layout.address(sender(&engine, class, Some(name)));
        if !class.src.has(own) {
            return None;
        }
        let first = PacketClass {
            family: class.family,
            from: Origin::Interface(by.clone().into()),
            out: Some(by.into()),
            src: there.into(),
            dst: Destination::Net(Net::host(own)),
            protocol: Some(protocol::UDP),
            sport: class.dport,
            dport: None,
            moment: Moment::First,
            turned: false,
        };
        let mut engine = self.engine(&first, Bdd::new());
        let start = engine.start(&first, false, true);
        let turned = engine.given_another_source(&first, start);
        let certain = engine.unspared(&first, turned);
        if certain.is_empty() {
            return None;
        }
        let chosen = Chosen::new(&mut engine, &first, certain);
        let mut alone = self.engine(&first, Bdd::new());
        alone.answers = Some(chosen.answers(&engine));
        let start = alone.start(&first, false, true);
        let start = chosen.restrict(&mut alone, &first, start);
        let turned = alone.given_another_source(&first, start);
        // Where nothing else has that port, NAT leaves it, if it may.
        let kept = alone.layout.sport;
        let kept = kept.equals(&mut alone.bdd, chosen.value(kept));
        if alone.bdd.and(turned, kept).is_empty() {
            return None;
        }
        let sources = alone.sources(turned)?;
        let iface = self.host.interfaces.get(name);
        let own = iface.map_or(Vec::new(), |iface| iface.addrs.clone());
        Some(Begun {
            chosen,
            own,
            class: first,
            sources,
        })
    }

    /// What becomes of an answer, whichever source NAT took.
    fn answer_to(&self, class: &PacketClass, begun: &Begun) -> Option<Verdict> {
        let first = begun.chosen.packet.clone();
        let second = PacketClass {
            from: begun.class.from.clone(),
            src: Net::host(first.dst).into(),
            dst: Destination::Net(Net::host(first.src)),
            protocol: Some(protocol::UDP),
            sport: first.dport.map(Into::into),
            dport: first.sport.map(Into::into),
            moment: Moment::Established,
            turned: false,
            ..class.clone()
        };
        let mut engine = self.engine(&second, Bdd::new());
        let start = engine.answer(&second, begun);
        engine.undone(&second, start);
        let through = engine.ended(End::LetThrough);
        let certain = engine.unspared(&second, through);
        let layout = engine.layout;
        let questions = engine.questions.len() as u32;
        let whatever = (layout.answers..layout.answers + questions)
            .chain(layout.output.vars())
            .collect();
        let covered = engine.bdd.quantify(Quantifier::Some, certain, &whatever);
        let sent = engine.original(start);
        let sent = engine.forget(sent, [layout.output]);
        if certain.is_empty() || !engine.bdd.less(sent, covered).is_empty() {
            return None;
        }
        let port = begun.chosen.value(layout.sport);
        let kept = layout.dport.equals(&mut engine.bdd, port);
        let certain = engine.bdd.and(certain, kept);
        let certain = engine.likely(&begun.own, certain);
        let chosen = Chosen::new(&mut engine, &second, certain);
        let mut alone = self.engine(&second, Bdd::new());
        alone.walk = Some(Walk::default());
        alone.answers = Some(chosen.answers(&engine));
        let start = alone.answer(&second, begun);
        let start = chosen.restrict(&mut alone, &second, start);
        alone.undone(&second, start);
        if alone.exhausted() || alone.ended(End::LetThrough).is_empty() {
            return None;
        }
        let mut walk = written(&mut alone);
        walk.example = Some(Packet {
            answers: Some(Box::new(first)),
            ..chosen.packet.clone()
        });
        Some(Verdict::Violated { walk })
    }
}

impl Engine<'_> {
    /// Whether NAT is the only thing on its place in PREROUTING, and nothing comes below IP there: else it is not known
    /// what comes before and what behind it.
    fn turns_alone(&self) -> bool {
        let stations = self.stations.get(&Hook::Prerouting);
        let mut all = stations.iter().flat_map(|stations| stations.iter());
        all.all(|((stage, priority), station)| {
            *stage == Stage::Ip
                && (*priority != NAT_DESTINATION || matches!(station, Station::Nat(_)))
        })
    }

    /// The packets of a class that are forwarded and come out with another source, and nothing else changed.
    fn given_another_source(&mut self, class: &PacketClass, start: Set) -> Set {
        let layout = self.layout;
        let passed = self.passed(class, start);
        let snat = layout.snat.equals(&mut self.bdd, 1);
        let dnat = layout.dnat.equals(&mut self.bdd, 1);
        let turned = self.bdd.and(passed, snat);
        let turned = self.bdd.less(turned, dnat);
        let others = self.bdd.less(passed, turned);
        self.end(End::LetThrough, turned);
        self.end(End::Elsewhere, others);
        turned
    }

    /// The sources of some packets, if they are few.
    fn sources(&mut self, mut set: Set) -> Option<Vec<u128>> {
        let src = self.layout.src;
        let mut sources = Vec::new();
        while !set.is_empty() {
            let picked = self.bdd.pick(set, &|_| false);
            let is = |var: u32| picked.iter().any(|(known, value)| *known == var && *value);
            let source = src.read(&is);
            let same = src.equals(&mut self.bdd, source);
            set = self.bdd.less(set, same);
            sources.push(source);
            if sources.len() > SOURCES {
                return None;
            }
        }
        Some(sources)
    }

    /// Of packets to addresses that NAT may take, those to the one that MASQUERADE does: of the interface that the first
    /// packet leaves by (`inet_select_addr()`, `ipv6_dev_get_saddr()`).
    fn likely(&mut self, own: &[IpAddr], set: Set) -> Set {
        let dst = self.layout.dst;
        let family = self.layout.family;
        let mut own = own
            .iter()
            .filter(|addr| Net::host(**addr).family() == family);
        let likely = own.find_map(|addr| {
            let to = dst.equals(&mut self.bdd, bits(*addr));
            let these = self.bdd.and(set, to);
            (!these.is_empty()).then_some(these)
        });
        likely.unwrap_or(set)
    }

    /// The packets that answer another: to any source that NAT may have given it, and any port.
    fn answer(&mut self, class: &PacketClass, begun: &Begun) -> Set {
        let layout = self.layout;
        let start = self.start(class, true, true);
        let to = begun.sources.iter().fold(Set::EMPTY, |all, source| {
            let one = layout.dst.equals(&mut self.bdd, *source);
            self.bdd.or(all, one)
        });
        let back = layout.reply.equals(&mut self.bdd, 1);
        let start = self.bdd.and(start, back);
        let start = self.bdd.and(start, to);
        let headers = [layout.length, layout.ttl, layout.tos, layout.mac];
        headers.into_iter().fold(start, |start, field| {
            let same = field.equals(&mut self.bdd, begun.chosen.value(field));
            self.bdd.and(start, same)
        })
    }
}
