//! Network interfaces as they come and go in this network namespace, over rtnetlink.
//!
//! Numbers of messages, groups and attributes are those of linux/rtnetlink.h and linux/if_link.h.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{SockFlag, SockProtocol};

use super::attributes::{Attributes, each, number, text, value};
use super::netlink::{self, Message, Next};
use crate::config::readable;
use crate::guarantee::edge::Interface;

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
const RTM_GETSTATS: u16 = 94;
const RTMGRP_LINK: u32 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PROP_LIST: u16 = 52;
pub(super) const IFLA_INFO_KIND: u16 = 1;
/// The length of `struct ifinfomsg`, which begins a message about a link.
pub(super) const IFINFOMSG: usize = 16;
/// `RTEXT_FILTER_SKIP_STATS`: leave the counters out.
const SKIP_STATS: u32 = 1 << 3;
/// `IFLA_STATS_LINK_64` as a bit: the counters alone.
const COUNTERS: u32 = 1;
/// `IFF_LOOPBACK` of linux/if.h.
const LOOPBACK: u32 = 8;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, which stays with it over a change of its name.
    pub index: u32,
    /// Its name; not UTF-8 only if it was made so on purpose, and then with those bytes escaped.
    pub name: String,
    /// Its name as the kernel has it.
    pub raw_name: Vec<u8>,
    /// What made it (`bridge`, `veth`); absent for physical ones and for the loopback.
    pub kind: Option<String>,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// The number of the bridge that it is a port of.
    pub master: Option<u32>,
    /// The number (nsid) of the namespace in which its other end is, where that is another one.
    pub leads_to: Option<i32>,
}

/// Something that happened to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// It is new here: made, or moved here from another namespace.
    Appeared(Link),
    /// Anything about it changed, as it is now: its name, its state, a sysctl set by netlink.
    Changed(Link),
    /// It is gone; as it was last.
    Gone(Link),
    /// Notifications did not fit into the socket's buffer.
    Lost,
}

/// The interfaces of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Links {
    events: OwnedFd,
    queries: netlink::Socket,
    known: BTreeMap<u32, Link>,
    buffer: Vec<u8>,
}

impl AsFd for Links {
    /// Readable when [`Links::drain`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Links {
    /// Begins to listen in the calling thread's network namespace, then reads what there is. What
    /// changes in between may come up as [`LinkChange::Changed`] without a difference.
    pub fn open() -> io::Result<Self> {
        let route = SockProtocol::NetlinkRoute;
        let events = netlink::open(route, SockFlag::SOCK_NONBLOCK, RTMGRP_LINK)?;
        let queries = netlink::Socket::open(route)?;
        let mut links = Self {
            events,
            queries,
            known: BTreeMap::new(),
            buffer: vec![0; netlink::BUFFER],
        };
        links.read_all()?;
        Ok(links)
    }

    /// Reads all notifications there are; waits for none.
    pub fn drain(&mut self) -> io::Result<Vec<LinkChange>> {
        let mut changes = Vec::new();
        let mut lost = false;
        loop {
            match netlink::hear(self.events.as_fd(), &mut self.buffer)? {
                Next::Datagram(bytes) => {
                    for message in netlink::split(bytes) {
                        match message {
                            Ok(message) => changes.extend(learn(&mut self.known, &message)),
                            Err(_) => lost = true,
                        }
                    }
                }
                Next::Lost => lost = true,
                Next::Nothing => break,
            }
        }
        if lost {
            self.read_all()?;
            changes.push(LinkChange::Lost);
        }
        Ok(changes)
    }

    /// Those that there are, after all notifications that were read.
    pub fn interfaces(&self) -> Vec<Interface> {
        self.known.values().cloned().map(Interface::from).collect()
    }

    fn read_all(&mut self) -> io::Result<()> {
        let all = all(&mut self.queries)?;
        self.known = all.into_iter().map(|link| (link.index, link)).collect();
        Ok(())
    }
}

/// A socket that asks for the interfaces of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Interfaces(netlink::Socket);

impl Interfaces {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        netlink::Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// All that there are now.
    pub fn read(&mut self) -> io::Result<Vec<Interface>> {
        interfaces(&mut self.0)
    }
}

