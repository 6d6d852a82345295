//! The command line; one file a subcommand.

mod apply;
mod check;
mod config;
mod events;
mod explain;
mod release;
mod run;
mod saved;
mod screen;
mod show;
mod status;
mod worker;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::ecs::EcsPaths;
use crate::config::settings::Backend as BackendChoice;
use crate::inputs::{CloudInitPaths, InputPaths};
use crate::os::inherited::Inherited;
use crate::reconcile::Standing;
use crate::seal::Lacking;
use crate::status::client;

/// Keeps containers on an Amazon ECS host away from the instance metadata service (IMDS), keeps
/// tasks connected to their own credentials, and puts the rules back whenever something takes them
/// away.
///
/// Exit codes: 0 all required guarantees held; 1 one is violated; 2 usage or configuration error;
/// 3 undecided, or it could not be determined; 4 the daemon cannot be reached.
#[derive(Debug, Parser)]
#[command(
    name = "ecs-netguard",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// The daemon's own configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ECS_NETGUARD_CONFIG",
        default_value = "/etc/ecs-netguard/config.toml"
    )]
    config: PathBuf,
    /// The ECS agent's configuration; ecs.config.json is looked for beside it
    /// [default: /etc/ecs/ecs.config]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ECS_NETGUARD_ECS_CONFIG"
    )]
    ecs_config: Option<PathBuf>,
    /// Where the guard keeps what outlives it
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_STATE_DIR",
        default_value = "/var/lib/ecs-netguard"
    )]
    state_dir: PathBuf,
    /// Where the lock and the status socket are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_RUNTIME_DIR",
        default_value = "/run/ecs-netguard"
    )]
    runtime_dir: PathBuf,
    /// Use iptables-nft or iptables-legacy, whatever the system's iptables is
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "BACKEND",
        env = "ECS_NETGUARD_BACKEND"
    )]
    backend: Option<BackendChoice>,
    /// The root below which cloud-init's marks are looked for; for tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "ECS_NETGUARD_CLOUD_INIT_ROOT"
    )]
    cloud_init_root: Option<PathBuf>,
    /// Take this kernel for one that lacks something; for tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "WHAT",
        env = "ECS_NETGUARD_KERNEL_LACKING"
    )]
    kernel_lacking: Option<Lacking>,
}

impl Common {
    fn inputs(&self) -> InputPaths {
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the rules in place until stopped; stopping leaves them there
    Run,
    /// Put the rules in place once and exit
    Apply(Report),
    /// Say whether the required guarantees hold, proved from the rules there are; changes nothing
    Check(check::Arguments),
    /// Show the way of a packet through the rules, chain by chain, and where it ends
    Explain(explain::Arguments),
    /// Show how the host stands, as the daemon knows it
    ///
    /// Exit codes: 0 all required guarantees are held; 1 one is violated; 3 undecided; 4 the daemon
    /// cannot be reached.
    Status(status::Arguments),
    /// Show what happened: drift, who did it, how long it took
    Events(events::Arguments),
    /// Show what is configured, what the ECS software makes of it, and the traps in it
    Config(Report),
    /// Remove everything that bears the guard's tag, and restore the sysctls
    Release(release::Arguments),
    /// Go into tasks' network namespaces for the daemon
    #[command(hide = true)]
    KeepTasks,
}

#[derive(Debug, Args)]
struct Report {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Held = 0,
    Violated = 1,
    Usage = 2,
    Undecided = 3,
    Unreachable = 4,
}

impl From<Standing> for Exit {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Held | Standing::NotRequired => Self::Held,
            Standing::Violated => Self::Violated,
            Standing::Undecided => Self::Undecided,
        }
    }
}

/// The command line's definition, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and runs the command, which may take over what systemd handed to the
/// process.
#[must_use]
pub fn main(mut inherited: Inherited) -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let result = match command {
        Command::Run => run::run(&common, &mut inherited),
        Command::Apply(report) => apply::run(&common, report.json),
        Command::Check(arguments) => check::run(&common, &arguments),
        Command::Explain(arguments) => explain::run(&common, &arguments),
        Command::Status(arguments) => status::run(&common, &arguments),
        Command::Events(arguments) => events::run(&common, &arguments),
        Command::Config(report) => config::run(&common, report.json),
        Command::Release(arguments) => release::run(&common, &arguments),
        Command::KeepTasks => worker::run(),
    };
    let exit = result.unwrap_or_else(|error| {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // `ecs-netguard config | head` is no failure of the configuration.
            return Exit::Held;
        }
        let _nowhere_to_complain = writeln!(io::stderr(), "ecs-netguard: {error:#}");
        match error.downcast_ref() {
            Some(client::Error::Answer { .. }) => Exit::Undecided,
            Some(_) => Exit::Unreachable,
            None => Exit::Usage,
        }
    });
    ExitCode::from(exit as u8)
}

/// Runs what asks the daemon.
fn asking(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the event loop")?
        .block_on(work)
}

/// Refuses early and clearly where iptables would fail with five different messages.
fn need_net_admin(command: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        crate::os::privilege::has_net_admin(),
        "`{command}` needs root (CAP_NET_ADMIN) to read and change iptables rules: run it with sudo"
    );
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
