//! What the host's network namespace knows of others: the numbers that it gave them (nsid), the
//! ports of its bridges that lead there, and what happens in them.
//!
//! Numbers are those of linux/net_namespace.h and linux/rtnetlink.h.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use netlink_packet_core::NLM_F_ACK;
use nix::sys::socket::SockProtocol;

use super::attributes::{Attributes, number, value};
use super::links::{self, Link};
use super::netlink;

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// The length of `struct rtgenmsg`, padded.
const RTGENMSG: usize = 4;

/// A socket that asks for all this in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Peers(netlink::Socket);

/// Which namespaces bridges lead into, by nsid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// The bridge's name, and the namespaces its ports lead into.
    pub bridges: BTreeMap<String, BTreeSet<i32>>,
}

impl Ports {
    /// Sorts the interfaces of the host.
    #[must_use]
    pub fn of(links: &[Link]) -> Self {
        let mut bridges: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        let names: BTreeMap<u32, &str> = links
            .iter()
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        for link in links {
            let bridge = link.master.and_then(|master| names.get(&master));
            if let (Some(bridge), Some(nsid)) = (bridge, link.leads_to) {
                bridges
                    .entry((*bridge).to_owned())
                    .or_default()
                    .insert(nsid);
            }
        }
        Self { bridges }
    }

    /// The namespaces into which the ports of these bridges lead.
    pub fn behind<'a>(&'a self, bridges: &'a [&str]) -> impl Iterator<Item = i32> + 'a {
        let these = bridges.iter().filter_map(|name| self.bridges.get(*name));
        these.flatten().copied()
    }

    /// Whether a port of one of these bridges leads into that namespace.
    #[must_use]
    pub fn leads(&self, bridges: &[&str], nsid: i32) -> bool {
        self.behind(bridges).any(|behind| behind == nsid)
    }

    /// Whether a port of any other bridge does.
    #[must_use]
    pub fn leads_otherwise(&self, but: &[&str], nsid: i32) -> bool {
        let mut others = self
            .bridges
            .iter()
            .filter(|(name, _)| !but.contains(&name.as_str()));
        others.any(|(_, ids)| ids.contains(&nsid))
    }
}

impl Peers {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        netlink::Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// The number that this namespace gave to another; `None` where it knows nothing of it.
    pub fn nsid(&mut self, other: impl AsFd) -> io::Result<Option<i32>> {
        let fd = other.as_fd().as_raw_fd().cast_unsigned();
        let attributes = Attributes::default().put(NETNSA_FD, &fd.to_ne_bytes());
        let mut found = None;
        let of = (RTM_GETNSID, 0);
        self.0
            .ask(of, &[0; RTGENMSG], &attributes.0, &mut |message| {
                if message.kind == RTM_NEWNSID {
                    found = nsid_in(message.payload);
                }
            })?;
        Ok(found)
    }

    /// Gives another namespace a number here, so that what happens there is heard, and says which.
    /// That does not keep it alive.
    pub fn number(&mut self, other: impl AsFd) -> io::Result<Option<i32>> {
        let fd = other.as_fd().as_raw_fd().cast_unsigned();
        // NETNSA_NSID_NOT_ASSIGNED: any that is free.
        let any = (-1_i32).to_ne_bytes();
        let attributes = Attributes::default()
            .put(NETNSA_NSID, &any)
            .put(NETNSA_FD, &fd.to_ne_bytes());
        let of = (RTM_NEWNSID, NLM_F_ACK);
        let asked = self.0.ask(of, &[0; RTGENMSG], &attributes.0, &mut |_| {});
        match asked {
            // Another process gave it one meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        self.nsid(other)
    }

    /// All interfaces here.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        links::all(&mut self.0)
    }
}

/// The nsid in a message about one; -1 stands for none.
fn nsid_in(payload: &[u8]) -> Option<i32> {
    let attributes = payload.get(RTGENMSG..)?;
    let nsid = number(value(attributes, NETNSA_NSID)?)?.cast_signed();
    (nsid >= 0).then_some(nsid)
}
