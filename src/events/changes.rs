//! What the daemon has to say: from turns to events. Everything is said once per change, not once
//! per turn, and goes one way: to the board, and from there to the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::events::journal;
use crate::events::{Event, Kind};
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::plan::{Drift, DriftKind};
use crate::posture::Posture;
use crate::reconcile::{Standing, Turn};
use crate::status::hub::Hub;

/// Says what happened: puts it on the board, which gives it its number, and writes it down in the
/// journal.
pub fn tell(board: &Hub, event: Event) -> Arc<Event> {
    let event = board.push(event.sanitize());
    journal::say(&event);
    event
}

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
    /// What is new in the inputs: a changed posture, traps, files that cannot be read.
    #[must_use]
    pub fn inputs(&mut self, inputs: &Inputs, posture: &Posture) -> Vec<Event> {
        let mut events = Vec::new();
        let warnings: BTreeSet<String> = inputs.warnings.iter().cloned().collect();
        let new = warnings.difference(&self.warnings);
        events.extend(new.map(|warning| Event::new(Kind::Warning, warning)));
        self.warnings = warnings;
        let traps: BTreeSet<String> = inputs
            .ecs
            .traps
            .iter()
            .map(|trap| format!("{}:{}: {}", trap.path.display(), trap.line, trap.message))
            .collect();
        let new = traps.difference(&self.traps);
        events.extend(new.map(|trap| Event::new(Kind::Trap, trap)));
        self.traps = traps;
        if self.posture.as_ref() != Some(posture) {
            for decision in posture.decisions() {
                let guarantee = decision.guarantee;
                let word = if decision.required {
                    "required"
                } else {
                    "not required"
                };
                let message = format!("{guarantee} is {word}: {}", decision.reason);
                events.push(Event::new(Kind::Posture, message).about(guarantee));
            }
            self.posture = Some(posture.clone());
        }
        events
    }

    /// What was put in place or taken out because the wish is new.
    #[must_use]
    pub fn installed(&self, turn: &Turn) -> Vec<Event> {
        if turn.done.is_empty() {
            return Vec::new();
        }
        let milliseconds = milliseconds(turn);
        let installed = |(guarantee, kind, drifts): (Guarantee, DriftKind, Vec<&Drift>)| {
            let verb = if kind == DriftKind::Stray {
                "taken out"
            } else {
                "put in place"
            };
            let (what, objects) = describe(&drifts);
            let message = format!("{guarantee}: {what} {verb} in {milliseconds:.1} ms");
            Event {
                objects,
                ..Event::new(Kind::Installed, message).about(guarantee)
            }
        };
        grouped(&turn.drifts).into_iter().map(installed).collect()
    }

    /// What somebody changed, and whether it was put back. Where the guarantee was proved to hold all
    /// the same, that is no alarm.
    #[must_use]
    pub fn drift(&mut self, turn: &Turn) -> Vec<Event> {
        if turn.done.is_empty() && turn.failures.is_empty() {
            // The turn only looked: what it saw missing nobody has put right or tried to.
            return Vec::new();
        }
        let repaired = turn.failures.is_empty();
        let lasting = if repaired {
            Vec::new()
        } else {
            turn.drifts.clone()
        };
        if !lasting.is_empty() && lasting == self.lasting {
            return Vec::new();
        }
        self.lasting = lasting;
        let milliseconds = milliseconds(turn);
        let drift = |(guarantee, kind, drifts): (Guarantee, DriftKind, Vec<&Drift>)| {
            let (what, objects) = describe(&drifts);
            let end = if repaired {
                format!("put right in {milliseconds:.1} ms")
            } else {
                "not put right".to_owned()
            };
            let held = turn
                .found
                .iter()
                .any(|o| o.guarantee == guarantee && o.standing == Standing::Held);
            let message = if held {
                format!("{guarantee}: {what} {kind}, though it still held; {end}")
            } else {
                format!("{guarantee}: {what} {kind}, {end}")
            };
            let event = if repaired {
                Kind::Drift
            } else {
                Kind::NotRepaired
            };
            Event {
                objects,
                repair: (repaired && !held).then_some(turn.repaired),
                held,
                ..Event::new(event, message).about(guarantee)
            }
        };
        grouped(&turn.drifts).into_iter().map(drift).collect()
    }

    /// How the guarantees stand where that is new, and what failed.
    #[must_use]
    pub fn standing(&mut self, turn: &Turn, first: bool) -> Vec<Event> {
        let mut events = Vec::new();
        let failures = turn.failures.iter().map(|failure| &failure.message);
        let messages: BTreeSet<String> = (turn.unread.iter())
            .chain(failures)
            .chain(&turn.notes)
            .cloned()
            .collect();
        let new = messages.difference(&self.messages);
        events.extend(new.map(|message| Event::new(Kind::Warning, message)));
        self.messages = messages;
        for outcome in &turn.outcomes {
            let now = (outcome.standing, outcome.problems());
            let before = self.standing.insert(outcome.guarantee, now.clone());
            if before.as_ref() == Some(&now) {
                continue;
            }
            let guarantee = outcome.guarantee;
            let problems = now.1.join("; ");
            let (kind, message) = match outcome.standing {
                Standing::Held if before.is_some() || first => {
                    (Kind::Held, format!("{guarantee} is held"))
                }
                Standing::Held | Standing::NotRequired => continue,
                Standing::Violated => (
                    Kind::Violated,
                    format!("{guarantee} is NOT held: {problems}"),
                ),
                Standing::Undecided => (
                    Kind::Undecided,
                    format!("{guarantee} could not be checked: {problems}"),
                ),
            };
            events.push(Event::new(kind, message).about(guarantee));
        }
        if first {
            let tools: Vec<String> = turn.tools.iter().map(ToString::to_string).collect();
            let message = format!("keeping the rules with {}", tools.join(" and "));
            events.push(Event::new(Kind::Started, message));
        }
        events
    }
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
fn describe(drifts: &[&Drift]) -> (String, Vec<String>) {
    let objects: Vec<String> = drifts.iter().map(|drift| drift.object.clone()).collect();
    let what = match objects.as_slice() {
        [one] => format!("`{one}`"),
        many => format!("{} rules", many.len()),
    };
    (what, objects)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reconcile::Outcome;

    fn turn(found: Standing, now: Standing) -> Turn {
        let outcome = |standing| Outcome {
            guarantee: Guarantee::ImdsBlock,
            standing,
            reason: String::new(),
            visible: standing == Standing::Held,
            sealed: None,
            claims: Vec::new(),
        };
        Turn {
            drifts: vec![Drift {
                guarantee: Guarantee::ImdsBlock,
                kind: DriftKind::Missing,
                object: "a rule".into(),
            }],
            done: vec!["a step".into()],
            found: vec![outcome(found)],
            outcomes: vec![outcome(now)],
            notes: vec!["a note".into()],
            repaired: Duration::from_millis(4),
            ..Turn::default()
        }
    }

    #[test]
    fn drift_is_an_alarm_unless_the_guarantee_held_all_the_same() {
        let mut reporter = Reporter::default();
        let events = reporter.drift(&turn(Standing::Violated, Standing::Held));
        let [event] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert_eq!(
            (event.kind, event.held, event.repair),
            (Kind::Drift, false, Some(Duration::from_millis(4)))
        );
        assert_eq!(
            event.message,
            "imds-block: `a rule` missing, put right in 4.0 ms"
        );
        let events = reporter.drift(&turn(Standing::Held, Standing::Held));
        assert!(events[0].held && events[0].repair.is_none());
        assert!(events[0].message.contains("though it still held"));
    }

    #[test]
    fn what_was_only_seen_is_not_told_as_put_right() {
        let looked = Turn {
            done: Vec::new(),
            unread: vec!["the rules changed during each of 3 readings".into()],
            ..turn(Standing::Undecided, Standing::Undecided)
        };
        assert_eq!(Reporter::default().drift(&looked), []);
    }

    #[test]
    fn what_lasts_is_said_once() {
        use Standing::{Held, Undecided, Violated};
        let mut reporter = Reporter::default();
        let mut kinds = |now, first| {
            let events = reporter.standing(&turn(now, now), first);
            events.iter().map(|event| event.kind).collect::<Vec<_>>()
        };
        assert_eq!(
            kinds(Held, true),
            [Kind::Warning, Kind::Held, Kind::Started]
        );
        assert_eq!(kinds(Held, false), []);
        assert_eq!(kinds(Violated, false), [Kind::Violated]);
        assert_eq!(kinds(Violated, false), []);
        assert_eq!(kinds(Undecided, false), [Kind::Undecided]);
        assert_eq!(kinds(Held, false), [Kind::Held]);
    }
}
