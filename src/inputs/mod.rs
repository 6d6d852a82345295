//! Reading what the operator wrote, and what to do when it cannot be read.

mod changes;
mod cloud_init;
mod in_force;

use std::path::PathBuf;

pub use self::cloud_init::CloudInitPaths;
use self::in_force::InForce;
use crate::config::ecs::{EcsConfig, Wish};
use crate::config::settings::{Mode, Settings, SettingsError};
use crate::config::{self, EcsInputs, EcsPaths, FileText};
use crate::facts::Facts;
use crate::guarantee::Guarantee;
use crate::posture::{Posture, by_ecs};
use crate::report::{Report, Trap};
use crate::state::{Asked, Last, LastSettings, Remembered};

/// Where the inputs are.
#[derive(Debug, Clone)]
pub struct InputPaths {
    /// The daemon's own config.toml.
    pub settings: PathBuf,
    /// ecs.config and its siblings.
    pub ecs: EcsPaths,
    /// cloud-init's marks, where cloud-init may write that ecs.config.
    pub cloud_init: Option<CloudInitPaths>,
}

impl InputPaths {
    /// Every file whose change matters.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.settings.clone()];
        files.extend([self.ecs.config.clone(), self.ecs.json.clone()]);
        // The agent may read another one; which one now, is known from the files.
        let json = EcsInputs::read(&self.ecs).json.0;
        files.extend((json != self.ecs.json).then_some(json));
        files.extend(self.ecs.var_config.clone());
        // Once it has finished it does not begin again before the next boot.
        let cloud_init = self.cloud_init.as_ref();
        let unfinished = cloud_init.filter(|paths| paths.unfinished().is_some());
        files.extend(unfinished.map(|paths| paths.result.clone()));
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
    /// What an ecs.config that is gone or cannot be read asked for before this process began.
    kept: Option<Asked>,
    /// Why cloud-init may still have something to say about ecs.config, where that is so.
    unfinished: Option<&'static str>,
    /// Why nothing is known of config.toml, where it cannot be understood and never could be.
    unknown_settings: Option<String>,
    /// The last config.toml that could be used.
    last_settings: Last<LastSettings>,
    /// The path of ecs.config.
    path: PathBuf,
    /// Whether there is an ecs.config.
    present: bool,
    /// Whether it is not known what ecs.config asks for: it could never be read, or the state that
    /// remembered it was lost.
    unknown_wish: bool,
    /// What could not be read and what was done instead.
    pub warnings: Vec<String>,
}

impl Inputs {
    /// Reads them for a command: a config.toml that cannot be understood is an error.
    pub fn read(paths: &InputPaths, remembered: &Remembered) -> Result<Self, SettingsError> {
        let settings = InForce::read(&paths.settings, None, remembered)?;
        Ok(Self::read_ecs(paths, settings, None, remembered))
    }

    /// Reads them for the daemon, which must not fail open. What cannot be read, is gone or was emptied
    /// stays as `last` had it, without a last time as it is `remembered`. Where nothing is known of it
    /// IMDS is blocked.
    #[must_use]
    pub fn read_or_keep(paths: &InputPaths, last: Option<&Self>, remembered: &Remembered) -> Self {
        let before = last.map(Self::in_force);
        let before = before.as_ref();
        let settings = InForce::read(&paths.settings, before, remembered);
        let settings = settings
            .unwrap_or_else(|error| InForce::instead(&error, &paths.settings, before, remembered));
        Self::read_ecs(paths, settings, last, remembered)
    }

    /// The posture that they ask for on a host of which these are the facts.
    #[must_use]
    pub fn posture(&self, facts: &Facts) -> Posture {
        let mut posture = Posture::resolve(&self.settings, &self.ecs);
        if let Some(kept) = &self.kept {
            posture.keep(&kept.posture, &self.settings);
        }
        posture.observe(&self.ecs, &facts.route_localnet);
        if let Some(reason) = &self.unknown_settings {
            posture.block(&self.settings, reason);
        }
        if self.unknown_wish {
            let reason = format!("what {} asks for is not known", self.path.display());
            posture.block(&self.settings, &reason);
        }
        if let Some(why) = self.unfinished
            && (self.kept.is_some() || self.ecs.block_imds.wish == Wish::Unset)
        {
            let reason = format!("ECS_AWSVPC_BLOCK_IMDS is not set, and {why}");
            posture.block(&self.settings, &reason);
        }
        posture
    }

    /// Adds what there is to say of them to a report.
    pub fn describe(&self, report: &mut Report) {
        report.input_warnings.clone_from(&self.warnings);
        report.imds_open = (report.guarantee(Guarantee::ImdsBlock))
            .filter(|block| !block.required)
            .map(|block| self.imds_open(&block.reason));
        let traps = self.ecs.traps.iter().map(|trap| Trap {
            path: trap.path.clone(),
            line: trap.line,
            message: trap.message.clone(),
        });
        report.traps = traps.collect();
    }

