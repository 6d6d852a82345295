//! Which bit of a diagram stands for what.
//!
//! Fields that NAT rewrites have a twin, bit by bit beside them, that keeps the value the packet was
//! sent with; so a counterexample can always be shown as its sender would write it. The marks of
//! packet and connection stand beside each other for a similar reason: one is copied to the other.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bdd::{Bdd, Set};
use crate::ruleset::native::{NativeTable, Statement};
use crate::ruleset::{Family, Header, IFNAME_MAX, IfacePattern, Match, Net, Rule, Ruleset, bits};

/// Some bits of a packet, the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    first: u32,
    step: u32,
    pub(super) width: u32,
}

impl Field {
    /// The bits with their weights, the highest first.
    pub(super) fn bits(self) -> impl DoubleEndedIterator<Item = (u32, u128)> {
        (0..self.width).map(move |at| (self.first + at * self.step, 1 << (self.width - 1 - at)))
    }

    /// The bits alone, the highest first.
    pub(super) fn vars(self) -> impl DoubleEndedIterator<Item = u32> {
        self.bits().map(|(var, _)| var)
    }

    /// The twin of a field that has one.
    pub(super) fn twin(self) -> Self {
        Self {
            first: self.first + 1,
            ..self
        }
    }

    /// Some of its bits, as a field of their own.
    pub(super) const fn part(self, lowest: u32, width: u32) -> Self {
        let above = self.width.saturating_sub(lowest + width);
        Self {
            first: self.first + above * self.step,
            width,
            ..self
        }
    }

    /// The packets whose field has that value.
    pub(super) fn equals(self, bdd: &mut Bdd, value: u128) -> Set {
        self.masked(bdd, value, u128::MAX)
    }

    /// The packets whose field agrees with the value in the bits of the mask.
    pub(super) fn masked(self, bdd: &mut Bdd, value: u128, mask: u128) -> Set {
        self.bits()
            .rev()
            .filter(|(_, weight)| mask & weight != 0)
            .fold(Set::ALL, |below, (var, weight)| match value & weight {
                0 => bdd.node(var, below, Set::EMPTY),
                _ => bdd.node(var, Set::EMPTY, below),
            })
    }

    /// The packets whose field is between two values, both included.
    pub(super) fn between(self, bdd: &mut Bdd, low: u128, high: u128) -> Set {
        let (mut from, mut upto) = (Set::ALL, Set::ALL);
        for (var, weight) in self.bits().rev() {
            from = match low & weight {
                0 => bdd.node(var, from, Set::ALL),
                _ => bdd.node(var, Set::EMPTY, from),
            };
            upto = match high & weight {
                0 => bdd.node(var, upto, Set::EMPTY),
                _ => bdd.node(var, Set::ALL, upto),
            };
        }
        bdd.and(from, upto)
    }

    /// The value the field has in a picked packet; bits that do not matter are 0.
    pub(super) fn read(self, picked: &dyn Fn(u32) -> bool) -> u128 {
        self.bits()
            .filter(|(var, _)| picked(*var))
            .map(|(_, weight)| weight)
            .sum()
    }
}

/// The fields of a packet on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) family: Family,
    /// 1 once something that is not understood had its hands on the packet.
    pub(super) tainted: Field,
    /// What is out of the ordinary about it: see [`super::start`].
    pub(super) odd: Field,
    /// See [`Shape`].
    pub(super) shape: Field,
    /// See [`State`].
    pub(super) state: Field,
    /// 1 where a packet of a connection goes the other way than the first.
    pub(super) reply: Field,
    pub(super) snat: Field,
    pub(super) dnat: Field,
    /// 1 once the twin of the destination (and its port, and so on) holds the original value.
    pub(super) moved_dst: Field,
    pub(super) moved_dport: Field,
    pub(super) moved_src: Field,
    pub(super) moved_sport: Field,
    pub(super) moved_output: Field,
    pub(super) moved_tos: Field,
    pub(super) input: Field,
    pub(super) output: Field,
    pub(super) protocol: Field,
    pub(super) dst: Field,
    pub(super) dport: Field,
    pub(super) src: Field,
    pub(super) sport: Field,
    pub(super) icmp: Field,
    pub(super) flags: Field,
    /// The ids of the sending process; a 33rd bit, the highest, where there is no socket.
    pub(super) uid: Field,
    pub(super) gid: Field,
    pub(super) length: Field,
    /// How far it may go, as it came: TTL or hop limit.
    pub(super) ttl: Field,
    pub(super) tos: Field,
    /// Who sent its frame; a 49th bit, the highest, where it came in none.
    pub(super) mac: Field,
    pub(super) mark: Field,
    pub(super) connmark: Field,
    /// The first of the bits that stand for answers that cannot be known beforehand.
    pub(super) answers: u32,
}

