//! Where a network namespace was found, and what that tells of it.

use std::io;
use std::path::{Path, PathBuf};

use super::evidence;
use super::labels::is_sandbox;
use crate::os::netns::Netns;
use crate::os::nsid::Peers;
use crate::os::procfs;

/// Where Docker keeps handles on its containers' network namespaces, and the agent of managed instances those
/// that it makes (aws/amazon-ecs-agent, ecs-agent/netlib/model/ecscni, `NETNS_PATH_DEFAULT`).
pub const HANDLES: [&str; 2] = [DOCKER, "/run/netns"];
const DOCKER: &str = "/run/docker/netns";

/// How many processes of a namespace are asked for their cgroup: its first one is the pause
/// container's, which lives as long as the task.
pub(super) const ASKED: usize = 8;

/// Where a namespace was found.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) handles: Vec<PathBuf>,
    pub(super) processes: Vec<u32>,
}

impl Place {
    /// The names of Docker's sandboxes of which it has the handle.
    pub(super) fn sandboxes(&self) -> impl Iterator<Item = &str> {
        let docker = Path::new(DOCKER);
        let handles = self
            .handles
            .iter()
            .filter(move |path| path.parent() == Some(docker));
        let names = handles.filter_map(|path| path.file_name()?.to_str());
        names.filter(|name| is_sandbox(name))
    }
}

/// Opens a namespace by the first handle that still is its.
pub(super) fn open(handles: &[PathBuf], inode: u64) -> io::Result<Netns> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for handle in handles {
        match Netns::open(handle) {
            Ok(ns) if ns.inode == inode => return Ok(ns),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn task_id(processes: &[u32]) -> Option<String> {
    let asked = processes.iter().take(ASKED);
    asked
        .filter_map(|pid| procfs::cgroup(*pid))
        .find_map(|text| evidence::task_of(&text))
}

/// Whether there is an ENI in the calling thread's network namespace, or a VLAN, macvlan or tunnel (GENEVE, of
/// managed instances) of one: neither the loopback nor one of the kinds that anybody can make without having a network.
pub(super) fn has_own_interface() -> io::Result<bool> {
    let links = Peers::open()?.links()?;
    let own = |kind: Option<&str>| matches!(kind, None | Some("vlan" | "macvlan" | "geneve"));
    let mut others = links.iter().filter(|link| !link.loopback);
    Ok(others.any(|link| own(link.kind.as_deref())))
}

/// Whether it was there and is gone: a process that ended, a handle that was removed.
pub(super) fn vanished(error: &io::Error) -> bool {
    use nix::errno::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::ESRCH)
    ) || error.kind() == io::ErrorKind::NotFound
}
