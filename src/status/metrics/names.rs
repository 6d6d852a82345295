//! Names of programs as labels.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many names are distinguished; the rest is `other`.
pub(super) const MAX_COMMANDS: usize = 20;

/// The names that were distinguished so far, up to [`MAX_COMMANDS`].
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// A program's name as a label.
    pub(super) fn label(&self, comm: Option<&str>) -> String {
        let Some(comm) = comm else {
            return "unknown".to_owned();
        };
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "._-+:/".contains(c) {
                c
            } else {
                '_'
            }
        };
        // The kernel's limit is 15 bytes; what came another way is held to it too.
        let name: String = comm.chars().take(15).map(safe).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&name) || known.len() < MAX_COMMANDS {
            known.insert(name.clone());
            name
        } else {
            "other".to_owned()
        }
    }
}