/// What can be read of a packet.
pub(super) enum Shape {
    /// Everything.
    Whole = 0,
    /// A fragment other than the first: no ports.
    Fragment = 1,
    /// IPv6 whose headers do not lead to a protocol.
    Headless = 2,
}

/// What connection tracking says of a packet. Before it was asked, that is INVALID: xt_conntrack
/// answers so for a packet without an entry.
#[derive(Clone, Copy)]
pub(super) enum State {
    New = 0,
    Established = 1,
    Related = 2,
    Invalid = 3,
    Untracked = 4,
}

impl Layout {
    pub(super) fn new(family: Family, names: &Names) -> Self {
        let address = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let iface = usize::BITS - names.nowhere().leading_zeros();
        let mut next = 0;
        let mut single = |width: u32| {
            let field = Field {
                first: next,
                step: 1,
                width,
            };
            next += width;
            field
        };
        let twins = |first: Field| Field {
            step: 2,
            width: first.width / 2,
            ..first
        };
        // The order decides how large the diagrams get. First what has few values and sets packets apart from there
        // on; then what rules cut finest; last what is the same in most sets, or what a claim fixes: these tails are
        // then shared, and ten thousand `-s` rules cost a few nodes each. Asked last of all, the state and its like
        // multiplied the tails: the same proofs took twice as long.
        let input = single(iface);
        let (shape, state, snat, dnat) = (single(2), single(3), single(1), single(1));
        let reply = single(1);
        let (moved_dst, moved_dport) = (single(1), single(1));
        let (moved_src, moved_sport, moved_output) = (single(1), single(1), single(1));
        let moved_tos = single(1);
        let (odd, tainted) = (single(3), single(1));
        let (src, sport) = (twins(single(2 * address)), twins(single(32)));
        let (protocol, dport) = (single(8), twins(single(32)));
        let output = twins(single(2 * iface));
        let (icmp, flags) = (single(16), single(6));
        let mark = twins(single(64));
        let dst = twins(single(2 * address));
        let (length, ttl, tos, mac) = (single(16), single(8), twins(single(16)), single(49));
        let (uid, gid) = (single(33), single(33));
        Self {
            family,
            tainted,
            odd,
            shape,
            state,
            reply,
            snat,
            dnat,
            moved_dst,
            moved_dport,
            moved_src,
            moved_sport,
            moved_output,
            moved_tos,
            input,
            output,
            protocol,
            dst,
            dport,
            src,
            sport,
            icmp,
            flags,
            length,
            ttl,
            tos,
            mac,
            uid,
            gid,
            mark,
            connmark: mark.twin(),
            answers: next,
        }
    }

    /// The fields with a twin, each with the bit that says whether the twin is in use.
    pub(super) fn movable(&self) -> [(Field, Field); 6] {
        [
            (self.dst, self.moved_dst),
            (self.dport, self.moved_dport),
            (self.src, self.moved_src),
            (self.sport, self.moved_sport),
            (self.output, self.moved_output),
            (self.tos, self.moved_tos),
        ]
    }

    /// What says whether a field's twin is in use, if it has one.
    pub(super) fn moved(&self, field: Field) -> Option<Field> {
        let movable = self.movable();
        let moved = movable.iter().find(|(known, _)| *known == field);
        moved.map(|(_, flag)| *flag)
    }

    /// The field of what a header says.
    pub(super) const fn header(&self, of: Header) -> Field {
        match of {
            Header::Length => self.length,
            Header::Ttl => self.ttl,
            Header::Tos => self.tos,
            Header::Mac => self.mac,
        }
    }

    /// The packets with an address in that network.
    pub(super) fn net(&self, bdd: &mut Bdd, field: Field, net: &Net) -> Set {
        let host = field.width.saturating_sub(u32::from(net.prefix()));
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        field.masked(bdd, bits(net.addr()), mask)
    }

    /// An address of the family from its bits.
    pub(super) fn address(&self, bits: u128) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from((bits & u128::from(u32::MAX)) as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
        }
    }
}

/// Every interface name there could be, in as few kinds as the rules can tell apart.
///
/// Patterns are nested or have nothing in common. Sorted, each stands before those within it; a
/// name's kind is the innermost pattern it fits. So the kinds of one pattern are a range, and "-i
/// docker+" a comparison of numbers. Two more kinds: the names that fit no pattern, and no
/// interface at all.
pub(super) struct Names {
    patterns: Vec<IfacePattern>,
}

impl Names {
    /// The kinds that a ruleset tells apart.
    pub(super) fn of_rulesets(rulesets: &[&Ruleset]) -> BTreeSet<IfacePattern> {
        let rules = rulesets.iter().flat_map(|ruleset| ruleset.listed());
        rules
            .flat_map(|listed| Self::of_rule(&listed.rule))
            .cloned()
            .collect()
    }

