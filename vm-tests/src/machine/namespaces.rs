//! Tier 1: a machine in namespaces, up in a few seconds.
//!
//! systemd is process 1 of a pid namespace, on the running kernel, with a root tree, a network and a
//! cgroup of its own. The tree is read-only below an overlay; what the machine writes is in memory and
//! stays over its reboots. All mounts are in a mount namespace of this process's own
//! ([`crate::janitor`]), so the kernel takes them back however this process ends.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ability, Kind, Machine, Output, Started, Step};
use crate::cgroup::Cgroup;

/// How long systemd may take to come up or to go down.
const BOOT: Duration = Duration::from_secs(180);

/// Machines with one suite's tree.
#[derive(Debug)]
pub(crate) struct Namespaces {
    suite: String,
    tree: PathBuf,
}

impl Namespaces {
    /// Machines whose root is a copy of `tree`, which is not written to.
    pub(crate) fn new(suite: &str, tree: &Path) -> Self {
        Self {
            suite: suite.to_owned(),
            tree: tree.to_owned(),
        }
    }
}

impl Kind for Namespaces {
    fn name(&self) -> String {
        format!("{} in namespaces", self.suite)
    }

    fn suite(&self) -> &str {
        &self.suite
    }

    fn tier(&self) -> u8 {
        1
    }

    fn start(&self, scratch: &Path, _: &[Step<'_>]) -> Result<Started> {
        let mut machine = InNamespaces::new(self.name(), &self.tree, scratch)?;
        machine.power_on()?;
        Ok(Started {
            machine: Box::new(machine),
            done: 0,
        })
    }
}

/// A running machine.
#[derive(Debug)]
struct InNamespaces {
    name: String,
    /// Holds the memory file system on which everything below lies.
    scratch: PathBuf,
    root: PathBuf,
    cgroup: Cgroup,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// The process that waits for the machine's process 1, and takes it along when it is killed.
    holder: Child,
    /// The machine's process 1, by its id here.
    init: Pid,
}

impl InNamespaces {
    fn new(name: String, tree: &Path, scratch: &Path) -> Result<Self> {
        let script = include_str!("enter.sh");
        let none: Option<&str> = None;
        let scratch = scratch.canonicalize().context("the machine's directory")?;
        mount(
            Some("tmpfs"),
            &scratch,
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .context("mounting a tmpfs for what the machine writes")?;
        let cgroup = Cgroup::new(&scratch)?;
        let machine = Self {
            name,
            root: scratch.join("root"),
            scratch,
            cgroup,
            running: None,
        };
        for dir in ["root", "upper", "work", "docker"] {
            fs::create_dir(machine.scratch.join(dir))?;
        }
        fs::write(machine.scratch.join("enter.sh"), script)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            tree.canonicalize()?.display(),
            machine.scratch.join("upper").display(),
            machine.scratch.join("work").display()
        );
        mount(
            Some("overlay"),
            &machine.root,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("mounting an overlay on {}", tree.display()))?;
        // Docker's own overlays cannot lie on an overlay.
        let docker = machine.root.join("var/lib/docker");
        fs::create_dir_all(&docker)?;
        mount(
            Some(&machine.scratch.join("docker")),
            &docker,
            none,
            MsFlags::MS_BIND,
            none,
        )
        .context("binding /var/lib/docker")?;
        Ok(machine)
    }

