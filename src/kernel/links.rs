//! Network interfaces as they come and go in this network namespace, over rtnetlink.
//!
//! Numbers of messages, groups and attributes are those of linux/rtnetlink.h and linux/if_link.h.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::attributes::{each, text};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTMGRP_LINK: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The lengths of `struct nlmsghdr` and of `struct ifinfomsg`, which begins a message about a link.
const NLMSGHDR: usize = 16;
const IFINFOMSG: usize = 16;

/// The kernel sends dumps in pieces of at most 32 KiB (NLMSG_GOODSIZE and netlink_dump()).
const BUFFER: usize = 64 * 1024;

/// The kernel answers before `send` returns; an answer missing for this long never comes.
const PATIENCE_SECONDS: i64 = 5;

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
    queries: OwnedFd,
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
        let events = netlink(SockFlag::SOCK_NONBLOCK, RTMGRP_LINK)?;
        let queries = netlink(SockFlag::empty(), 0)?;
        let patience = TimeVal::new(PATIENCE_SECONDS, 0);
        setsockopt(&queries, sockopt::ReceiveTimeout, &patience)?;
        let mut links = Self {
            events,
            queries,
            known: BTreeMap::new(),
            buffer: vec![0; BUFFER],
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
            match recv(self.events.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    for message in messages(bytes) {
                        changes.extend(learn(&mut self.known, &message?));
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => lost = true,
                Err(errno) => return Err(errno.into()),
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
        let mut request = Vec::with_capacity(NLMSGHDR + IFINFOMSG);
        request.extend(((NLMSGHDR + IFINFOMSG) as u32).to_ne_bytes());
        request.extend(RTM_GETLINK.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.resize(NLMSGHDR + IFINFOMSG, 0);
        send(self.queries.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut found = BTreeMap::new();
        let mut interrupted = false;
        loop {
            let queries = self.queries.as_raw_fd();
            let length = match recv(queries, &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return Err(error_of(message.payload())),
                    _ => {
                        let _new_to_this_list = learn(&mut found, &message);
                    }
                }
            }
        }
    }
}

fn netlink(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags | SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// The messages of one datagram. A malformed one gives an error and is the last.
fn messages(bytes: &[u8]) -> impl Iterator<Item = io::Result<NetlinkBuffer<&[u8]>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest).map_err(invalid);
        // Messages are padded to four bytes (NLMSG_ALIGN).
        let step = message.as_ref().map_or(rest.len(), |message| {
            (message.length() as usize).next_multiple_of(4).max(4)
        });
        rest = rest.get(step..).unwrap_or_default();
        Some(message)
    })
}

/// The code of an NLMSG_ERROR, which begins with it.
fn error_of(payload: &[u8]) -> io::Error {
    let code = payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Brings `known` up to date with a message, and says what that changed.
fn learn(known: &mut BTreeMap<i32, Link>, message: &NetlinkBuffer<&[u8]>) -> Option<LinkChange> {
    let payload = message.payload();
    let (header, attributes) = payload.split_at_checked(IFINFOMSG)?;
    // A bridge tells of its ports with its own family: a port that leaves is an RTM_DELLINK too.
    if header.first() != Some(&(nix::libc::AF_UNSPEC as u8)) {
        return None;
    }
    let index = i32::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    match message.message_type() {
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
