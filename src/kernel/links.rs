//! Network interfaces as they come and go in this network namespace, over rtnetlink.
//!
//! Numbers of messages, groups and attributes are those of linux/rtnetlink.h and linux/if_link.h.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{SockFlag, SockProtocol};

use super::attributes::{each, text};
use super::netlink::{self, Message, Next};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTMGRP_LINK: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
/// The length of `struct ifinfomsg`, which begins a message about a link.
const IFINFOMSG: usize = 16;

/// How often the list is read again because it changed meanwhile.
const ATTEMPTS: usize = 5;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, which stays with it over a change of its name.
    pub index: i32,
    /// Its name; not UTF-8 only if somebody went to lengths, and then with replacement characters.
    pub name: String,
    /// What made it (`bridge`, `veth`); absent for physical ones and for the loopback.
    pub kind: Option<String>,
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
    /// Notifications did not fit into the socket's buffer. [`Links::all`] is right again.
    Lost,
}

/// The interfaces of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Links {
    events: OwnedFd,
    queries: netlink::Socket,
    known: BTreeMap<i32, Link>,
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

    /// All interfaces, as far as they have been heard of.
    pub fn all(&self) -> impl Iterator<Item = &Link> {
        self.known.values()
    }

    /// Reads all notifications there are; waits for none.
    pub fn drain(&mut self) -> io::Result<Vec<LinkChange>> {
        let mut changes = Vec::new();
        let mut lost = false;
        loop {
            match netlink::hear(self.events.as_fd(), &mut self.buffer)? {
                Next::Datagram(bytes) => {
                    for message in netlink::split(bytes) {
                        changes.extend(learn(&mut self.known, &message?));
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

    fn read_all(&mut self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            match self.dump() {
                Ok(known) => {
                    self.known = known;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let message = format!("the interfaces changed during each of {ATTEMPTS} readings");
        Err(io::Error::other(message))
    }

    /// [`io::ErrorKind::Interrupted`] where the list changed while it was read.
    fn dump(&mut self) -> io::Result<BTreeMap<i32, Link>> {
        let mut request = Vec::with_capacity(64);
        let message = (RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, self.queries.next());
        netlink::append(&mut request, message, &[0; IFINFOMSG], &[]);
        let mut found = BTreeMap::new();
        self.queries.converse(&request, &mut |message| {
            let _new_to_this_list = learn(&mut found, message);
        })?;
        Ok(found)
    }
}

/// Brings `known` up to date with a message, and says what that changed.
fn learn(known: &mut BTreeMap<i32, Link>, message: &Message<'_>) -> Option<LinkChange> {
    let (header, attributes) = message.payload.split_at_checked(IFINFOMSG)?;
    // A bridge tells of its ports with its own family: a port that leaves is an RTM_DELLINK too.
    if header.first() != Some(&(nix::libc::AF_UNSPEC as u8)) {
        return None;
    }
    let index = i32::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    match message.kind {
        RTM_NEWLINK => {
            let link = read(index, attributes)?;
            Some(match known.insert(index, link.clone()) {
                None => LinkChange::Appeared(link),
                Some(_) => LinkChange::Changed(link),
            })
        }
        RTM_DELLINK => {
            let last = known.remove(&index);
            last.or_else(|| read(index, attributes))
                .map(LinkChange::Gone)
        }
        _ => None,
    }
}

/// `None` where there is no name, which the kernel never leaves out.
fn read(index: i32, attributes: &[u8]) -> Option<Link> {
    let (mut name, mut kind) = (None, None);
    let owned = |value| String::from_utf8_lossy(text(value)).into_owned();
    for (number, value) in each(attributes) {
        match number.ok()? {
            IFLA_IFNAME => name = Some(owned(value)),
            IFLA_LINKINFO => {
                let mut nested = each(value);
                kind = nested
                    .find(|(number, _)| matches!(number, Ok(IFLA_INFO_KIND)))
                    .map(|(_, value)| owned(value));
            }
            _ => {}
        }
    }
    name.map(|name| Link { index, name, kind })
}
