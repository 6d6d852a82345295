//! What targets change in packets: addresses, ports, marks, tracking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bdd::{Quantifier, Set, Vars};
use super::class::{Moment, Odd};
use super::engine::Engine;
use super::hook::Hook;
use super::layout::{Field, Shape, State};
use super::walk::{End, Outcome};
use crate::ruleset::{Family, IfacePattern, Masked, Net, PortRange, Rewrite, Side, bits, protocol};

impl Engine<'_> {
    /// Connection tracking looks at the packets that `raw` has not exempted.
    pub(super) fn track(&mut self, set: Set) -> Set {
        let layout = self.layout;
        let exempt = self.state_is(State::Untracked);
        let untracked = self.bdd.and(set, exempt);
        let seen = self.bdd.less(set, exempt);
        let seen = self.forget(seen, [layout.state]);
        let first = match self.moment {
            Moment::First | Moment::Any => State::New,
            Moment::Established => State::Established,
        };
        let later = self.odd_is(Odd::Later);
        let following = self.bdd.and(seen, later);
        let seen = self.bdd.less(seen, later);
        let following = self.following(following);
        let mut all = self.bdd.or(untracked, following);
        let invalid = self.odd_is(Odd::Invalid);
        let left_alone = self.left_alone(seen);
        let left_alone = self.bdd.less(left_alone, invalid);
        let seen = self.bdd.less(seen, left_alone);
        let left_alone = self.set(left_alone, layout.state, State::Untracked as u128);
        all = self.bdd.or(all, left_alone);
        let headless = self.odd_is(Odd::Headless);
        let fragment = self.odd_is(Odd::Fragment);
        let unfit = self.unfit_to_begin();
        let never = self.bdd.or(invalid, headless);
        let never = self.bdd.or(never, unfit);
        let invalid_or_not = self.bdd.or(never, fragment);
        for (state, of) in [(first, never), (State::Invalid, invalid_or_not)] {
            let those = match state {
                State::Invalid => self.bdd.and(seen, of),
                _ => self.bdd.less(seen, of),
            };
            let state = self.state_is(state);
            let those = self.bdd.and(those, state);
            all = self.bdd.or(all, those);
        }
        if self.expecting {
            let expected = self.expected();
            let begins = self.bdd.less(seen, never);
            let begins = self.bdd.and(begins, expected);
            let related = self.state_is(State::Related);
            let begins = self.bdd.and(begins, related);
            all = self.bdd.or(all, begins);
        }
        all
    }

    /// The packets of protocols of which a helper expects connections: no helper expects anything else
    /// (nf_conntrack_ftp.c and its like).
    pub(super) fn expected(&mut self) -> Set {
        self.protocols(&[protocol::TCP, protocol::UDP, protocol::GRE])
    }

    /// Packets of a connection that was there before, or belongs to one. What NAT and rules made of it
    /// then is not known; as an example stands one of which they made nothing, or an ICMP error about it.
    fn following(&mut self, set: Set) -> Set {
        let layout = self.layout;
        let [established, related] = [State::Established, State::Related].map(|s| self.state_is(s));
        // Beside ICMP errors, what a helper expects.
        let expected = self.expected();
        let icmp = self.icmp();
        let expected = self.bdd.or(expected, icmp);
        let related = self.bdd.and(related, expected);
        if self.odd_examples {
            let errors = self.icmp_errors();
            let about_one = self.bdd.and(errors, related);
            let of_one = self.bdd.less(established, errors);
            let either = self.bdd.or(about_one, of_one);
            return self.bdd.and(set, either);
        }
        let either = self.bdd.or(established, related);
        let mut set = self.bdd.and(set, either);
        if set.is_empty() {
            return set;
        }
        set = self.forget(set, [layout.snat, layout.dnat]);
        if self.marks_connections() {
            set = self.forget(set, [layout.connmark]);
        }
        set
    }

    /// ICMP that tells of what became of another packet (`icmp_is_err`, `nf_conntrack_icmpv6_error`), but for redirects
    /// and what no host sends any more.
    pub(super) fn icmp_errors(&mut self) -> Set {
        self.icmp_of(match self.layout.family {
            Family::V4 => &[3, 11, 12],
            Family::V6 => &[1, 2, 3, 4],
        })
    }

    /// The family's ICMP.
    pub(super) fn icmp(&mut self) -> Set {
        let number = match self.layout.family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        };
        self.layout.protocol.equals(&mut self.bdd, number.into())
    }

    /// ICMP of these types, with any code.
    fn icmp_of(&mut self, kinds: &[u128]) -> Set {
        let layout = self.layout;
        let of_kinds = kinds.iter().fold(Set::EMPTY, |all, kind| {
            let (low, high) = (kind << 8, kind << 8 | 0xff);
            let this = layout.icmp.between(&mut self.bdd, low, high);
            self.bdd.or(all, this)
        });
        let icmp = self.icmp();
        self.bdd.and(icmp, of_kinds)
    }

    /// Packets that cannot be the first of a connection: INVALID, and not seen by NAT. ICMP that is no
    /// request (`valid_new` in nf_conntrack_proto_icmp.c and _icmpv6.c; an error is RELATED only to a
    /// connection that it quotes), and TCP whose flags begin nothing (`tcp_conntracks` and
    /// `tcp_valid_flags` in nf_conntrack_proto_tcp.c). A lone ACK is taken up, unless
    /// `nf_conntrack_tcp_loose` is 0: that is left to the packets that are INVALID anyway.
    pub(super) fn unfit_to_begin(&mut self) -> Set {
        if self.moment == Moment::Established {
            return Set::EMPTY;
        }
        let layout = self.layout;
        let fit = self.icmp_of(match layout.family {
            Family::V4 => &[8, 13, 15, 17],
            Family::V6 => &[128, 139],
        });
        let icmp = self.icmp();
        let replies = self.bdd.less(icmp, fit);

        // FIN, SYN, RST, ACK; with PSH or URG as they like.
        let (relevant, syn, ack) = (0b01_0111, 0b00_0010, 0b01_0000);
        let opening = layout.flags.masked(&mut self.bdd, syn, relevant);
        let taken_up = layout.flags.masked(&mut self.bdd, ack, relevant);
        let fit = self.bdd.or(opening, taken_up);
        let tcp = layout.protocol.equals(&mut self.bdd, protocol::TCP.into());
        let flags = self.bdd.less(tcp, fit);

        let unfit = self.bdd.or(replies, flags);
        let whole = layout.shape.equals(&mut self.bdd, Shape::Whole as u128);
        self.bdd.and(unfit, whole)
    }

    /// Neighbour discovery and multicast membership, which IPv6's connection tracking calls UNTRACKED
    /// of itself (`noct_valid_new` in nf_conntrack_proto_icmpv6.c).
    fn left_alone(&mut self, set: Set) -> Set {
        let layout = self.layout;
        if layout.family != Family::V6 || self.moment == Moment::Established {
            return Set::EMPTY;
        }
        let kinds = [(130, 136), (143, 143)].into_iter().fold(
            Set::EMPTY,
            |all, (low, high): (u128, u128)| {
                let some = layout
                    .icmp
                    .between(&mut self.bdd, low << 8, high << 8 | 0xff);
                self.bdd.or(all, some)
            },
        );
        let icmp = self.icmp();
        let whole = layout.shape.equals(&mut self.bdd, Shape::Whole as u128);
        [kinds, icmp, whole]
            .into_iter()
            .fold(set, |all, one| self.bdd.and(all, one))
    }

    /// `NOTRACK`. It leaves alone what already has a connection, as on the second time round by lo.
    pub(super) fn untrack(&mut self, set: Set) -> Set {
        let (with, without) = self.with_connection(set);
        let untracked = self.set(without, self.layout.state, State::Untracked as u128);
        self.bdd.or(with, untracked)
    }

    /// Splits packets into those with a connection and those without.
    pub(super) fn with_connection(&mut self, set: Set) -> (Set, Set) {
        let tracked = self.tracked();
        (self.bdd.and(set, tracked), self.bdd.less(set, tracked))
    }

    /// `(old & !mask) ^ value`, as xt_mark and xt_connmark do it.
    pub(super) fn set_mark(&mut self, field: Field, set: Set, new: Masked) -> Set {
        let in_mask = |weight: u128| u128::from(new.mask) & weight != 0;
        let in_value = |weight: u128| u128::from(new.value) & weight != 0;
        let those = |wanted: &dyn Fn(u128) -> bool| {
            let bits = field.bits().filter(|(_, weight)| wanted(*weight));
            bits.map(|(var, _)| var).collect::<Vars>()
        };
        let cleared = self.bdd.quantify(Quantifier::Some, set, &those(&in_mask));
        let flipped = &those(&|weight| !in_mask(weight) && in_value(weight));
        let flipped = self.bdd.flip(cleared, flipped);
        let set_bits = field.masked(&mut self.bdd, new.value.into(), new.mask.into());
        self.bdd.and(flipped, set_bits)
    }

    /// Copies the bits of a mask from that mark to the other; packets without a connection keep
    /// theirs.
    pub(super) fn copy_mark(&mut self, set: Set, from: Field, mask: u32) -> Set {
        let layout = self.layout;
        let (with, without) = self.with_connection(set);
        let to = if from == layout.mark {
            layout.connmark
        } else {
            layout.mark
        };
        let bits = from.bits().zip(to.bits());
        let pairs: Vec<(u32, u32)> = bits
            .filter(|((_, weight), _)| u128::from(mask) & weight != 0)
            .map(|((source, _), (copy, _))| (source, copy))
            .collect();
        let copied = self.copy(with, &pairs);
        self.bdd.or(copied, without)
    }

    /// Gives the second bit of each pair the value of the first. The bits of a pair stand side by side, and the pairs in
    /// order, so that what is the same in all of them is one small diagram.
    pub(super) fn copy(&mut self, set: Set, pairs: &[(u32, u32)]) -> Set {
        let copies = pairs.iter().map(|(_, copy)| *copy).collect();
        let freed = self.bdd.quantify(Quantifier::Some, set, &copies);
        let same = pairs.iter().rev().fold(Set::ALL, |below, (source, copy)| {
            let (above, next) = (source.min(copy), source.max(copy));
            let both_0 = self.bdd.node(*next, below, Set::EMPTY);
            let both_1 = self.bdd.node(*next, Set::EMPTY, below);
            self.bdd.node(*above, both_0, both_1)
        });
        self.bdd.and(freed, same)
    }

    pub(super) fn dnat(&mut self, set: Set, to: &Rewrite) -> Set {
        let (dst, dport) = (self.layout.dst, self.layout.dport);
        self.say("destination", &to.to_string());
        let same = self.fits(to, dst, Side::Dst);
        // A connection whose destination stays as it was is not marked as translated
        // (nf_nat_setup_info compares the tuples). Within a range it may stay or not.
        let unchanged = self.bdd.and(set, same);
        let moving = if single(to) {
            self.bdd.less(set, same)
        } else {
            self.choices = true;
            set
        };
        let changed = self.translate(moving, to, (dst, Side::Dst), dport);
        let changed = self.set(changed, self.layout.dnat, 1);
        self.bdd.or(changed, unchanged)
    }

    pub(super) fn snat(&mut self, set: Set, to: &Rewrite) -> Set {
        self.say("source", &to.to_string());
        let fits = self.fits(to, self.layout.src, Side::Src);
        self.resource(set, to.addrs.is_some(), fits)
    }

    /// `MASQUERADE`: the source becomes one of this host's addresses, never a loopback one (this is
    /// walked only for packets that leave by lo: inet_select_addr() takes one of the other interfaces'
    /// then), or any where those are not known. Which one it is depends on the route, so all are
    /// possible.
    pub(super) fn masquerade(&mut self, set: Set, ports: Option<PortRange>) -> Set {
        self.say("source", "an address of this host");
        let own = if self.knows_addresses() {
            self.local_src
        } else {
            Set::ALL
        };
        let loopback = self.in_nets(Side::Src, &[Net::loopback(self.layout.family)], &[]);
        let mut fits = self.bdd.less(own, loopback);
        if let Some(range) = ports {
            let ports = self.ports(Side::Src, &[range]);
            fits = self.bdd.and(fits, ports);
        }
        self.resource(set, true, fits)
    }

    /// Gives packets another source. The port may have to change even where none is asked for, to
    /// be unlike any other connection's.
    fn resource(&mut self, set: Set, address: bool, fits: Set) -> Set {
        let layout = self.layout;
        self.choices = true;
        let unchanged = self.bdd.and(set, fits);
        let mut changed = set;
        if address {
            changed = self.move_aside(changed, layout.src);
        }
        changed = self.move_aside(changed, layout.sport);
        changed = self.bdd.and(changed, fits);
        let changed = self.set(changed, layout.snat, 1);
        self.bdd.or(changed, unchanged)
    }

    /// `REDIRECT` turns packets to the loopback address in OUTPUT, and to the first address of the
    /// interface they came in by in PREROUTING (nf_nat_redirect.c).
    pub(super) fn redirect(&mut self, set: Set, ports: Option<PortRange>) -> Set {
        let to = |addr: IpAddr| Rewrite {
            addrs: Some((addr, addr)),
            ports,
        };
        if self.hook == Hook::Output {
            let loopback = match self.layout.family {
                Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            return self.dnat(set, &to(loopback));
        }
        let host = self.host;
        let (mut rest, mut done) = (set, Set::EMPTY);
        for (name, iface) in &host.interfaces {
            let name = IfacePattern::Exact(name.clone());
            let came_in = self.names.fits(&mut self.bdd, self.layout.input, &name);
            let those = self.bdd.and(rest, came_in);
            if those.is_empty() {
                continue;
            }
            rest = self.bdd.less(rest, came_in);
            let own = iface.addrs.iter().filter(|addr| match self.layout.family {
                Family::V4 => addr.is_ipv4(),
                Family::V6 => addr.is_ipv6(),
            });
            // For IPv4 the first; which of several IPv6 addresses is taken depends on the kernel.
            let count = if self.layout.family == Family::V4 {
                1
            } else {
                usize::MAX
            };
            let taken: Vec<IpAddr> = own.take(count).copied().collect();
            for addr in &taken {
                let turned = self.dnat(those, &to(*addr));
                done = self.bdd.or(done, turned);
            }
            if taken.is_empty() {
                // Without an address the kernel drops the packet.
                self.end(End::Dropped, those);
            }
        }
        if !rest.is_empty() {
            self.say(
                "destination",
                "the address of an interface that is not known",
            );
            let anywhere = self.seized_and_changed(rest);
            done = self.bdd.or(done, anywhere);
        }
        done
    }

    /// `NETMAP` (xt_NETMAP.c): in the first hooks of the destination, in the last ones of the source.
    pub(super) fn netmap(&mut self, set: Set, net: &Net) -> Set {
        let layout = self.layout;
        let of_source = !matches!(self.hook, Hook::Prerouting | Hook::Output);
        let (what, field, moved, done) = if of_source {
            ("source", layout.src, layout.moved_src, layout.snat)
        } else {
            ("destination", layout.dst, layout.moved_dst, layout.dnat)
        };
        self.say(what, &format!("the address at the same place in {net}"));
        let within = layout.net(&mut self.bdd, field, net);
        let unchanged = self.bdd.and(set, within);
        let moving = if of_source {
            // Its port may have to change even where its address does not.
            self.choices = true;
            set
        } else {
            self.bdd.less(set, within)
        };
        // The original is put aside, and all but the network's part of it stays where it is.
        let pairs: Vec<(u32, u32)> = field.vars().zip(field.twin().vars()).collect();
        let before = moved.equals(&mut self.bdd, 1);
        let again = self.bdd.and(moving, before);
        let first = self.bdd.less(moving, before);
        let first = self.copy(first, &pairs);
        let first = self.set(first, moved, 1);
        let moving = self.bdd.or(first, again);
        let network = field.vars().take(net.prefix().into()).collect();
        let freed = self.bdd.quantify(Quantifier::Some, moving, &network);
        let mut changed = self.bdd.and(freed, within);
        if of_source {
            changed = self.move_aside(changed, layout.sport);
        }
        let changed = self.set(changed, done, 1);
        self.bdd.or(changed, unchanged)
    }

    fn translate(&mut self, set: Set, to: &Rewrite, addr: (Field, Side), port: Field) -> Set {
        let (field, side) = addr;
        let mut set = set;
        if to.addrs.is_some() {
            set = self.move_aside(set, field);
        }
        if to.ports.is_some() {
            set = self.move_aside(set, port);
        }
        let fits = self.fits(to, field, side);
        self.bdd.and(set, fits)
    }

    /// The packets that already have what a translation gives.
    pub(super) fn fits(&mut self, to: &Rewrite, field: Field, side: Side) -> Set {
        let addrs = match to.addrs {
            Some((low, high)) => field.between(&mut self.bdd, bits(low), bits(high)),
            None => Set::ALL,
        };
        let ports = match to.ports {
            Some(range) => self.ports(side, &[range]),
            None => Set::ALL,
        };
        self.bdd.and(addrs, ports)
    }

    pub(super) fn say(&mut self, what: &str, to: &str) {
        let chain = self.hook.chain();
        self.note("nat", chain, None, &format!("{what} becomes {to}"), || {
            (Outcome::Matched, String::new())
        });
    }
}

fn single(to: &Rewrite) -> bool {
    to.addrs.is_none_or(|(low, high)| low == high)
        && to.ports.is_none_or(|range| range.low == range.high)
}
