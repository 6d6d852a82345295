//! The real programs that manage firewalls, in the lab's host alone.
//!
//! `get-firewalls.sh` unpacks them below `target/`; here they are laid over the host's /usr, /etc and
//! /var, so that they find themselves, their modules and their configuration where they expect them.
//! What they write goes to the host's memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Lab;
use super::daemon::Daemon;
use super::wait::{LONG, eventually};

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// Fetches the programs where they are missing, into `ECS_NETGUARD_LAB_FIREWALLS` or
/// `target/lab-firewalls`. The error says what to do.
fn get() -> Result<PathBuf, String> {
    let root = super::repository();
    let dir = std::env::var_os("ECS_NETGUARD_LAB_FIREWALLS")
        .map_or_else(|| root.join("target/lab-firewalls"), PathBuf::from);
    let script = root.join("tests/lab/get-firewalls.sh");
    let status = Command::new(&script)
        .arg(&dir)
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    if status.success() {
        Ok(dir)
    } else {
        Err(format!("{} {} failed", script.display(), dir.display()))
    }
}

impl Lab {
    /// Lays the programs over the host's directories; no other process sees them.
    #[track_caller]
    pub fn install_firewalls(&self) {
        let dir = get().unwrap_or_else(|error| panic!("{error}"));
        let script = r#"for top in usr etc var; do
            mkdir -p /run/over/$top /run/over/$top.work
            mount -t overlay overlay /$top \
                -o "lowerdir=$DIR/$top:/$top,upperdir=/run/over/$top,workdir=/run/over/$top.work"
        done"#;
        self.host
            .command("sh")
            .args(["-ec", script])
            .env("DIR", dir)
            .run();
    }

    /// Starts a D-Bus system bus of the host's own.
    #[track_caller]
    pub fn start_bus(&self) -> Daemon {
        self.write("bus.conf", BUS);
        self.host.sh("mkdir -p /run/dbus");
        let config = format!("--config-file={}", self.inside("bus.conf").display());
        let bus = Daemon::start(self.host.command("dbus-daemon").args([&config, "--nofork"]));
        let socket = self.host.root().join("run/dbus/system_bus_socket");
        eventually(LONG, "the bus listens", || socket.exists());
        bus
    }

    /// Starts firewalld, which needs the bus, and waits until it has loaded its rules.
    #[track_caller]
    pub fn start_firewalld(&self) -> Daemon {
        let firewalld = self.host.command("/usr/sbin/firewalld");
        let firewalld = Daemon::start(firewalld.args(["--nofork", "--nopid"]));
        eventually(LONG, "firewalld runs", || {
            self.host.try_run("firewall-cmd --state").is_ok()
        });
        firewalld
    }
}