    /// That no input asks for `imds-block`, for which `reason`, and what to write to ask for it.
    #[must_use]
    pub fn imds_open(&self, reason: &str) -> String {
        let (why, remedy) = match self.settings.imds.block {
            Mode::Auto if self.ecs.block_imds.wish == Wish::Unset => (
                "ECS_AWSVPC_BLOCK_IMDS is not set".to_owned(),
                format!("add ECS_AWSVPC_BLOCK_IMDS=true to {}", self.path.display()),
            ),
            Mode::Auto => (
                reason.to_owned(),
                format!("set ECS_AWSVPC_BLOCK_IMDS=true in {}", self.path.display()),
            ),
            Mode::Always | Mode::Never => (
                reason.to_owned(),
                "set block = \"always\" under [imds] in config.toml".to_owned(),
            ),
        };
        format!("nothing asks for the block ({why}); to block: {remedy}")
    }

    /// What is to be remembered of them.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let ecs = match &self.kept {
            Some(kept) => Last::Known(kept.clone()),
            None if self.unknown_wish => Last::Unknown,
            None if self.present => Last::Known(Asked {
                path: self.path.clone(),
                posture: Posture::resolve(&Settings::default(), &self.ecs),
            }),
            None => Last::Never,
        };
        Remembered {
            ecs,
            settings: self.last_settings.clone(),
        }
    }

    /// The guarantees of which it is not known whether they ask for them.
    #[must_use]
    pub fn unknown(&self) -> Vec<Guarantee> {
        let unknown = |of: &Guarantee| {
            self.unknown_settings.is_some() || self.unknown_wish && by_ecs(*of, &self.settings)
        };
        Guarantee::ALL.into_iter().filter(unknown).collect()
    }

    /// Whether everything that is there could be read. Without that, what is asked for is not known, and
    /// a command must neither take rules out nor call them not required.
    pub fn require_readable(&self) -> anyhow::Result<()> {
        match self.ecs.unreadable.first() {
            None => Ok(()),
            Some(input) => anyhow::bail!(
                "{} {}; nothing was done, because what it asks for is not known; fix or remove the file",
                input.path.display(),
                input.reason
            ),
        }
    }

    fn in_force(&self) -> InForce {
        InForce {
            settings: self.settings.clone(),
            last: self.last_settings.clone(),
            unknown: self.unknown_settings.clone(),
            warnings: Vec::new(),
        }
    }

    fn read_ecs(
        paths: &InputPaths,
        settings: InForce,
        last: Option<&Self>,
        remembered: &Remembered,
    ) -> Self {
        let read = EcsInputs::read(&paths.ecs);
        let missing = missing(&read.config.1);
        let mut inputs = Self {
            settings: settings.settings,
            ecs: config::resolve(&read),
            kept: None,
            unfinished: paths
                .cloud_init
                .as_ref()
                .and_then(CloudInitPaths::unfinished),
            path: paths.ecs.config.clone(),
            present: missing.is_none(),
            last_settings: settings.last,
            unknown_settings: settings.unknown,
            unknown_wish: false,
            warnings: settings.warnings,
        };
        if inputs.present && inputs.ecs.unreadable.is_empty() {
            return inputs;
        }
        let lost = last.map_or(remembered.ecs == Last::Unknown, |last| last.unknown_wish);
        let instead = if inputs.keep(last, remembered) {
            "what it said before stays in force"
        } else if !inputs.ecs.unreadable.is_empty() || lost {
            // config.toml may still say never, and is readable.
            inputs.unknown_wish = true;
            "IMDS is blocked, unless config.toml says never,"
        } else {
            // Of a first file the lines that are whole count.
            inputs.present = missing == Some(BREAKS_OFF);
            return inputs;
        };
        // A file that is removed or emptied has not said that it changed its mind.
        if let Some(missing) = missing {
            let path = inputs.path.display();
            let warning = format!("{path} {missing}; {instead} until it is there again");
            inputs.warnings.push(warning);
        }
        for input in &inputs.ecs.unreadable {
            let (path, reason) = (input.path.display(), &input.reason);
            let warning = format!("{path} {reason}; until it can be read {instead}");
            inputs.warnings.push(warning);
        }
        inputs
    }

    /// Takes what is known from before in the place of what ecs.config does not say now: from the
    /// last reading, else from what was remembered of this file. False where nothing is known.
    fn keep(&mut self, last: Option<&Self>, remembered: &Remembered) -> bool {
        match (last, &remembered.ecs) {
            (Some(last), _) if last.unknown_wish || !last.present => return false,
            (Some(last), _) => {
                let unreadable = std::mem::take(&mut self.ecs.unreadable);
                self.ecs = EcsConfig {
                    unreadable,
                    ..last.ecs.clone()
                };
                self.kept.clone_from(&last.kept);
            }
            (None, Last::Known(asked)) if asked.path == self.path => {
                self.kept = Some(asked.clone());
            }
            (None, _) => return false,
        }
        self.present = true;
        true
    }
}

const BREAKS_OFF: &str = "breaks off within its last line";

/// Why ecs.config is as good as gone; `None` where it is all there.
fn missing(text: &FileText) -> Option<&'static str> {
    match text {
        FileText::Absent => Some("is gone"),
        FileText::Unreadable(_) => None,
        FileText::Text(text) if text.trim().is_empty() => Some("is empty"),
        FileText::Text(text) => {
            let last = text.lines().next_back().unwrap_or_default().trim_start();
            // Before or right after its `=`: a value that is cut counts as it stands.
            let cut = last
                .split_once('=')
                .is_none_or(|(_, value)| value.is_empty());
            (cut && !text.ends_with('\n') && !last.starts_with('#')).then_some(BREAKS_OFF)
        }
    }
}

#[cfg(test)]
mod tests;
