//! A packet to show for a verdict.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bdd::Set;
use super::class::{Destination, Iface, Odd, Origin, PacketClass};
use super::engine::{Engine, Site};
use super::layout::Field;
use super::packet::{Packet, USUAL_TTL};
use crate::ruleset::{Family, Header, IfacePattern, Mac, bits, protocol};

/// One packet out of a set.
pub(super) struct Chosen {
    /// The value of every bit that matters.
    bits: HashMap<u32, bool>,
    wishes: HashMap<u32, bool>,
    pub(super) packet: Packet,
}

impl Chosen {
    /// Takes a packet out of a set, one that looks familiar if there is such.
    pub(super) fn new(engine: &mut Engine<'_>, class: &PacketClass, set: Set) -> Self {
        let near = near(engine, class, set);
        let wishes = wishes(engine, class, near.as_deref());
        let wish = |var: u32| wishes.get(&var).copied().unwrap_or(false);
        let bits: HashMap<u32, bool> = engine.bdd.pick(set, &wish).into_iter().collect();
        let picked = |var: u32| bits.get(&var).copied().unwrap_or_else(|| wish(var));
        let packet = read(engine, class, &picked);
        Self {
            bits,
            wishes,
            packet,
        }
    }

    /// The value that one of its fields has.
    pub(super) fn value(&self, field: Field) -> u128 {
        field.read(&|var| {
            let wish = || self.wishes.get(&var).copied().unwrap_or(false);
            self.bits.get(&var).copied().unwrap_or_else(wish)
        })
    }

    /// What it gets as an answer to each of the questions of a walk.
    pub(super) fn answers(&self, walked: &Engine<'_>) -> HashMap<Site, bool> {
        let questions = (walked.layout.answers..).zip(&walked.questions);
        let answer = |var| self.bits.get(&var).copied().unwrap_or(false);
        questions
            .map(|(var, (site, _))| (site.clone(), answer(var)))
            .collect()
    }

    /// The one packet, out of those that set out.
    pub(super) fn restrict(&self, engine: &mut Engine<'_>, class: &PacketClass, start: Set) -> Set {
        let layout = engine.layout;
        let mut fields = vec![
            layout.odd,
            layout.shape,
            layout.reply,
            layout.protocol,
            layout.dst,
            layout.dport,
            layout.src,
            layout.sport,
            layout.icmp,
            layout.flags,
            layout.uid,
            layout.gid,
        ];
        if engine.headers {
            fields.extend([layout.length, layout.ttl, layout.tos, layout.mac]);
        }
        let out = layout
            .output
            .equals(&mut engine.bdd, self.value(layout.output));
        // How it leaves is part of a packet that this host sends, and chosen by routing for others.
        match class.from {
            Origin::Host | Origin::Cgroup(_) => fields.push(layout.output),
            Origin::Interface(_) => {
                fields.push(layout.input);
                if self.value(layout.output) != engine.names.nowhere() as u128 {
                    engine.out = engine.bdd.and(engine.out, out);
                }
            }
        }
        // From the last bit up, so that what is added always stands above what is there.
        fields.sort_by_key(|field| Reverse(field.vars().next()));
        let one = fields.into_iter().fold(Set::ALL, |below, field| {
            let same = field.equals(&mut engine.bdd, self.value(field));
            engine.bdd.and(same, below)
        });
        engine.bdd.and(start, one)
    }
}

/// The interface by which a packet of a set comes in.
fn near(engine: &mut Engine<'_>, class: &PacketClass, set: Set) -> Option<String> {
    let there = engine.there(class);
    let names = if engine.bdd.and(there, engine.local_dst).is_empty() {
        nearest(engine, class)
    } else {
        // What is for this host itself comes from the network.
        let ways = engine.host.ways.iter().map(|(_, name)| name.clone());
        ways.collect()
    };
    names.into_iter().find(|name| {
        let name = IfacePattern::Exact(name.clone());
        let by = engine
            .names
            .fits(&mut engine.bdd, engine.layout.input, &name);
        !engine.bdd.and(set, by).is_empty()
    })
}

/// The interfaces by which packets of a class come in, as far as anything knows of them: first those that the host has,
/// then those that only rules name, and of both last the host's own way out; where there is none, what they may be called.
pub(super) fn nearest(engine: &Engine<'_>, class: &PacketClass) -> Vec<String> {
    let Origin::Interface(ifaces) = &class.from else {
        return Vec::new();
    };
    let names = engine.names.exact().filter(|name| ifaces.fits(name));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        let kinds = ifaces.any_of.iter();
        let kinds = kinds.filter_map(|pattern| Some(engine.names.kinds(pattern)?.0));
        names.extend(kinds.filter_map(|kind| engine.names.example(kind)));
    }
    let (host, way) = (engine.host, likely_way(engine, class));
    names.sort_by_key(|name| {
        (
            !host.interfaces.contains_key(name),
            Some(name.as_str()) == way,
        )
    });
    names
}

/// The interface by which packets of a class leave, or would if the host had a route for them.
fn likely_way<'r>(engine: &Engine<'r>, class: &PacketClass) -> Option<&'r str> {
    let other = || engine.host.ways.first().map(|(_, name)| name.as_str());
    engine.way(class).or_else(other)
}

