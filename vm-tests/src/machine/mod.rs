//! What a scenario sees of a machine, whatever that machine is.

mod namespaces;
mod qemu;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::namespaces::Namespaces;
use self::qemu::Qemu;

/// A running machine with systemd as its first process, and Docker.
pub(crate) trait Machine {
    /// Runs `sh -c script` as root in the machine. An error is a machine that does not answer, or a
    /// script that took longer than `limit`; how the script ended is in the output.
    fn run(&self, script: &str, limit: Duration) -> Result<Output>;

    /// Puts the local file at `remote`, an absolute path whose directory there is, with its mode.
    fn put(&self, local: &Path, remote: &str) -> Result<()>;

    /// Reboots in order; returns when systemd answers again.
    fn reboot(&mut self) -> Result<()>;

    /// Takes the power away and starts it again; returns when systemd answers.
    fn power_cut(&mut self) -> Result<()>;

    /// Whether it can do what only some machines can.
    fn can(&self, ability: Ability) -> bool;

    /// Writes what explains a failure to files below `into`: at least the console. What can be asked
    /// of a machine that answers is [`keep_logs`]' part.
    fn logs(&self, into: &Path);
}

/// What not every machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ability {
    /// A unit's memory can be limited (`MemoryMax=`), so that the kernel kills it.
    MemoryLimit,
    /// Interfaces of every kind can be made: VLANs, ipvlan, macvlan.
    AnyLink,
    /// Its clock is its own, and can be set.
    OwnClock,
}

/// How a script ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The exit code; 128 and the signal where a signal ended it.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it printed on standard error.
    pub(crate) stderr: String,
}

/// A kind of machine, of which every scenario gets a fresh one.
pub(crate) trait Kind: Sync {
    /// What its machines are called in reports: "bookworm in namespaces", "kernel 6.1 in qemu".
    fn name(&self) -> String;

    /// The word by which `--suite` chooses it: "bookworm", "sid".
    fn suite(&self) -> &str;

    /// 1: namespaces; 2: a virtual machine.
    fn tier(&self) -> u8;

    /// Starts one; returns when systemd answers and Docker is there. Where machines can be kept as they
    /// are, these steps are behind it, done once for all. What it writes goes to `scratch`, an empty
    /// directory that the caller removes when the machine has been dropped. Dropping the machine ends
    /// it.
    fn start(&self, scratch: &Path, steps: &[Step<'_>]) -> Result<Started>;
}

/// Something that is done to a machine before a scenario, and is the same for many.
pub(crate) struct Step<'a> {
    /// What it does, for errors: "installing the package".
    pub(crate) name: &'static str,
    /// Stands for all that goes into it.
    pub(crate) digest: u64,
    /// Does it.
    pub(crate) run: &'a dyn Fn(&mut dyn Machine) -> Result<()>,
}

/// A machine that a scenario gets.
pub(crate) struct Started {
    pub(crate) machine: Box<dyn Machine>,
    /// How many of the steps are behind it.
    pub(crate) done: usize,
}

/// How long a command may take on a slow, busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Runs a script that must succeed, and returns what it printed.
pub(crate) fn sh(machine: &dyn Machine, script: &str) -> Result<String> {
    let output = machine
        .run(script, LIMIT)
        .with_context(|| format!("running {script:?}"))?;
    if output.code != 0 {
        bail!(
            "{script:?} ended with exit code {}\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
    }
    Ok(output.stdout)
}

/// Waits until a script succeeds; the error says what was waited for and what came last.
pub(crate) fn wait_for(machine: &dyn Machine, what: &str, script: &str) -> Result<String> {
    let limit = LIMIT.as_secs();
    // One round in the machine, and not one round a try: entering it may be slow.
    let output = machine.run(
        &format!(
            "end=$(($(date +%s) + {limit}))\n\
             try() {{ {script}\n}}\n\
             until said=$( (try) 2>&1); do\n\
               if [ $(date +%s) -ge $end ]; then printf '%s' \"$said\"; exit 1; fi\n\
               sleep 0.1\n\
             done\n\
             printf '%s' \"$said\""
        ),
        LIMIT + Duration::from_secs(30),
    )?;
    if output.code != 0 {
        bail!(
            "{what}: not within {limit} s ({script}); it said last:\n{}{}",
            output.stdout,
            output.stderr
        );
    }
    Ok(output.stdout)
}

/// Asks a machine for what explains a failure; what cannot be had is left out.
pub(crate) fn keep_logs(machine: &dyn Machine, into: &Path) {
    for (file, script) in [
        ("journal.log", "journalctl --no-pager -o short-monotonic"),
        (
            "units.log",
            "systemctl --no-pager --failed --all; systemctl --no-pager list-jobs",
        ),
        ("nft.rules", "nft list ruleset"),
        ("iptables.rules", "iptables-save -c; ip6tables-save -c"),
        (
            "status.txt",
            "ecs-netguard status; ecs-netguard check; ecs-netguard config; ecs-netguard events",
        ),
        (
            "network.txt",
            "ip addr; ip route; ip netns; ss -lntp; sysctl net.ipv4.conf.all.route_localnet",
        ),
        (
            "docker.txt",
            "timeout 20 docker ps -a; timeout 20 docker network ls; \
             for c in $(timeout 20 docker ps -aq); do timeout 20 docker logs --tail 20 $c; done",
        ),
        ("up.rules", "ip netns exec up nft list ruleset"),
    ] {
        let said = match machine.run(script, Duration::from_secs(60)) {
            Ok(output) => format!("{}{}", output.stdout, output.stderr),
            Err(error) => format!("{error:#}\n"),
        };
        // A log that cannot be written must not hide the failure it is about.
        let _ = std::fs::write(into.join(file), said);
    }
    machine.logs(into);
}

/// The suite with the oldest programs and kernel.
pub(crate) const OLDEST: &str = "bookworm";

/// The suites of which trees are made (`images/tree.sh`).
const SUITES: [&str; 2] = [OLDEST, "sid"];

/// The suites whose kernels are run (`images/disk.sh`), the oldest first: 6.1 and 6.12.
const KERNELS: [&str; 2] = [OLDEST, "bookworm-backports"];

/// The kinds of machine whose trees or images are below `images`.
pub(crate) fn kinds(images: &Path) -> Vec<Box<dyn Kind>> {
    let trees = SUITES.into_iter().filter_map(|suite| {
        let tree = images.join(suite).join("root");
        let kind = || -> Box<dyn Kind> { Box::new(Namespaces::new(suite, &tree)) };
        tree.is_dir().then(kind)
    });
    let disks = KERNELS.into_iter().filter_map(|suite| {
        let kind = Qemu::new(suite, images)?;
        Some(Box::new(kind) as Box<dyn Kind>)
    });
    trees.chain(disks).collect()
}
