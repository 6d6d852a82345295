//! The cgroup below which the tasks are: whether this host tells tasks apart by it, and its number.
//!
//! The kernel knows the cgroup of a socket in the one hierarchy of version 2 alone (`sk_cgrp_data`,
//! include/linux/cgroup-defs.h). Where the controllers are of version 1, a task is there in cgroups
//! that no rule can name, even if a hierarchy of version 2 is mounted beside them ("hybrid").

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::guarantee::{Cgroup, TaskCgroup};

/// Where cgroups are mounted. Of version 2 here means: of version 2 alone (systemd, docs/CGROUP_DELEGATION;
/// the ECS agent asks the same question).
const USUAL: &str = "/sys/fs/cgroup";

/// Where the ECS agent keeps tasks in each hierarchy of version 1 (agent/config, `DefaultTaskCgroupV1Prefix`).
const TASKS_V1: &str = "ecs";

/// The cgroup below which the tasks are, given its path from the root of the hierarchy.
#[must_use]
pub fn tasks(path: &str) -> TaskCgroup {
    let useless = |why| TaskCgroup::Useless {
        path: path.to_owned(),
        why,
    };
    let root = match hierarchy() {
        Ok(Some(root)) => root,
        Ok(None) => {
            return useless(format!(
                "this host has no cgroup hierarchy of version 2, and the kernel tells sockets apart by \
                 that alone{}",
                tasks_of_version_1()
            ));
        }
        Err(error) => return useless(format!("read {MOUNTS}: {error}")),
    };
    match root.join(path).metadata() {
        // On 64 bits the number of the inode is that of the cgroup, which no other ever has
        // (kernfs_ino() in include/linux/kernfs.h).
        Ok(directory) => TaskCgroup::Present(Cgroup {
            path: path.to_owned(),
            id: directory.ino(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if root == Path::new(USUAL) {
                let path = path.to_owned();
                return TaskCgroup::Absent { path };
            }
            useless(format!(
                "cgroups are of version 1 on this host, with version 2 beside them at {}: the ECS \
                 agent puts tasks where no rule can tell them apart{}",
                root.display(),
                tasks_of_version_1()
            ))
        }
        Err(error) => useless(format!("look at {}: {error}", root.join(path).display())),
    }
}

/// The directory of a cgroup, whether it is there or not; `None` where no hierarchy of version 2 is
/// mounted.
#[must_use]
pub fn directory(path: &str) -> Option<PathBuf> {
    Some(hierarchy().ok()??.join(path))
}

/// The mounts as this thread sees them.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// Where the whole hierarchy of version 2 is mounted, the usual place before others.
fn hierarchy() -> io::Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string(MOUNTS)?;
    let mut roots: Vec<&Path> = mount_points(&mounts).collect();
    // One may be hidden by another.
    roots.retain(|root| {
        statfs(*root).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
    });
    let usual = roots.iter().find(|root| **root == Path::new(USUAL));
    let root = usual.or_else(|| roots.first());
    Ok(root.map(|root| root.to_path_buf()))
}

/// The mount points of type cgroup2 that show the hierarchy from its root on (proc_pid_mountinfo(5)).
fn mount_points(mounts: &str) -> impl Iterator<Item = &Path> {
    mounts.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let kind = filesystem.split(' ').next()?;
        (kind == "cgroup2" && root == "/").then(|| Path::new(point))
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
    fn mounts_of_version_2_are_found_where_they_show_everything() {
        let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
42 31 0:38 /a.slice /mnt/part rw,relatime - cgroup2 cgroup2 rw
43 31 0:38 / /mnt/odd rw,relatime - ext4 cgroup2 rw
not a line of it
";
        let found: Vec<&Path> = mount_points(mounts).collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/unified")]);
    }
}
