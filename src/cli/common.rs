//! What all commands share: their options, how they end, how they print.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use crate::config::EcsPaths;
use crate::config::settings::{Backend as BackendChoice, DEFAULT_SETTINGS};
use crate::desired::Desired;
use crate::guarantee::Guarantee;
use crate::inputs::{CloudInitPaths, InputPaths, Inputs};
use crate::os::exec::meanwhile;
use crate::os::facts;
use crate::out;
use crate::posture::Posture;
use crate::reconcile::{self, Host, Tools};
use crate::report::Report;
use crate::seal::Lacking;
use crate::status::client::Client;
use crate::tasks::Tasks;
use crate::verdict::Overall;

/// The heading under which the options of every command stand, in the top level's help alone.
pub(super) const COMMON: &str = "Options of every command";

#[derive(Debug, Args)]
#[command(next_help_heading = COMMON)]
pub(super) struct Common {
    /// The daemon's own configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ECS_NETGUARD_CONFIG",
        default_value = DEFAULT_SETTINGS
    )]
    pub(super) config: PathBuf,
    /// The ECS agent's configuration; ecs.config.json is looked for beside it
    /// [default: /etc/ecs/ecs.config]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ECS_NETGUARD_ECS_CONFIG"
    )]
    pub(super) ecs_config: Option<PathBuf>,
    /// Where the state is kept: what ecs.config asked for, earlier values of sysctls, events
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_STATE_DIR",
        default_value = "/var/lib/ecs-netguard"
    )]
    pub(super) state_dir: PathBuf,
    /// Where the lock and the status socket are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_RUNTIME_DIR",
        default_value = "/run/ecs-netguard"
    )]
    pub(super) runtime_dir: PathBuf,
    /// Use iptables-nft or iptables-legacy, whatever the system's iptables is
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "BACKEND",
        env = "ECS_NETGUARD_BACKEND"
    )]
    pub(super) backend: Option<BackendChoice>,
    /// The root below which cloud-init's marks are looked for; for tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_CLOUD_INIT_ROOT"
    )]
    pub(super) cloud_init_root: Option<PathBuf>,
    /// Take this kernel for one that lacks something; for tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "WHAT",
        env = "ECS_NETGUARD_KERNEL_LACKING"
    )]
    pub(super) kernel_lacking: Option<Lacking>,
    /// The files that were named on the command line.
    #[arg(skip)]
    pub(super) named: Vec<(&'static str, PathBuf)>,
}

impl Common {
    /// Notes which files were named on the command line: those have to exist.
    pub(super) fn note_named(&mut self, matches: &ArgMatches) {
        let files = [
            ("config", Some(&self.config)),
            ("ecs_config", self.ecs_config.as_ref()),
        ];
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let named = files.into_iter().filter(|(id, _)| typed(id));
        self.named = named
            .filter_map(|(id, file)| Some((id, file?.clone())))
            .collect();
    }

    /// The files that were named on the command line and do not exist, as an error.
    pub(super) fn missing(&self) -> anyhow::Result<()> {
        for (id, file) in &self.named {
            anyhow::ensure!(
                file.try_exists().unwrap_or(true),
                "--{}: {} does not exist",
                id.replace('_', "-"),
                file.display()
            );
        }
        Ok(())
    }

    /// This host, and what the inputs ask for on it.
    pub(super) fn resolve(&self, inputs: &Inputs) -> (Posture, Desired, Host) {
        self.resolve_with(inputs, |_| Tasks::default())
    }

    /// The same, and looks at the tasks as `tasks` does where it is known what is required.
    pub(super) fn resolve_with(
        &self,
        inputs: &Inputs,
        tasks: impl FnOnce(&Posture) -> Tasks,
    ) -> (Posture, Desired, Host) {
        let settings = &inputs.settings;
        let tools = || Tools::find(settings, self.backend);
        let (tools, (facts, posture, tasks)) = meanwhile(&tools, || {
            let facts = facts::read(settings);
            let posture = inputs.posture(&facts);
            let tasks = tasks(&posture);
            (facts, posture, tasks)
        });
        let known = (facts, tools);
        let (desired, mut host) = reconcile::resolve(settings, &posture, known, &inputs.unknown());
        host.tasks = tasks;
        (posture, desired, host)
    }

    pub(super) fn inputs(&self) -> InputPaths {
        let ecs = self.ecs_config.as_deref().map(EcsPaths::beside);
        let ecs = ecs.unwrap_or_default();
        // What cloud-init writes is the system's own file: it says nothing of a file on trial.
        let of_the_system = (ecs == EcsPaths::default()).then(|| PathBuf::from("/"));
        let root = self.cloud_init_root.clone().or(of_the_system);
        InputPaths {
            settings: self.config.clone(),
            cloud_init: root.as_deref().map(CloudInitPaths::below),
            ecs,
        }
    }
}

/// How long the daemon's answer is waited for.
#[derive(Debug, Clone, Args)]
pub(super) struct Patience {
    /// How long to wait for the daemon's answer: "500ms", "2s". It answers in milliseconds
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "2s")]
    timeout: Duration,
}

impl Patience {
    pub(super) fn client(&self, common: &Common) -> Client {
        Client::new(&common.runtime_dir, self.timeout)
    }
}

/// What has to be held whatever the configuration asks for.
#[derive(Debug, Clone, Args)]
pub(super) struct Demand {
    /// End with exit code 1 unless this guarantee is required here and held (repeatable)
    #[arg(long, value_name = "GUARANTEE", value_parser = guarantees())]
    require: Vec<Guarantee>,
}

impl Demand {
    /// How the command ends with this report; says on standard error what is missing.
    pub(super) fn exit(&self, report: &Report) -> Exit {
        let state = Exit::from(report.state);
        let is_required = |name| {
            let mut all = report.guarantees.iter();
            all.any(|of| of.name == name && of.required)
        };
        let mut missing = self.require.iter().filter(|name| !is_required(**name));
        match missing.next() {
            Some(name) if state == Exit::Held => {
                let _nowhere_to_complain = writeln!(
                    out::errors(),
                    "{name} is not required on this host, so nothing keeps it"
                );
                Exit::Violated
            }
            _ => state,
        }
    }
}

/// The guarantees, by their names.
pub(super) fn guarantees() -> impl TypedValueParser<Value = Guarantee> {
    PossibleValuesParser::new(Guarantee::ALL.map(Guarantee::name)).try_map(|name| {
        let mut all = Guarantee::ALL.into_iter();
        all.find(|of| of.name() == name).ok_or("no such guarantee")
    })
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Held = 0,
    Violated = 1,
    Usage = 2,
    Undecided = 3,
    Unreachable = 4,
}

impl From<Overall> for Exit {
    fn from(state: Overall) -> Self {
        match state {
            Overall::Protected | Overall::ImdsOpen => Self::Held,
            Overall::NotProtected => Self::Violated,
            Overall::Undecided => Self::Undecided,
        }
    }
}

/// Runs what asks the daemon.
pub(super) fn asking<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the event loop")?
        .block_on(work)
}

/// Refuses early and clearly where iptables would fail with five different messages.
pub(super) fn need_net_admin(command: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        crate::os::privilege::has_net_admin(),
        "`{command}` needs root (CAP_NET_ADMIN): run it with sudo"
    );
    Ok(())
}

pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    out::json().write_all(text.as_bytes())?;
    Ok(())
}
