//! The daemon's own `config.toml`.
//!
//! A setting that is misspelt must not silently be a default: unknown keys, wrong types and impossible values
//! are errors that name the file, the line and the key, and say what to write.

mod cgroup;
mod check;
mod document;
mod error;
mod pattern;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use document::Document;
pub use error::SettingsError;
use values::{interval, optional_path};

/// Where config.toml is, unless an option says otherwise.
pub const DEFAULT_SETTINGS: &str = "/etc/ecs-netguard/config.toml";

/// The ECS agent's own cgroup for tasks, of version 2 (agent/taskresource/cgroup/control).
const TASK_SLICE: &str = "ecstasks.slice";

/// The quickest the safety net may look; quicker would only cost CPU, since changes are noticed as they happen.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The slowest: beyond this the net is none.
pub const MAX_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Everything config.toml can say. The default is what an absent or empty file means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Keeping containers away from the instance metadata service.
    pub imds: Imds,
    /// The task credentials endpoint, 169.254.170.2.
    pub credentials: Credentials,
    /// How the rules get into the kernel.
    pub iptables: Iptables,
    /// The native layer that other programs cannot change.
    pub seal: Seal,
    /// The layer at the host's own interfaces.
    pub edge: Edge,
    /// What is thought of tasks and other containers.
    pub tasks: Tasks,
    /// The safety net.
    pub verify: Verify,
    /// What is logged, and where.
    pub log: Log,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// Files for a fleet's own tools.
    pub fleet: Fleet,
}

/// Whether to do something: as ecs.config says, or whatever it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Follow ecs.config and what the host has.
    #[default]
    Auto,
    /// Do it, whatever ecs.config says.
    Always,
    /// Don't, whatever ecs.config says.
    Never,
}

/// `[imds]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Imds {
    /// Whether to block; `auto` follows `ECS_AWSVPC_BLOCK_IMDS`.
    pub block: Mode,
    /// The interfaces containers come from, as iptables patterns: `docker+` is docker0 and what begins like it.
    pub interfaces: Vec<String>,
    /// Whether to block fd00:ec2::254 too; `auto` wherever the kernel has IPv6.
    pub ipv6: Mode,
    /// Tasks with a network interface of their own.
    pub awsvpc: Awsvpc,
    /// Whether tasks on the host's own network are kept away too.
    pub host_tasks: bool,
    /// The cgroup below which all tasks are, as a path from the root of the cgroup2 hierarchy.
    pub host_tasks_cgroup: String,
}

/// What to do in the network namespaces of awsvpc tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Awsvpc {
    /// Block there whenever containers are to be blocked.
    #[default]
    Auto,
    /// Look and judge; change nothing.
    Audit,
    /// Leave them alone. The daemon then has no power over them at all, from its start on.
    Never,
}

impl Default for Imds {
    /// The default bridge, user-defined networks (`br-` and twelve hex digits), and the bridges by which awsvpc
    /// tasks reach the host, on managed instances under a name of their own.
    fn default() -> Self {
        Self {
            block: Mode::Auto,
            interfaces: ["docker+", "br-+", "ecs-bridge", "fargate-bridge"]
                .map(str::to_owned)
                .to_vec(),
            ipv6: Mode::Auto,
            awsvpc: Awsvpc::Auto,
            host_tasks: false,
            host_tasks_cgroup: TASK_SLICE.to_owned(),
        }
    }
}

/// `[credentials]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credentials {
    /// Whether to keep the endpoint reachable; `auto` follows `ECS_ENABLE_TASK_IAM_ROLE` and its like.
    pub endpoint: Mode,
    /// Where `route_localnet` is set.
    pub route_localnet: RouteLocalnet,
    /// Whether the endpoint may be let through an INPUT chain that drops it.
    pub open_input: OpenInput,
}

/// On which interfaces the kernel may route 127.0.0.0/8, which the redirection to the agent needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteLocalnet {
    /// `net.ipv4.conf.all`, as ecs-init does it.
    #[default]
    All,
    /// Only on the bridges containers come from, which opens less.
    Bridges,
}

