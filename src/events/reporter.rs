//! From passes, displacements and troubles to events: what is new is said once, not once a pass, and
//! of many alike only some. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::displacement::{self, Displacement, format_duration, objects_in_words};
use super::event::{By, Event, Kind};
use super::limit::{Limit, Rate};
use crate::guarantee::Guarantee;
use crate::plan::{Drift, DriftKind};
use crate::report::{GuaranteeReport, Report, Trap};
use crate::verdict::Standing;

/// A trouble that lasts, or comes again and again, is reported once an hour.
const TROUBLES: Rate = Rate {
    each: 1,
    window: Duration::from_secs(3600),
};

/// What there is to say of a pass.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// Its report.
    pub report: &'a Report,
    /// What is still missing of the visible layer at its end.
    pub left: &'a [Drift],
    /// The guarantees that held before it changed anything.
    pub held_before: &'a BTreeSet<Guarantee>,
    /// Whether it is the daemon's first.
    pub first: bool,
    /// Whether something else is wanted than before, so that what was missing is no drift.
    pub new_wish: bool,
}

/// Remembers what was said, so that a lasting condition is reported when it begins and when it ends.
#[derive(Debug, Default)]
pub struct Reporter {
    displacements: Limit<displacement::Sort>,
    troubles: Limit<String>,
    traps: BTreeSet<Trap>,
    warnings: BTreeSet<String>,
    posture: BTreeMap<Guarantee, (bool, String)>,
    /// What the last pass could not repair.
    lasting: Vec<Drift>,
    standing: BTreeMap<Guarantee, (Standing, Vec<String>)>,
    /// The last program that changed what is kept for a guarantee, since a pass found it held.
    changed_by: BTreeMap<Guarantee, By>,
}

impl Reporter {
    /// What there is to say of a displacement: nothing where there were too many of its sort lately.
    pub fn displaced(&mut self, of: &Displacement, now: Instant) -> Vec<Event> {
        if let Some(by) = &of.by {
            let guarantees = of.drifts.iter().map(|drift| drift.guarantee);
            (self.changed_by).extend(guarantees.map(|guarantee| (guarantee, by.clone())));
        }
        let took = of.repaired.clone().map_err(drop);
        let rate = displacement::RATE;
        let admitted = self.displacements.admits(of.sort(), rate, took, now);
        if admitted || of.begins_fight() {
            of.events()
        } else {
            Vec::new()
        }
    }

    /// Something that cannot be done or read, and what that means.
    pub fn trouble(&mut self, message: String, now: Instant) -> Option<Event> {
        let failed = Err(());
        let admitted = self.troubles.admits(message.clone(), TROUBLES, failed, now);
        admitted.then(|| Event::new(Kind::Warning, message))
    }

    /// What was held back, of those sorts whose time is over.
    pub fn sum_up(&mut self, now: Instant) -> Vec<Event> {
        let displacements = self.displacements.over(now);
        let displacements = displacements
            .iter()
            .map(|(sort, held_back)| displacement::summary(sort.as_ref(), held_back));
        let troubles = self.troubles.over(now).into_iter();
        let troubles = troubles.map(|(message, held_back)| {
            let what = message.unwrap_or_else(|| "other troubles".to_owned());
            let times = if held_back.count == 1 {
                "time"
            } else {
                "times"
            };
            let message = format!("{what} ({} more {times} within an hour)", held_back.count);
            Event::new(Kind::Warning, message)
        });
        displacements.chain(troubles).collect()
    }