pub(super) fn interfaces(socket: &mut netlink::Socket) -> io::Result<Vec<Interface>> {
    let links = all(socket)?.into_iter();
    Ok(links.map(Interface::from).collect())
}

/// The number of the interface of this name in the calling thread's network namespace. Unlike a list,
/// it does not wait for the kernel's lock on the interfaces.
#[must_use]
pub fn index_of(name: &[u8]) -> Option<u32> {
    if_nametoindex(name).ok()
}

impl From<Link> for Interface {
    fn from(link: Link) -> Self {
        Self {
            index: link.index,
            name: link.raw_name,
            loopback: link.loopback,
            kind: link.kind,
            master: link.master,
            leads_elsewhere: link.leads_to.is_some(),
        }
    }
}

/// Asks for all interfaces of the socket's network namespace.
///
/// The kernel ends the list before an interface whose message is too large for it, and need not call that
/// an error: without IFLA_EXT_MASK, Linux 6.18 does so at one with 300 alternative names. The list of
/// counters has small messages only, and names every interface. Those that are missing are asked for one
/// by one.
pub(super) fn all(socket: &mut netlink::Socket) -> io::Result<Vec<Link>> {
    // `struct if_stats_msg`.
    let mut counters = [0; 12];
    counters[8..].copy_from_slice(&COUNTERS.to_ne_bytes());
    let what = ("the interfaces", RTM_GETSTATS);
    let there = socket.list(what, &counters, |message| number(message.payload.get(4..)?))?;
    let mut links = match socket.list(("the interfaces", RTM_GETLINK), &asking(0), link) {
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => Vec::new(),
        listed => listed?,
    };
    let listed: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
    for index in there.into_iter().filter(|index| !listed.contains(index)) {
        links.extend(one(socket, index)?);
    }
    Ok(links)
}

/// Asks for one interface; `None` where it is gone.
fn one(socket: &mut netlink::Socket, index: u32) -> io::Result<Option<Link>> {
    let mut found = None;
    let asked = socket.ask((RTM_GETLINK, 0), &asking(index), &[], &mut |message| {
        found = link(message);
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        asked => asked.map(|()| found),
    }
}

/// A request for an interface, or for all of them.
fn asking(index: u32) -> Vec<u8> {
    let mut request = vec![0; IFINFOMSG];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    request.extend(
        Attributes::default()
            .put(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes())
            .0,
    );
    request
}

/// Brings `known` up to date with a message, and says what that changed.
fn learn(known: &mut BTreeMap<u32, Link>, message: &Message<'_>) -> Option<LinkChange> {
    let link = link(message);
    match message.kind {
        RTM_NEWLINK => {
            let link = link?;
            Some(match known.insert(link.index, link.clone()) {
                None => LinkChange::Appeared(link),
                Some(_) => LinkChange::Changed(link),
            })
        }
        RTM_DELLINK => {
            let link = link?;
            let last = known.remove(&link.index);
            Some(LinkChange::Gone(last.unwrap_or(link)))
        }
        _ => None,
    }
}

/// The interface that a message is about. `None` where there is no name, which the kernel never leaves
/// out.
fn link(message: &Message<'_>) -> Option<Link> {
    let (header, attributes) = message.payload.split_at_checked(IFINFOMSG)?;
    // A bridge tells of its ports with its own family: a port that leaves is an RTM_DELLINK too.
    if header.first() != Some(&(nix::libc::AF_UNSPEC as u8)) {
        return None;
    }
    let mut link = Link {
        index: number(header.get(4..)?)?,
        loopback: number(header.get(8..)?)? & LOOPBACK != 0,
        ..Link::default()
    };
    for (kind, bytes) in each(attributes) {
        match kind.ok()? {
            IFLA_IFNAME => {
                link.name = readable(text(bytes));
                link.raw_name = text(bytes).to_vec();
            }
            IFLA_MASTER => link.master = number(bytes),
            IFLA_LINK_NETNSID => link.leads_to = number(bytes).map(u32::cast_signed),
            IFLA_LINKINFO => {
                link.kind = value(bytes, IFLA_INFO_KIND).map(|kind| readable(text(kind)));
            }
            // What anybody may fill comes after all of these, and may be longer than its length says.
            IFLA_PROP_LIST => break,
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}
