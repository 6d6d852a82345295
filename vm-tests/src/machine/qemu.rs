//! Tier 2: a virtual machine, with a kernel and a disk of its own.
//!
//! A machine is not booted but goes on from a snapshot ([`golden`]), so that only a scenario about
//! booting pays for a boot. It has no network but what it makes itself; commands and files go through
//! the guest agent.

mod agent;
mod channel;
mod golden;
mod process;
mod qmp;

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use self::agent::Agent;
use self::golden::BOOT;
use self::process::{Boot, Emulator, Process};
use super::{Ability, Kind, LIMIT, Machine, Output, Started, Step, sh};

/// What a flush of the guest is to QEMU: what was written and not flushed may be lost with it.
const CACHE: &str = "writeback";

/// Another one after each boot.
const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// What was run: seconds since the start, seconds that it took, exit code, script.
const RUN_LOG: &str = "run.log";

/// Machines with one image.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    suite: String,
    name: String,
    /// Made by `images/disk.sh`.
    image: PathBuf,
    emulator: Emulator,
}

impl Qemu {
    /// Machines that boot the image of `suite` below `images`; `None` where it is not there.
    pub(crate) fn new(suite: &str, images: &Path) -> Option<Self> {
        let image = images.join(suite).join("qemu");
        // Written last.
        let release = fs::read_to_string(image.join("kernel")).ok()?;
        let version: Vec<&str> = release.trim().splitn(3, '.').take(2).collect();
        Some(Self {
            suite: suite.to_owned(),
            name: format!("kernel {} in qemu", version.join(".")),
            image,
            emulator: Emulator::find(images),
        })
    }
}

impl Kind for Qemu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn suite(&self) -> &str {
        &self.suite
    }

    fn tier(&self) -> u8 {
        2
    }

    fn start(&self, scratch: &Path, steps: &[Step<'_>]) -> Result<Started> {
        let golden = golden::disk(self, steps)?;
        let machine = InQemu::go_on(self, &golden, CACHE, scratch)?;
        Ok(Started {
            machine: Box::new(machine),
            done: steps.len(),
        })
    }
}

/// A running machine.
#[derive(Debug)]
struct InQemu {
    kind: Qemu,
    disk: PathBuf,
    cache: &'static str,
    scratch: PathBuf,
    /// When it was started for the first time.
    since: Instant,
    /// `None` only while it is off.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    agent: RefCell<Agent>,
    process: Process,
}

impl InQemu {
    /// A machine with this disk; it is off.
    fn new(kind: &Qemu, disk: PathBuf, cache: &'static str, scratch: &Path) -> Self {
        Self {
            kind: kind.clone(),
            disk,
            cache,
            scratch: scratch.to_owned(),
            since: Instant::now(),
            running: None,
        }
    }

    /// Goes on from a snapshot, with a copy of its disk.
    fn go_on(kind: &Qemu, golden: &Path, cache: &'static str, scratch: &Path) -> Result<Self> {
        let disk = scratch.join("disk.qcow2");
        fs::copy(golden, &disk).with_context(|| format!("copying {}", golden.display()))?;
        let mut machine = Self::new(kind, disk, cache, scratch);
        machine.power_on(Some(golden::NAME))?;
        // Its clock stands at the time at which it was saved.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        sh(&machine, &format!("date -s @{now}"))?;
        Ok(machine)
    }

    fn power_on(&mut self, snapshot: Option<&str>) -> Result<()> {
        let process = Process::start(&Boot {
            emulator: &self.kind.emulator,
            image: &self.kind.image,
            disk: &self.disk,
            cache: self.cache,
            snapshot,
            scratch: &self.scratch,
        })?;
        let agent = process.agent()?;
        self.running = Some(Running {
            agent: RefCell::new(agent),
            process,
        });
        self.wait()
    }

    /// Saves it into its disk's file, and ends it.
    fn save(mut self) -> Result<()> {
        // Less to write, and less to read at each start.
        sh(&self, "sync && echo 3 >/proc/sys/vm/drop_caches")?;
        let running = self.running.take().context("the machine is off")?;
        let mut qmp = running.process.qmp()?;
        qmp.save(golden::NAME)?;
        qmp.quit()?;
        running.process.ended()
    }

    /// Waits until the agent answers.
    fn wait(&self) -> Result<()> {
        let running = self.running()?;
        running.agent.borrow_mut().wait(BOOT).with_context(|| {
            let console = running.process.logs().map(|(_, said)| said).concat();
            format!("{}: its console:\n{console}", self.kind.name)
        })
    }

    /// Writes down what was run, and how long it took.
    fn note(&self, begin: Instant, script: &str, result: &Result<Output>) -> Result<()> {
        let code = result.as_ref().map_or(-1, |output| output.code);
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(self.scratch.join(RUN_LOG))?;
        writeln!(
            log,
            "{:8.1} s {:6.1} s  {code:3}  {}",
            self.since.elapsed().as_secs_f64(),
            begin.elapsed().as_secs_f64(),
            script.replace('\n', " ")
        )?;
        Ok(())
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("the machine is off")
    }
}

impl Machine for InQemu {
    fn run(&self, script: &str, limit: Duration) -> Result<Output> {
        let begin = Instant::now();
        let result = self
            .running()?
            .agent
            .borrow_mut()
            .run(script, limit)
            .with_context(|| self.kind.name.clone());
        self.note(begin, script, &result)?;
        result
    }

    fn put(&self, local: &Path, remote: &str) -> Result<()> {
        self.running()?
            .agent
            .borrow_mut()
            .put(local, remote)
            .with_context(|| {
                format!(
                    "{}: copying {} to {remote}",
                    self.kind.name,
                    local.display()
                )
            })
    }

    fn reboot(&mut self) -> Result<()> {
        let before = sh(self, BOOT_ID)?;
        // The answer may get lost with the agent.
        let _ = self.run("systemctl reboot", LIMIT);
        let since = Instant::now();
        while since.elapsed() < BOOT {
            self.wait()?;
            // It answers until it is stopped.
            if let Ok(output) = self.run(BOOT_ID, LIMIT)
                && output.code == 0
                && output.stdout != before
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("{}: no reboot within {} s", self.kind.name, BOOT.as_secs())
    }

    fn power_cut(&mut self) -> Result<()> {
        // QEMU is killed: what it had not yet made whole in the disk's file is lost.
        self.running = None;
        self.power_on(None)
    }

    fn can(&self, ability: Ability) -> bool {
        match ability {
            Ability::MemoryLimit | Ability::AnyLink | Ability::OwnClock => true,
        }
    }

    fn logs(&self, into: &Path) {
        let _ = fs::copy(self.scratch.join(RUN_LOG), into.join(RUN_LOG));
        if let Ok(running) = self.running() {
            for (name, said) in running.process.logs() {
                let _ = fs::write(into.join(name), said);
            }
        }
    }
}
