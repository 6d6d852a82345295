//! A throwaway cgroup below that of the tasks on the host's network, and a process in it.
//!
//! A cgroup is not the kernel's to take back: it is a directory. So a child process makes it, goes into
//! it, sends, leaves it and removes it, and does the last two also as soon as the probe ends, whose end
//! of a pipe closes then. Only if both are killed at the same instant the empty directory stays; the next
//! probe removes it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::model::{Asked, Place, Tried};
use super::task::probe_here;
use super::watch::{Watch, host_exits};
use crate::os::cgroup;
use crate::os::nsid::Peers;

/// The hidden subcommand that the child is.
pub const SUBCOMMAND: &str = "probe-host-tasks";

/// What the names of such cgroups begin with.
const PREFIX: &str = "ecs-netguard-probe-";

/// How often, and how long, a cgroup is tried to be removed whose process has just ended.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Has the child try, and takes its answer.
pub(super) fn probe(program: &Path, asked: &Asked) -> anyhow::Result<Tried> {
    let Place::HostTasks { cgroup: tasks } = &asked.place else {
        anyhow::bail!("{} is no place for a cgroup", asked.place);
    };
    let Some(directory) = cgroup::directory(tasks) else {
        anyhow::bail!("there is no cgroup hierarchy");
    };
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .arg(serde_json::to_string(asked)?)
        // Its end is how the child learns of this process's.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let number = child.id();
    // Taken out, so that it stays open until the child has ended.
    let held = child.stdin.take();
    let output = child.wait_with_output();
    drop(held);
    // Nothing is left here unless the child was killed.
    let left = directory.join(name(number));
    remove(&left).with_context(|| format!("remove {}", left.display()))?;
    let output = output?;
    anyhow::ensure!(
        output.status.success(),
        "the process in it ended: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("read what it found")
}

/// What the child does; prints what it found.
pub fn child(asked: &str) -> anyhow::Result<String> {
    let asked: Asked = serde_json::from_str(asked).context("read what is asked")?;
    let Place::HostTasks { cgroup: tasks } = &asked.place else {
        anyhow::bail!("{} is no place for a cgroup", asked.place);
    };
    let directory = cgroup::directory(tasks).context("there is no cgroup hierarchy")?;
    sweep(&directory);
    let throwaway = Arc::new(Mutex::new(Throwaway {
        home: own_cgroup()?,
        directory: directory.join(name(std::process::id())),
        over: false,
    }));
    let watching = Arc::clone(&throwaway);
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || {
            // It ends with the parent, or with an error, which is as good.
            let _ended = io::stdin().read(&mut [0]);
            lock(&watching).leave();
            std::process::exit(0);
        })?;
    lock(&throwaway).enter()?;
    let tried = send(&asked);
    lock(&throwaway).leave();
    Ok(serde_json::to_string(&tried?)?)
}

fn send(asked: &Asked) -> anyhow::Result<Tried> {
    let links = Peers::open()?.links()?;
    let exits = host_exits(&links);
    let host = Mutex::new(Watch::open(exits.clone())?);
    probe_here(&host, &exits, asked)
}

/// The cgroup that this process is in for a moment.
struct Throwaway {
    home: PathBuf,
    directory: PathBuf,
    over: bool,
}

impl Throwaway {
    fn enter(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.over, "the probe has ended");
        let directory = &self.directory;
        fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
        move_to(directory).inspect_err(|_| self.leave_quietly())
    }

    fn leave(&mut self) {
        if !self.over {
            self.leave_quietly();
        }
        self.over = true;
    }

    /// The parent removes what cannot be removed here, and says so.
    fn leave_quietly(&self) {
        let _stays = move_to(&self.home);
        let _left = remove(&self.directory);
    }
}

fn lock(throwaway: &Mutex<Throwaway>) -> std::sync::MutexGuard<'_, Throwaway> {
    throwaway.lock().unwrap_or_else(PoisonError::into_inner)
}

fn move_to(directory: &Path) -> anyhow::Result<()> {
    let file = directory.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("enter {}", file.display()))
}

fn name(process: u32) -> String {
    format!("{PREFIX}{process}.scope")
}

/// The directory of the cgroup that this process is in, in the hierarchy of version 2.
fn own_cgroup() -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.context("this process is in no cgroup of version 2")?;
    cgroup::directory(path).context("there is no cgroup hierarchy")
}

/// Removes what probes left that were killed together with their child. One in which a process is cannot
/// be removed.
fn sweep(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _in_use = fs::remove_dir(entry.path());
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        last = match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other,
        };
        if last.is_ok() {
            break;
        }
        thread::sleep(PAUSE);
    }
    last
}
