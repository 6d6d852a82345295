//! Routes of a network namespace, over rtnetlink: where packets to an address go, and blackholes.
//!
//! Numbers are those of linux/rtnetlink.h and linux/fib_rules.h.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use super::attributes::{Attributes, each, number, value};
use super::{links, netlink, netns};
use crate::guarantee::edge::Interface;
use crate::ruleset::Net;

/// The origin of a route, as `ip route` shows it (`proto 169`): a number that neither the kernel's
/// rtnetlink.h nor iproute2's rt_protos gives to anybody. It is the guard's ownership.
pub const PROTOCOL: u8 = 169;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_BLACKHOLE: u8 = 6;
const RT_SCOPE_LINK: u8 = 253;
/// The loopback interface has this number in every namespace (`LOOPBACK_IFINDEX` of net/flow.h in the kernel).
const LOOPBACK: u32 = 1;
/// Answer with the table in which the route was found.
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
/// The lengths of `struct rtmsg` and `struct fib_rule_hdr`, which are the same.
const RTMSG: usize = 12;

/// Where packets to an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nowhere: a route refuses them (blackhole, unreachable, prohibit, throw).
    Refused,
    /// Nowhere: there is no route. The first that is added opens the way.
    None,
    /// By this interface, as this routing table has it.
    Out {
        /// The interface's number.
        interface: u32,
        /// The table's number: 254 is main, 255 local.
        table: u32,
    },
    /// The family does not exist in this kernel or namespace.
    NoFamily,
}

/// A socket for the routes of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Routes(netlink::Socket);

impl Routes {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        netlink::Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// The cookie of the network namespace, where the kernel has such a thing.
    #[must_use]
    pub fn cookie(&self) -> Option<u64> {
        netns::cookie(self.0.as_fd())
    }

