//! config.toml: what it says, and what stays in force while it says nothing.

use std::path::Path;

use crate::config::settings::{Settings, SettingsError};
use crate::state::{Last, LastSettings, Remembered};

/// The settings in force.
#[derive(Debug, Clone, Default)]
pub(super) struct InForce {
    pub(super) settings: Settings,
    /// What is to be remembered of config.toml.
    pub(super) last: Last<LastSettings>,
    /// Why its wish is not known, where it is not.
    pub(super) unknown: Option<String>,
    /// What to tell the operator.
    pub(super) warnings: Vec<String>,
}

impl InForce {
    /// Reads `path`. An error is a file that is there and cannot be used.
    pub(super) fn read(
        path: &Path,
        last: Option<&Self>,
        remembered: &Remembered,
    ) -> Result<Self, SettingsError> {
        let gone = match Settings::text(path)? {
            None => "is gone",
            // An editor truncates a file before it writes it, and so does a full disk.
            Some(text) if text.trim().is_empty() => "is empty",
            Some(text) => {
                return Ok(Self {
                    settings: Settings::parse(path, &text)?,
                    last: Last::Known(LastSettings {
                        path: path.to_owned(),
                        text,
                    }),
                    ..Self::default()
                });
            }
        };
        let mut kept = Self::kept(path, last, remembered);
        let path = path.display();
        let instead = match kept.last {
            Last::Never => return Ok(kept),
            Last::Known(_) => "the settings that it had stay in force",
            Last::Unknown => {
                "what it asked for is not known: IMDS is blocked and the other settings have their \
                 defaults"
            }
        };
        kept.warnings.push(format!(
            "{path} {gone}; {instead} until it is there again; a file with nothing but a comment \
             stands for the defaults"
        ));
        Ok(kept)
    }

    /// What stays in force while the file cannot be used.
    pub(super) fn instead(
        error: &SettingsError,
        path: &Path,
        last: Option<&Self>,
        remembered: &Remembered,
    ) -> Self {
        let mut kept = Self::kept(path, last, remembered);
        if last.is_none() && kept.last == Last::Never {
            kept = Self::unknown(path);
        }
        let instead = match kept.unknown {
            Some(_) => "IMDS is blocked and the other settings have their defaults",
            None => "the earlier settings stay in force",
        };
        kept.warnings
            .push(format!("{error}; until that is fixed {instead}"));
        kept
    }

    /// What is known from before: from the last reading, else from what was remembered of this file.
    fn kept(path: &Path, last: Option<&Self>, remembered: &Remembered) -> Self {
        if let Some(last) = last {
            return last.clone();
        }
        match &remembered.settings {
            Last::Known(known) if known.path == path => match Settings::parse(path, &known.text) {
                Ok(settings) => Self {
                    settings,
                    last: remembered.settings.clone(),
                    ..Self::default()
                },
                // This version does not understand what an earlier one did.
                Err(_) => Self::unknown(path),
            },
            Last::Known(_) | Last::Never => Self::default(),
            Last::Unknown => Self::unknown(path),
        }
    }

    fn unknown(path: &Path) -> Self {
        Self {
            last: Last::Unknown,
            unknown: Some(format!("what {} asks for is not known", path.display())),
            ..Self::default()
        }
    }
}
