//! Containers that are not kept within themselves: those whose processes hold CAP_NET_ADMIN or CAP_SYS_ADMIN
//! in the host's user namespace.
//!
//! The kernel checks CAP_NET_ADMIN in the user namespace that owns the network namespace in question. A
//! container of Docker's has one of its own only with `userns-remap`; any other can move the host's
//! interfaces by rtnetlink (IFLA_TARGET_NETNSID), whatever network it is on.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::docker::Container;
use super::procfs;
use crate::facts::PrivilegedContainer;
use crate::tasks::Power;
use crate::tasks::evidence::task_of_arn;

/// How many processes of a container are asked at most.
const ASKED: usize = 64;
/// How long what was found is used again: reading the process table takes about 10 µs a process.
const FRESH: Duration = Duration::from_secs(5);
/// How the ECS agent's own container is called (ecs-init/config/common.go, `AgentContainerName`).
const AGENT: &str = "ecs-agent";

/// What was found last, and when.
static FOUND: Mutex<Option<(Instant, Vec<PrivilegedContainer>)>> = Mutex::new(None);

/// The privileged containers that run, by id, without the ECS agent's own and without the one in which this
/// program itself runs.
#[must_use]
pub fn privileged() -> Vec<PrivilegedContainer> {
    let mut last = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((at, found)) if at.elapsed() < FRESH => return found.clone(),
        _ => {}
    }
    let named = |(id, powers): (String, Vec<Power>)| {
        let container = Container::with_id(&id).unwrap_or_default();
        let agent = container.name.as_deref() == Some(AGENT);
        let arn = container.labels.get("com.amazonaws.ecs.task-arn");
        (!agent).then(|| PrivilegedContainer {
            task: arn.and_then(|arn| task_of_arn(arn)),
            name: container.name,
            id,
            powers,
        })
    };
    let found: Vec<PrivilegedContainer> = dangerous().into_iter().filter_map(named).collect();
    *last = Some((Instant::now(), found.clone()));
    found
}

/// The ids of containers with a dangerous capability, each with those that its processes have or can get.
fn dangerous() -> BTreeMap<String, Vec<Power>> {
    let own_users = users("self");
    let own = procfs::cgroup(std::process::id()).and_then(|cgroup| container_of(&cgroup));
    let mut processes: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = number else { continue };
        let container = procfs::cgroup(pid).and_then(|cgroup| container_of(&cgroup));
        if let Some(id) = container.filter(|id| Some(id) != own.as_ref()) {
            processes.entry(id).or_default().push(pid);
        }
    }
    let mask = |pids: &[u32]| {
        let hosts = |pid: &&u32| {
            let users = users(&pid.to_string());
            users.is_none() || users == own_users
        };
        let of_host = pids.iter().take(ASKED).filter(hosts);
        of_host
            .filter_map(|pid| procfs::capabilities(*pid))
            .fold(0, |all, mask| all | mask)
    };
    let masks = processes
        .into_iter()
        .map(|(id, pids)| (id, reaching_out(mask(&pids))));
    masks.filter(|(_, held)| !held.is_empty()).collect()
}

/// What reaches out of a container in a mask of capabilities.
fn reaching_out(mask: u64) -> Vec<Power> {
    let mut powers = Power::of(mask);
    powers.retain(|power| *power != Power::NetRaw);
    powers
}

/// How a process's user namespace maps onto that of this process (user_namespaces(7)), which anybody may read.
fn users(process: &str) -> Option<String> {
    let map = fs::read_to_string(format!("/proc/{process}/uid_map")).ok()?;
    Some(map.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The id of the container in whose cgroup a process is, from its `/proc/PID/cgroup`: 64 hexadecimal digits,
/// alone (`/docker/<id>`, `/ecs/<task>/<id>`) or in a scope's name (`system.slice/docker-<id>.scope`).
fn container_of(cgroup: &str) -> Option<String> {
    let mut parts = cgroup.split(['/', '\n']);
    parts.find_map(|part| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        let id = name.rsplit('-').next()?;
        let digits = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (id.len() == 64 && digits).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_in_the_cgroups_name() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("0::/ecstasks.slice/ecstasks-0f.slice/docker-{id}.scope/init\n"),
            format!("12:memory:/ecs/0f3a/{id}\n1:name=systemd:/ecs/0f3a/{id}\n"),
            format!("0::/docker/{id}"),
            format!("0::/machine.slice/libpod-{id}.scope"),
        ] {
            assert_eq!(container_of(&path), Some(id.clone()), "{path}");
        }
        for path in [
            "0::/system.slice/docker.service",
            "0::/",
            "",
            &format!("0::/{}", "g".repeat(64)),
            &format!("0::/{id}0"),
        ] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }
}
