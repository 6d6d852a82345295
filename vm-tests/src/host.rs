//! A machine as an ECS host: what is around the guard, and the questions that every scenario asks.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::machine::{self, Machine, Output};

/// What scenarios put into machines.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// What `vm-tests/images/packages.sh` made.
    pub(crate) packages: PathBuf,
    /// `vm-tests/surroundings`.
    pub(crate) surroundings: PathBuf,
}

impl Payload {
    /// Stands for all of it, and for what [`Host::prepare`] does with it.
    pub(crate) fn digest(&self) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        include_str!("host.rs").hash(&mut hasher);
        let mut left = vec![self.surroundings.clone()];
        left.extend(BROUGHT.map(|name| self.packages.join(name)));
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let mut inside: Vec<PathBuf> = fs::read_dir(&path)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<std::io::Result<_>>()?;
                inside.sort();
                left.extend(inside);
            } else {
                let content =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                (path.file_name(), content).hash(&mut hasher);
            }
        }
        Ok(hasher.finish())
    }
}

/// Where the files of [`Payload`] lie in a machine.
pub(crate) const PLACE: &str = "/var/lib/ecs-test";

/// The packages that every machine has: the guard's, the same with a higher version, and one that provides to
/// dnf by name what the guard's requires and Debian has by other names.
const BROUGHT: [&str; 3] = ["guard.rpm", "newer.rpm", "base.rpm"];

/// systemd counts Docker's starts and refuses too many of them in a minute; a test has its reasons.
pub(crate) const RESTART_DOCKER: &str = "systemctl reset-failed docker; systemctl restart docker";

/// The counter of what containers sent.
const CONTAINERS: &str = "containers";

/// What each container has sent so far, as the host's end of its link saw it: quicker than asking inside.
const SENT: &str = "cat /sys/class/net/veth*/statistics/rx_packets";

/// The containers that `ecs-tasks.sh` starts.
pub(crate) const TASKS: [&str; 3] = ["one", "two", "three"];

/// When what happened in a boot, from the start of systemd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boot {
    /// The guard's first proof was done.
    pub(crate) ready: Duration,
    /// Docker was started.
    pub(crate) docker: Duration,
}

/// A machine under test.
pub(crate) struct Host<'a> {
    machine: &'a mut dyn Machine,
    payload: &'a Payload,
    /// Packets of containers that arrived at the metadata service in the boots before this one.
    arrived: u64,
    /// What the counter showed when counting began in this boot.
    since: u64,
}

impl<'a> Host<'a> {
    /// The machine as it is.
    pub(crate) fn new(machine: &'a mut dyn Machine, payload: &'a Payload) -> Self {
        Self {
            machine,
            payload,
            arrived: 0,
            since: 0,
        }
    }

    /// Puts up an ECS host's surroundings, without the guard. Its containers run, and reach the
    /// metadata service: from here on that would be counted.
    pub(crate) fn prepare(self) -> Result<()> {
        let host = self;
        host.wait_for("Docker answers", "docker info >/dev/null")?;
        host.sh(&format!("mkdir -p {PLACE}/surroundings"))?;
        host.put_surroundings()?;
        for name in BROUGHT {
            host.bring(name)?;
        }
        host.sh(&format!("{PLACE}/surroundings/install.sh"))?;
        host.user_data("echo ECS_CLUSTER=test >>/etc/ecs/ecs.config; echo ECS_AWSVPC_BLOCK_IMDS=true >>/etc/ecs/ecs.config")?;
        host.sh("systemctl start cloud-final ecs && /usr/lib/ecs-test/ecs-tasks.sh")?;
        // Where nothing is in the way, it arrives: what is counted below is not always 0.
        host.wait_for(
            "without the guard containers reach the metadata service by IPv4 and IPv6",
            "docker exec two wget -q -O - http://169.254.169.254/latest/meta-data/iam/security-credentials/the-role | grep -q of-the-instance && \
             docker exec two wget -q -O - 'http://[fd00:ec2::254]/latest/meta-data/iam/security-credentials/the-role' | grep -q of-the-instance",
        )?;
        ensure!(
            host.counter(CONTAINERS)? > 0,
            "packets that arrived at the metadata service were not counted"
        );
        Ok(())
    }

    fn put_surroundings(&self) -> Result<()> {
        let tar = tempfile::NamedTempFile::new()?;
        let status = Command::new("tar")
            .arg("-C")
            .arg(&self.payload.surroundings)
            .arg("-cf")
            .arg(tar.path())
            .arg(".")
            .status()
            .context("starting tar")?;
        ensure!(
            status.success(),
            "packing {} failed",
            self.payload.surroundings.display()
        );
        self.machine
            .put(tar.path(), &format!("{PLACE}/surroundings.tar"))?;
        self.sh(&format!(
            "tar -C {PLACE}/surroundings -xf {PLACE}/surroundings.tar"
        ))?;
        Ok(())
    }

