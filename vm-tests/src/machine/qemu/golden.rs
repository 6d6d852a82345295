//! The golden snapshot: a machine with Docker up, saved once and gone on with in a second.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::process::{Boot, HARDWARE, Process, QEMU};
use crate::machine::LIMIT;

/// The snapshot's name in the disk's file.
pub(super) const NAME: &str = "golden";

/// How long a boot may take on a busy machine.
pub(super) const BOOT: Duration = Duration::from_secs(300);

/// Returns the disk that holds the snapshot; makes it where this emulator has not made it yet. It lies
/// beside the image, and is used again until the image or the emulator changes.
pub(super) fn disk(image: &Path) -> Result<PathBuf> {
    let image = image
        .canonicalize()
        .with_context(|| format!("looking for {}", image.display()))?;
    let lock = File::create(image.join("golden.lock")).context("making the snapshot's lock")?;
    lock.lock().context("waiting for the snapshot's lock")?;
    let disk = image.join(format!("golden-{:016x}.qcow2", emulator()?));
    if !disk.exists() {
        remove_others(&image)?;
        let scratch = tempfile::Builder::new()
            .prefix("golden-")
            .tempdir_in(&image)?;
        let new = scratch.path().join("disk.qcow2");
        make(&image, &new, scratch.path())
            .with_context(|| format!("making the golden snapshot of {}", image.display()))?;
        fs::rename(&new, &disk)?;
    }
    Ok(disk)
}

/// What stands for this emulator and the machine that it makes.
fn emulator() -> Result<u64> {
    let version = Command::new(QEMU)
        .arg("--version")
        .output()
        .with_context(|| format!("{QEMU} is missing: run `scripts/setup.sh vm`"))?;
    let mut hasher = DefaultHasher::new();
    (version.stdout, HARDWARE).hash(&mut hasher);
    Ok(hasher.finish())
}

/// Those of other emulators, and what an interrupted run left.
fn remove_others(image: &Path) -> Result<()> {
    for entry in fs::read_dir(image)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("golden-") {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn make(image: &Path, disk: &Path, scratch: &Path) -> Result<()> {
    let created = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(image.join("root.ext4"))
        .arg(disk)
        .output()
        .context("qemu-img is missing: run `scripts/setup.sh vm`")?;
    if !created.status.success() {
        bail!("qemu-img: {}", String::from_utf8_lossy(&created.stderr));
    }
    let process = Process::start(&Boot {
        image,
        disk,
        // Nobody needs it when this fails.
        cache: "unsafe",
        snapshot: None,
        scratch,
    })?;
    let mut agent = process.agent()?;
    let up = "systemctl is-system-running --wait; docker info >/dev/null && sync \
              && echo 3 >/proc/sys/vm/drop_caches";
    let booted = agent.wait(BOOT).and_then(|()| agent.run(up, LIMIT));
    match booted {
        Ok(output) if output.code == 0 => {}
        Ok(output) => bail!("the machine is not up: {}{}", output.stdout, output.stderr),
        Err(error) => {
            let console = process.logs().map(|(_, said)| said).concat();
            return Err(error.context(format!("its console: {console}")));
        }
    }
    let mut qmp = process.qmp()?;
    qmp.save(NAME)?;
    qmp.quit()?;
    process.ended()
}