    /// Starts process 1 and waits until it answers.
    fn power_on(&mut self) -> Result<()> {
        let console = File::options()
            .create(true)
            .append(true)
            .open(self.scratch.join("console.log"))?;
        // Tied to this process: killed with it. An emulated machine, which takes ten times as long, comes first.
        let holder = Command::new("nice")
            .args(["-n", "10", "setpriv", "--pdeathsig", "KILL", "--", "sh"])
            .arg(self.scratch.join("enter.sh"))
            .arg(self.cgroup.path())
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("starting nice")?;
        let mut running = Running {
            holder,
            init: Pid::from_raw(0),
        };
        let since = Instant::now();
        loop {
            if let Some(status) = running.holder.try_wait()? {
                bail!(
                    "the machine ended while it started ({status}); its console:\n{}",
                    self.console()
                );
            }
            if running.init.as_raw() == 0
                && let Some(init) = child_of(running.holder.id())?
            {
                running.init = Pid::from_raw(init);
            }
            if running.init.as_raw() != 0 && is_systemd(running.init) {
                break;
            }
            if since.elapsed() > BOOT {
                let _ = running.holder.kill();
                let _ = running.holder.wait();
                bail!("process 1 did not start; its console:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.running = Some(running);
        loop {
            let state = self.run("systemctl is-system-running", BOOT)?;
            // It knows how it stands as soon as it answers; with exit codes for what is not "running".
            if matches!(
                state.stdout.trim(),
                "initializing" | "starting" | "running" | "degraded"
            ) {
                return Ok(());
            }
            if since.elapsed() > BOOT {
                bail!(
                    "systemd does not answer: {}{}; its console:\n{}",
                    state.stdout,
                    state.stderr,
                    self.console()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the machine is off; after `limit` it is an error.
    fn wait_off(&mut self, limit: Duration) -> Result<()> {
        let since = Instant::now();
        while let Some(running) = &mut self.running {
            if running.holder.try_wait()?.is_some() {
                self.running = None;
            } else if since.elapsed() > limit {
                bail!("the machine does not go down");
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Kills process 1, and with it everything in the machine.
    fn cut(&mut self) -> Result<()> {
        if let Some(running) = &self.running {
            match kill(running.init, Signal::SIGKILL) {
                // It has ended by itself.
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => return Err(error).context("killing process 1"),
            }
        }
        self.wait_off(BOOT)
    }

    fn console(&self) -> String {
        fs::read_to_string(self.scratch.join("console.log")).unwrap_or_default()
    }
}

impl Machine for InNamespaces {
    fn run(&self, script: &str, limit: Duration) -> Result<Output> {
        let Some(running) = &self.running else {
            bail!("the machine is off");
        };
        // Files and not pipes: what the script leaves running may keep them open.
        let mut streams = [tempfile::tempfile()?, tempfile::tempfile()?];
        let mut child = Command::new("nsenter")
            .args(["-t", &running.init.to_string()])
            .args(["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                "LANG=C.UTF-8",
            ])
            .args(["timeout", "-s", "KILL", &limit.as_secs().max(1).to_string()])
            .args(["sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(streams[0].try_clone()?)
            .stderr(streams[1].try_clone()?)
            .spawn()
            .context("starting nsenter")?;
        let since = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if since.elapsed() > limit + Duration::from_secs(20) {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{}: no end within {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let mut texts = streams.iter_mut().map(read_all);
        let output = Output {
            code: status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .unwrap_or(255),
            stdout: texts.next().transpose()?.unwrap_or_default(),
            stderr: texts.next().transpose()?.unwrap_or_default(),
        };
        if since.elapsed() >= limit && output.code == 137 {
            bail!(
                "{}: no end within {} s\n{}{}",
                self.name,
                limit.as_secs(),
                output.stdout,
                output.stderr
            );
        }
        Ok(output)
    }

    fn put(&self, local: &Path, remote: &str) -> Result<()> {
        let Some(running) = &self.running else {
            bail!("the machine is off");
        };
        // Through the root that the machine sees: /run and /tmp are mounts of its own.
        let to = PathBuf::from(format!("/proc/{}/root{remote}", running.init));
        fs::copy(local, &to).with_context(|| format!("copying {} to {remote}", local.display()))?;
        Ok(())
    }

    fn reboot(&mut self) -> Result<()> {
        // The answer may get lost with the connection.
        let _ = self.run("systemctl reboot", BOOT)?;
        self.wait_off(BOOT)?;
        self.power_on()
    }

    fn power_cut(&mut self) -> Result<()> {
        self.cut()?;
        self.power_on()
    }

    fn can(&self, ability: Ability) -> bool {
        match ability {
            // The memory controller may be another hierarchy's on the running kernel.
            Ability::MemoryLimit => false,
            // The running kernel may lack the modules, and none can be loaded from here.
            Ability::AnyLink => false,
            Ability::OwnClock => false,
        }
    }

    fn logs(&self, into: &Path) {
        let _ = fs::write(into.join("console.log"), self.console());
    }
}

impl Drop for InNamespaces {
    fn drop(&mut self) {
        if let Err(error) = self.cut() {
            eprintln!("vm-tests: ending {}: {error:#}", self.name);
        }
        for dir in ["root/var/lib/docker", "root", ""] {
            let _ = umount2(&self.scratch.join(dir), MntFlags::MNT_DETACH);
        }
    }
}

/// The process whose parent is `pid`.
fn child_of(pid: u32) -> Result<Option<i32>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // "pid (comm) state ppid …"; comm may hold anything, a parenthesis too.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
            .and_then(|parent| parent.parse::<u32>().ok());
        if parent == Some(pid) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether the set-up is over and systemd has taken its place.
fn is_systemd(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "systemd")
}

fn read_all(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
