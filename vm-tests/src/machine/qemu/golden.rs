//! Golden snapshots: a machine that is up, saved with its memory, from which others go on in a second.
//!
//! They form a chain: the booted machine, then one for each step that scenarios have in common. They
//! lie beside the image, and are used again until the emulator or what goes into a step changes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::process::HARDWARE;
use super::{InQemu, Qemu};
use crate::machine::{Step, keep_logs, sh};

/// The snapshot's name in the disk's file.
pub(super) const NAME: &str = "golden";

/// How long a boot may take on a busy machine.
pub(super) const BOOT: Duration = Duration::from_secs(300);

/// A snapshot that is made: the disk is not needed where that fails.
const CACHE: &str = "unsafe";

/// Returns the disk with the snapshot of a machine that has these steps behind it; makes what is not
/// there yet.
pub(super) fn disk(kind: &Qemu, steps: &[Step<'_>]) -> Result<PathBuf> {
    let image = &kind.image;
    let lock = File::create(image.join("golden.lock"))
        .with_context(|| format!("making a lock in {}", image.display()))?;
    lock.lock().context("waiting for the snapshots' lock")?;
    let mut hasher = DefaultHasher::new();
    emulator(kind)?.hash(&mut hasher);
    let mut disk = snapshot(image, 0, &hasher);
    if !disk.exists() {
        make(image, 0, &disk, |scratch| boot(kind, scratch))
            .with_context(|| format!("{}: booting for the golden snapshot", kind.name))?;
    }
    for (number, step) in steps.iter().enumerate() {
        step.digest.hash(&mut hasher);
        let next = snapshot(image, number + 1, &hasher);
        if !next.exists() {
            make(image, number + 1, &next, |scratch| {
                take(kind, &disk, step, scratch)
            })
            .with_context(|| format!("{}: {}", kind.name, step.name))?;
        }
        disk = next;
    }
    Ok(disk)
}

/// What stands for this emulator and the machine that it makes.
fn emulator(kind: &Qemu) -> Result<impl std::hash::Hash> {
    let command_line = kind.emulator.command_line();
    let version = Command::new(&command_line[0])
        .arg("--version")
        .output()
        .with_context(|| format!("{} is missing: run `scripts/setup.sh vm`", command_line[0]))?;
    Ok((version.stdout, HARDWARE))
}

fn snapshot(image: &Path, level: usize, hasher: &DefaultHasher) -> PathBuf {
    image.join(format!("golden-{level}-{:016x}.qcow2", hasher.finish()))
}

/// Makes one snapshot in the place of those of the same level.
fn make(
    image: &Path,
    level: usize,
    disk: &Path,
    machine: impl FnOnce(&Path) -> Result<InQemu>,
) -> Result<()> {
    for entry in fs::read_dir(image)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("golden-{level}-")) {
            fs::remove_file(entry.path())?;
        } else if name.starts_with("making-") {
            // What an interrupted run left.
            fs::remove_dir_all(entry.path())?;
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("making-")
        .tempdir_in(image)?;
    let machine = machine(scratch.path())?;
    let made = machine.disk.clone();
    machine.save()?;
    fs::rename(made, disk)?;
    Ok(())
}

/// A machine that has been booted, with Docker up.
fn boot(kind: &Qemu, scratch: &Path) -> Result<InQemu> {
    let disk = scratch.join("disk.qcow2");
    let root = kind.image.canonicalize()?.join("root.ext4");
    let created = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(root)
        .arg(&disk)
        .output()
        .context("qemu-img is missing: run `scripts/setup.sh vm`")?;
    ensure!(
        created.status.success(),
        "qemu-img: {}",
        String::from_utf8_lossy(&created.stderr)
    );
    let mut machine = InQemu::new(kind, disk, CACHE, scratch);
    machine.power_on(None)?;
    logged(&machine, |machine| {
        sh(
            machine,
            "systemctl is-system-running --wait; docker info >/dev/null",
        )
    })?;
    Ok(machine)
}

/// A machine that has one more step behind it than the snapshot.
fn take(kind: &Qemu, golden: &Path, step: &Step<'_>, scratch: &Path) -> Result<InQemu> {
    let mut machine = InQemu::go_on(kind, golden, CACHE, scratch)?;
    let result = (step.run)(&mut machine);
    logged(&machine, |_| result)?;
    Ok(machine)
}

/// Keeps the logs of a machine where this fails.
fn logged<T>(machine: &InQemu, what: impl FnOnce(&InQemu) -> Result<T>) -> Result<T> {
    what(machine).or_else(|error| {
        let logs = machine.kind.image.join("failed");
        fs::create_dir_all(&logs)?;
        keep_logs(machine, &logs);
        bail!("{error:#}\n  its logs: {}", logs.display())
    })
}
