//! A trap that was found, before it is known in which file.

use std::path::Path;

use crate::config::trap::{Trap, TrapKind};

/// How many assignments of a file are looked at: a file of a hundred thousand odd lines must not keep the daemon
/// from its work.
pub(super) const MOST_INSPECTED: usize = 4096;

/// A trap that lacks only its file.
pub(super) struct Found {
    pub(super) kind: TrapKind,
    pub(super) line: usize,
    pub(super) variable: String,
    pub(super) message: String,
}

impl Found {
    pub(super) fn new(kind: TrapKind, line: usize, variable: &str, message: String) -> Self {
        Self {
            kind,
            line,
            variable: variable.to_owned(),
            message,
        }
    }

    pub(super) fn at(self, path: &Path) -> Trap {
        Trap::new(self.kind, path, self.line, &self.variable, self.message)
    }
}
