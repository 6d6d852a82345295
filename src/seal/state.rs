//! The seal's state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of the native tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealState {
    /// `enabled = false` under `[seal]`.
    Off,
    /// No required guarantee has native rules.
    NotNeeded,
    /// Only the daemon can change the table, and it survives the daemon's exit.
    OwnedPersistent,
    /// Only the daemon can change the table; when the daemon exits, the twin remains.
    Owned,
    /// The table is intact, and any root process can change it: the kernel has no owner flag, or no
    /// daemon runs.
    Unowned,
    /// The table is gone or altered; the twin drops packets, and any root process can change it.
    Twin,
    /// No table is intact.
    #[default]
    Missing,
}

impl SealState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Off,
        Self::NotNeeded,
        Self::OwnedPersistent,
        Self::Owned,
        Self::Unowned,
        Self::Twin,
        Self::Missing,
    ];

    /// The name used in output and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotNeeded => "not-needed",
            Self::OwnedPersistent => "owned-persistent",
            Self::Owned => "owned",
            Self::Unowned => "unowned",
            Self::Twin => "twin",
            Self::Missing => "missing",
        }
    }

    /// Whether packets are stopped, by whichever table.
    #[must_use]
    pub const fn holds(self) -> bool {
        self.is_intact() || matches!(self, Self::Twin)
    }

    /// Whether the table holds everything that it should.
    #[must_use]
    pub const fn is_intact(self) -> bool {
        matches!(self, Self::OwnedPersistent | Self::Owned | Self::Unowned)
    }

    /// Whether only the daemon can change the table.
    #[must_use]
    pub const fn is_owned(self) -> bool {
        matches!(self, Self::OwnedPersistent | Self::Owned)
    }
}

impl fmt::Display for SealState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off ([seal] enabled = false in config.toml)",
            Self::NotNeeded => "not needed",
            Self::OwnedPersistent => "intact, owned by the daemon, survives the daemon's exit",
            Self::Owned => "intact, owned by the daemon; its twin survives the daemon's exit",
            Self::Unowned => "intact, but any root process can change it",
            Self::Twin => {
                "gone or altered; its twin drops packets, but any root process can change it"
            }
            Self::Missing => "MISSING",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_word_in_json() {
        for state in [
            SealState::Off,
            SealState::NotNeeded,
            SealState::OwnedPersistent,
            SealState::Owned,
            SealState::Unowned,
            SealState::Twin,
            SealState::Missing,
        ] {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{}\"", state.name()));
        }
    }
}