    /// Puts one of the packages into the machine, below [`PLACE`].
    pub(crate) fn bring(&self, name: &str) -> Result<()> {
        let file = self.payload.packages.join(name);
        ensure!(
            file.exists(),
            "{} is not there: `make vm-test` makes it",
            file.display()
        );
        self.machine.put(&file, &format!("{PLACE}/{name}"))
    }

    /// Installs the package as an operator does where it is not there yet, waits until the guard says
    /// PROTECTED, and begins to count. How long that took.
    pub(crate) fn install(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        if self.run("rpm -q ecs-netguard")?.code == 0 {
            self.wait_protected()?;
            self.count_from_here()?;
            return Ok(begin.elapsed());
        }
        self.dnf(&format!("install {PLACE}/base.rpm {PLACE}/guard.rpm"))?;
        self.wait_protected()?;
        let took = begin.elapsed();
        self.count_from_here()?;
        Ok(took)
    }

    /// What is left of the guard on the machine, a line each.
    fn left(&self) -> Result<String> {
        let found = self.run(
            "iptables-save | grep ecs-netguard; ip6tables-save | grep ecs-netguard; \
             nft list tables | grep ecs_netguard; \
             ls -d /var/lib/ecs-netguard /run/ecs-netguard /usr/sbin/ecs-netguard 2>/dev/null; \
             pgrep -ax ecs-netguard; find /etc/systemd -name 'ecs-netguard*'; \
             systemctl list-unit-files 'ecs-netguard*' --no-legend",
        )?;
        Ok(found.stdout)
    }

    /// Shows that nothing is left of the guard after the removal that `said` that, and that what is counted
    /// would have been seen all the while.
    pub(crate) fn is_removed(&self, said: &str) -> Result<()> {
        let left = self.left()?;
        ensure!(left.is_empty(), "a removal said {said:?} and left:\n{left}");
        self.wait_for(
            "without the guard packets arrive again",
            "docker exec two timeout 5 wget -q -O - http://169.254.169.254/ | grep -q answered",
        )?;
        Ok(())
    }

    /// Has the package changed by `command`, which `change` runs: another daemon, the same seal, and no packet.
    pub(crate) fn changes_package(
        &self,
        command: &str,
        change: impl FnOnce(&str) -> Result<String>,
    ) -> Result<()> {
        let daemon = || self.sh("systemctl show -P MainPID ecs-netguard");
        let (before, table) = (daemon()?, self.seal()?);
        change(command)?;
        self.none_arrived(&format!("during {command}"))?;
        self.wait_protected()?;
        ensure!(daemon()? != before, "{command}: the old daemon still runs");
        ensure!(
            self.seal()? == table,
            "{command}: the seal is another table than before"
        );
        Ok(())
    }

    /// Runs dpkg's own tools without a question.
    pub(crate) fn apt(&self, command: &str) -> Result<String> {
        self.sh(&format!("DEBIAN_FRONTEND=noninteractive {command} 2>&1"))
    }

    /// Runs dnf without any repository.
    pub(crate) fn dnf(&self, arguments: &str) -> Result<String> {
        self.sh(&format!("dnf -y -q --disablerepo='*' {arguments} 2>&1"))
    }

    /// What the machine's user data is: a shell script.
    pub(crate) fn user_data(&self, script: &str) -> Result<()> {
        self.sh(&format!(
            "cat >{PLACE}/user-data <<'END'\n#!/bin/sh\n{script}\nEND\nchmod 0755 {PLACE}/user-data"
        ))?;
        Ok(())
    }

    /// What arrives from now on is counted; what came before was before the guard.
    pub(crate) fn count_from_here(&mut self) -> Result<()> {
        self.since = self.counter(CONTAINERS)?;
        self.arrived = 0;
        Ok(())
    }

    /// Packets of containers that arrived at the metadata service since counting began.
    pub(crate) fn arrived(&self) -> Result<u64> {
        Ok(self.arrived + self.counter(CONTAINERS)?.saturating_sub(self.since))
    }

    /// Packets of the host itself, or of tasks on its network, that arrived there in this boot.
    pub(crate) fn arrived_from_host(&self) -> Result<u64> {
        self.counter("host")
    }

