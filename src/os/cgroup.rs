//! The cgroup below which the tasks are: whether this host tells tasks apart by it, and its number.
//!
//! The kernel knows the cgroup of a socket in the one hierarchy of version 2 (`sk_cgrp_data`,
//! include/linux/cgroup-defs.h). Where hosts run version 1, with or without version 2 beside it, the ECS
//! agent keeps tasks in version 1 alone.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::guarantee::{Cgroup, TaskCgroup};

/// Where cgroups are mounted. Of version 2 here means: of version 2 alone (systemd, docs/CGROUP_DELEGATION;
/// the ECS agent asks the same question).
const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup below which the tasks are, given its path from the root of the hierarchy.
#[must_use]
pub fn tasks(path: &str) -> TaskCgroup {
    let useless = |why| TaskCgroup::Useless {
        path: path.to_owned(),
        why,
    };
    let Some(directory) = directory(path) else {
        return useless(format!(
            "this host does not run cgroup v2 ({ROOT} is not its hierarchy): tasks have no cgroup v2 under \
             {path}, so their sockets cannot be matched; boot with systemd.unified_cgroup_hierarchy=1 \
             (cgroup v2), or set host_tasks = false and run these tasks in awsvpc mode"
        ));
    };
    match directory.metadata() {
        // On 64 bits the number of the inode is that of the cgroup, which no other ever has
        // (kernfs_ino() in include/linux/kernfs.h).
        Ok(found) => TaskCgroup::Present(Cgroup {
            path: path.to_owned(),
            id: found.ino(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => TaskCgroup::Absent {
            path: path.to_owned(),
        },
        Err(error) => useless(format!("cannot look up {}: {error}", directory.display())),
    }
}

/// The directory of a cgroup, whether it is there or not; `None` where cgroups are not of version 2.
#[must_use]
pub fn directory(path: &str) -> Option<PathBuf> {
    let found = statfs(ROOT).ok()?;
    (found.filesystem_type() == CGROUP2_SUPER_MAGIC).then(|| Path::new(ROOT).join(path))
}