/// The address of who sends by an interface: who is behind it, where that is one of the class's sources.
pub(super) fn sender(engine: &Engine<'_>, class: &PacketClass, near: Option<&str>) -> u128 {
    let iface = near.and_then(|name| engine.host.interfaces.get(name));
    let own = iface.and_then(|iface| behind(iface, class.family));
    if let Some(own) = own.filter(|own| class.src.has(engine.layout.address(*own))) {
        return own;
    }
    match (class.src.any_of.first(), class.family) {
        (Some(net), _) => {
            // The first host of a network, behind its gateway.
            let two = bits(net.addr()) | 2;
            if net.contains(engine.layout.address(two)) {
                two
            } else {
                bits(net.addr())
            }
        }
        (None, Family::V4) => bits(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2))),
        (None, Family::V6) => bits(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2))),
    }
}

/// The address that a container has behind an interface: the one after the interface's own, where that is no link's.
fn behind(iface: &Iface, family: Family) -> Option<u128> {
    let own = iface.addrs.iter().find(|addr| match addr {
        IpAddr::V4(_) => family == Family::V4,
        IpAddr::V6(addr) => family == Family::V6 && !addr.is_unicast_link_local(),
    });
    bits(*own?).checked_add(1)
}

/// Values that an example should have where nothing speaks against it.
fn wishes(engine: &Engine<'_>, class: &PacketClass, near: Option<&str>) -> HashMap<u32, bool> {
    let layout = engine.layout;
    let echo = if class.family == Family::V4 {
        8 << 8
    } else {
        128 << 8
    };
    let dst = match &class.dst {
        Destination::Net(net) => bits(net.addr()),
        Destination::ThisHost => 0,
    };
    let kind = |name: &str| {
        let kinds = engine.names.kinds(&IfacePattern::Exact(name.to_owned()));
        kinds.map_or(0, |(kind, _)| kind as u128)
    };
    let wished = [
        (layout.input, near.map_or(0, kind)),
        (
            layout.output,
            kind(likely_way(engine, class).unwrap_or("eth0")),
        ),
        (layout.protocol, protocol::TCP.into()),
        (layout.src, sender(engine, class, near)),
        (layout.sport, 40_000),
        (layout.dst, dst),
        (layout.dport, 80),
        (layout.icmp, echo),
        (layout.flags, 2),
        (layout.length, 120),
        (layout.ttl, USUAL_TTL.into()),
        (layout.mac, 0x02_42_ac_11_00_02),
    ];
    let bits = wished
        .into_iter()
        .flat_map(|(field, value): (Field, u128)| {
            field
                .bits()
                .map(move |(var, weight)| (var, value & weight != 0))
        });
    bits.collect()
}

fn read(engine: &Engine<'_>, class: &PacketClass, picked: &dyn Fn(u32) -> bool) -> Packet {
    let layout = engine.layout;
    let number = |field: Field| field.read(picked);
    let name = |field: Field| engine.names.example(usize::try_from(number(field)).ok()?);
    let protocol = u8::try_from(number(layout.protocol)).unwrap_or_default();
    let odd = number(layout.odd);
    let whole = number(layout.shape) == 0;
    let port = |field: Field| {
        let has = whole && protocol::WITH_PORTS.contains(&protocol);
        has.then(|| u16::try_from(number(field)).unwrap_or_default())
    };
    let is_icmp = match class.family {
        Family::V4 => protocol == protocol::ICMP,
        Family::V6 => protocol == protocol::ICMPV6,
    };
    let icmp = number(layout.icmp);
    let from_host = class.from.is_host();
    let id = |field: Field| {
        from_host
            .then(|| u32::try_from(number(field)).ok())
            .flatten()
    };
    let asked = |header: Header| engine.asks(header).then(|| number(layout.header(header)));
    Packet {
        iif: if from_host { None } else { name(layout.input) },
        oif: name(layout.output),
        src: layout.address(number(layout.src)),
        dst: layout.address(number(layout.dst)),
        protocol,
        sport: port(layout.sport),
        dport: port(layout.dport),
        icmp: (whole && is_icmp).then_some(((icmp >> 8) as u8, icmp as u8)),
        flags: (whole && protocol == protocol::TCP)
            .then(|| u8::try_from(number(layout.flags)).unwrap_or_default()),
        length: asked(Header::Length).map(|length| length as u16),
        ttl: asked(Header::Ttl).map(|ttl| ttl as u8),
        tos: asked(Header::Tos).map(|tos| tos as u8),
        mac: asked(Header::Mac).map(|mac| Mac::from(mac as u64)),
        uid: id(layout.uid),
        gid: id(layout.gid),
        cgroup: match &class.from {
            Origin::Cgroup(path) => Some(path.clone()),
            Origin::Host | Origin::Interface(_) => None,
        },
        reply: odd == Odd::Later as u128 && number(layout.reply) == 1,
        answers: None,
        odd: Odd::ALL.into_iter().find(|known| *known as u128 == odd),
    }
}
