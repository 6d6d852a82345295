//! Places that have a network already: an awsvpc task's namespace, and the host's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use super::address::is_routed;
use super::model::{Asked, Tried};
use super::post::{Post, Wire};
use super::watch::{Exits, Watch, task_exits};
use crate::guarantee::imds_block;
use crate::os::links::Link;
use crate::os::netns::Netns;
use crate::os::nsid::Peers;
use crate::os::veth::{Hop, Wires};
use crate::ruleset::Family;

/// Addresses for documentation (RFC 5737, RFC 3849): the way to them is the default route.
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// How long a router may take to answer for its address.
const ROUTER: Duration = Duration::from_millis(800);

/// Tries an awsvpc task, from its own address. To be called by a thread of its own, which stays in the
/// task's namespace.
pub(super) fn probe(
    host: &Mutex<Watch>,
    task: &Netns,
    home: &Netns,
    asked: &Asked,
) -> anyhow::Result<Tried> {
    let mut tried = Tried::new(asked);
    setns(task, CloneFlags::CLONE_NEWNET).context("enter its network namespace")?;
    let mut peers = Peers::open()?;
    let known_as = peers.nsid(home)?;
    let links = peers.links()?;
    let exits = task_exits(&links, known_as);
    let mut network = Network::find(&links, &exits, ELSEWHERE)?;
    if network.sources.is_empty() {
        tried
            .notes
            .push("it has no address of its own, and no default route".to_owned());
        return Ok(tried);
    }
    if asked.frames {
        tried.failure = network.find_routers()?;
    }
    let inside = Watch::open(exits)?;
    let mut post = Post::new(host, Some(inside), network.sources, network.wire);
    post.try_all(asked, &mut tried);
    Ok(tried)
}

/// Tries from the host's own namespace, as the calling thread's cgroup.
pub(super) fn probe_here(
    host: &Mutex<Watch>,
    exits: &Exits,
    asked: &Asked,
) -> anyhow::Result<Tried> {
    let mut tried = Tried::new(asked);
    let links = Peers::open()?.links()?;
    let services = [Family::V4, Family::V6].map(imds_block::address);
    let mut network = Network::find(&links, exits, services)?;
    if asked.frames {
        tried.failure = network.find_routers()?;
    }
    if network.sources.is_empty() {
        tried.failure = Some("the host has no route to the metadata service".to_owned());
    }
    let mut post = Post::new(host, None, network.sources, network.wire);
    post.try_all(asked, &mut tried);
    Ok(tried)
}

/// How packets leave the calling thread's network namespace.
struct Network {
    wires: Wires,
    sources: Vec<IpAddr>,
    wire: Option<Wire>,
    /// The next station on the way, in each family.
    next: Vec<IpAddr>,
}

impl Network {
    /// By the way to some addresses, one of each family; where there is none, by the first interface that
    /// is an exit, from its own address.
    fn find(links: &[Link], exits: &Exits, to: [IpAddr; 2]) -> io::Result<Self> {
        let mut wires = Wires::open()?;
        let mut hops: Vec<(IpAddr, Hop)> = Vec::new();
        for to in to {
            if let Ok(hop) = wires.next_hop(to) {
                hops.push((to, hop));
            }
        }
        let by = hops.first().map(|(_, hop)| hop.interface);
        let index = by.or_else(|| exits.keys().next().copied());
        let link = index.and_then(|index| links.iter().find(|link| link.index == index));
        let addresses = wires.addresses()?;
        let source = |wanted: IpAddr| {
            let of_family = |found: &IpAddr| found.is_ipv4() == wanted.is_ipv4();
            let chosen = hops
                .iter()
                .find_map(|(_, hop)| hop.source.filter(of_family));
            chosen.or_else(|| {
                let mut own = addresses.iter().filter(|of| Some(of.interface) == index);
                let usable = |of: &&crate::os::veth::Address| {
                    of_family(&of.address) && is_routed(of.address) && !of.tentative
                };
                own.find(usable).map(|of| of.address)
            })
        };
        let sources = to.into_iter().filter_map(source).collect();
        let next = hops
            .iter()
            .map(|(to, hop)| hop.gateway.unwrap_or(*to))
            .collect();
        let wire = match link {
            Some(link) => wires.mac(link.index)?.map(|mac| Wire {
                index: link.index,
                name: link.name.clone(),
                mac,
                router4: None,
                router6: None,
                exit: exits.contains_key(&link.index),
            }),
            None => None,
        };
        Ok(Self {
            wires,
            sources,
            wire,
            next,
        })
    }

    /// Finds the Ethernet addresses to which frames are sent; what could not be found, in words.
    fn find_routers(&mut self) -> io::Result<Option<String>> {
        let Some(wire) = &mut self.wire else {
            return Ok(Some(
                "it has no Ethernet interface: no frame was sent".to_owned(),
            ));
        };
        let began = Instant::now();
        let mut missing = None;
        for next in &self.next {
            let mut known = self.wires.neighbour(wire.index, *next)?;
            while known.is_none() && began.elapsed() < ROUTER {
                self.wires.resolve(wire.index, *next)?;
                thread::sleep(Duration::from_millis(20));
                known = self.wires.neighbour(wire.index, *next)?;
            }
            match next {
                _ if known.is_none() => {
                    missing = Some(format!(
                        "{next} does not answer for its Ethernet address: no frame was sent to it"
                    ));
                }
                IpAddr::V4(_) => wire.router4 = known,
                IpAddr::V6(_) => wire.router6 = known,
            }
        }
        Ok(missing)
    }
}