    /// The interfaces of that network namespace.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        links::interfaces(&mut self.0)
    }

    /// Where a packet to `to` goes now, by all rules and tables; with `interface`, the packet of a
    /// socket that asks for it (SO_BINDTODEVICE, IP_PKTINFO).
    pub fn way(&mut self, to: IpAddr, interface: Option<u32>) -> io::Result<Way> {
        let mut attributes = destination(to);
        if let Some(interface) = interface {
            attributes = attributes.put(RTA_OIF, &interface.to_ne_bytes());
        }
        let header = rtmsg(to, RTM_F_LOOKUP_TABLE);
        let (mut out, mut table) = (0, 0);
        let of = (RTM_GETROUTE, 0);
        let asked = self.0.ask(of, &header, &attributes.0, &mut |message| {
            for (kind, value) in each(message.payload.get(RTMSG..).unwrap_or_default()) {
                match (kind, number(value)) {
                    (Ok(RTA_OIF), Some(number)) => out = number,
                    (Ok(RTA_TABLE), Some(number)) => table = number,
                    _ => {}
                }
            }
        });
        let Err(error) = asked else {
            let interface = out;
            return Ok(Way::Out { interface, table });
        };
        match error.raw_os_error().map(Errno::from_raw) {
            // fib_props[] in net/ipv4/fib_semantics.c, ip6_rt_type_to_error() in net/ipv6/route.c.
            Some(Errno::EINVAL | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EAGAIN) => {
                Ok(Way::Refused)
            }
            // Or the interface is gone.
            Some(Errno::ENETUNREACH | Errno::ENODEV) => Ok(Way::None),
            Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => Ok(Way::NoFamily),
            _ => Err(error),
        }
    }

    /// Adds the guard's blackhole for an address to the main table, or moves it there to where it
    /// refuses; false where even the first place is not enough.
    ///
    /// It goes to the second place first (metric 1): the ECS agent's plugin adds a blackhole of its
    /// own to the first, also after the guard, and must not find one there (EEXIST fails the task's
    /// start). Only where another route stands in the first place is that one's place taken.
    pub fn block(&mut self, to: IpAddr) -> io::Result<bool> {
        for metric in metrics(to) {
            let of = (RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
            let (header, attributes) = blackhole(to, *metric);
            self.0.ask(of, &header, &attributes.0, &mut |_| {})?;
            if !matches!(self.way(to, None)?, Way::Out { .. }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the guard's blackholes for an address out; false where there are none.
    pub fn unblock(&mut self, to: IpAddr) -> io::Result<bool> {
        let mut any = false;
        for metric in metrics(to) {
            let (header, attributes) = blackhole(to, *metric);
            let of = (RTM_DELROUTE, NLM_F_ACK);
            let asked = self.0.ask(of, &header, &attributes.0, &mut |_| {});
            match asked
                .as_ref()
                .map_err(|e| e.raw_os_error().map(Errno::from_raw))
            {
                Ok(()) => any = true,
                Err(Some(Errno::ESRCH | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {}
                Err(_) => asked?,
            }
        }
        Ok(any)
    }

    /// Whether the main table has an IPv4 default route.
    pub fn has_ipv4_default(&mut self) -> io::Result<bool> {
        let mut all = self.ipv4()?.into_iter();
        Ok(all.any(|route| route.table == u32::from(RT_TABLE_MAIN) && route.length == 0))
    }

    /// The addresses to which the guard's own routes by the loopback interface lead.
    pub fn by_loopback(&mut self) -> io::Result<BTreeSet<Ipv4Addr>> {
        let own = |route: &Ipv4Route| {
            route.protocol == PROTOCOL && route.length == 32 && route.interface == LOOPBACK
        };
        let all = self.ipv4()?.into_iter();
        Ok(all.filter(own).filter_map(|route| route.to).collect())
    }

    /// Adds the guard's own route to an address by the loopback interface.
    ///
    /// It goes to the second place (metric 1): ecs-init adds its own to the first with NLM_F_EXCL, and removes
    /// whatever it finds there.
    pub fn add_by_loopback(&mut self, to: Ipv4Addr) -> io::Result<()> {
        let of = (RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
        let (header, attributes) = by_loopback(to);
        self.0.ask(of, &header, &attributes.0, &mut |_| {})
    }

    /// Removes it.
    pub fn remove_by_loopback(&mut self, to: Ipv4Addr) -> io::Result<()> {
        let (header, attributes) = by_loopback(to);
        let of = (RTM_DELROUTE, NLM_F_ACK);
        self.0.ask(of, &header, &attributes.0, &mut |_| {})
    }

    /// All IPv4 routes to other hosts, of every table.
    fn ipv4(&mut self) -> io::Result<Vec<Ipv4Route>> {
        let mut header = [0; RTMSG];
        header[0] = libc::AF_INET as u8;
        let what = ("the IPv4 routes", RTM_GETROUTE);
        self.0
            .list(what, &header, |message| ipv4_route(message.payload))
    }

    /// The networks that are this host's own, and those of all hosts in a network: routes of type local and
    /// broadcast, of every table and both families.
    pub fn local_and_broadcast(&mut self) -> io::Result<(Vec<Net>, Vec<Net>)> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; RTMSG];
            header[0] = family as u8;
            let what = ("the local routes", RTM_GETROUTE);
            let listed = self
                .0
                .list(what, &header, |message| kind_and_net(message.payload));
            match listed {
                Ok(routes) => found.extend(routes),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => {}
                    _ => return Err(error),
                },
            }
        }
        let of = |kind: u8| {
            let those = found.iter().filter(|(of, _)| *of == kind);
            those.map(|(_, net)| *net).collect()
        };
        Ok((of(RTN_LOCAL), of(RTN_BROADCAST)))
    }

    /// The priority of the first routing rule that looks into a table.
    pub fn rule_to(&mut self, family_of: IpAddr, table: u32) -> io::Result<Option<u32>> {
        let mut header = [0; RTMSG];
        header[0] = family(family_of);
        // The kernel lists them by priority.
        let rules = self
            .0
            .list(("the routing rules", RTM_GETRULE), &header, |message| {
                let (header, attributes) = message.payload.split_at_checked(RTMSG)?;
                let in_header = header.get(4).copied().map(u32::from);
                let of = value(attributes, FRA_TABLE)
                    .and_then(number)
                    .or(in_header)?;
                let priority = value(attributes, FRA_PRIORITY).and_then(number);
                (of == table).then_some(priority.unwrap_or(0))
            })?;
        Ok(rules.first().copied())
    }
}

/// An IPv4 route to other hosts (RTN_UNICAST).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ipv4Route {
    table: u32,
    protocol: u8,
    length: u8,
    to: Option<Ipv4Addr>,
    interface: u32,
}

fn ipv4_route(payload: &[u8]) -> Option<Ipv4Route> {
    let (header, attributes) = payload.split_at_checked(RTMSG)?;
    let &[_, length, _, _, in_header, protocol, _, kind, ..] = header else {
        return None;
    };
    let table = value(attributes, RTA_TABLE).and_then(number);
    let to = value(attributes, RTA_DST).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    (kind == RTN_UNICAST).then(|| Ipv4Route {
        table: table.unwrap_or_else(|| u32::from(in_header)),
        protocol,
        length,
        to: to.map(Ipv4Addr::from),
        interface: value(attributes, RTA_OIF).and_then(number).unwrap_or(0),
    })
}

/// The type of a route, and where it goes.
fn kind_and_net(payload: &[u8]) -> Option<(u8, Net)> {
    let (header, attributes) = payload.split_at_checked(RTMSG)?;
    let &[family, length, _, _, _, _, _, kind, ..] = header else {
        return None;
    };
    let to = value(attributes, RTA_DST);
    let to = match i32::from(family) {
        libc::AF_INET => IpAddr::V4(
            to.and_then(|b| <[u8; 4]>::try_from(b).ok())
                .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from),
        ),
        _ => IpAddr::V6(
            to.and_then(|b| <[u8; 16]>::try_from(b).ok())
                .map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from),
        ),
    };
    Some((kind, Net::new(to, length)?))
}

