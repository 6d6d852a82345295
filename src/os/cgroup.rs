//! The cgroup below which the tasks are: whether this host tells tasks apart by it, and its number.
//!
//! The kernel knows the cgroup of a socket in the one hierarchy of version 2 (`sk_cgrp_data`,
//! include/linux/cgroup-defs.h), and the class that the controller net_cls of version 1 gave it
//! ([`net_cls`]). Where version 2 is mounted beside version 1 ("hybrid") the guard keeps its hands off
//! classes: on older kernels a socket has room for one of the two, and the first class that is given takes
//! the other away from the whole host (`cgroup_sk_alloc_disable()`, then in kernel/cgroup/cgroup.c).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::net_cls;
use crate::config::settings::TASK_SLICE;
use crate::guarantee::{CLASS, Cgroup, TaskCgroup};

/// Where cgroups are mounted. Of version 2 here means: of version 2 alone (systemd, docs/CGROUP_DELEGATION;
/// the ECS agent asks the same question).
const USUAL: &str = "/sys/fs/cgroup";

/// Where the ECS agent keeps tasks in each hierarchy of version 1 (agent/config, `DefaultTaskCgroupV1Prefix`).
const TASKS_V1: &str = "ecs";

/// The cgroup below which the tasks are, given its path from the root of the hierarchy. Where cgroups are
/// of version 1 the ECS agent's usual one has another name.
#[must_use]
pub fn tasks(path: &str) -> TaskCgroup {
    let useless = |path: &str, why| TaskCgroup::Useless {
        path: path.to_owned(),
        why,
    };
    let (root, path) = match place(path) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let why = "this host has no cgroup hierarchy, neither of version 2 nor net_cls of version 1, \
                       and the kernel tells sockets apart by these alone";
            return useless(path, format!("{why}{}", tasks_of_version_1()));
        }
        Err(error) => return useless(path, format!("read {MOUNTS}: {error}")),
    };
    match root.path().join(path).metadata() {
        // On 64 bits the number of the inode is that of the cgroup, which no other ever has
        // (kernfs_ino() in include/linux/kernfs.h).
        Ok(directory) => TaskCgroup::Present(Cgroup {
            path: path.to_owned(),
            id: directory.ino(),
            class: matches!(root, Root::Classes(_)).then_some(CLASS),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match root {
            Root::Classes(root) if !tasks_of_version_1().is_empty() => useless(
                path,
                format!(
                    "tasks are in no cgroup of {}, by which alone the kernel tells sockets apart{}",
                    root.display(),
                    tasks_of_version_1()
                ),
            ),
            Root::Numbers(root) if root != Path::new(USUAL) => useless(
                path,
                format!(
                    "cgroups are of version 1 on this host, with version 2 beside them at {}: the ECS \
                     agent puts tasks where no rule can tell them apart{}",
                    root.display(),
                    tasks_of_version_1()
                ),
            ),
            Root::Classes(_) | Root::Numbers(_) => TaskCgroup::Absent {
                path: path.to_owned(),
            },
        },
        Err(error) => {
            let directory = root.path().join(path);
            useless(path, format!("look at {}: {error}", directory.display()))
        }
    }
}

/// The directory of a cgroup, whether it is there or not; `None` where there is no hierarchy that could
/// have it.
#[must_use]
pub fn directory(path: &str) -> Option<PathBuf> {
    let (root, path) = place(path).ok()??;
    Some(root.path().join(path))
}

/// Tasks that are in other hierarchies of version 1, and not in the one by which tasks are told apart:
/// they were started when that was not mounted, or by what does not use it.
#[must_use]
pub fn strays(tasks: &TaskCgroup) -> BTreeSet<String> {
    let Some((path, directory)) = tasks
        .class()
        .and_then(|(path, _)| Some((path, directory(path)?)))
    else {
        return BTreeSet::new();
    };
    let below = |controller: PathBuf| subdirectories(&controller.join(path));
    let all = subdirectories(Path::new(USUAL)).into_iter().flat_map(below);
    let stray = all.filter(|task| {
        task.file_name()
            .is_some_and(|id| !directory.join(id).is_dir())
    });
    let name = |task: PathBuf| Some(task.file_name()?.to_str()?.to_owned());
    stray.filter_map(name).collect()
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Where the hierarchy with the classes is mounted.
#[must_use]
pub fn class_root() -> Option<PathBuf> {
    class_mount(&std::fs::read_to_string(MOUNTS).ok()?)
}

fn class_mount(mounts: &str) -> Option<PathBuf> {
    let mut points = mount_points(mounts, |kind, options| {
        kind == "cgroup"
            && options
                .split(',')
                .any(|option| option == net_cls::CONTROLLER)
    });
    points.next().map(Path::to_owned)
}

/// A hierarchy by which sockets are told apart, and where it is mounted.
enum Root {
    /// Version 2: each cgroup has a number.
    Numbers(PathBuf),
    /// Version 1: a cgroup may be given a class.
    Classes(PathBuf),
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Self::Numbers(root) | Self::Classes(root) => root,
        }
    }
}

/// The hierarchy that counts here, and the path of a cgroup in it.
fn place(path: &str) -> io::Result<Option<(Root, &str)>> {
    let mounts = std::fs::read_to_string(MOUNTS)?;
    if let Some(root) = hierarchy(&mounts) {
        return Ok(Some((Root::Numbers(root), path)));
    }
    let root = class_mount(&mounts).map(Root::Classes);
    let path = if path == TASK_SLICE { TASKS_V1 } else { path };
    Ok(root.map(|root| (root, path)))
}

/// The mounts as this thread sees them.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// Where the whole hierarchy of version 2 is mounted, the usual place before others.
fn hierarchy(mounts: &str) -> Option<PathBuf> {
    let mut roots: Vec<&Path> = mount_points(mounts, |kind, _| kind == "cgroup2").collect();
    // One may be hidden by another.
    roots.retain(|root| {
        statfs(*root).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
    });
    let usual = roots.iter().find(|root| **root == Path::new(USUAL));
    let root = usual.or_else(|| roots.first());
    root.map(|root| root.to_path_buf())
}

/// The mount points that show a hierarchy from its root on, of those whose type and options are asked for
/// (proc_pid_mountinfo(5)).
fn mount_points(mounts: &str, wanted: impl Fn(&str, &str) -> bool) -> impl Iterator<Item = &Path> {
    mounts.lines().filter_map(move |line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut fields = filesystem.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        (wanted(kind, options) && root == "/").then(|| Path::new(point))
    })
}

/// Where tasks are in a hierarchy of version 1, to be named in a message.
fn tasks_of_version_1() -> String {
    let found = std::fs::read_dir(USUAL)
        .into_iter()
        .flatten()
        .flatten()
        .map(|controller| controller.path().join(TASKS_V1))
        .find(|tasks| tasks.is_dir());
    found.map_or_else(String::new, |tasks| format!(" ({})", tasks.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_where_they_show_everything() {
        let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/net_cls,net_prio rw,relatime - cgroup cgroup rw,net_cls,net_prio
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
42 31 0:38 /a.slice /mnt/part rw,relatime - cgroup2 cgroup2 rw
43 31 0:38 / /mnt/odd rw,relatime - ext4 cgroup2 rw
not a line of it
";
        let found: Vec<&Path> = mount_points(mounts, |kind, _| kind == "cgroup2").collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/unified")]);
        let classes = Some(PathBuf::from("/sys/fs/cgroup/net_cls,net_prio"));
        assert_eq!(class_mount(mounts), classes);
    }
}
