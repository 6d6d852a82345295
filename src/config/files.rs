//! The files that the ECS software reads: which there are, and what they say.

use std::path::{Path, PathBuf};

use super::file::FileText;

/// Where ecs-init reads the operator's variables (ecs-init/config/common.go, `AgentConfigFile`).
pub const DEFAULT_CONFIG: &str = "/etc/ecs/ecs.config";
/// Where ecs-init reads variables that Amazon sets on an instance (`InstanceConfigFile`).
pub(super) const DEFAULT_VAR_CONFIG: &str = "/var/lib/ecs/ecs.config";
/// ecs-init's program; its presence decides whose defaults apply.
pub(super) const DEFAULT_ECS_INIT: &str = "/usr/libexec/amazon-ecs-init";
/// The name of the agent's JSON file, beside ecs.config (`AgentJSONConfigFile`).
const JSON_NAME: &str = "ecs.config.json";

/// The files to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsPaths {
    /// ecs.config.
    pub config: PathBuf,
    /// The lesser ecs.config under /var/lib; none beside a config that is not the system's.
    pub var_config: Option<PathBuf>,
    /// The agent's JSON file.
    pub json: PathBuf,
    /// ecs-init's program; none where the config is not the system's, since ecs-init reads only that one.
    pub ecs_init: Option<PathBuf>,
}

impl Default for EcsPaths {
    fn default() -> Self {
        Self {
            config: DEFAULT_CONFIG.into(),
            var_config: Some(DEFAULT_VAR_CONFIG.into()),
            json: Path::new(DEFAULT_CONFIG).with_file_name(JSON_NAME),
            ecs_init: Some(DEFAULT_ECS_INIT.into()),
        }
    }
}

impl EcsPaths {
    /// The files that belong to `config`: the system's own where it is the system's, else only the JSON file in
    /// the same directory, so that a config on trial is not mixed with the host's.
    pub fn beside(config: &Path) -> Self {
        if config == Path::new(DEFAULT_CONFIG) {
            return Self::default();
        }
        Self {
            config: config.to_owned(),
            var_config: None,
            json: config.with_file_name(JSON_NAME),
            ecs_init: None,
        }
    }
}

/// What the files said, as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsInputs {
    /// ecs.config.
    pub config: (PathBuf, FileText),
    /// The lesser ecs.config, where it is looked at.
    pub var_config: Option<(PathBuf, FileText)>,
    /// The agent's JSON file.
    pub json: (PathBuf, FileText),
    /// Whether ecs-init is installed.
    pub ecs_init_present: bool,
}
