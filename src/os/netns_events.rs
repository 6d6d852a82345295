//! What happens in other network namespaces, as far as the host's has a number (nsid) for them: one
//! socket of a kind hears them all (NETLINK_LISTEN_ALL_NSID, netlink(7)), and keeps none alive.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{SockFlag, SockProtocol};

use super::netlink::{self, Next};
use super::nft::{Commit, Commits};

/// RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_ROUTE, and RTNLGRP_IPV6_RULE (19)
/// and RTNLGRP_NSID (28) as bits (linux/rtnetlink.h).
const GROUPS: u32 = 1 | 0x40 | 0x80 | 0x400 | 1 << 18 | 1 << 27;
/// The last of the messages about interfaces; RTM_NEWNSID and RTM_DELNSID.
const RTM_SETLINK: u16 = 19;
const NSIDS: [u16; 2] = [88, 89];

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface of the host, or the host's knowledge of other namespaces, changed.
    Host,
    /// Interfaces, routes or rules changed in this namespace.
    Network(i32),
    /// Another program committed to nf_tables in this namespace.
    Commit(i32, Commit),
    /// Some events were lost.
    Lost,
}

/// The sockets that hear it.
#[derive(Debug)]
pub struct NetnsEvents {
    routes: OwnedFd,
    commits: Commits,
    buffer: Vec<u8>,
}

impl NetnsEvents {
    /// Begins to listen, in the calling thread's network namespace. Needs CAP_NET_BROADCAST.
    pub fn listen() -> io::Result<Self> {
        let routes = netlink::open(SockProtocol::NetlinkRoute, SockFlag::SOCK_NONBLOCK, GROUPS)?;
        netlink::listen_everywhere(routes.as_fd())?;
        Ok(Self {
            routes,
            commits: Commits::listen_everywhere()?,
            buffer: vec![0; netlink::BUFFER],
        })
    }

    /// Readable when [`NetnsEvents::drain`] has something to say.
    #[must_use]
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.routes.as_fd(), self.commits.as_fd()]
    }

    /// Everything that is waiting.
    pub fn drain(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match netlink::hear_from(self.routes.as_fd(), &mut self.buffer)? {
                (Next::Datagram(bytes), from) => {
                    for message in netlink::split(bytes) {
                        let Ok(message) = message else {
                            events.push(lost(from));
                            break;
                        };
                        let kind = message.kind;
                        let of_links = kind <= RTM_SETLINK || NSIDS.contains(&kind);
                        match from {
                            None if of_links => events.push(Event::Host),
                            Some(nsid) if !NSIDS.contains(&kind) => {
                                events.push(Event::Network(nsid));
                            }
                            _ => {}
                        }
                    }
                }
                (Next::Lost, from) => events.push(lost(from)),
                (Next::Nothing, _) => break,
            }
            events.dedup();
        }
        let heard = self.commits.drain_everywhere()?;
        let commits = heard
            .into_iter()
            .map(|(from, commit)| match (from, commit) {
                (Some(nsid), Some(commit)) => Event::Commit(nsid, commit),
                (from, _) => lost(from),
            });
        events.extend(commits);
        Ok(events)
    }
}

/// What it means that a message could not be read. One that is too large for the buffer still says where
/// it came from: nothing else has to be looked at.
fn lost(from: Option<i32>) -> Event {
    from.map_or(Event::Lost, Event::Network)
}
