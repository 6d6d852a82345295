//! A cgroup of its own for a machine in namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

/// What the names of these cgroups begin with; the process id and a number follow.
const PREFIX: &str = "ecs-netguard-vm-";

/// A cgroup of the unified hierarchy, removed with all below it when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one; the hierarchy is mounted below `scratch`, wherever else it may be mounted or not.
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let hierarchy = hierarchy(scratch)?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = hierarchy.join(format!("{PREFIX}{pid}-{number}"));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = remove_soon(&self.0) {
            eprintln!("vm-tests: removing {}: {error}", self.0.display());
        }
    }
}

/// Removes what processes that are gone have left; `scratch` is an empty directory.
pub(crate) fn remove_stale(scratch: &Path) -> Result<()> {
    for entry in fs::read_dir(hierarchy(scratch)?)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path())
                .with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn hierarchy(scratch: &Path) -> Result<PathBuf> {
    let none: Option<&str> = None;
    let at = scratch.join("cgroup");
    fs::create_dir(&at)?;
    mount(
        Some("cgroup2"),
        &at,
        Some("cgroup2"),
        MsFlags::empty(),
        none,
    )
    .context("mounting cgroup2")?;
    Ok(at)
}

/// Removes a cgroup whose processes are ending: they leave it a little after they were killed.
fn remove_soon(path: &Path) -> std::io::Result<()> {
    let since = Instant::now();
    loop {
        match remove(path) {
            Err(_) if since.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
}

/// Removes a cgroup and those below it.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries.flatten() {
                if entry.file_type()?.is_dir() {
                    remove(&entry.path())?;
                }
            }
        }
    }
    fs::remove_dir(path)
}
