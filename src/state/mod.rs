//! What outlives the process and the boot: what ecs.config asked for when it was last read, and the
//! sysctl values that stood there before the guard changed them.
//!
//! Nothing here is needed for protection. What is damaged, another machine's, of a newer program or
//! cannot be written is named once and gone on without.

mod file;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::file::Error;
pub use self::store::{Store, forget};
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
    /// What ecs.config asked for when it was last read; absent where it never was.
    pub asked: Option<Asked>,
    /// `route_localnet` before the guard set it, by interface.
    pub route_localnet: BTreeMap<String, String>,
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
            asked: None,
            route_localnet: BTreeMap::new(),
        }
    }
}

/// The machine's name for itself (machine-id(5)); empty where there is none, which then equals itself.
pub(crate) fn machine_id() -> String {
    let text = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    text.trim().to_owned()
}

/// The kernel's name for this boot; empty where it cannot be read, which then equals itself.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests;
