//! What `ecs.config` and its companions say that matters here, and what the ECS software makes of it, as values.
//!
//! Precedence, highest first (ecs-init/docker/docker.go, agent/config/config.go): values ecs-init forces;
//! `/etc/ecs/ecs.config`; `/var/lib/ecs/ecs.config`; ecs-init's own defaults, where ecs-init is installed;
//! `/etc/ecs/ecs.config.json`; the agent's defaults.
//!
//! Two sources are out of sight, and said so here rather than guessed: an `ECSAgentConfiguration` object in the
//! instance's user data (the agent asks the metadata service for it, and takes it between the JSON file and its
//! defaults), and variables set by drop-ins of `ecs.service` or by files that its unit names besides the two.

use std::path::PathBuf;

use serde::Serialize;

use super::sanitize::readable_path;
use super::source::Source;
use super::trap::Trap;

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
    /// The whole line, where the program does not take it for this variable: its name is not quite right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
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
    #[serde(serialize_with = "readable_path")]
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
