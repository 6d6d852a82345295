//! Runs scenarios on whole machines, one after another, and prints what came of them.
//!
//! `make vm-test` runs it. Every scenario (`scenarios/`) is written once, against [`machine::Machine`],
//! and gets a fresh machine of each kind: tier 1 is systemd in namespaces, tier 2 a virtual machine.

mod cgroup;
mod host;
mod janitor;
mod machine;
mod report;
mod scenarios;

use std::collections::VecDeque;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, ValueEnum};

use crate::host::{Host, Payload};
use crate::machine::{Kind, Machine, Started, Step, keep_logs};
use crate::report::{Line, Outcome, Table};
use crate::scenarios::{Report, Scenario};

/// Run ecs-netguard on whole machines: systemd, Docker, reboots, attacks.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which scenarios: those that every change has to pass, or all
    #[arg(long, value_enum, default_value_t = Set::All)]
    set: Set,
    /// Only machines of this tier: 1 (namespaces) or 2 (virtual machines)
    #[arg(long)]
    tier: Option<u8>,
    /// Only machines of this suite
    #[arg(long)]
    suite: Option<String>,
    /// Only scenarios with these names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many machines run at once, of them one virtual machine for each two processors; that takes 2 GiB
    #[arg(long, default_value_t = at_once())]
    at_once: NonZeroUsize,
    /// Say what there is, and run nothing
    #[arg(long)]
    list: bool,
    /// Where the trees and images are (`make vm-image`)
    #[arg(long, default_value = "target/vm")]
    images: PathBuf,
    /// Where the packages are (`vm-tests/images/packages.sh`)
    #[arg(long, default_value = "target/vm/packages")]
    packages: PathBuf,
    /// What is put around the guard
    #[arg(long, default_value = "vm-tests/surroundings")]
    surroundings: PathBuf,
    /// Where logs and the report are written
    #[arg(long, default_value = "target/vm-tests")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Set {
    Core,
    All,
}

/// The processors of this machine.
fn processors() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// One for each processor, and no more than every machine has the memory for.
fn at_once() -> NonZeroUsize {
    const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);
    processors().min(MOST)
}

/// How many of them may be virtual machines, which have two processors each. Where those have to wait for one, what a
/// lock in the guest protects waits with them: on two processors two scenarios took 135 s one after the other, and 180 s
/// beside each other.
fn virtual_at_once() -> usize {
    (processors().get() / 2).max(1)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.list {
        list(&arguments).map(|()| ExitCode::SUCCESS)
    } else {
        match janitor::watch(&arguments.out) {
            // This process does the work.
            Ok(None) => run(&arguments),
            Ok(Some(code)) => Ok(code),
            Err(error) => Err(error),
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vm-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The machines that were chosen.
fn kinds(arguments: &Arguments) -> Vec<Box<dyn Kind>> {
    machine::kinds(&arguments.images)
        .into_iter()
        .filter(|kind| arguments.tier.is_none_or(|tier| kind.tier() == tier))
        .filter(|kind| arguments.suite.as_deref().is_none_or(|s| kind.suite() == s))
        .collect()
}

/// The scenarios that were chosen.
fn chosen(arguments: &Arguments) -> Vec<&'static Scenario> {
    scenarios::ALL
        .iter()
        .filter(|scenario| arguments.set == Set::All || scenario.core)
        .filter(|scenario| {
            arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
        })
        .collect()
}

fn list(arguments: &Arguments) -> Result<()> {
    for kind in kinds(arguments) {
        println!(
            "machine   {} (tier {}, {})",
            kind.name(),
            kind.tier(),
            kind.suite()
        );
    }
    for scenario in chosen(arguments) {
        println!("scenario  {:20} {}", scenario.name, scenario.about);
    }
    Ok(())
}

/// Runs what was chosen.
fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (kinds, scenarios) = (kinds(arguments), chosen(arguments));
    anyhow::ensure!(
        !kinds.is_empty(),
        "no such machine: `make vm-image` makes them, `--list` names them"
    );
    anyhow::ensure!(
        !scenarios.is_empty(),
        "no such scenario: `--list` names them"
    );

    let payload = Payload {
        packages: arguments.packages.clone(),
        surroundings: arguments.surroundings.clone(),
    };
    let since = Instant::now();
    let waiting = Mutex::new(jobs(&kinds, &scenarios));
    let done = Mutex::new(Vec::new());
    let lane = |virtual_ones: bool| -> Result<()> {
        // The lock is not held while a machine runs.
        let next = || waiting.lock().ok()?.take(virtual_ones);
        while let Some(job) = next() {
            let line = one(job.kind, job.scenario, &payload, &arguments.out)?;
            println!("{:24} {:16} {}", line.machine, line.scenario, line.told());
            if let Some(error) = &line.error {
                println!("    {error}");
            }
            if let Ok(mut done) = done.lock() {
                done.push((job.order, line));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..arguments.at_once.get())
            .map(|number| scope.spawn(move || lane(number < virtual_at_once())))
            .collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?)
    })?;
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(order, _)| *order);
    let table = Table {
        lines: done.into_iter().map(|(_, line)| line).collect(),
    };
    table.print(since.elapsed());
    table.write(&arguments.out.join("report.json"))?;
    Ok(if table.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A scenario on a machine.
struct Job<'a> {
    kind: &'a dyn Kind,
    scenario: &'static Scenario,
    /// Its place in the report: the machine's, the scenario's.
    order: (usize, usize),
}

