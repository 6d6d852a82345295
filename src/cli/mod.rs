//! The command line; one file a subcommand.

mod apply;
mod check;
mod common;
mod config;
mod events;
mod examples;
mod explain;
mod exporter;
mod probe;
mod release;
mod report;
mod run;
mod saved;
mod screen;
mod status;
mod worker;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::common::{COMMON, Common, Exit};
use crate::os::inherited::Inherited;
use crate::out;
use crate::status::client;

/// Keep containers on an Amazon ECS host away from the instance metadata service (IMDS), and prove it.
///
/// Reads /etc/ecs/ecs.config, installs the documented rules, proves by walking packets through the
/// kernel's rules that they hold, and restores what other programs remove.
///
/// Exit codes: 0 all required guarantees are held; 1 one is violated; 2 usage or configuration error;
/// 3 undecided, or it could not be determined; 4 the daemon cannot be reached.
#[derive(Debug, Parser)]
#[command(
    name = "ecs-netguard",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = examples::ALL
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
    #[command(after_help = examples::RUN)]
    Run(run::Arguments),
    /// Install the rules once, prove the result, and exit
    #[command(after_help = examples::APPLY)]
    Apply(apply::Arguments),
    /// Prove the required guarantees against the kernel's current rules. Read-only
    #[command(after_help = examples::CHECK)]
    Check(check::Arguments),
    /// Show a packet's way through the rules, chain by chain, and where it ends. Read-only
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::Arguments),
    /// Prove the required guarantees with packets, sent from every bridge and task
    ///
    /// From a throwaway container on each bridge and from each task, sends TCP, UDP, ICMP, another
    /// protocol and raw frames to the instance metadata service, and asks for task credentials. Runs
    /// `check` beside it and compares the two. Changes nothing and leaves nothing. Needs root, and no
    /// daemon.
    ///
    /// Exit codes: 0 all required guarantees are held, by the proof and by every packet; 1 a packet
    /// got through, a connection for credentials failed, or `check` finds a violation; 3 undecided, as
    /// on a host that the metadata service does not answer.
    #[command(after_help = examples::PROBE)]
    Probe(probe::Arguments),
    /// Show how the host stands, from the running daemon
    ///
    /// Exit codes: 0 all required guarantees are held; 1 one is violated; 3 undecided; 4 the daemon
    /// cannot be reached.
    #[command(after_help = examples::STATUS)]
    Status(status::Arguments),
    /// Show what happened: drift, which program caused it, how long the repair took
    ///
    /// Where the daemon does not answer, its history on disk is shown (root only); the exit code is
    /// then 4.
    #[command(after_help = examples::EVENTS)]
    Events(events::Arguments),
    /// Serve the daemon's /metrics and /healthz on TCP, for Prometheus
    ///
    /// Hands both over from the status socket and keeps nothing. Where the daemon does not answer, the
    /// answer is 503, so that Prometheus' `up` is 0. Needs no root: the group ecs-netguard may use the
    /// socket. Whatever reaches the address can read which guarantees are required and held, and the
    /// names of commands that changed rules. The package's unit is ecs-netguard-exporter.service.
    #[command(after_help = examples::EXPORTER)]
    Exporter(exporter::Arguments),
    /// Show what is configured, what the ECS software makes of it, and the traps in it
    #[command(after_help = examples::CONFIG)]
    Config(config::Arguments),
    /// Remove every rule and table of the guard, and restore the sysctls
    #[command(after_help = examples::RELEASE)]
    Release(release::Arguments),
    /// Write everything that a bug report needs to one file, without secrets
    ///
    /// Versions, configuration, status, the proof with every verdict, events, and the host's rulesets,
    /// as plain text. Lines that may hold a secret are left out. Read it before you send it.
    #[command(after_help = examples::REPORT)]
    Report(report::Arguments),
    /// Keep a process that enters tasks' network namespaces for the daemon
    #[command(hide = true)]
    KeepTasks,
    /// Enter tasks' network namespaces for the daemon
    #[command(hide = true)]
    EnterTasks(worker::Arguments),
    /// Send for `probe` from a cgroup of its own
    #[command(hide = true, name = crate::probe::host_tasks::SUBCOMMAND)]
    ProbeHostTasks {
        /// What is asked, as JSON
        asked: String,
    },
}

/// The command line's definition, also for man pages and completions. The options of every command are
/// shown once, at the top level.
#[must_use]
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let hide = |argument: Arg| {
        let common = argument.get_help_heading() == Some(COMMON);
        argument.hide(common)
    };
    command.mut_subcommands(|subcommand| {
        let examples = subcommand.get_after_help().map(ToString::to_string);
        let more = "Options of every command: ecs-netguard --help";
        let after = examples.map_or_else(|| more.to_owned(), |after| format!("{after}\n\n{more}"));
        subcommand.mut_args(hide).after_help(after)
    })
}

/// Parses the command line and runs the command, which may take over what systemd handed to the
/// process.
#[must_use]
pub fn main(mut inherited: Inherited) -> ExitCode {
    let matches = command().get_matches();
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
        let _nowhere_to_complain = writeln!(out::errors(), "ecs-netguard: {error:#}");
        match error.downcast_ref() {
            Some(client::Error::Answer { .. }) => Exit::Undecided,
            Some(_) => Exit::Unreachable,
            None => Exit::Usage,
        }
    });
    ExitCode::from(exit as u8)
}

fn dispatch(common: &Common, command: Command, inherited: &mut Inherited) -> anyhow::Result<Exit> {
    // The daemon has to protect the host whatever its options are, and reports it.
    if !matches!(command, Command::Run(_)) {
        common.missing()?;
    }
    match command {
        Command::Run(arguments) => run::run(common, &arguments, inherited),
        Command::Apply(arguments) => apply::run(common, &arguments),
        Command::Check(arguments) => check::run(common, &arguments),
        Command::Explain(arguments) => explain::run(common, &arguments),
        Command::Probe(arguments) => probe::run(common, &arguments),
        Command::Status(arguments) => status::run(common, &arguments),
        Command::Events(arguments) => events::run(common, &arguments),
        Command::Exporter(arguments) => exporter::run(common, &arguments),
        Command::Config(arguments) => config::run(common, &arguments),
        Command::Release(arguments) => release::run(common, &arguments),
        Command::Report(arguments) => report::run(common, &arguments),
        Command::KeepTasks => worker::supervise(),
        Command::EnterTasks(arguments) => worker::work(arguments),
        Command::ProbeHostTasks { asked } => probe::child(&asked),
    }
}
