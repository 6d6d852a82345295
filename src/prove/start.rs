//! The packets of a class, as they set out.

use super::bdd::Set;
use super::class::{Destination, Ifaces, Moment, Odd, Origin, PacketClass};
use super::engine::Engine;
use super::layout::{Field, Shape, State};
use crate::ruleset::{Family, IfacePattern, Net, Side, protocol};

/// IPv6 extension headers: as a packet's protocol these are skipped over (`ipv6_ext_hdr`).
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// The protocols of which conntrack knows more than the number, so that a packet of them can be INVALID
/// (`nf_conntrack_handle_packet`, `nf_ct_get_tuple`): ICMP, TCP, UDP, DCCP, GRE, ICMPv6, SCTP, UDP-Lite.
const CHECKED: [u8; 8] = [1, 6, 17, 33, 47, 58, 132, 136];

/// The user and group id of a packet without a socket.
const NOBODY: u128 = 1 << 32;

impl Engine<'_> {
    pub(super) fn odd_is(&mut self, odd: Odd) -> Set {
        self.layout.odd.equals(&mut self.bdd, odd as u128)
    }

    /// The packets of a class; `anywhere` leaves their destination open. Delivery is claimed of
    /// ordinary packets alone, blocks of odd ones too.
    pub(super) fn start(&mut self, class: &PacketClass, anywhere: bool, ordinary: bool) -> Set {
        let layout = self.layout;
        let mut set = self.untouched();
        let from = self.origin(class);
        set = self.bdd.and(set, from);
        if !anywhere {
            let there = self.there(class);
            set = self.bdd.and(set, there);
        }
        let transport = self.transport(class);
        set = self.bdd.and(set, transport);
        let headers = self.possible_headers(class);
        set = self.bdd.and(set, headers);
        let src = self.in_nets(Side::Src, &class.src.any_of, &class.src.except);
        set = self.bdd.and(set, src);
        if ordinary && class.moment != Moment::Established && class.protocol == Some(protocol::TCP)
        {
            let syn = self.usual_syn();
            set = self.bdd.and(set, syn);
        }
        let plain = self.plain(class, set);
        if ordinary {
            return plain;
        }
        Odd::ALL.into_iter().fold(plain, |all, odd| {
            let some = self.odd(class, set, plain, odd);
            let some = self.set(some, layout.odd, odd as u128);
            self.bdd.or(all, some)
        })
    }

    /// The packets that have been through nothing yet.
    fn untouched(&mut self) -> Set {
        let layout = self.layout;
        let zero = [
            layout.tainted,
            layout.odd,
            layout.shape,
            layout.snat,
            layout.dnat,
            layout.moved_dst,
            layout.moved_dport,
            layout.moved_src,
            layout.moved_sport,
            layout.moved_output,
            layout.moved_tos,
            layout.mark,
            layout.connmark,
        ];
        let mut set = self.state_is(State::Invalid);
        for field in zero {
            let none = field.equals(&mut self.bdd, 0);
            set = self.bdd.and(set, none);
        }
        set
    }

    /// The packets with the class's way in and, while routing has not been asked, way out.
    fn origin(&mut self, class: &PacketClass) -> Set {
        let layout = self.layout;
        self.from.clone_from(&class.from);
        self.out = match &class.out {
            Some(ifaces) => self.among(ifaces, layout.output),
            None => self.names.some(&mut self.bdd, layout.output),
        };
        match &class.from {
            Origin::Interface(ifaces) => {
                let input = self.among(ifaces, layout.input);
                let no_output = self.names.none(&mut self.bdd, layout.output);
                let mut set = self.bdd.and(input, no_output);
                // What is forwarded has no socket, and so no owner.
                for field in [layout.uid, layout.gid] {
                    let nobody = field.equals(&mut self.bdd, NOBODY);
                    set = self.bdd.and(set, nobody);
                }
                set
            }
            Origin::Host | Origin::Cgroup(_) => {
                let no_input = self.names.none(&mut self.bdd, layout.input);
                self.bdd.and(no_input, self.out)
            }
        }
    }

    fn among(&mut self, ifaces: &Ifaces, field: Field) -> Set {
        let some = self.names.some(&mut self.bdd, field);
        let mut fits = |patterns: &[IfacePattern]| {
            patterns.iter().fold(Set::EMPTY, |all, pattern| {
                let one = self.names.fits(&mut self.bdd, field, pattern);
                self.bdd.or(all, one)
            })
        };
        let (meant, except) = (fits(&ifaces.any_of), fits(&ifaces.except));
        let set = self.bdd.and(some, meant);
        self.bdd.less(set, except)
    }

    /// The packets that are, at this moment, on their way to the class's destination.
    pub(super) fn there(&mut self, class: &PacketClass) -> Set {
        let addr = match &class.dst {
            Destination::Net(net) => self.layout.net(&mut self.bdd, self.layout.dst, net),
            Destination::ThisHost => self.local_dst,
        };
        match class.dport {
            Some(range) => {
                let ports = self.ports(Side::Dst, &[range]);
                self.bdd.and(addr, ports)
            }
            None => addr,
        }
    }

    /// The packets of protocols whose header begins with ports.
    pub(super) fn with_ports(&mut self) -> Set {
        self.protocols(&protocol::WITH_PORTS)
    }

    fn transport(&mut self, class: &PacketClass) -> Set {
        let layout = self.layout;
        let mut set = match class.protocol {
            Some(number) => layout.protocol.equals(&mut self.bdd, number.into()),
            None => Set::ALL,
        };
        if class.sport.is_some() || class.dport.is_some() {
            let with_ports = self.with_ports();
            set = self.bdd.and(set, with_ports);
        }
        if let Some(range) = class.sport {
            let ports = self.ports(Side::Src, &[range]);
            set = self.bdd.and(set, ports);
        }
        set
    }

    /// The ordinary packets of a class.
    fn plain(&mut self, class: &PacketClass, set: Set) -> Set {
        let layout = self.layout;
        let whole = self.whole_headers();
        let mut set = self.bdd.and(set, whole);
        if layout.family == Family::V6 {
            let headers = self.protocols(&EXTENSION_HEADERS);
            set = self.bdd.less(set, headers);
        }
        match class.from {
            Origin::Interface(_) => {
                let unlikely = self.unlikely_sources();
                self.bdd.less(set, unlikely)
            }
            Origin::Host | Origin::Cgroup(_) => {
                let own = if self.knows_addresses() {
                    self.local_src
                } else {
                    Set::ALL
                };
                set = self.bdd.and(set, own);
                for field in [layout.uid, layout.gid] {
                    let ids = field.between(&mut self.bdd, 0, u128::from(u32::MAX));
                    set = self.bdd.and(set, ids);
                }
                set
            }
        }
    }

    /// Whether any address of this host is known but the loopback's.
    pub(super) fn knows_addresses(&self) -> bool {
        let loopback = Net::loopback(self.layout.family);
        let mut addrs = self.host.interfaces.values().flat_map(|iface| &iface.addrs);
        addrs.any(|addr| {
            Net::host(*addr).family() == self.layout.family && !loopback.contains(*addr)
        })
    }

    /// Sources that routing refuses from outside (`fib_validate_source`), or that are no host's.
    fn unlikely_sources(&mut self) -> Set {
        let nets: &[&str] = match self.layout.family {
            Family::V4 => &["0.0.0.0/8", "224.0.0.0/3"],
            Family::V6 => &["::/128", "ff00::/8"],
        };
        let nets: Vec<Net> = nets
            .iter()
            .filter_map(|net| Net::parse(self.layout.family, net))
            .chain(self.host.broadcast.iter().copied())
            .collect();
        let nobody = self.in_nets(Side::Src, &nets, &[]);
        self.bdd.or(nobody, self.local_src)
    }

    /// The packets of a class that are odd in one way, before they are called so.
    fn odd(&mut self, class: &PacketClass, set: Set, plain: Set, odd: Odd) -> Set {
        let layout = self.layout;
        let first = class.moment != Moment::Established;
        let portless = class.sport.is_none() && class.dport.is_none();
        let outside = matches!(class.from, Origin::Interface(_));
        let shaped = |engine: &mut Self, shape: Shape| engine.set(set, layout.shape, shape as u128);
        match odd {
            Odd::Invalid if first => {
                let checked = self.protocols(&CHECKED);
                self.bdd.and(set, checked)
            }
            Odd::Fragment if portless && !self.tracks => shaped(self, Shape::Fragment),
            Odd::Headless
                if portless && class.protocol.is_none() && layout.family == Family::V6 =>
            {
                shaped(self, Shape::Headless)
            }
            Odd::Spoofed if outside => {
                let unlikely = self.unlikely_sources();
                self.bdd.and(set, unlikely)
            }
            // What is sent without a socket is sent by no process, and of no cgroup.
            Odd::Socketless if class.from == Origin::Host => {
                let set = self.set(set, layout.uid, NOBODY);
                self.set(set, layout.gid, NOBODY)
            }
            Odd::Later if class.moment == Moment::Any => set,
            Odd::Marked if !outside => self.forget(plain, [layout.mark]),
            _ => Set::EMPTY,
        }
    }

    /// The packets of a class that are out of the ordinary, of which it is known all the same how one is sent and that
    /// it sets out: with a length in TCP's or UDP's header that cannot be, or a tag in the header of SCTP's INIT, at
    /// which nothing on the way but conntrack looks (tcp_error(), udp_error(), sctp_new()); and of a connection that
    /// was there before these rules, or an ICMP error about it.
    pub(super) fn sendable(&mut self, class: &PacketClass, set: Set) -> Set {
        let layout = self.layout;
        let plain = self.plain(class, set);
        let whole = layout.shape.equals(&mut self.bdd, Shape::Whole as u128);
        let set = self.bdd.and(plain, whole);
        let malformed = self.protocols(&[protocol::TCP, protocol::UDP, protocol::SCTP]);
        // FIN, SYN, RST, ACK: an established connection goes on with the last, whatever its numbers are where it was
        // taken up in the middle.
        let goes_on = layout.flags.masked(&mut self.bdd, 0b01_0000, 0b01_0111);
        let tcp = self.protocols(&[protocol::TCP]);
        let tcp = self.bdd.and(tcp, goes_on);
        let unordered = self.protocols(&[protocol::UDP, protocol::SCTP]);
        let checked = self.protocols(&CHECKED);
        let others = self.bdd.less(Set::ALL, checked);
        let about_one = self.icmp_errors();
        let later = [unordered, others, about_one]
            .into_iter()
            .fold(tcp, |all, more| self.bdd.or(all, more));
        let kinds = [(Odd::Invalid, malformed), (Odd::Later, later)];
        kinds.into_iter().fold(Set::EMPTY, |all, (odd, of)| {
            let odd = self.odd_is(odd);
            let some = self.bdd.and(odd, of);
            let some = self.bdd.and(set, some);
            self.bdd.or(all, some)
        })
    }

    /// The packets of one of these protocols.
    pub(super) fn protocols(&mut self, numbers: &[u8]) -> Set {
        numbers.iter().fold(Set::EMPTY, |all, number| {
            let one = self.layout.protocol.equals(&mut self.bdd, (*number).into());
            self.bdd.or(all, one)
        })
    }
}
