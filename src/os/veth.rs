//! A veth pair from a bridge of the host into another network namespace, and the addresses and routes
//! of its inner end, over rtnetlink.
//!
//! Numbers are those of linux/rtnetlink.h, linux/if_link.h and linux/neighbour.h.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use nix::libc;
use nix::sys::socket::SockProtocol;

pub use super::addresses::Address;
use super::addresses::{self, IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, ip};
use super::attributes::{Attributes, number, value};
use super::links::{
    IFINFOMSG, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, RTM_GETLINK, RTM_NEWLINK,
};
use super::netlink;
use super::packet_socket::MAC;

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const IFLA_ADDRESS: u16 = 1;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
/// The length of `struct rtmsg`.
const RTMSG: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
/// Resolve it as if a packet were to be sent.
const NTF_USE: u8 = 1;
/// The length of `struct ndmsg`.
const NDMSG: usize = 12;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The interface's number.
    pub interface: u32,
    /// The router; absent where the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// The address that the kernel would send from.
    pub source: Option<IpAddr>,
}

/// A veth pair that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The name of the end that becomes a port of the bridge.
    pub port: &'a str,
    /// The number of the bridge.
    pub bridge: u32,
    /// The Ethernet address of that end.
    pub mac: [u8; MAC],
    /// The name of the other end.
    pub inner: &'a str,
    /// The Ethernet address of the other end.
    pub inner_mac: [u8; MAC],
}

/// A socket for all this in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Wires(netlink::Socket);

impl Wires {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        netlink::Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// Makes a veth pair in one request: the port is up and on the bridge, and the other end is in the
    /// other namespace, from its first instant. It goes with that namespace.
    pub fn add_pair(&mut self, pair: &Pair<'_>, other: impl AsFd) -> io::Result<()> {
        let fd = other.as_fd().as_raw_fd().cast_unsigned();
        let inner = Attributes::default()
            .put(IFLA_IFNAME, &named(pair.inner))
            .put(IFLA_ADDRESS, &pair.inner_mac)
            .put(IFLA_NET_NS_FD, &fd.to_ne_bytes());
        // A message about a link within the attribute: its header, then its attributes.
        let mut peer = link(0, 0).to_vec();
        peer.extend(inner.0);
        let data = Attributes::default().put(VETH_INFO_PEER, &peer);
        let info = Attributes::default()
            .put(IFLA_INFO_KIND, b"veth")
            .nest(IFLA_INFO_DATA, &data);
        let attributes = Attributes::default()
            .put(IFLA_IFNAME, &named(pair.port))
            .put(IFLA_ADDRESS, &pair.mac)
            .put(IFLA_MASTER, &pair.bridge.to_ne_bytes())
            .nest(IFLA_LINKINFO, &info);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.change(RTM_NEWLINK, flags, &link(0, IFF_UP), &attributes)
    }

    /// The Ethernet address of an interface; `None` for one that has none.
    pub fn mac(&mut self, interface: u32) -> io::Result<Option<[u8; MAC]>> {
        let mut found = None;
        let of = (RTM_GETLINK, 0);
        self.0.ask(of, &link(interface, 0), &[], &mut |message| {
            let attributes = message.payload.get(IFINFOMSG..).unwrap_or_default();
            found = value(attributes, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok());
        })?;
        Ok(found)
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, interface: u32) -> io::Result<()> {
        let header = link(interface, IFF_UP);
        self.change(RTM_NEWLINK, NLM_F_ACK, &header, &Attributes::default())
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, interface: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut header = [0; IFADDRMSG];
        header[0] = family(address);
        header[1] = prefix;
        header[4..].copy_from_slice(&interface.to_ne_bytes());
        let attributes = put_address(Attributes::default(), IFA_LOCAL, address);
        let attributes = put_address(attributes, IFA_ADDRESS, address);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.change(RTM_NEWADDR, flags, &header, &attributes)
    }

