//! Nothing is left behind, however a run ends.
//!
//! The program runs as two processes. The second does the work, in a mount namespace of its own, and
//! dies with the first; every machine dies with the second. The first waits, passes signals on, and
//! then removes the directories that no kernel takes back.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::cgroup;

/// Set for the process that does the work.
const WORKER: &str = "ECS_NETGUARD_VM_TESTS_WORKER";

/// What the directories of machines begin with.
pub(crate) const MACHINE: &str = "machine-";

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// In the first process: runs the second, cleans up below `out`, and returns how it ended. In the
/// second: enters its mount namespace and returns `None`.
pub(crate) fn watch(out: &Path) -> Result<Option<ExitCode>> {
    if env::var_os(WORKER).is_some() {
        signals().thread_unblock()?;
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).context("root is needed to make namespaces")?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        remove_stale(out)?;
        return Ok(None);
    }
    // Children inherit it, so there is no moment in which a signal ends this process first.
    signals().thread_block()?;
    let mut worker = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(WORKER, "1")
        .spawn()
        .context("starting setpriv")?;
    let pid = Pid::from_raw(i32::try_from(worker.id())?);
    std::thread::spawn(move || {
        while let Ok(signal) = signals().wait() {
            let _ = kill(pid, signal);
        }
    });
    let status = worker.wait()?;
    // In a namespace of its own for the mount that it takes.
    let cleaner = std::thread::spawn({
        let out = out.to_owned();
        move || -> Result<()> {
            let none: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            remove_stale(&out)
        }
    });
    if let Ok(Err(error)) = cleaner.join() {
        eprintln!("vm-tests: cleaning up: {error:#}");
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(Some(code.map_or(ExitCode::FAILURE, ExitCode::from)))
}

/// Removes what earlier runs left: directories of machines and cgroups.
fn remove_stale(out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let scratch = tempfile::tempdir()?;
    let removed = cgroup::remove_stale(scratch.path());
    let _ = nix::mount::umount(&scratch.path().join("cgroup"));
    removed?;
    for entry in fs::read_dir(out)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(MACHINE) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}