/// What is to be done, in the order in which it is begun.
struct Jobs<'a> {
    in_namespaces: VecDeque<Job<'a>>,
    virtual_ones: VecDeque<Job<'a>>,
}

impl<'a> Jobs<'a> {
    /// The next one; on a virtual machine, where that is allowed and there is one, since these take the longest.
    fn take(&mut self, virtual_ones: bool) -> Option<Job<'a>> {
        let first = virtual_ones.then(|| self.virtual_ones.pop_front());
        first.flatten().or_else(|| self.in_namespaces.pop_front())
    }
}

/// What was chosen: of each machine the first scenarios come first, so that all kinds of machine are begun with.
fn jobs<'a>(kinds: &'a [Box<dyn Kind>], scenarios: &[&'static Scenario]) -> Jobs<'a> {
    let mut jobs = Vec::new();
    for (of_kind, kind) in kinds.iter().enumerate() {
        let on_it = scenarios
            .iter()
            .filter(|scenario| scenario.on.has(kind.as_ref()));
        jobs.extend(on_it.enumerate().map(|(number, scenario)| Job {
            kind: kind.as_ref(),
            scenario,
            order: (of_kind, number),
        }));
    }
    jobs.sort_by_key(|job| job.order.1);
    let (virtual_ones, in_namespaces) = jobs.into_iter().partition(|job| job.kind.tier() == 2);
    Jobs {
        in_namespaces,
        virtual_ones,
    }
}

/// One scenario on a fresh machine of one kind.
fn one(kind: &dyn Kind, scenario: &Scenario, payload: &Payload, out: &Path) -> Result<Line> {
    let start = Instant::now();
    let mut line = Line {
        machine: kind.name(),
        tier: kind.tier(),
        scenario: scenario.name,
        outcome: Outcome::Ok,
        seconds: 0.0,
        packets: None,
        measured: Vec::new(),
        error: None,
        logs: None,
    };
    let logs = out.join(kind.name().replace(' ', "-")).join(scenario.name);
    // Those of the run before.
    let _ = fs::remove_dir_all(&logs);
    let scratch = tempfile::Builder::new()
        .prefix(janitor::MACHINE)
        .tempdir_in(out)
        .context("making a directory for the machine")?;
    let digest = payload.digest()?;
    let surroundings = |machine: &mut dyn Machine| Host::new(machine, payload).prepare();
    let installed = |machine: &mut dyn Machine| Host::new(machine, payload).install().map(drop);
    let mut steps = vec![Step {
        name: "putting up what is around the guard",
        digest,
        run: &surroundings,
    }];
    if !scenario.bare {
        steps.push(Step {
            name: "installing the package",
            digest,
            run: &installed,
        });
    }
    match kind.start(scratch.path(), &steps) {
        Ok(Started { mut machine, done }) => {
            if !scenario.needs.iter().all(|need| machine.can(*need)) {
                line.outcome = Outcome::Skipped;
                return Ok(line);
            }
            match on(machine.as_mut(), &steps[done..], scenario, payload) {
                Ok(report) => {
                    line.packets = report.packets;
                    line.measured = report.measured;
                }
                Err(error) => {
                    line.error = Some(format!("{error:#}"));
                    line.outcome = Outcome::Failed;
                    fs::create_dir_all(&logs)
                        .with_context(|| format!("making {}", logs.display()))?;
                    keep_logs(machine.as_ref(), &logs);
                    line.logs = Some(logs);
                }
            }
        }
        Err(error) => {
            line.error = Some(format!("starting the machine: {error:#}"));
            line.outcome = Outcome::Failed;
        }
    }
    line.seconds = start.elapsed().as_secs_f64();
    Ok(line)
}

fn on(
    machine: &mut dyn Machine,
    steps: &[Step<'_>],
    scenario: &Scenario,
    payload: &Payload,
) -> Result<Report> {
    for step in steps {
        (step.run)(machine).context(step.name)?;
    }
    (scenario.run)(&mut Host::new(machine, payload))
}
