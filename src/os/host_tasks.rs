//! The tasks that run on the host's own network: cgroups below that of all tasks with a process in
//! this network namespace.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{cgroup, procfs};
use crate::facts::HostTask;
use crate::guarantee::{Cgroup, TaskCgroup};

/// How many processes of a task are asked at most.
const ASKED: usize = 64;

/// Those below the cgroup of all tasks, by id. The ECS agent names a task's cgroup
/// `ecstasks.slice/ecstasks-<id>.slice`.
#[must_use]
pub fn below(tasks: &TaskCgroup) -> Vec<HostTask> {
    let TaskCgroup::Present(Cgroup { path, .. }) = tasks else {
        return Vec::new();
    };
    let (Some(directory), Some(home)) = (cgroup::directory(path), network("thread-self")) else {
        return Vec::new();
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let tasks = below.filter_map(|entry| {
        let id = task_id(path, entry.file_name().to_str()?)?.to_owned();
        let mut processes = Vec::new();
        collect(&entry.path(), &mut processes);
        let mut here = processes
            .iter()
            .filter(|pid| network(&pid.to_string()) == Some(home));
        let first = here.next()?;
        let capabilities = [first]
            .into_iter()
            .chain(here)
            .filter_map(|pid| procfs::capabilities(*pid))
            .fold(0, |all, mask| all | mask);
        Some(HostTask { id, capabilities })
    });
    let mut tasks: Vec<HostTask> = tasks.collect();
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    tasks
}

/// `ecstasks-<id>.slice` is the task `<id>`, as systemd names what is within `ecstasks.slice`.
fn task_id<'n>(path: &str, name: &'n str) -> Option<&'n str> {
    let slice = path.rsplit('/').next()?.strip_suffix(".slice")?;
    let id = name.strip_prefix(slice)?.strip_prefix('-')?;
    id.strip_suffix(".slice")
}

/// The processes of a cgroup and of those below it.
fn collect(directory: &Path, processes: &mut Vec<u32>) {
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    processes.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if processes.len() >= ASKED {
            return;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), processes);
        }
    }
}

/// What tells a process's network namespace from others: the inode of a file in its `/proc/PID/net`,
/// which each namespace has its own of (proc_net_ns_init() in fs/proc/proc_net.c). Unlike the link
/// `/proc/PID/ns/net`, which says the same, it can be seen without CAP_SYS_PTRACE.
fn network(process: &str) -> Option<u64> {
    let file = fs::metadata(format!("/proc/{process}/net/dev"));
    file.map(|file| file.ino()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_in_the_name() {
        let id = |name| task_id("ecstasks.slice", name);
        assert_eq!(id("ecstasks-0f3a.slice"), Some("0f3a"));
        assert_eq!(task_id("a/b.slice", "b-c-d.slice"), Some("c-d"));
        for other in [
            "ecstasks.slice",
            "docker-0f.scope",
            "cgroup.procs",
            "x-0f.slice",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