/// The guard's own route to an address by the loopback interface.
fn by_loopback(to: Ipv4Addr) -> ([u8; RTMSG], Attributes) {
    let to = IpAddr::V4(to);
    let mut header = rtmsg(to, 0);
    header[4] = RT_TABLE_MAIN;
    header[5] = PROTOCOL;
    header[6] = RT_SCOPE_LINK;
    header[7] = RTN_UNICAST;
    let attributes = destination(to)
        .put(RTA_OIF, &LOOPBACK.to_ne_bytes())
        .put(RTA_PRIORITY, &1_u32.to_ne_bytes());
    (header, attributes)
}

const fn family(of: IpAddr) -> u8 {
    match of {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// `struct rtmsg` for one address: family, length of the destination, and the rest nought.
fn rtmsg(to: IpAddr, flags: u32) -> [u8; RTMSG] {
    let mut header = [0; RTMSG];
    header[0] = family(to);
    header[1] = if to.is_ipv4() { 32 } else { 128 };
    header[8..].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn destination(to: IpAddr) -> Attributes {
    match to {
        IpAddr::V4(to) => Attributes::default().put(RTA_DST, &to.octets()),
        IpAddr::V6(to) => Attributes::default().put(RTA_DST, &to.octets()),
    }
}

/// Where the guard's blackhole may stand. In IPv6 a metric of 0 means 1024, which is the agent's.
const fn metrics(to: IpAddr) -> &'static [u32] {
    match to {
        IpAddr::V4(_) => &[1, 0],
        IpAddr::V6(_) => &[1],
    }
}

/// The guard's own blackhole.
fn blackhole(to: IpAddr, metric: u32) -> ([u8; RTMSG], Attributes) {
    let mut header = rtmsg(to, 0);
    header[4] = RT_TABLE_MAIN;
    header[5] = PROTOCOL;
    header[7] = RTN_BLACKHOLE;
    (
        header,
        destination(to).put(RTA_PRIORITY, &metric.to_ne_bytes()),
    )
}
