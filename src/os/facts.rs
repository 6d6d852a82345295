//! What the host is: IPv6, interfaces, bridges, Docker's default bridge.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;

use super::addresses::{self, Address};
use super::links::Link;
use super::nsid::Peers;
use super::routes::{Routes, Way};
use super::{cgroup, containers, docker, host_tasks, nft, sysctl};
use crate::config::settings::Settings;
use crate::facts::Facts;
use crate::guarantee::{EdgePass, TaskCgroup, imds_block, task_credentials};
use crate::prove::{HostView, Iface};
use crate::ruleset::{Family, Net};

/// Reads what of the host decides which rules are wanted, and what can undo them.
#[must_use]
pub fn read(settings: &Settings) -> Facts {
    Facts {
        privileged: containers::privileged(),
        ..without_containers(settings)
    }
}

/// The same, but for the containers, for which every process has to be looked at.
#[must_use]
pub fn without_containers(settings: &Settings) -> Facts {
    let mut problems = Vec::new();
    let task_cgroup = task_cgroup(settings);
    let routed = Routes::open().and_then(|mut routes| routes.has_ipv4_default());
    let routed = routed.unwrap_or_else(|error| {
        problems.push(format!("list the IPv4 routes: {error}"));
        true
    });
    let default_bridge = docker::default_bridge(&mut problems);
    Facts {
        // Absent with ipv6.disable=1 on the kernel's command line, and without the module.
        ipv6: Path::new("/proc/thread-self/net/if_inet6").exists(),
        bridges: bridges(&mut problems),
        default_bridge,
        route_localnet: sysctl::routes_localnet(),
        ipv6_only: !routed,
        host_tasks: task_cgroup
            .as_ref()
            .map_or_else(Vec::new, host_tasks::below),
        task_cgroup,
        pass: (!settings.edge.allow.is_empty()).then(edge_pass),
        privileged: Vec::new(),
        problems,
    }
}

/// What tells allowed packets at the edge: what the seal gives them now, or else what no container can guess.
fn edge_pass() -> EdgePass {
    static PASS: OnceLock<EdgePass> = OnceLock::new();
    let random = || {
        // SipHash under a key from the kernel's random numbers.
        let bits = RandomState::new().hash_one(0);
        EdgePass {
            mark: (bits >> 32) as u32,
            priority: bits as u32,
        }
    };
    let set = || {
        let mut socket = nft::Socket::open().ok()?;
        let read = |socket: &mut _| nft::Table::read(socket, nft::Proto::Inet, nft::drops::OWN);
        let table = socket.steady(read).ok()?.1?;
        let mut rules = table.chains.iter().flat_map(|chain| &chain.rules);
        rules.find_map(nft::RawRule::marks)
    };
    *PASS.get_or_init(|| set().unwrap_or_else(random))
}

/// The cgroup that the settings name; it is read only where they ask for it.
fn task_cgroup(settings: &Settings) -> Option<TaskCgroup> {
    let path = &settings.imds.host_tasks_cgroup;
    settings.imds.host_tasks.then(|| cgroup::tasks(path))
}

/// What proofs need to know of the interfaces: addresses and `route_localnet`; and which cgroup
/// `task_cgroup` is. The second value names what could not be read.
#[must_use]
pub fn host_view(task_cgroup: Option<&TaskCgroup>) -> (HostView, Vec<String>) {
    let mut problems = Vec::new();
    let listed = addressed(|_| true);
    let interfaces = listed.unwrap_or_else(|error| {
        problems.push(format!("list the host's interfaces: {error}"));
        Vec::new()
    });
    let ways = ways(&interfaces, &mut problems);
    let mut is_on = |interface: &str| match sysctl::route_localnet(interface) {
        Ok(value) => value.as_deref() == Some("1"),
        Err(error) => {
            problems.push(error.to_string());
            false
        }
    };
    let everywhere = is_on("all");
    let iface = |(link, addresses): (Link, Vec<Address>)| {
        let iface = Iface {
            addrs: addresses.iter().map(|address| address.address).collect(),
            route_localnet: everywhere || is_on(&link.name),
        };
        (link.name, iface)
    };
    let interfaces: BTreeMap<String, Iface> = interfaces.into_iter().map(iface).collect();
    let endpoint = IpAddr::V4(task_credentials::ADDRESS);
    let unroutable = match way(endpoint, &mut problems) {
        Some(Way::None | Way::Refused) => vec![endpoint],
        Some(Way::Out { .. } | Way::NoFamily) | None => Vec::new(),
    };
    let own = Routes::open().and_then(|mut routes| routes.local_and_broadcast());
    let (mut local, broadcast) = own.unwrap_or_else(|error| {
        problems.push(format!(
            "list the routes of type local and broadcast: {error}"
        ));
        Default::default()
    });
    let addrs: Vec<Net> = interfaces
        .values()
        .flat_map(|interface| interface.addrs.iter().copied().map(Net::host))
        .collect();
    local.retain(|net| !addrs.contains(net));
    let view = HostView {
        source_routed: sysctl::source_routed(interfaces.keys()),
        local,
        broadcast,
        interfaces,
        route_localnet: everywhere,
        native: Vec::new(),
        ipsets: BTreeMap::new(),
        cgroups: task_cgroup
            .and_then(TaskCgroup::known)
            .into_iter()
            .collect(),
        unroutable,
        ways,
    };
    (view, problems)
}

/// By which of these interfaces packets for the metadata service leave.
fn ways(interfaces: &[(Link, Vec<Address>)], problems: &mut Vec<String>) -> Vec<(IpAddr, String)> {
    let by = |family| {
        let service = imds_block::address(family);
        let Some(Way::Out { interface, .. }) = way(service, problems) else {
            return None;
        };
        let mut links = interfaces.iter().map(|(link, _)| link);
        let link = links.find(|link| link.index == interface && !link.loopback)?;
        Some((service, link.name.clone()))
    };
    [Family::V4, Family::V6]
        .into_iter()
        .filter_map(by)
        .collect()
}

/// Where packets to an address go; `None` where that could not be looked up.
fn way(to: IpAddr, problems: &mut Vec<String>) -> Option<Way> {
    let found = Routes::open().and_then(|mut routes| routes.way(to, None));
    let failed = |error| problems.push(format!("look up the route to {to}: {error}"));
    found.map_err(failed).ok()
}

/// The interfaces that are bridges, with the networks of their IPv4 addresses.
fn bridges(problems: &mut Vec<String>) -> BTreeMap<String, Vec<Net>> {
    let networks = |addresses: Vec<Address>| {
        let ipv4 = addresses.iter().filter(|address| address.address.is_ipv4());
        ipv4.filter_map(|of| Net::new(of.address, of.prefix))
            .collect()
    };
    let listed = addressed(|link| link.kind.as_deref() == Some("bridge"));
    let bridges = listed.unwrap_or_else(|error| {
        problems.push(format!("list the bridges: {error}"));
        Vec::new()
    });
    let bridges = bridges.into_iter();
    bridges
        .map(|(link, addresses)| (link.name, networks(addresses)))
        .collect()
}

/// The interfaces that are meant, each with its addresses.
fn addressed(meant: impl Fn(&Link) -> bool) -> io::Result<Vec<(Link, Vec<Address>)>> {
    let links = Peers::open()?.links()?;
    let mut addresses: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
    for address in addresses::here()? {
        addresses
            .entry(address.interface)
            .or_default()
            .push(address);
    }
    let meant = links.into_iter().filter(meant);
    Ok(meant
        .map(|link| {
            let of_link = addresses.remove(&link.index).unwrap_or_default();
            (link, of_link)
        })
        .collect())
}
