//! `ecs.config` and its companions: which files there are, what they say, and what the ECS software makes of it.
//!
//! Precedence, highest first (ecs-init/docker/docker.go, agent/config/config.go): values ecs-init forces;
//! `/etc/ecs/ecs.config`; `/var/lib/ecs/ecs.config`; ecs-init's own defaults, where ecs-init is installed;
//! `/etc/ecs/ecs.config.json`; the agent's defaults.
//!
//! Two sources are out of sight, and said so here rather than guessed: an `ECSAgentConfiguration` object in the
//! instance's user data (the agent asks the metadata service for it, and takes it between the JSON file and its
//! defaults), and variables set by drop-ins of `ecs.service`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::FileText;
use super::sanitize::lossy_path;
use super::trap::Trap;
use super::{Source, resolve as resolver};

/// Where ecs-init reads the operator's variables (ecs-init/config/common.go, `AgentConfigFile`).
pub const DEFAULT_CONFIG: &str = "/etc/ecs/ecs.config";
/// Where ecs-init reads variables that Amazon sets on an instance (`InstanceConfigFile`).
pub const DEFAULT_VAR_CONFIG: &str = "/var/lib/ecs/ecs.config";
/// ecs-init's program; its presence decides whose defaults apply.
pub const DEFAULT_ECS_INIT: &str = "/usr/libexec/amazon-ecs-init";
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

impl EcsInputs {
    /// Reads the files. Never fails: what could not be read says so in its place.
    pub fn read(paths: &EcsPaths) -> Self {
        let read = |path: &PathBuf| (path.clone(), FileText::read(path));
        Self {
            config: read(&paths.config),
            var_config: paths.var_config.as_ref().map(read),
            json: read(&paths.json),
            ecs_init_present: paths.ecs_init.as_ref().is_some_and(|p| p.exists()),
        }
    }
}

/// What the operator wants of one variable, apart from what the ECS software makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Wish {
    /// Nothing is written, or nothing after the `=`.
    Unset,
    /// On, in a spelling that the program that reads it understands.
    On,
    /// Off, likewise.
    Off,
    /// Something is written that the program that reads it cannot parse.
    Unreadable {
        /// What a person would mean by it. False only for plain negatives (`"false"` in quotes, `no`, `off`);
        /// true for everything else, gibberish included, because a wish that cannot be read must fail closed.
        likely: bool,
    },
}

/// One variable: what is written, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub variable: &'static str,
    /// The value as it reaches the program that reads it, where one is written. (Quotes are still on for the
    /// agent, and gone for ecs-init.)
    pub raw: Option<String>,
    /// Where that is written.
    pub written: Option<Source>,
    /// What the ECS software makes of it.
    pub effective: bool,
    /// Where the effective value comes from. Not where `raw` stands, if that could not be parsed.
    pub source: Source,
    /// What the operator wants.
    pub wish: Wish,
}

impl Setting {
    /// Whether this program should take the setting as on, where "on" is the safe side: yes if the ECS software
    /// does, and also if the operator's wish could not be read but probably meant it.
    ///
    /// Not for settings that loosen a guarantee; there `effective` is the safe reading.
    pub fn wanted(&self) -> bool {
        self.effective || self.wish == Wish::Unreadable { likely: true }
    }

    /// The place to name as the reason for the wish: where it is written, else whose default it is.
    pub fn wish_source(&self) -> &Source {
        self.written.as_ref().unwrap_or(&self.source)
    }
}

/// An input that is there and could not be used. What it wished for is not known, so that the caller may want to
/// keep an earlier posture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableInput {
    /// The file.
    #[serde(serialize_with = "lossy_path")]
    pub path: PathBuf,
    /// Why, as a clause that follows the file's name.
    pub reason: String,
}

/// Everything ecs.config and its companions say that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EcsConfig {
    /// `ECS_AWSVPC_BLOCK_IMDS`: containers must not reach the instance metadata service.
    pub block_imds: Setting,
    /// `ECS_ENABLE_TASK_IAM_ROLE`: tasks fetch credentials from 169.254.170.2.
    pub task_iam_role: Setting,
    /// `ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST`: so do tasks on the host's network.
    pub task_iam_role_network_host: Setting,
    /// `ECS_SKIP_LOCALHOST_TRAFFIC_FILTER`: no shield for 127.0.0.0/8.
    pub skip_localhost_traffic_filter: Setting,
    /// `ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS`: port 51678 is open to the network.
    pub allow_offhost_introspection: Setting,
    /// `ECS_ENABLE_TASK_ENI`: awsvpc tasks are possible.
    pub task_eni: Setting,
    /// `ECS_ENABLE_TASK_CPU_MEM_LIMIT`: tasks have cgroups of their own.
    pub task_cpu_mem_limit: Setting,
    /// `ECS_EXTERNAL`: an ECS Anywhere host, outside EC2.
    pub external: Setting,
    /// Where the files mislead.
    pub traps: Vec<Trap>,
    /// Whether ecs-init is installed.
    pub ecs_init_present: bool,
    /// Inputs that could not be used.
    pub unreadable: Vec<UnreadableInput>,
}

impl EcsConfig {
    /// All settings, in the order of a report.
    pub fn settings(&self) -> [&Setting; 8] {
        [
            &self.block_imds,
            &self.task_iam_role,
            &self.task_iam_role_network_host,
            &self.skip_localhost_traffic_filter,
            &self.allow_offhost_introspection,
            &self.task_eni,
            &self.task_cpu_mem_limit,
            &self.external,
        ]
    }
}

/// What the ECS software makes of the inputs. A function of its argument alone; takes any text.
pub fn resolve(inputs: &EcsInputs) -> EcsConfig {
    resolver::resolve(inputs)
}

#[cfg(test)]
#[path = "tests/ecs.rs"]
mod tests;
