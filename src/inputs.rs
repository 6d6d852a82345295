//! Reading what the operator wrote, and what to do when it cannot be read.

use std::path::PathBuf;

use crate::config::FileText;
use crate::config::ecs::{self, EcsConfig, EcsInputs, EcsPaths};
use crate::config::settings::{Mode, Settings, SettingsError};

/// Where the inputs are.
#[derive(Debug, Clone)]
pub struct InputPaths {
    /// The daemon's own config.toml.
    pub settings: PathBuf,
    /// ecs.config and its siblings.
    pub ecs: EcsPaths,
}

impl InputPaths {
    /// Every file whose change matters.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.settings.clone()];
        files.extend([self.ecs.config.clone(), self.ecs.json.clone()]);
        files.extend(self.ecs.var_config.clone());
        files
    }
}

/// What the inputs said when they were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// config.toml.
    pub settings: Settings,
    /// ecs.config as the ECS software reads it.
    pub ecs: EcsConfig,
    /// Whether there is an ecs.config.
    present: bool,
    /// Whether ecs.config could not be read and never has been: nobody knows what it wishes.
    unknown_wish: bool,
    /// What could not be read and what was done instead.
    pub warnings: Vec<String>,
}

impl Inputs {
    /// Reads them for a command: a config.toml that cannot be understood is an error.
    pub fn read(paths: &InputPaths) -> Result<Self, SettingsError> {
        let settings = Settings::load(&paths.settings)?;
        Ok(Self {
            settings,
            ecs: ecs::resolve(&EcsInputs::read(&paths.ecs)),
            present: true,
            unknown_wish: false,
            warnings: Vec::new(),
        })
    }

    /// Whether everything that is there could be read. Without that, nobody knows what is wished, and
    /// a command must neither take rules out nor call them not required.
    pub fn require_readable(&self) -> anyhow::Result<()> {
        match self.ecs.unreadable.first() {
            None => Ok(()),
            Some(input) => anyhow::bail!(
                "{} {}; mend or remove the file: what it wishes is not known, so nothing was done",
                input.path.display(),
                input.reason
            ),
        }
    }

    /// Reads them for the daemon, which must not fail open. What cannot be read stays as `last` had
    /// it; without a last time, a config.toml that cannot be understood blocks, and so does an
    /// ecs.config that cannot be read.
    #[must_use]
    pub fn read_or_keep(paths: &InputPaths, last: Option<&Self>) -> Self {
        let mut warnings = Vec::new();
        let mut settings = Settings::load(&paths.settings).unwrap_or_else(|error| {
            let (instead, settings) = match last {
                Some(last) => (
                    "the settings from before stay in force",
                    last.settings.clone(),
                ),
                None => (
                    "IMDS is blocked and the rest is as by default",
                    block_always(),
                ),
            };
            warnings.push(format!("{error}; until that is mended {instead}"));
            settings
        });
        let read = EcsInputs::read(&paths.ecs);
        let present = read.config.1 != FileText::Absent;
        let mut ecs = ecs::resolve(&read);
        // A file that is taken away has not said that it changed its mind.
        if let (false, Some(last)) = (present, last.filter(|last| last.present)) {
            let path = paths.ecs.config.display();
            warnings.push(format!(
                "{path} is gone; what it said before stays in force until it is there again"
            ));
            return Self {
                settings,
                warnings,
                ..last.clone()
            };
        }
        let mut unknown_wish = false;
        if !ecs.unreadable.is_empty() {
            let instead = match last {
                Some(last) if !last.unknown_wish => {
                    let unreadable = std::mem::take(&mut ecs.unreadable);
                    ecs = EcsConfig {
                        unreadable,
                        ..last.ecs.clone()
                    };
                    "what it said before stays in force"
                }
                // config.toml may still say never, and is readable.
                _ => {
                    unknown_wish = true;
                    if settings.imds.block == Mode::Auto {
                        settings.imds.block = Mode::Always;
                    }
                    "IMDS is blocked, unless config.toml says never"
                }
            };
            for input in &ecs.unreadable {
                let (path, reason) = (input.path.display(), &input.reason);
                warnings.push(format!("{path} {reason}; until it can be read {instead}"));
            }
        }
        Self {
            settings,
            ecs,
            present,
            unknown_wish,
            warnings,
        }
    }
}

fn block_always() -> Settings {
    let mut settings = Settings::default();
    settings.imds.block = Mode::Always;
    settings
}