    fn counter(&self, name: &str) -> Result<u64> {
        let text = self.sh(&format!(
            "ip netns exec up nft list counter inet arrived {name}"
        ))?;
        // "… packets 12 bytes 720 …"
        let mut words = text.split_whitespace();
        words
            .find(|word| *word == "packets")
            .and_then(|_| words.next())
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("a counter without packets: {text}"))
    }

    /// Reboots in order. What was counted before is kept, but for the moments of going down.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        self.arrived = self.arrived()?;
        self.since = 0;
        self.machine.reboot()
    }

    /// Takes the power away, and starts it again.
    pub(crate) fn power_cut(&mut self) -> Result<()> {
        self.arrived = self.arrived()?;
        self.since = 0;
        self.machine.power_cut()
    }

    /// As [`Host::count_from_here`], from the start of this boot.
    pub(crate) fn count_this_boot(&mut self) {
        self.since = 0;
        self.arrived = 0;
    }

    /// Waits until the running daemon says PROTECTED.
    pub(crate) fn wait_protected(&self) -> Result<()> {
        self.wait_for(
            "PROTECTED",
            "ecs-netguard status | grep ^PROTECTED || { ecs-netguard status; false; }",
        )?;
        Ok(())
    }

    /// Waits until the tasks' containers run and have sent something.
    pub(crate) fn wait_tasks(&self) -> Result<()> {
        self.wait_for(
            "all containers send",
            &format!(
                "test \"$({SENT} | awk '$1 > 20' | wc -l)\" -ge {}",
                TASKS.len()
            ),
        )?;
        Ok(())
    }

    /// How many packets the containers that run now have sent.
    pub(crate) fn sent(&self) -> Result<u64> {
        let mut sent = 0;
        for count in self.sh(SENT)?.lines() {
            let count: u64 = count.parse().context("rx_packets")?;
            sent += count;
        }
        Ok(sent)
    }

    /// Waits until containers have sent so much more.
    pub(crate) fn wait_sent(&self, more: u64) -> Result<()> {
        let wanted = self.sent()? + more;
        self.wait_for(
            "containers go on sending",
            &format!("test \"$({SENT} | awk '{{ sum += $1 }} END {{ print sum }}')\" -gt {wanted}"),
        )?;
        Ok(())
    }

    /// Waits until credentials are served, to containers and to the host.
    pub(crate) fn wait_credentials(&self) -> Result<()> {
        for who in ["docker exec one", "docker exec two", ""] {
            let wget = if who.is_empty() {
                "curl -sf -m 5"
            } else {
                "timeout 5 wget -q -O -"
            };
            self.wait_for(
                "a task gets its credentials",
                &format!(
                    "{who} {wget} http://169.254.170.2/v2/credentials/1 | grep -q of-the-task"
                ),
            )?;
        }
        Ok(())
    }

    /// What must be so at the end of every scenario: nothing arrived though containers sent, the proof
    /// says held, and credentials are served. Returns the packets that arrived: 0.
    pub(crate) fn finish(&self) -> Result<u64> {
        self.wait_tasks()?;
        self.wait_protected()?;
        // It is a look at one instant: while ecs-init puts its rules on top they are there for some
        // milliseconds.
        self.wait_for("the proof says held", "ecs-netguard check")?;
        self.wait_credentials()?;
        // The host itself is not kept out.
        self.sh(
            "curl -sf -m 20 http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        )?;
        self.wait_sent(50)?;
        self.none_arrived("in the end")?;
        self.arrived()
    }

    /// Fails where a packet has arrived.
    pub(crate) fn none_arrived(&self, when: &str) -> Result<()> {
        let arrived = self.arrived()?;
        if arrived > 0 {
            let who = self.sh("ip netns exec up nft list set inet arrived senders")?;
            bail!("{arrived} packets of containers arrived at the metadata service {when}:\n{who}");
        }
        Ok(())
    }

    /// Restarts Docker.
    pub(crate) fn restart_docker(&self) -> Result<()> {
        self.sh(RESTART_DOCKER)?;
        Ok(())
    }

    /// The seal's table as the kernel knows it: another table of that name has another handle.
    pub(crate) fn seal(&self) -> Result<String> {
        // Not as JSON: nft 1.0.6 breaks off at a table's owner flag.
        self.sh("nft -a list table inet ecs_netguard | grep -m 1 -o 'handle [0-9]*'")
    }

    /// How this boot went, by systemd's own clock.
    pub(crate) fn boot_times(&self) -> Result<Boot> {
        Ok(Boot {
            ready: self.became_active("ecs-netguard.service", "ActiveEnterTimestampMonotonic")?,
            docker: self.became_active("docker.service", "InactiveExitTimestampMonotonic")?,
        })
    }

    /// A time of a unit since the machine's systemd began.
    fn became_active(&self, unit: &str, property: &str) -> Result<Duration> {
        let micros = |text: String| text.trim().parse::<u64>().context("a time of systemd's");
        let at = micros(self.sh(&format!("systemctl show -P {property} {unit}"))?)?;
        // In a virtual machine the clock begins with the kernel; in namespaces it is the machine's own.
        let start = micros(self.sh("systemctl show -P UserspaceTimestampMonotonic")?)?;
        ensure!(at > start, "{unit}: {property} is {at} µs, before the boot");
        Ok(Duration::from_micros(at - start))
    }

    /// As [`machine::sh`].
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        machine::sh(self.machine, script)
    }

    /// Runs a script however it ends.
    pub(crate) fn run(&self, script: &str) -> Result<Output> {
        self.machine.run(script, machine::LIMIT)
    }

    /// As [`machine::wait_for`].
    pub(crate) fn wait_for(&self, what: &str, script: &str) -> Result<String> {
        machine::wait_for(self.machine, what, script)
    }
}