    /// Adds a default route.
    pub fn add_default(&mut self, interface: u32, gateway: IpAddr) -> io::Result<()> {
        let mut header = [0; RTMSG];
        header[0] = family(gateway);
        (header[4], header[5], header[7]) = (RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST);
        let attributes = put_address(Attributes::default(), RTA_GATEWAY, gateway)
            .put(RTA_OIF, &interface.to_ne_bytes());
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.change(RTM_NEWROUTE, flags, &header, &attributes)
    }

    /// Says which Ethernet address a neighbour has, for as long as the interface is there.
    pub fn add_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        mac: [u8; MAC],
    ) -> io::Result<()> {
        let header = neighbour(interface, family(address), NUD_PERMANENT, 0);
        let attributes = put_address(Attributes::default(), NDA_DST, address).put(NDA_LLADDR, &mac);
        let flags = NLM_F_ACK | NLM_F_CREATE;
        self.change(RTM_NEWNEIGH, flags, &header, &attributes)
    }

    /// Forgets what is known of a neighbour.
    pub fn forget_neighbour(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let header = neighbour(interface, family(address), 0, 0);
        let attributes = put_address(Attributes::default(), NDA_DST, address);
        self.change(RTM_DELNEIGH, NLM_F_ACK, &header, &attributes)
    }

    /// Has the kernel ask for a neighbour's Ethernet address, by ARP or neighbour discovery, unless it
    /// knows it.
    pub fn resolve(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let header = neighbour(interface, family(address), 0, NTF_USE);
        let attributes = put_address(Attributes::default(), NDA_DST, address);
        let flags = NLM_F_ACK | NLM_F_CREATE;
        self.change(RTM_NEWNEIGH, flags, &header, &attributes)
    }

    /// The Ethernet address that the kernel knows a neighbour by.
    pub fn neighbour(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<[u8; MAC]>> {
        let header = neighbour(0, family(address), 0, 0);
        let what = ("the neighbours", RTM_GETNEIGH);
        let found = self.0.list(what, &header, |message| {
            let (header, attributes) = message.payload.split_at_checked(NDMSG)?;
            let at = header.get(4..).and_then(number)?;
            let of = value(attributes, NDA_DST).and_then(ip)?;
            let mac = value(attributes, NDA_LLADDR)?.first_chunk().copied()?;
            (at == interface && of == address).then_some(mac)
        })?;
        Ok(found.into_iter().next())
    }

    /// All addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        addresses::all(&mut self.0)
    }

    /// Where a packet to this address goes next. An error where it goes nowhere.
    pub fn next_hop(&mut self, to: IpAddr) -> io::Result<Hop> {
        let mut header = [0; RTMSG];
        header[0] = family(to);
        header[1] = if to.is_ipv4() { 32 } else { 128 };
        let attributes = put_address(Attributes::default(), RTA_DST, to);
        let mut hop = None;
        let of = (RTM_GETROUTE, 0);
        self.0.ask(of, &header, &attributes.0, &mut |message| {
            let attributes = message.payload.get(RTMSG..).unwrap_or_default();
            hop = value(attributes, RTA_OIF)
                .and_then(number)
                .map(|interface| Hop {
                    interface,
                    gateway: value(attributes, RTA_GATEWAY).and_then(ip),
                    source: value(attributes, RTA_PREFSRC).and_then(ip),
                });
        })?;
        hop.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &Attributes,
    ) -> io::Result<()> {
        self.0
            .ask((kind, flags), header, &attributes.0, &mut |_| {})
    }
}

/// `struct ifinfomsg` that sets `flags`.
fn link(interface: u32, flags: u32) -> [u8; IFINFOMSG] {
    let mut header = [0; IFINFOMSG];
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn neighbour(interface: u32, family: u8, state: u16, flags: u8) -> [u8; NDMSG] {
    let mut header = [0; NDMSG];
    header[0] = family;
    header[4..8].copy_from_slice(&interface.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

fn named(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

const fn family(of: IpAddr) -> u8 {
    match of {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn put_address(attributes: Attributes, kind: u16, address: IpAddr) -> Attributes {
    match address {
        IpAddr::V4(address) => attributes.put(kind, &address.octets()),
        IpAddr::V6(address) => attributes.put(kind, &address.octets()),
    }
}