/// What to do where the INPUT chain would drop the redirected packets (hardened images: aws/amazon-ecs-agent
/// issue 2877).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenInput {
    /// Add one narrow ACCEPT, where the proof shows that it is needed.
    #[default]
    WhenNeeded,
    /// Leave the INPUT chain alone.
    Never,
}

/// `[iptables]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iptables {
    /// Which of the two to use.
    pub backend: Backend,
}

/// The two programs that are called iptables; their rules live side by side and do not see each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The one the host uses.
    #[default]
    Auto,
    /// iptables-nft.
    Nft,
    /// iptables-legacy.
    Legacy,
}

/// `[seal]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seal {
    /// Whether a native nftables table holds the drops too.
    pub enabled: bool,
}

impl Default for Seal {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[edge]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// Whether only the host's own sockets reach the metadata service, whatever interface packets leave by.
    pub enabled: bool,
    /// What a task means that can write raw frames where no edge stands.
    pub raw_frames: RawFrames,
    /// The interfaces, as patterns of iptables, from which forwarded packets may still reach the service.
    pub allow: Vec<String>,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            enabled: true,
            raw_frames: RawFrames::Violation,
            allow: Vec::new(),
        }
    }
}

/// What a task means that can write raw frames past every rule, where no edge stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawFrames {
    /// The guarantee does not hold.
    #[default]
    Violation,
    /// The operator takes the risk; it is reported.
    Accept,
}

/// `[tasks]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// What a container means that can undo what stands on the host.
    pub privileged: Privileged,
}

/// What a container means whose processes hold CAP_NET_ADMIN or CAP_SYS_ADMIN in the host's user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privileged {
    /// It is named beside the verdict.
    #[default]
    Name,
    /// The block is undecided.
    Undecided,
}

/// `[verify]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// How often everything is looked at even if nothing seems to have changed.
    #[serde(with = "interval")]
    pub interval: Duration,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least urgent that is logged.
    pub level: LogLevel,
    /// Where to.
    pub target: LogTarget,
    /// How a line on standard error looks.
    pub format: LogFormat,
}

/// The levels of `tracing`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// A required guarantee is violated.
    Error,
    /// Drift, failed repairs, warnings, traps.
    Warn,
    /// Starts, stops, reloads, what is required, what was installed.
    #[default]
    Info,
    /// What woke the daemon, what it compared, what it skipped.
    Debug,
    /// Everything.
    Trace,
}

/// How a line of the log looks on standard error; the journal has its own fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON object a line, with the fields that the journal gets.
    Json,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// The journal where there is one, else standard error.
    #[default]
    Auto,
    /// The journal.
    Journal,
    /// Standard error.
    Stderr,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A file for node_exporter's textfile collector, in a directory that exists; written nowhere if absent.
    #[serde(with = "optional_path")]
    pub textfile: Option<PathBuf>,
}

/// `[fleet]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// A custom inventory document for the SSM agent, in a directory that exists; written nowhere if absent.
    #[serde(with = "optional_path")]
    pub ssm_inventory: Option<PathBuf>,
}

impl Settings {
    /// The settings in `text`; `path` is for the messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        Self::of(&Document::parse(path, text)?)
    }

    /// Every error in `text`, by line: after each the rest is read without the key that it is about.
    #[must_use]
    pub fn errors(path: &Path, text: &str) -> Vec<SettingsError> {
        let mut document = match Document::parse(path, text) {
            Ok(document) => document,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        while let Err(error) = Self::of(&document) {
            let removed = error.key().is_some_and(|key| document.remove(key));
            errors.push(error);
            if !removed {
                break;
            }
        }
        errors.sort_by_key(SettingsError::line);
        errors
    }

    fn of(document: &Document<'_>) -> Result<Self, SettingsError> {
        // The default is ours, and serializes; were it not to, serde's own errors are still there.
        if let Ok(known) = toml::Table::try_from(Self::default()) {
            document.check_keys(&known)?;
        }
        let settings: Self = document.read().map_err(|e| document.value_error(&e))?;
        settings
            .check()
            .map_err(|(key, problem)| document.problem(key, problem))?;
        Ok(settings)
    }
}

#[cfg(test)]
#[path = "tests/settings.rs"]
mod tests;
