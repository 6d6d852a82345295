//! One turn: read what is there, plan, apply, read again.
//!
//! Level-triggered: a turn knows nothing of what happened before it, only what is wanted and what
//! the kernel holds now.

mod dead;
mod layers;
mod outcome;
mod proof;
mod reading;
mod seal;
mod target;

use std::time::{Duration, Instant};

use serde::Serialize;

pub(crate) use self::layers::Layers;
pub(crate) use self::outcome::outcomes;
pub use self::outcome::{Outcome, Standing};
pub use self::proof::Proof;
pub(crate) use self::proof::prove;
use self::reading::Reading;
pub(crate) use self::seal::HOST_TASKS;
pub use self::seal::{SealReport, Stopped, stopped};
pub use self::target::Target;
pub(crate) use self::target::scope;
use crate::guarantee::{CLASS, Guarantee};
use crate::os::iptables::{self, Tool};
use crate::os::{cgroup, net_cls, sysctl};
use crate::plan::{Drift, Step};
use crate::posture::Posture;
use crate::prove::HostView;
use crate::ruleset::Family;
use crate::seal::{Around, Seal, SealState};
use crate::state::{State, Store};
use crate::tasks::Task;

/// How often a turn starts over when somebody changed the rules between its reading and writing.
const ATTEMPTS: usize = 3;

/// What a turn found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Turn {
    /// The tools that were used.
    pub tools: Vec<Tool>,
    /// What differed when the turn began.
    pub drifts: Vec<Drift>,
    /// What was changed.
    pub done: Vec<String>,
    /// What could not be changed, and why.
    pub failures: Vec<Failure>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
    /// How the guarantees stood when it began; nothing where something was changed and nobody asked.
    pub found: Vec<Outcome>,
    /// How they stand at its end.
    pub outcomes: Vec<Outcome>,
    /// The tasks and how they stand.
    pub tasks: Vec<Task>,
    /// How the seal stands at its end.
    pub seal: SealReport,
    /// The generation of nf_tables that was read last; `None` where that is not to be had.
    #[serde(skip)]
    pub generation: Option<u32>,
    /// The host, as it was read last.
    #[serde(skip)]
    pub host: HostView,
    /// Whether the ACCEPT in INPUT is needed, and wanted with the rest.
    #[serde(skip)]
    pub opened_input: bool,
    /// Whether all that is wanted of the visible layer stands, as read last.
    #[serde(skip)]
    pub in_place: bool,
    /// What an operator should know besides.
    pub notes: Vec<String>,
    /// How long it took until what was missing was in place and read again.
    #[serde(rename = "repaired_seconds", serialize_with = "seconds")]
    pub repaired: Duration,
    /// How long all of it took.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

impl Turn {
    /// Notes what is missing of the seal.
    fn note_seal(mut self) -> Self {
        if self.seal.state == SealState::Missing {
            let why = self.seal.why.as_deref();
            let why = why.unwrap_or("it was never made, or is not what it should be");
            self.notes.push(format!(
                "the seal is missing, the visible rules stand alone: {why}"
            ));
        }
        self
    }

    /// The worst standing of the required guarantees at the end; `Held` where none is required.
    #[must_use]
    pub fn overall(&self) -> Standing {
        overall(&self.outcomes)
    }
}

/// The worst standing of the required guarantees; `Held` where none is required.
pub(crate) fn overall(outcomes: &[Outcome]) -> Standing {
    let any = |standing| outcomes.iter().any(|outcome| outcome.standing == standing);
    if any(Standing::Violated) {
        Standing::Violated
    } else if any(Standing::Undecided) {
        Standing::Undecided
    } else {
        Standing::Held
    }
}

/// A step that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The family that it concerns.
    pub family: Family,
    /// The table, or `route_localnet`.
    pub object: String,
    /// Which step, why not, and what to do.
    pub message: String,
    /// Whether trying again at once makes no sense.
    #[serde(skip)]
    hopeless: bool,
}

/// What a turn changes the host with, besides iptables.
pub struct Hands<'a> {
    /// The seal; opened by the first turn that needs it.
    pub seal: &'a mut Option<Seal>,
    /// Called before iptables' rules are changed: the sentinel, which keeps them, should not step in.
    pub before_change: &'a dyn Fn(),
    /// What the sentinel does around a change of the seal.
    pub around_seal: Around<'a>,
    /// Whether it matters how the guarantees stood before the change: a proof of its own.
    pub prove_found: bool,
    /// What came of the seal, where it was brought about already.
    pub sealed: Option<Result<bool, String>>,
}

