//! What the guarantees depend on, and the packets that they speak of.

use std::collections::BTreeMap;

use super::name::Guarantee;
use super::native::EdgePass;
use super::task_cgroup::TaskCgroup;
use crate::config::settings::RouteLocalnet;
use crate::prove::{Addrs, Claim, Destination, Expect, Ifaces, Moment, Origin, PacketClass};
use crate::ruleset::{Family, IfacePattern, Net};

/// What of the host and the settings the guarantees depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Container interfaces.
    pub interfaces: Vec<IfacePattern>,
    /// The families to cover; IPv6 only where the kernel has it.
    pub families: Vec<Family>,
    /// The default Docker bridge's name, `None` where Docker is configured to have none.
    pub default_bridge: Option<String>,
    /// The bridges that exist now and match `interfaces`, each with its IPv4 networks.
    pub bridges: BTreeMap<String, Vec<Net>>,
    /// Where `route_localnet` is set.
    pub route_localnet: RouteLocalnet,
    /// Whether the host has no IPv4 default route.
    pub ipv6_only: bool,
    /// The interfaces from which packets to the service are let through, and what tells them at the edge.
    pub allowed: Option<(Vec<IfacePattern>, EdgePass)>,
    /// The cgroup of the tasks, where those on the host's network are to be distinguished.
    pub host_tasks: Option<TaskCgroup>,
}

impl Scope {
    /// Whether containers may come by this interface.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.interfaces.iter().any(|pattern| pattern.fits(name))
    }

    /// The interfaces that claims are made for: each pattern in general, also for bridges yet to
    /// come, and each bridge that exists now.
    pub(super) fn claimed(&self) -> impl Iterator<Item = IfacePattern> {
        let named = self.bridges.keys().map(|name| interface(name));
        let more = named.filter(|name| !self.interfaces.contains(name));
        self.interfaces.iter().cloned().chain(more)
    }
}

/// What a name or pattern of iptables stands for. One that iptables could not be given is an interface
/// of that name.
#[must_use]
pub fn interface(name: &str) -> IfacePattern {
    IfacePattern::parse(name).unwrap_or_else(|| IfacePattern::Exact(name.to_owned()))
}

/// First packets of every kind, from anywhere to `dst`: what a guarantee's own class narrows.
pub(super) fn packets(family: Family, from: Origin, dst: Destination) -> PacketClass {
    PacketClass {
        family,
        from,
        out: None,
        src: Addrs::default(),
        dst,
        protocol: None,
        sport: None,
        dport: None,
        moment: Moment::First,
        turned: false,
    }
}

/// Every interface but `lo` and those named.
pub(super) fn from_outside(except: Option<&String>) -> Origin {
    let names = ["lo"].into_iter().chain(except.map(String::as_str));
    let names = names.map(|name| IfacePattern::Exact(name.to_owned()));
    Origin::Interface(Ifaces::all_but(names.collect()))
}

pub(super) fn claim(guarantee: Guarantee, packets: PacketClass, expect: Expect) -> Claim {
    Claim {
        guarantee: guarantee.name().to_owned(),
        packets,
        expect,
    }
}
