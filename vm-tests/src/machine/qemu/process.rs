//! One QEMU process, and the files by which it is talked to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::agent::Agent;
use super::qmp::Qmp;

const QEMU: &str = "qemu-system-x86_64";

/// An emulator. Not KVM: it is not everywhere, and nested it may be there and not work.
#[derive(Debug, Clone)]
pub(super) struct Emulator {
    /// Where `images/emulator.sh` unpacked it; `None` where this machine's own is new enough.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The one below `images`, or this machine's own.
    pub(super) fn find(images: &Path) -> Self {
        let unpacked = images.join("emulator");
        Self {
            unpacked: unpacked.is_dir().then_some(unpacked),
        }
    }

    /// The program, and where it finds its firmware.
    pub(super) fn command_line(&self) -> Vec<String> {
        let Some(unpacked) = &self.unpacked else {
            return vec![QEMU.to_owned()];
        };
        let at = |path: &str| unpacked.join(path).display().to_string();
        vec![
            at(&format!("usr/bin/{QEMU}")),
            "-L".to_owned(),
            at("usr/share/seabios"),
            "-L".to_owned(),
            at("usr/share/qemu"),
        ]
    }
}

/// What the machine is. A snapshot fits only the machine from which it was taken.
pub(super) const HARDWARE: &[&str] = &[
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-machine",
    "q35,hpet=off",
    "-cpu",
    "qemu64",
    "-smp",
    "2",
    "-m",
    "2048",
    "-accel",
    "tcg,thread=multi,tb-size=512",
    // No way out.
    "-nic",
    "none",
    "-device",
    "virtio-serial-pci",
    "-append",
    "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off apparmor=0 audit=0 \
     random.trust_cpu=1 tsc=reliable clocksource=tsc no_timer_check",
];

/// How long QEMU may take until its sockets are there.
const START: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot<'a> {
    pub(super) emulator: &'a Emulator,
    /// Holds `vmlinuz` and `initrd.img`.
    pub(super) image: &'a Path,
    /// The disk, in qcow2.
    pub(super) disk: &'a Path,
    /// QEMU's word for what a flush of the guest means.
    pub(super) cache: &'a str,
    /// A snapshot in the disk's file, with which to go on instead of booting.
    pub(super) snapshot: Option<&'a str>,
    /// Where sockets and logs go.
    pub(super) scratch: &'a Path,
}

/// A running QEMU; it ends when this is dropped, and when this program ends.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    scratch: PathBuf,
}

impl Process {
    /// Starts it, and waits for its sockets.
    pub(super) fn start(boot: &Boot<'_>) -> Result<Self> {
        let at = |name: &str| boot.scratch.join(name).display().to_string();
        for socket in ["agent", "qmp"] {
            let _ = std::fs::remove_file(at(socket));
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(at("qemu.log"))?;
        let mut command = Command::new("setpriv");
        // Tied to this process: killed with it.
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(boot.emulator.command_line());
        command.args(HARDWARE);
        command.arg("-kernel").arg(boot.image.join("vmlinuz"));
        command.arg("-initrd").arg(boot.image.join("initrd.img"));
        command.arg("-drive").arg(format!(
            "if=none,id=disk,format=qcow2,cache={},file={}",
            boot.cache,
            boot.disk.display()
        ));
        command.args(["-device", "virtio-blk-pci,drive=disk"]);
        command.arg("-chardev").arg(format!(
            "socket,id=agent,server=on,wait=off,path={}",
            at("agent")
        ));
        command.args([
            "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ]);
        command.arg("-chardev").arg(format!(
            "file,id=console,append=on,path={}",
            at("console.log")
        ));
        command.args(["-serial", "chardev:console"]);
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", at("qmp")));
        if let Some(snapshot) = boot.snapshot {
            command.args(["-loadvm", snapshot]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting setpriv")?;
        let mut process = Self {
            child,
            scratch: boot.scratch.to_owned(),
        };
        let since = Instant::now();
        while !(process.socket("agent").exists() && process.socket("qmp").exists()) {
            if let Some(status) = process.child.try_wait()? {
                bail!("{QEMU} ended ({status}): {}", process.said());
            }
            if since.elapsed() > START {
                bail!("{QEMU} does not start: {}", process.said());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// Connects to the guest agent.
    pub(super) fn agent(&self) -> Result<Agent> {
        Agent::connect(&self.socket("agent"))
    }

    /// Connects to QEMU's control socket.
    pub(super) fn qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.socket("qmp"))
    }

    /// Waits until it has ended by itself.
    pub(super) fn ended(mut self) -> Result<()> {
        self.child.wait().context("waiting for QEMU")?;
        Ok(())
    }

    /// What QEMU itself and the machine's console said: each log's name and content.
    pub(super) fn logs(&self) -> [(&'static str, String); 2] {
        ["qemu.log", "console.log"].map(|name| {
            let bytes = std::fs::read(self.scratch.join(name)).unwrap_or_default();
            (name, String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    fn said(&self) -> String {
        self.logs().map(|(_, said)| said).concat()
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