/// Reads, changes what is needed, and reads again. What is said of the guarantees at the end is
/// proved from what the kernel then holds, not from what was done.
///
/// What is missing is put in before anything is proved: a proof takes longer than the repair.
///
/// The seal comes first: it is one transaction, and from then on packets are stopped.
pub fn apply(
    target: &Target,
    posture: &Posture,
    memory: &mut Store,
    hands: &mut Hands<'_>,
) -> Turn {
    let started = Instant::now();
    let mut changes = Changes {
        notes: target.notes.clone(),
        ..Changes::default()
    };
    changes.notes.extend(target.wake());
    let sealed = hands.sealed.take();
    let sealed = sealed
        .unwrap_or_else(|| crate::seal::keep(hands.seal, &target.wanted.native, hands.around_seal));
    if sealed == Ok(true) {
        changes.done.push("rebuild the seal".to_owned());
    }
    let first = Reading::take(target, &memory.state);
    let open = first.input_is_open() && target.may_open_input;
    let mut last = changes.bring_about(target, open, &first, memory, hands);
    let repaired = started.elapsed();
    let mut proofs = last.as_ref().unwrap_or(&first).prove(target);
    let found = match last {
        None => outcomes(posture, &proofs, &first.sealed(target)),
        Some(_) if hands.prove_found => {
            outcomes(posture, &first.prove(target), &first.sealed(target))
        }
        Some(_) => Vec::new(),
    };
    let needed = last
        .as_ref()
        .unwrap_or(&first)
        .needs_open_input(target, &proofs);
    if needed != open
        && let Some(after) = changes.bring_about(
            target,
            needed,
            last.as_ref().unwrap_or(&first),
            memory,
            hands,
        )
    {
        proofs = after.prove(target);
        last = Some(after);
    }
    let reading = last.unwrap_or(first);
    changes.notes.extend(reading.forget_undone(target, memory));
    changes.notes.extend(reading.beside(target));
    let outcomes = outcomes(posture, &proofs, &reading.sealed(target));
    let Changes {
        drifts,
        done,
        failures,
        notes,
    } = changes;
    Turn {
        tools: target.tools.clone(),
        opened_input: needed,
        in_place: reading.plan(target, needed).drifts.is_empty(),
        drifts,
        done,
        failures,
        found,
        tasks: tasks(target, &outcomes),
        outcomes,
        seal: reading.seal_report(target, sealed.err()),
        generation: reading.generation(),
        host: reading.host(),
        unread: reading.unread,
        notes,
        repaired,
        elapsed: started.elapsed(),
    }
    .note_seal()
}

/// What a turn changes, and what it meets on the way.
#[derive(Default)]
struct Changes {
    drifts: Vec<Drift>,
    done: Vec<String>,
    failures: Vec<Failure>,
    notes: Vec<String>,
}

impl Changes {
    /// Carries out what the reading lacks. Returns what is there then; `None` if nothing was lacking.
    fn bring_about(
        &mut self,
        target: &Target,
        open_input: bool,
        reading: &Reading,
        memory: &mut Store,
        hands: &mut Hands<'_>,
    ) -> Option<Reading> {
        let mut plan = reading.plan(target, open_input);
        if !plan.steps.is_empty() {
            (hands.before_change)();
        }
        self.drifts.append(&mut plan.drifts);
        let mut after: Option<Reading> = None;
        for _ in 0..ATTEMPTS {
            if plan.steps.is_empty() {
                break;
            }
            self.failures.clear();
            for step in &plan.steps {
                match self.take_step(step, target, after.as_ref().unwrap_or(reading), memory) {
                    Ok(()) => self.done.push(step.to_string()),
                    Err(failure) => self.failures.push(failure),
                }
            }
            let now = Reading::take(target, &memory.state);
            plan = now.plan(target, open_input);
            after = Some(now);
            if self.failures.iter().any(|failure| failure.hopeless) {
                break;
            }
        }
        after
    }

    /// Takes a step, unless one before it of the same family failed: the plan's order is what keeps
    /// `route_localnet=1` from standing without its shield.
    fn take_step(
        &mut self,
        step: &Step,
        target: &Target,
        reading: &Reading,
        memory: &mut Store,
    ) -> Result<(), Failure> {
        let failure = |message: String, hopeless| Failure {
            family: step.family(),
            object: step.object().to_owned(),
            message: format!("{step}: {message}"),
            hopeless,
        };
        if self
            .failures
            .iter()
            .any(|failure| failure.family == step.family())
        {
            return Err(failure(
                "not done, because the step before it failed".into(),
                false,
            ));
        }
        match step {
            Step::Restore { family, input, .. } => {
                let Some(tool) = target.tool(*family) else {
                    return Ok(());
                };
                tool.restore(input).map_err(|error| {
                    use iptables::Error::{Busy, Run};
                    failure(error.to_string(), matches!(error, Busy { .. } | Run { .. }))
                })
            }
            Step::Classify(cgroups) => cgroups
                .iter()
                .filter_map(|cgroup| cgroup::directory(cgroup))
                .try_for_each(|cgroup| net_cls::give(&cgroup, CLASS))
                .map_err(|error| failure(error, true)),
            Step::RouteLocalnet {
                interface,
                value,
                undo,
            } => {
                if !undo {
                    self.notes.extend(reading.remember(interface, memory));
                }
                sysctl::set_route_localnet(interface, value)
                    .map_err(|error| failure(error.to_string(), true))
            }
        }
    }
}

/// The tasks with their verdicts.
fn tasks(target: &Target, outcomes: &[Outcome]) -> Vec<Task> {
    let mut tasks = target.tasks.running.clone();
    let block = |outcome: &&Outcome| outcome.guarantee == Guarantee::HostImdsBlock;
    if let Some(block) = outcomes.iter().find(block) {
        let found = target.facts.host_tasks.iter();
        tasks.extend(found.map(|task| Task::on_host(task, block.standing)));
    }
    tasks
}

/// Reads only.
#[must_use]
pub fn check(target: &Target, posture: &Posture, state: &State) -> Turn {
    let started = Instant::now();
    let reading = Reading::take(target, state);
    let proofs = reading.prove(target);
    let outcomes = outcomes(posture, &proofs, &reading.sealed(target));
    let open_input = reading.needs_open_input(target, &proofs);
    let drifts = reading.plan(target, open_input).drifts;
    let notes = target.notes.iter().cloned().chain(reading.beside(target));
    Turn {
        tools: target.tools.clone(),
        opened_input: open_input,
        in_place: drifts.is_empty(),
        drifts,
        seal: reading.seal_report(target, None),
        generation: reading.generation(),
        host: reading.host(),
        done: Vec::new(),
        failures: Vec::new(),
        unread: reading.unread,
        found: outcomes.clone(),
        tasks: tasks(target, &outcomes),
        outcomes,
        notes: notes.collect(),
        repaired: Duration::ZERO,
        elapsed: started.elapsed(),
    }
    .note_seal()
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
