//! A packet to show for a verdict.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::bdd::Set;
use super::class::{Destination, Odd, Origin, Packet, PacketClass, USUAL_TTL};
use super::engine::Engine;
use super::layout::Field;
use crate::ruleset::{Family, IfacePattern, Mac, Match, Net, bits, protocol};

/// One packet out of a set.
pub(super) struct Chosen {
    /// The value of every bit that matters.
    pub(super) bits: HashMap<u32, bool>,
    wishes: HashMap<u32, bool>,
    pub(super) packet: Packet,
}

impl Chosen {
    /// Takes a packet out of a set, one that looks familiar if there is such.
    pub(super) fn new(engine: &Engine<'_>, class: &PacketClass, set: Set) -> Self {
        let wishes = wishes(engine, class);
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

    /// The one packet, out of those that set out.
    pub(super) fn restrict(&self, engine: &mut Engine<'_>, class: &PacketClass, start: Set) -> Set {
        let layout = engine.layout;
        let value = |field: Field| {
            field.read(&|var| {
                let wish = || self.wishes.get(&var).copied().unwrap_or(false);
                self.bits.get(&var).copied().unwrap_or_else(wish)
            })
        };
        let mut fields = vec![
            layout.odd,
            layout.shape,
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
        let out = layout.output.equals(&mut engine.bdd, value(layout.output));
        // How it leaves is part of a packet that this host sends, and chosen by routing for others.
        match class.from {
            Origin::Host | Origin::Cgroup(_) => fields.push(layout.output),
            Origin::Interface(_) => {
                fields.push(layout.input);
                if value(layout.output) != engine.names.nowhere() as u128 {
                    engine.out = engine.bdd.and(engine.out, out);
                }
            }
        }
        // From the last bit up, so that what is added always stands above what is there.
        fields.sort_by_key(|field| Reverse(field.vars().next()));
        let one = fields.into_iter().fold(Set::ALL, |below, field| {
            let same = field.equals(&mut engine.bdd, value(field));
            engine.bdd.and(same, below)
        });
        engine.bdd.and(start, one)
    }
}

/// Values that an example should have where nothing speaks against it.
fn wishes(engine: &Engine<'_>, class: &PacketClass) -> HashMap<u32, bool> {
    let layout = engine.layout;
    let echo = if class.family == Family::V4 {
        8 << 8
    } else {
        128 << 8
    };
    let (net, offset) = match class.src.any_of.first() {
        Some(net) => (*net, 2),
        None => {
            let usual = match class.family {
                Family::V4 => "172.17.0.2",
                Family::V6 => "fd00::2",
            };
            (
                Net::parse(class.family, usual).unwrap_or(Net::all(class.family)),
                0,
            )
        }
    };
    let dst = match &class.dst {
        Destination::Net(net) => bits(net.addr()),
        Destination::ThisHost => 0,
    };
    let out = engine.way(class).unwrap_or("eth0").to_owned();
    let out = engine.names.kinds(&IfacePattern::Exact(out));
    let wished = [
        (layout.output, out.map_or(0, |(kind, _)| kind as u128)),
        (layout.protocol, protocol::TCP.into()),
        (layout.src, bits(net.addr()) | offset),
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
    let asked = |wanted: &dyn Fn(&Match) -> bool| engine.asks(wanted);
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
        length: asked(&|m| matches!(m, Match::Length(_))).then(|| number(layout.length) as u16),
        ttl: asked(&|m| matches!(m, Match::Ttl(_))).then(|| number(layout.ttl) as u8),
        tos: asked(&|m| matches!(m, Match::Tos(_))).then(|| number(layout.tos) as u8),
        mac: asked(&|m| matches!(m, Match::Mac(_))).then(|| Mac::from(number(layout.mac) as u64)),
        uid: id(layout.uid),
        gid: id(layout.gid),
        cgroup: match &class.from {
            Origin::Cgroup(path) => Some(path.clone()),
            Origin::Host | Origin::Interface(_) => None,
        },
        odd: Odd::ALL.into_iter().find(|known| *known as u128 == odd),
    }
}
