//! The packets with addresses of a kind, in networks, and in sets of ipset.

use super::bdd::Set;
use super::engine::Engine;
use super::layout::{Field, Shape};
use crate::ruleset::{
    AddrType, Entry, Family, Ipset, Net, Part, PortRange, SetLookup, Side, bits, protocol,
};

impl<'r> Engine<'r> {
    pub(super) fn address_of(&self, side: Side) -> Field {
        match side {
            Side::Src => self.layout.src,
            Side::Dst => self.layout.dst,
        }
    }

    pub(super) fn port_of(&self, side: Side) -> Field {
        match side {
            Side::Src => self.layout.sport,
            Side::Dst => self.layout.dport,
        }
    }

    /// The packets with an address of one of these types (`inet_addr_type()`, `ipv6_addr_type()`).
    pub(super) fn of_types(&mut self, side: Side, types: &[AddrType]) -> Set {
        let family = self.layout.family;
        let local = match side {
            Side::Src => self.local_src,
            Side::Dst => self.local_dst,
        };
        let texts: [&[&str]; 2] = match family {
            Family::V4 => [&["224.0.0.0/4"], &["0.0.0.0/8", "255.255.255.255"]],
            // Neither of the second kind is of one host; that is all that is asked about them.
            Family::V6 => [&["ff00::/8"], &["::", "::ffff:0:0/96"]],
        };
        let [multicast, broadcast] = texts.map(|texts| {
            let nets = texts.iter().filter_map(|text| Net::parse(family, text));
            nets.collect::<Vec<_>>()
        });
        let broadcast = [broadcast, self.host.broadcast.clone()].concat();
        let multicast = self.in_nets(side, &multicast, &[]);
        let broadcast = self.in_nets(side, &broadcast, &[]);
        let others = match family {
            Family::V4 => self.bdd.or(multicast, local),
            // An address of this host's own is one of one host, too.
            Family::V6 => multicast,
        };
        let others = self.bdd.or(others, broadcast);
        let unicast = self.bdd.not(others);
        let of = types.iter().map(|one| match one {
            AddrType::Local => local,
            AddrType::Unicast => unicast,
            AddrType::Multicast => multicast,
            AddrType::Broadcast => broadcast,
        });
        of.fold(Set::EMPTY, |all, one| self.bdd.or(all, one))
    }

    /// The packets with a destination, or source, in one of the networks; all where none is named.
    pub(super) fn in_nets(&mut self, side: Side, any_of: &[Net], except: &[Net]) -> Set {
        let field = self.address_of(side);
        let layout = self.layout;
        let union = |engine: &mut Self, nets: &[Net]| {
            nets.iter()
                .filter(|net| net.family() == layout.family)
                .fold(Set::EMPTY, |all, net| {
                    let one = layout.net(&mut engine.bdd, field, net);
                    engine.bdd.or(all, one)
                })
        };
        let within = if any_of.is_empty() {
            Set::ALL
        } else {
            union(self, any_of)
        };
        let without = union(self, except);
        self.bdd.less(within, without)
    }

    /// The entries of a set and of each that it lists; `None` where one of them is not known.
    pub(super) fn entries(&self, lookup: &SetLookup) -> Option<Vec<&'r [Entry]>> {
        let host = self.host;
        let known = |name: &str| host.ipsets.get(name)?.as_ref();
        match known(&lookup.name)? {
            Ipset::List(members) => members.iter().map(|name| known(name)?.entries()).collect(),
            set => set.entries().map(|entries| vec![entries]),
        }
    }

    /// The packets in a set, as far as its entries are known. One that has more parts than sides are looked at is met by
    /// none (`ip_set_test()` in net/netfilter/ipset/ip_set_core.c), and likewise one of another family.
    pub(super) fn in_ipset(&mut self, lookup: &SetLookup) -> Set {
        let mut all = Set::EMPTY;
        for entries in self.entries(lookup).unwrap_or_default() {
            let set = match (Entry::networks(entries), lookup.sides.first()) {
                (Some(nets), Some(side)) => self.of_networks(nets, *side),
                _ => entries.iter().fold(Set::EMPTY, |all, entry| {
                    let these = self.of_entry(entry, &lookup.sides);
                    self.bdd.or(all, these)
                }),
            };
            all = self.bdd.or(all, set);
        }
        all
    }

    /// The packets with an address in these networks, but for those that are an exception: the narrowest network that an
    /// address is in decides.
    fn of_networks(&mut self, mut nets: Vec<(Net, bool)>, side: Side) -> Set {
        nets.retain(|(net, _)| net.family() == self.layout.family);
        nets.sort_by_key(|(net, _)| (bits(net.addr()), net.prefix()));
        let bits: Vec<(u32, u128)> = self.address_of(side).bits().collect();
        self.of_sorted(&nets, &bits, Set::EMPTY)
    }

    /// The same, bit by bit from the first: so many networks are one diagram at once, and need not be joined. `wider` is
    /// what the networks around them say.
    fn of_sorted(&mut self, nets: &[(Net, bool)], rest: &[(u32, u128)], wider: Set) -> Set {
        let (here, nets) = nets.split_at(nets.partition_point(|(net, _)| {
            usize::from(net.prefix()) + rest.len() <= self.layout.src.width as usize
        }));
        let wider = match here.last() {
            Some((_, true)) => Set::EMPTY,
            Some((_, false)) => Set::ALL,
            None => wider,
        };
        let Some(((var, weight), rest)) = rest.split_first().filter(|_| !nets.is_empty()) else {
            return wider;
        };
        let (low, high) =
            nets.split_at(nets.partition_point(|(net, _)| bits(net.addr()) & weight == 0));
        let low = self.of_sorted(low, rest, wider);
        let high = self.of_sorted(high, rest, wider);
        self.bdd.node(*var, low, high)
    }

    fn of_entry(&mut self, entry: &Entry, sides: &[Side]) -> Set {
        if sides.len() < entry.parts.len() {
            return Set::EMPTY;
        }
        let parts = entry.parts.iter().zip(sides);
        parts.fold(Set::ALL, |all, (part, side)| {
            let one = match part {
                Part::Net(net) => self.in_nets(*side, &[*net], &[]),
                Part::Port { protocol, port } => self.at_port(*protocol, *port, *side),
            };
            self.bdd.and(all, one)
        })
    }

    /// The packets of a protocol with that port. ICMP has its type and code in the place of one; what has nothing there
    /// counts as port 0 (`get_port()` in net/netfilter/ipset/ip_set_getport.c).
    fn at_port(&mut self, number: Option<u8>, port: PortRange, side: Side) -> Set {
        let Some(number) = number else {
            let either =
                [protocol::TCP, protocol::UDP].map(|one| self.at_port(Some(one), port, side));
            return either
                .into_iter()
                .fold(Set::EMPTY, |all, one| self.bdd.or(all, one));
        };
        let of = self.protocols(&[number]);
        let (icmp, v4) = (self.layout.icmp, self.layout.family == Family::V4);
        let there = match number {
            protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE => {
                self.ports(side, &[port])
            }
            protocol::ICMP if v4 => icmp.equals(&mut self.bdd, port.low.into()),
            protocol::ICMPV6 if !v4 => icmp.equals(&mut self.bdd, port.low.into()),
            _ if port.low == 0 && v4 => return of,
            _ if port.low == 0 => Set::ALL,
            _ => Set::EMPTY,
        };
        let whole = self.shape_is(Shape::Whole);
        let there = self.bdd.and(there, whole);
        self.bdd.and(of, there)
    }
}