    /// When [`Reporter::sum_up`] will have something to say.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let dues = [self.displacements.due(), self.troubles.due()];
        dues.into_iter().flatten().min()
    }

    /// What there is to say of a pass: a new posture, traps, what was changed, what failed, how the
    /// guarantees stand.
    pub fn pass(&mut self, passed: Passed<'_>, now: Instant) -> Vec<Event> {
        let mut events = self.posture(passed.report);
        if passed.new_wish {
            events.extend(installed(passed));
        } else {
            events.extend(self.drift(passed, now));
        }
        events.extend(self.warnings(passed.report, now));
        events.extend(self.standings(passed));
        if passed.first {
            events.push(started(passed.report));
        }
        events
    }

    fn posture(&mut self, report: &Report) -> Vec<Event> {
        let mut events = Vec::new();
        let traps: BTreeSet<Trap> = report.traps.iter().cloned().collect();
        for trap in traps.difference(&self.traps) {
            let (path, line) = (trap.path.display(), trap.line);
            let message = format!("{path}:{line}: {}", trap.message);
            events.push(Event::new(Kind::Trap, message));
        }
        self.traps = traps;
        let of = |of: &GuaranteeReport| (of.name, (of.required, of.reason.clone()));
        let posture: BTreeMap<_, _> = report.guarantees.iter().map(of).collect();
        if posture != self.posture {
            for of in &report.guarantees {
                let required = if of.required {
                    "required"
                } else {
                    "not required"
                };
                let message = format!("{} is {required}: {}", of.name, of.reason);
                events.push(Event::new(Kind::Posture, message).about(of.name));
            }
            self.posture = posture;
        }
        events
    }

    /// What another program changed, and whether it was restored.
    fn drift(&mut self, passed: Passed<'_>, now: Instant) -> Vec<Event> {
        let report = passed.report;
        if report.changes.is_empty() && report.failures.is_empty() {
            // The pass only looked: it has neither repaired what it saw missing nor tried to.
            return Vec::new();
        }
        let lasting: Vec<Drift> = (report.drifts.iter())
            .filter(|drift| passed.left.contains(drift))
            .cloned()
            .collect();
        let known = !lasting.is_empty() && lasting == self.lasting;
        self.lasting = lasting;
        let mut events = Vec::new();
        for (guarantee, _, drifts) in grouped(&report.drifts) {
            let failed = failure(passed, &drifts);
            if failed.is_some() && known {
                continue;
            }
            let repaired = Duration::try_from_secs_f64(report.verification.repaired);
            let displacement = Displacement {
                at: report.time,
                drifts: drifts.into_iter().cloned().collect(),
                by: None,
                repaired: failed.map_or_else(|| Ok(repaired.unwrap_or_default()), Err),
                sealed: None,
                held: passed.held_before.contains(&guarantee),
                paused: Vec::new(),
            };
            events.extend(self.displaced(&displacement, now));
        }
        events
    }

    /// Warnings that the last pass did not have. One that comes and goes is a trouble like any other.
    fn warnings(&mut self, report: &Report, now: Instant) -> Vec<Event> {
        let warnings = report.input_warnings.iter().chain(&report.warnings);
        let warnings: BTreeSet<String> = warnings.cloned().collect();
        let before = std::mem::replace(&mut self.warnings, warnings.clone());
        let new = warnings.difference(&before);
        let events: Vec<Event> = new
            .filter_map(|warning| self.trouble(warning.clone(), now))
            .collect();
        events
    }

    /// How the guarantees stand, where that is new.
    fn standings(&mut self, passed: Passed<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        for of in &passed.report.guarantees {
            if matches!(of.standing, Standing::Held | Standing::NotRequired) {
                self.changed_by.remove(&of.name);
            }
            let now = (of.standing, of.problems.clone());
            let before = self.standing.insert(of.name, now.clone());
            if before.as_ref() == Some(&now) {
                continue;
            }
            let (name, problems) = (of.name, of.problems.join("; "));
            let (kind, message) = match of.standing {
                Standing::Held if before.is_some() || passed.first => {
                    (Kind::Held, format!("{name} is held"))
                }
                Standing::Held | Standing::NotRequired => continue,
                Standing::Violated => (Kind::Violated, format!("{name} is VIOLATED: {problems}")),
                Standing::Undecided => (
                    Kind::Undecided,
                    format!("{name} cannot be proved: {problems}"),
                ),
            };
            events.push(Event {
                by: self.changed_by.get(&name).cloned(),
                ..Event::new(kind, message).about(name)
            });
        }
        events
    }
}

/// What was installed or removed because the wish is new; what was not is said to have failed.
fn installed(passed: Passed<'_>) -> Vec<Event> {
    let report = passed.report;
    let took = Duration::try_from_secs_f64(report.verification.repaired).unwrap_or_default();
    let event = |(guarantee, kind, drifts): (Guarantee, DriftKind, Vec<&Drift>)| {
        let stray = kind == DriftKind::Stray;
        let objects: Vec<String> = drifts.iter().map(|drift| drift.object.clone()).collect();
        let what = objects_in_words(&objects);
        let (kind, message) = match failure(passed, &drifts) {
            None => {
                let verb = if stray { "removed" } else { "installed" };
                let took = format_duration(took);
                (
                    Kind::Installed,
                    format!("{guarantee}: {what} {verb} in {took}"),
                )
            }
            Some(why) => {
                let verb = if stray { "removed" } else { "installed" };
                (
                    Kind::NotRepaired,
                    format!("{guarantee}: {what} could NOT be {verb}: {why}"),
                )
            }
        };
        Event {
            objects,
            ..Event::new(kind, message).about(guarantee)
        }
    };
    if report.changes.is_empty() && report.failures.is_empty() {
        return Vec::new();
    }
    grouped(&report.drifts).into_iter().map(event).collect()
}

/// Why these could not be repaired, where one of them is still missing.
fn failure(passed: Passed<'_>, drifts: &[&Drift]) -> Option<String> {
    let left = drifts.iter().any(|drift| passed.left.contains(drift));
    let failures = passed.report.failures.iter();
    let messages: Vec<&str> = failures.map(|failure| failure.message.as_str()).collect();
    left.then(|| match messages.as_slice() {
        [] => "it was changed again meanwhile".to_owned(),
        messages => messages.join("; "),
    })
}

fn started(report: &Report) -> Event {
    let tools = report.backends.iter();
    let tools: Vec<String> = tools
        .map(|tool| format!("{} {}", tool.name, tool.version))
        .collect();
    let message = match tools.as_slice() {
        [] => "started without iptables: the visible rules cannot be kept".to_owned(),
        [first, rest @ ..] if rest.iter().all(|tool| tool == first) => {
            format!("started; the rules are kept with {first}")
        }
        tools => format!("started; the rules are kept with {}", tools.join(" and ")),
    };
    Event::new(Kind::Started, message)
}

fn grouped(drifts: &[Drift]) -> Vec<(Guarantee, DriftKind, Vec<&Drift>)> {
    let mut groups: Vec<(Guarantee, DriftKind, Vec<&Drift>)> = Vec::new();
    for drift in drifts {
        let of = |(guarantee, kind, _): &&mut (Guarantee, DriftKind, Vec<&Drift>)| {
            (*guarantee, *kind) == (drift.guarantee, drift.kind)
        };
        match groups.iter_mut().find(of) {
            Some((_, _, group)) => group.push(drift),
            None => groups.push((drift.guarantee, drift.kind, vec![drift])),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
