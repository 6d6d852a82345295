//! What the host is: IPv6, interfaces, bridges, Docker's default bridge.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;

use super::routes::{Routes, Way};
use super::{cgroup, containers, docker, host_tasks, nft, sysctl};
use crate::config::settings::Settings;
use crate::facts::Facts;
use crate::guarantee::{EdgePass, TaskCgroup, task_credentials};
use crate::prove::{HostView, Iface};
use crate::ruleset::Net;

/// Reads what of the host decides which rules are wanted.
#[must_use]
pub fn read(settings: &Settings) -> Facts {
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
        bridges: bridges(),
        default_bridge,
        route_localnet: sysctl::routes_localnet(),
        ipv6_only: !routed,
        host_tasks: task_cgroup
            .as_ref()
            .map_or_else(Vec::new, host_tasks::below),
        task_cgroup,
        pass: (!settings.edge.allow.is_empty()).then(edge_pass),
        privileged: containers::privileged(),
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
        let table = nft::Table::read(&mut socket, nft::Proto::Inet, nft::drops::OWN).ok()??;
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
    let mut is_on = |interface: &str| match sysctl::route_localnet(interface) {
        Ok(value) => value.as_deref() == Some("1"),
        Err(error) => {
            problems.push(error.to_string());
            false
        }
    };
    let everywhere = is_on("all");
    let mut interfaces: BTreeMap<String, Iface> = BTreeMap::new();
    match nix::ifaddrs::getifaddrs() {
        Ok(addresses) => {
            for address in addresses {
                let interface =
                    interfaces
                        .entry(address.interface_name)
                        .or_insert_with_key(|name| Iface {
                            addrs: Vec::new(),
                            route_localnet: everywhere || is_on(name),
                        });
                let Some(address) = address.address else {
                    continue;
                };
                if let Some(v4) = address.as_sockaddr_in() {
                    interface.addrs.push(IpAddr::V4(v4.ip()));
                } else if let Some(v6) = address.as_sockaddr_in6() {
                    interface.addrs.push(IpAddr::V6(v6.ip()));
                }
            }
        }
        Err(errno) => problems.push(format!("list the host's interfaces: {errno}")),
    }
    let endpoint = IpAddr::V4(task_credentials::ADDRESS);
    let unroutable = match Routes::open().and_then(|mut routes| routes.way(endpoint, None)) {
        Ok(Way::Out { .. } | Way::NoFamily) => Vec::new(),
        Ok(Way::None | Way::Refused) => vec![endpoint],
        Err(error) => {
            problems.push(format!("look up the route to {endpoint}: {error}"));
            Vec::new()
        }
    };
    let local = Routes::open().and_then(|mut routes| routes.local());
    let mut local = local.unwrap_or_else(|error| {
        problems.push(format!("list the routes of type local: {error}"));
        Vec::new()
    });
    let addrs: Vec<Net> = interfaces
        .values()
        .flat_map(|interface| interface.addrs.iter().copied().map(Net::host))
        .collect();
    local.retain(|net| !addrs.contains(net));
    let view = HostView {
        source_routed: sysctl::source_routed(interfaces.keys()),
        local,
        interfaces,
        route_localnet: everywhere,
        native: Vec::new(),
        cgroups: task_cgroup
            .and_then(TaskCgroup::known)
            .into_iter()
            .collect(),
        unroutable,
    };
    (view, problems)
}

/// The interfaces that are bridges (those with a `bridge` directory in sysfs), with the networks of
/// their IPv4 addresses.
fn bridges() -> BTreeMap<String, Vec<Net>> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else {
        return BTreeMap::new();
    };
    let mut bridges: BTreeMap<String, Vec<Net>> = entries
        .flatten()
        .filter(|entry| entry.path().join("bridge").is_dir())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, Vec::new())))
        .collect();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(networks) = bridges.get_mut(&interface.interface_name) else {
            continue;
        };
        let ipv4 =
            |address: &nix::sys::socket::SockaddrStorage| Some(address.as_sockaddr_in()?.ip());
        let address = interface.address.as_ref().and_then(ipv4);
        let mask = interface.netmask.as_ref().and_then(ipv4);
        if let (Some(address), Some(mask)) = (address, mask) {
            let length = u32::from(mask).leading_ones() as u8;
            networks.extend(Net::new(IpAddr::V4(address), length));
        }
    }
    bridges
}
