//! Containers that are not kept within themselves: those whose processes hold CAP_NET_ADMIN or CAP_SYS_ADMIN
//! in the host's user namespace.
//!
//! The kernel checks CAP_NET_ADMIN in the user namespace that owns the network namespace in question. A
//! container of Docker's has one of its own only with `userns-remap`; any other can move the host's
//! interfaces by rtnetlink (IFLA_TARGET_NETNSID), whatever network it is on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{docker, procfs, unix_http};
use crate::facts::PrivilegedContainer;
use crate::tasks::Power;
use crate::tasks::evidence::task_of_arn;

/// How many processes of a container are asked at most.
const ASKED: usize = 64;
/// How long what was found is used again: reading the process table takes about 10 µs a process.
const FRESH: Duration = Duration::from_secs(5);
/// How long Docker is not asked again after it did not answer.
const SILENT: Duration = Duration::from_secs(60);
/// How long Docker's answer may take, and how long it may be. A container takes about two thousand bytes.
const LIMIT: Duration = Duration::from_millis(500);
const MAX_ANSWER: usize = 1024 * 1024;
/// How the ECS agent's own container is called (ecs-init/config/common.go, `AgentContainerName`).
const AGENT: &str = "ecs-agent";

#[derive(Default)]
struct Known {
    found: Option<(Instant, Vec<PrivilegedContainer>)>,
    /// What Docker says of containers, which does not change while they run.
    names: BTreeMap<String, Name>,
    silent: Option<Instant>,
}

/// What Docker calls a container, and the ECS task that it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Name {
    name: Option<String>,
    task: Option<String>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// The privileged containers that run, by id, without the ECS agent's own and without the one in which this
/// program itself runs.
#[must_use]
pub fn privileged() -> Vec<PrivilegedContainer> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    match &known.found {
        Some((at, found)) if at.elapsed() < FRESH => return found.clone(),
        _ => {}
    }
    let containers = dangerous();
    let ids: BTreeSet<&String> = containers.keys().collect();
    known.names.retain(|id, _| ids.contains(id));
    let unknown: Vec<&String> = ids
        .into_iter()
        .filter(|id| !known.names.contains_key(*id))
        .collect();
    let silent = known.silent.is_some_and(|since| since.elapsed() < SILENT);
    if !unknown.is_empty() && !silent && docker::runs() {
        match ask(&unknown) {
            Some(names) => known.names.extend(names),
            None => known.silent = Some(Instant::now()),
        }
    }
    let named = |(id, powers): (String, Vec<Power>)| {
        let Name { name, task } = known.names.get(&id).cloned().unwrap_or_default();
        let agent = name.as_deref() == Some(AGENT);
        (!agent).then_some(PrivilegedContainer {
            id,
            name,
            task,
            powers,
        })
    };
    let found: Vec<PrivilegedContainer> = containers.into_iter().filter_map(named).collect();
    known.found = Some((Instant::now(), found.clone()));
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What Docker says of these containers; `None` where it does not answer.
fn ask(ids: &[&String]) -> Option<BTreeMap<String, Name>> {
    let ids: Vec<String> = ids.iter().map(|id| format!("%22{id}%22")).collect();
    let target = format!(
        "/containers/json?filters=%7B%22id%22%3A%5B{}%5D%7D",
        ids.join(",")
    );
    let answer = unix_http::get_now(Path::new(docker::SOCKET), &target, MAX_ANSWER, LIMIT);
    names(&answer.ok()?)
}

fn names(answer: &[u8]) -> Option<BTreeMap<String, Name>> {
    let listed: Vec<Listed> = serde_json::from_slice(answer).ok()?;
    let named = |of: Listed| {
        let name = of
            .names
            .first()
            .map(|name| name.trim_start_matches('/').to_owned());
        let arn = of.labels.get("com.amazonaws.ecs.task-arn");
        let task = arn.and_then(|arn| task_of_arn(arn));
        (of.id, Name { name, task })
    };
    Some(listed.into_iter().map(named).collect())
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

    #[test]
    fn docker_names_them_and_their_tasks() {
        let answer = br#"[{"Id":"aa","Names":["/web"],"Labels":{"com.amazonaws.ecs.task-arn":
            "arn:aws:ecs:eu-west-1:1:task/cluster/0f3a"}},{"Id":"bb","Names":[]}]"#;
        let found = names(answer).unwrap();
        let name = |name: Option<&str>, task: Option<&str>| Name {
            name: name.map(str::to_owned),
            task: task.map(str::to_owned),
        };
        assert_eq!(found["aa"], name(Some("web"), Some("0f3a")));
        assert_eq!(found["bb"], name(None, None));
        assert_eq!(names(b"{}"), None);
    }
}
