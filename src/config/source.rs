//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::sanitize::readable_path;

/// Where a value came from, so that every decision can be followed back to a line a program wrote, or to the
/// program whose default it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// A line of an input file.
    File {
        /// The file.
        #[serde(serialize_with = "readable_path")]
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// Not written; ecs-init decides (it passes defaults of its own to the agent, ecs-init/docker/docker.go).
    EcsInitDefault,
    /// Not written; the agent decides (agent/config/config_unix.go).
    AgentDefault,
    /// What was written does not count: ecs-init overrides it because of another variable.
    Forced {
        /// The assignment that forces it, such as `ECS_EXTERNAL=true`.
        by: String,
        /// The file in which that stands.
        #[serde(serialize_with = "readable_path")]
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::EcsInitDefault => f.write_str("default of ecs-init"),
            Self::AgentDefault => f.write_str("default of the ECS agent"),
            Self::Forced { by, path, line } => {
                write!(f, "forced by {by} ({}:{line})", path.display())
            }
        }
    }
}
