//! What the daemon says in the journal. Every message is said once per change, not once per turn.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info, warn};

use crate::event::{Event, Kind};
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::plan::{Drift, DriftKind};
use crate::posture::Posture;
use crate::turn::{Standing, Turn};

/// Remembers what was said, so that a lasting condition is reported when it begins and when it ends.
#[derive(Debug, Default)]
pub struct Reporter {
    traps: BTreeSet<String>,
    warnings: BTreeSet<String>,
    messages: BTreeSet<String>,
    posture: Option<Posture>,
    /// What the last turn could not put right.
    lasting: Vec<Drift>,
    standing: BTreeMap<Guarantee, (Standing, Vec<String>)>,
}

impl Reporter {
    /// Says what is new in the inputs: a changed posture, traps, files that cannot be read.
    pub fn inputs(&mut self, inputs: &Inputs, posture: &Posture) {
        let warnings: BTreeSet<String> = inputs.warnings.iter().cloned().collect();
        for warning in warnings.difference(&self.warnings) {
            error!("{warning}");
        }
        self.warnings = warnings;
        let traps: BTreeSet<String> = inputs
            .ecs
            .traps
            .iter()
            .map(|trap| format!("{}:{}: {}", trap.path.display(), trap.line, trap.message))
            .collect();
        for trap in traps.difference(&self.traps) {
            warn!("{trap}");
        }
        self.traps = traps;
        if self.posture.as_ref() != Some(posture) {
            for decision in posture.decisions() {
                let guarantee = decision.guarantee.name();
                let word = if decision.required {
                    "required"
                } else {
                    "not required"
                };
                info!(
                    guarantee,
                    reason = decision.reason,
                    "{guarantee} is {word}: {}",
                    decision.reason
                );
            }
            self.posture = Some(posture.clone());
        }
    }

    /// Says what was put in place or taken out because the wish is new.
    pub fn installed(&self, turn: &Turn) {
        if turn.done.is_empty() {
            return;
        }
        let milliseconds = milliseconds(turn);
        for (guarantee, kind, drifts) in grouped(&turn.drifts) {
            let verb = if kind == DriftKind::Stray {
                "taken out"
            } else {
                "put in place"
            };
            let (what, objects) = describe(&drifts);
            info!(
                guarantee = guarantee.name(),
                objects,
                elapsed_ms = milliseconds,
                "{guarantee}: {what} {verb} in {milliseconds:.1} ms"
            );
        }
    }

    /// Says what somebody changed, and that it was put back. Where the guarantee was proved to hold
    /// all the same, that is no alarm.
    pub fn drift(&mut self, turn: &Turn) {
        let lasting = if turn.failures.is_empty() {
            Vec::new()
        } else {
            turn.drifts.clone()
        };
        if !lasting.is_empty() && lasting == self.lasting {
            return;
        }
        self.lasting = lasting;
        let milliseconds = milliseconds(turn);
        for (guarantee, kind, drifts) in grouped(&turn.drifts) {
            let (what, objects) = describe(&drifts);
            let end = if turn.failures.is_empty() {
                format!("put right in {milliseconds:.1} ms")
            } else {
                "not put right".to_owned()
            };
            let name = guarantee.name();
            let held = turn
                .found
                .iter()
                .any(|o| o.guarantee == guarantee && o.standing == Standing::Held);
            if held {
                info!(
                    guarantee = name,
                    drift = %kind,
                    objects,
                    elapsed_ms = milliseconds,
                    "{guarantee}: {what} {kind}, though it still held; {end}"
                );
            } else {
                warn!(
                    guarantee = name,
                    drift = %kind,
                    objects,
                    elapsed_ms = milliseconds,
                    "{guarantee}: {what} {kind}, {end}"
                );
            }
        }
    }

    /// Says how the guarantees stand where that is new, and what failed.
    pub fn standing(&mut self, turn: &Turn, first: bool) {
        let failures = turn.failures.iter().map(|failure| &failure.message);
        for message in turn.unread.iter().chain(failures).chain(&turn.notes) {
            if self.messages.insert(message.clone()) {
                warn!("{message}");
            }
        }
        self.messages.retain(|message| {
            turn.unread.contains(message)
                || turn.notes.contains(message)
                || turn
                    .failures
                    .iter()
                    .any(|failure| failure.message == *message)
        });
        for outcome in &turn.outcomes {
            let now = (outcome.standing, outcome.problems());
            let before = self.standing.insert(outcome.guarantee, now.clone());
            if before.as_ref() == Some(&now) {
                continue;
            }
            let guarantee = outcome.guarantee.name();
            let problems = now.1.join("; ");
            match outcome.standing {
                Standing::Held if before.is_some() || first => {
                    info!(guarantee, "{guarantee} is held")
                }
                Standing::Held | Standing::NotRequired => {}
                Standing::Violated => error!(guarantee, "{guarantee} is NOT held: {problems}"),
                Standing::Undecided => {
                    error!(guarantee, "{guarantee} could not be checked: {problems}")
                }
            }
        }
        if first {
            let tools: Vec<String> = turn.tools.iter().map(ToString::to_string).collect();
            info!("keeping the rules with {}", tools.join(" and "));
        }
    }
}

/// Says what the sentinel saw.
pub fn event(event: &Event) {
    let guarantee = event.guarantee.map_or("", Guarantee::name);
    let comm = event.by.as_ref().map(|by| by.comm.as_str());
    let pid = event.by.as_ref().map(|by| by.pid);
    let message = &event.message;
    match event.kind {
        Kind::NotRepaired => error!(guarantee, by_comm = comm, by_pid = pid, "{message}"),
        _ => warn!(guarantee, by_comm = comm, by_pid = pid, "{message}"),
    }
}

/// Says that the daemon ends.
pub fn leaving() {
    info!("leaving; the rules stay in place (`ecs-netguard release` removes them)");
}

fn milliseconds(turn: &Turn) -> f64 {
    turn.repaired.as_secs_f64() * 1000.0
}

fn grouped(drifts: &[Drift]) -> Vec<(Guarantee, DriftKind, Vec<&Drift>)> {
    let mut groups: Vec<(Guarantee, DriftKind, Vec<&Drift>)> = Vec::new();
    for drift in drifts {
        match groups
            .iter_mut()
            .find(|(g, k, _)| (*g, *k) == (drift.guarantee, drift.kind))
        {
            Some((_, _, group)) => group.push(drift),
            None => groups.push((drift.guarantee, drift.kind, vec![drift])),
        }
    }
    groups
}

/// "3 rules" and the list of them, or the one there is.
fn describe(drifts: &[&Drift]) -> (String, String) {
    let objects: Vec<&str> = drifts.iter().map(|drift| drift.object.as_str()).collect();
    let what = match objects.as_slice() {
        [one] => format!("`{one}`"),
        many => format!("{} rules", many.len()),
    };
    (what, objects.join("\n"))
}
