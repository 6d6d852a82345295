//! The command line; one file a subcommand.

mod apply;
mod check;
mod common;
mod config;
mod events;
mod explain;
mod probe;
mod release;
mod run;
mod saved;
mod screen;
mod status;
mod worker;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::common::{Common, Exit, Report};
use crate::os::inherited::Inherited;
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
    /// Prove the required guarantees with packets: send them from every bridge and task, and see
    /// what becomes of each
    ///
    /// From a throwaway container on each bridge and from each task, sends TCP, UDP, ICMP, another
    /// protocol and raw frames to the instance metadata service, and asks for task credentials. Runs
    /// `check` beside it and compares the two. Changes nothing and leaves nothing. Needs root, and no
    /// daemon.
    ///
    /// Exit codes: 0 all required guarantees are held, by the proof and by every packet; 1 a packet
    /// got through, a connection for credentials failed, or `check` finds a violation; 3 undecided, as
    /// on a host that the metadata service does not answer.
    Probe(probe::Arguments),
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
    /// Send for `probe` from a cgroup of its own
    #[command(hide = true, name = crate::probe::host_tasks::SUBCOMMAND)]
    ProbeHostTasks {
        /// What is asked, as JSON
        asked: String,
    },
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
    let matches = Cli::command().get_matches();
    let Cli {
        mut common,
        command,
    } = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    common.note_named(&matches);
    let result = dispatch(&common, command, &mut inherited);
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

fn dispatch(common: &Common, command: Command, inherited: &mut Inherited) -> anyhow::Result<Exit> {
    // The daemon has to protect the host whatever it was told, and reports it.
    if !matches!(command, Command::Run) {
        common.missing()?;
    }
    match command {
        Command::Run => run::run(common, inherited),
        Command::Apply(report) => apply::run(common, report.json),
        Command::Check(arguments) => check::run(common, &arguments),
        Command::Explain(arguments) => explain::run(common, &arguments),
        Command::Probe(arguments) => probe::run(common, &arguments),
        Command::Status(arguments) => status::run(common, &arguments),
        Command::Events(arguments) => events::run(common, &arguments),
        Command::Config(report) => config::run(common, report.json),
        Command::Release(arguments) => release::run(common, &arguments),
        Command::KeepTasks => worker::run(),
        Command::ProbeHostTasks { asked } => probe::child(&asked),
    }
}
