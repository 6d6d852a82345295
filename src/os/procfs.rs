//! The process table by network namespaces: which process is where, in which cgroup, with which capabilities.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The network namespaces of all processes that can be seen: by inode, the processes in each, lowest
/// number first. The second value: how many could not be asked, for want of CAP_SYS_PTRACE.
pub fn namespaces() -> io::Result<(BTreeMap<u64, Vec<u32>>, usize)> {
    let mut found: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut hidden = 0;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry
            .ok()
            .and_then(|e| e.file_name().to_str()?.parse().ok())
        else {
            continue;
        };
        match link(pid, "net") {
            Ok(Some(inode)) => found.entry(inode).or_default().push(pid),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            // It ended meanwhile, or is ending.
            _ => {}
        }
    }
    for pids in found.values_mut() {
        pids.sort_unstable();
    }
    Ok((found, hidden))
}

/// The handle of a process's network namespace.
#[must_use]
pub fn handle(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// The inode of a process's user namespace; `None` where it is gone.
#[must_use]
pub fn user_namespace(pid: u32) -> Option<u64> {
    link(pid, "user").ok().flatten()
}

/// What a process's `cgroup` says (cgroups(7)); `None` where it is gone.
#[must_use]
pub fn cgroup(pid: u32) -> Option<String> {
    read(Path::new(&format!("/proc/{pid}/cgroup")))
}

/// The capabilities that a process has or can get by running a program: the bounding set, and what is
/// in effect. `None` where it is gone.
#[must_use]
pub fn capabilities(pid: u32) -> Option<u64> {
    let status = read(Path::new(&format!("/proc/{pid}/status")))?;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(mask("CapBnd:")? | mask("CapEff:")?)
}

/// A file of /proc has no size: without room for it, it is read in pieces of 32 bytes and more.
const ROOM: usize = 4096;

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::with_capacity(ROOM);
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number in a link such as `net:[4026531840]`.
fn link(pid: u32, what: &str) -> io::Result<Option<u64>> {
    let target = fs::read_link(format!("/proc/{pid}/ns/{what}"))?;
    let number = |text: &str| {
        let (_, rest) = text.split_once(":[")?;
        rest.strip_suffix(']')?.parse().ok()
    };
    Ok(target.to_str().and_then(number))
}
