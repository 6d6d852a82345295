//! What is seen of a probe's packets in one network namespace: by which interface they left, what
//! answered them, and which of the guard's rules dropped them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::model::Layer;
use super::packet;
use crate::guarantee::edge::{Interface, edges};
use crate::guarantee::{TAG_PREFIX, imds_block};
use crate::os::links::Link;
use crate::os::nft::drops::{Dropped, Drops, Place};
use crate::os::packet_socket::Tap;
use crate::ruleset::Family;

/// The interfaces by which a packet leaves for good, by number.
pub(super) type Exits = BTreeMap<u32, String>;

/// Sees the packets and reads the counters of the namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Watch {
    tap: Tap,
    exits: Exits,
    left: BTreeMap<u32, String>,
    answered: BTreeSet<u32>,
    /// Absent where nf_tables cannot be asked: then what stops a packet has no name.
    drops: Option<Drops>,
    last: Dropped,
}

impl Watch {
    /// Opens it in the calling thread's network namespace.
    pub(super) fn open(exits: Exits) -> io::Result<Self> {
        let (IpAddr::V4(v4), IpAddr::V6(v6)) = (
            imds_block::address(Family::V4),
            imds_block::address(Family::V6),
        ) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut watch = Self {
            tap: Tap::open(v4, v6)?,
            exits,
            left: BTreeMap::new(),
            answered: BTreeSet::new(),
            drops: Drops::open(TAG_PREFIX).ok(),
            last: Dropped::new(),
        };
        watch.read_counters();
        Ok(watch)
    }

    /// Takes note of what has passed since the last time.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2048];
        while let Some(passed) = self.tap.next(&mut buffer)? {
            if !passed.outgoing {
                self.answered.extend(packet::answered_by(passed.packet));
            } else if let Some(exit) = self.exits.get(&passed.interface)
                && let Some(token) = packet::token_of(passed.packet)
            {
                self.left.insert(token, exit.clone());
            }
        }
        Ok(())
    }

    /// The interface by which a packet left.
    pub(super) fn left(&self, token: u32) -> Option<&String> {
        self.left.get(&token)
    }

    /// Whether it was answered.
    pub(super) fn is_answered(&self, token: u32) -> bool {
        self.answered.contains(&token)
    }

    /// The rule that has dropped something since the last time.
    pub(super) fn moved(&mut self) -> Option<(Layer, String)> {
        let before = std::mem::take(&mut self.last);
        self.read_counters();
        let grown = |(rule, packets): &(&(Place, u64), &u64)| {
            **packets > before.get(*rule).copied().unwrap_or(0)
        };
        let ((place, _), _) = self.last.iter().find(grown)?;
        Some((layer(place), described(place)))
    }

    fn read_counters(&mut self) {
        if let Some(Ok(now)) = self.drops.as_mut().map(Drops::read) {
            self.last = now;
        }
    }
}

fn layer(place: &Place) -> Layer {
    match (place.is_own(), place.family()) {
        (false, _) => Layer::Visible,
        (true, "netdev") => Layer::Edge,
        (true, _) => Layer::Seal,
    }
}

fn described(place: &Place) -> String {
    let (family, table, chain) = (place.family(), &place.table, &place.chain);
    format!("{family} {table} {chain}")
}

/// The interfaces of the host by which packets leave it: those at which the edge stands.
pub(super) fn host_exits(links: &[Link]) -> Exits {
    let interfaces: Vec<Interface> = links.iter().cloned().map(Interface::from).collect();
    let indices: Vec<u32> = edges(&interfaces).iter().map(|edge| edge.index).collect();
    exits(links.iter().filter(|link| indices.contains(&link.index)))
}

/// The interfaces by which packets leave a task for good: not the loopback, and none whose other end, or
/// whose parent, is in the host's namespace, which the host watches itself.
pub(super) fn task_exits(links: &[Link], host: Option<i32>) -> Exits {
    let is_exit =
        |link: &&Link| !link.loopback && (link.leads_to.is_none() || link.leads_to != host);
    exits(links.iter().filter(is_exit))
}

fn exits<'a>(links: impl Iterator<Item = &'a Link>) -> Exits {
    links.map(|link| (link.index, link.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: Option<&str>, master: Option<u32>, leads_to: Option<i32>) -> Link {
        Link {
            index: name.len() as u32,
            name: name.to_owned(),
            raw_name: name.into(),
            kind: kind.map(str::to_owned),
            loopback: name == "lo",
            master,
            leads_to,
        }
    }

    fn names(exits: &Exits) -> Vec<&str> {
        exits.values().map(String::as_str).collect()
    }

    #[test]
    fn the_host_is_left_where_the_edge_stands() {
        let links = [
            link("lo", None, None, None),
            link("ens05", None, None, None),
            link("docker0", Some("bridge"), None, None),
            // A container: numbers are the lengths of names here.
            link("veth", Some("veth"), Some(7), Some(1)),
        ];
        assert_eq!(links[2].index, 7);
        let exits = host_exits(&links[..]);
        assert_eq!(names(&exits), ["ens05"]);
    }

    #[test]
    fn a_task_is_left_by_what_does_not_lead_to_the_host() {
        let links = [
            link("lo", None, None, None),
            link("eth0", None, None, None),
            link("ecs-eth0", Some("veth"), None, Some(0)),
            link("vlan.eth0", Some("vlan"), None, Some(0)),
            link("veth-lab00", Some("veth"), None, Some(3)),
        ];
        assert_eq!(names(&task_exits(&links, Some(0))), ["eth0", "veth-lab00"]);
        assert_eq!(names(&task_exits(&links, None)).len(), 4);
    }
}
