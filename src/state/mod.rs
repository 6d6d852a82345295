//! What outlives the process and the boot: what the inputs asked for when they were last read, and the
//! sysctl values that stood there before the guard changed them.
//!
//! A state that cannot be written or is another machine's is reported, and the daemon goes on without
//! it. One that is damaged or of another version leaves it unknown what was asked for
//! ([`Last::Unknown`]): until the files say it again IMDS is blocked.

mod file;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::file::Error;
pub use self::store::{Store, forget};
use crate::config::FileText;
use crate::posture::Posture;

/// The events of this host, which lie beside the state.
pub(crate) const HISTORY: &str = "events.jsonl";

/// The file in the state directory in which a probe leaves its outcome.
pub(crate) const PROBE: &str = "probe.json";

/// The content of `STATE_DIR/state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Whose state it is: an image that was baked from a running host takes none along.
    machine_id: String,
    /// A boot resets every sysctl, so values remembered in an earlier one mean nothing.
    boot_id: String,
    /// What the inputs asked for when they were last read.
    pub inputs: Remembered,
    /// `route_localnet` before the guard set it, by interface.
    pub route_localnet: BTreeMap<String, String>,
}

/// What the inputs asked for when they were last read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// ecs.config.
    pub ecs: Last<Asked>,
    /// config.toml.
    pub settings: Last<LastSettings>,
}

impl Remembered {
    /// What is known once a state was there and cannot be used.
    pub const LOST: Self = Self {
        ecs: Last::Unknown,
        settings: Last::Unknown,
    };
}

/// What is remembered of one input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Last<T> {
    /// There never was such a file.
    #[default]
    Never,
    /// There was one, and what it said is not known.
    Unknown,
    /// What it said.
    Known(T),
}

/// A config.toml that could be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastSettings {
    /// The file.
    pub path: PathBuf,
    /// Its text: another version of this program may know other keys.
    pub text: String,
}

/// What an ecs.config asks for by itself, whatever config.toml says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The file: what one file asked for says nothing of another.
    pub path: PathBuf,
    /// The posture that follows from it, with its reasons.
    pub posture: Posture,
}

impl State {
    fn empty() -> Self {
        Self {
            machine_id: machine_id(),
            boot_id: boot_id(),
            inputs: Remembered::default(),
            route_localnet: BTreeMap::new(),
        }
    }
}

/// The machine's name for itself (machine-id(5)); empty where there is none, which then equals itself.
pub(crate) fn machine_id() -> String {
    let text = FileText::read(Path::new("/etc/machine-id"));
    text.text().unwrap_or_default().trim().to_owned()
}

/// The kernel's name for this boot; empty where it cannot be read, which then equals itself.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests;