    /// The kinds that native tables tell apart.
    pub(super) fn of_native(tables: &[NativeTable]) -> BTreeSet<IfacePattern> {
        let mut asked = Vec::new();
        for statement in tables
            .iter()
            .flat_map(NativeTable::rules)
            .flat_map(|rule| &rule.statements)
        {
            match statement {
                Statement::Test(condition) => condition.interfaces(&mut asked),
                Statement::Map(entries) => {
                    entries
                        .iter()
                        .for_each(|(condition, _)| condition.interfaces(&mut asked));
                }
                Statement::DnatByMap(all) => {
                    all.iter()
                        .for_each(|(condition, _)| condition.interfaces(&mut asked));
                }
                _ => {}
            }
        }
        let bases = tables
            .iter()
            .flat_map(|table| table.chains.values())
            .filter_map(|chain| chain.base.as_ref());
        let devices = bases
            .flat_map(|base| &base.devices)
            .cloned()
            .map(IfacePattern::Exact);
        asked.into_iter().cloned().chain(devices).collect()
    }

    fn of_rule(rule: &Rule) -> impl Iterator<Item = &IfacePattern> {
        rule.matches.iter().filter_map(|m| match m {
            Match::In(test) | Match::Out(test) => Some(&test.value),
            _ => None,
        })
    }

    pub(super) fn new(mut patterns: BTreeSet<IfacePattern>) -> Self {
        patterns.insert(IfacePattern::Prefix(String::new()));
        let mut patterns: Vec<_> = patterns.into_iter().collect();
        patterns.sort_by(|a, b| Self::key(a).cmp(&Self::key(b)));
        Self { patterns }
    }

    fn key(pattern: &IfacePattern) -> (&str, bool) {
        match pattern {
            IfacePattern::Prefix(name) => (name, false),
            IfacePattern::Exact(name) => (name, true),
        }
    }

    /// The names that rules or the host know.
    pub(super) fn exact(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().filter_map(|pattern| match pattern {
            IfacePattern::Exact(name) => Some(name.as_str()),
            IfacePattern::Prefix(_) => None,
        })
    }

    /// The kind that means no interface.
    pub(super) fn nowhere(&self) -> usize {
        self.patterns.len()
    }

    /// The kinds of a pattern: the first and the last.
    pub(super) fn kinds(&self, pattern: &IfacePattern) -> Option<(usize, usize)> {
        let first = self
            .patterns
            .binary_search_by(|other| Self::key(other).cmp(&Self::key(pattern)))
            .ok()?;
        let within = self.patterns.get(first..)?;
        let count = within.partition_point(|other| pattern.covers(other));
        Some((first, first + count.max(1) - 1))
    }

    /// The packets whose field names an interface of that pattern.
    pub(super) fn fits(&self, bdd: &mut Bdd, field: Field, pattern: &IfacePattern) -> Set {
        match (pattern, self.kinds(pattern)) {
            // `-i +` sets no condition, also where there is no interface.
            (IfacePattern::Prefix(name), _) if name.is_empty() => Set::ALL,
            (_, Some((first, last))) => field.between(bdd, first as u128, last as u128),
            (_, None) => Set::EMPTY,
        }
    }

    /// The packets whose field names an interface, one that a name can be found for.
    pub(super) fn some(&self, bdd: &mut Bdd, field: Field) -> Set {
        let all = field.between(bdd, 0, (self.nowhere() - 1) as u128);
        let nameless: Vec<usize> = (0..self.nowhere())
            .filter(|kind| self.example(*kind).is_none())
            .collect();
        nameless.into_iter().fold(all, |all, kind| {
            let one = field.equals(bdd, kind as u128);
            bdd.less(all, one)
        })
    }

    /// The packets whose field names no interface.
    pub(super) fn none(&self, bdd: &mut Bdd, field: Field) -> Set {
        field.equals(bdd, self.nowhere() as u128)
    }

    /// A name of that kind, if there is one that fits no narrower pattern.
    pub(super) fn example(&self, kind: usize) -> Option<String> {
        let pattern = self.patterns.get(kind)?;
        let (_, last) = self.kinds(pattern)?;
        let within = self.patterns.get(kind + 1..=last)?;
        let IfacePattern::Prefix(prefix) = pattern else {
            return Some(Self::key(pattern).0.to_owned());
        };
        let endings: &[&str] = match prefix.as_str() {
            "" => &["eth0", "ens5", "eth1", "enp0s7", "wlan3", "q8", "zz9"],
            _ => &[
                "0", "1", "", "x", "x0", "7", "veth0", "zz9", "q-q", "_", "@a",
            ],
        };
        endings
            .iter()
            .map(|ending| format!("{prefix}{ending}"))
            .filter(|name| !name.is_empty() && name.len() <= IFNAME_MAX)
            .find(|name| {
                let name = IfacePattern::Exact(name.clone());
                !within.iter().any(|narrower| narrower.covers(&name))
            })
    }
}
