//! What outlives the process: the sysctl values that stood there before the guard changed them.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const SCHEMA: u32 = 1;

/// Why the state was not read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", .path.display())]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The content of `STATE_DIR/state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    schema: u32,
    /// A boot resets every sysctl, so values remembered in an earlier one mean nothing.
    boot_id: String,
    /// `route_localnet` before the guard set it, by interface.
    pub route_localnet: BTreeMap<String, String>,
}

impl State {
    fn empty(boot_id: &str) -> Self {
        Self {
            schema: SCHEMA,
            boot_id: boot_id.to_owned(),
            route_localnet: BTreeMap::new(),
        }
    }

    /// Reads the state of this boot. A damaged file is set aside under `state.json.damaged` and the
    /// second value says so; it is never trusted and never fatal.
    #[must_use]
    pub fn load(dir: &Path) -> (Self, Option<String>) {
        Self::read(dir, set_aside)
    }

    /// Like [`Self::load`], but changes nothing.
    #[must_use]
    pub fn peek(dir: &Path) -> (Self, Option<String>) {
        Self::read(dir, |path, why| {
            format!("read {}: {why}; going on without it", path.display())
        })
    }

    fn read(dir: &Path, damaged: fn(&Path, &str) -> String) -> (Self, Option<String>) {
        let boot_id = boot_id();
        let path = file(dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (Self::empty(&boot_id), None);
            }
            Err(error) => {
                let warning = format!("read {}: {error}; going on without it", path.display());
                return (Self::empty(&boot_id), Some(warning));
            }
        };
        match serde_json::from_str::<Self>(&text) {
            Ok(state) if state.schema == SCHEMA && state.boot_id == boot_id => (state, None),
            Ok(state) if state.schema == SCHEMA => (Self::empty(&boot_id), None),
            Ok(_) => (
                Self::empty(&boot_id),
                Some(damaged(&path, "it is of another version")),
            ),
            Err(error) => (
                Self::empty(&boot_id),
                Some(damaged(&path, &error.to_string())),
            ),
        }
    }

    /// Replaces the file atomically and waits until it is on the disk.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = file(dir);
        let error = |operation| {
            let path = path.clone();
            move |source| Error {
                operation,
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(error("create the directory of"))?;
        let mut temporary =
            tempfile::NamedTempFile::new_in(dir).map_err(error("create a file beside"))?;
        let text = serde_json::to_vec_pretty(self)
            .map_err(io::Error::other)
            .map_err(error("serialise"))?;
        temporary.write_all(&text).map_err(error("write"))?;
        temporary.as_file().sync_all().map_err(error("sync"))?;
        temporary
            .persist(&path)
            .map_err(|e| error("replace")(e.error))?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(error("sync the directory of"))
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

fn set_aside(path: &Path, why: &str) -> String {
    let aside = path.with_extension("json.damaged");
    let what = match std::fs::rename(path, &aside) {
        Ok(()) => format!("it was set aside as {}", aside.display()),
        Err(error) => format!("it could not be set aside: {error}"),
    };
    format!(
        "read {}: {why}; {what}, and the guard goes on without it",
        path.display()
    )
}

/// The kernel's name for this boot; empty where it cannot be read, which then equals itself.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        let mut state = State::empty(&boot_id());
        state.route_localnet.insert("all".into(), "0".into());
        state
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("made/when/missing");
        sample().save(&below).unwrap();
        assert_eq!(State::load(&below), (sample(), None));
        let left: Vec<_> = std::fs::read_dir(&below).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "a temporary file was left: {left:?}");
    }

    #[test]
    fn values_of_an_earlier_boot_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = sample();
        state.boot_id = "an earlier one".into();
        state.save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()), (State::empty(&boot_id()), None));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        for damage in [
            "",
            "{",
            "\0\0\0",
            "{\"schema\":9,\"boot_id\":\"\",\"route_localnet\":{}}",
        ] {
            std::fs::write(file(dir.path()), damage).unwrap();
            let (state, warning) = State::load(dir.path());
            assert_eq!(state, State::empty(&boot_id()), "{damage:?}");
            let warning = warning.unwrap();
            assert!(warning.contains("state.json.damaged"), "{warning}");
            assert!(!file(dir.path()).exists());
            assert!(file(dir.path()).with_extension("json.damaged").exists());
        }
    }

    #[test]
    fn an_error_names_file_and_operation() {
        let error = sample()
            .save(Path::new("/proc/nowhere"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("create the directory of /proc/nowhere/state.json: "),
            "{error}"
        );
    }
}
