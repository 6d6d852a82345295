//! What was to be reached, and whether this run did.

use serde::Serialize;

use crate::report::{Figures, Row, Unit};
use crate::window::{PACKETS, WINDOW};
use crate::{attack, defence::Defence, edge, idle, probe, sealed, start, storm, tasks, verify};

/// One line of the last table.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    figure: &'static str,
    reach: &'static str,
    /// As shown, and whether that is enough; none where it was not measured.
    measured: Option<(String, bool)>,
}

/// The table as text.
pub(crate) fn show(goals: &[Goal]) -> String {
    let mut lines = vec![["figure", "to reach", "measured", "ok?"].map(str::to_owned)];
    lines.extend(goals.iter().map(|goal| {
        let (measured, ok) = match &goal.measured {
            Some((measured, true)) => (measured.as_str(), "yes"),
            Some((measured, false)) => (measured.as_str(), "MISSED"),
            None => ("not measured", "–"),
        };
        [goal.figure, goal.reach, measured, ok].map(str::to_owned)
    }));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (a, b, c) = (width(0), width(1), width(2));
    let mut text = "\n== Reached?\n".to_owned();
    for [figure, reach, measured, ok] in &lines {
        text.push_str(&format!(
            "   {figure:a$} | {reach:b$} | {measured:c$} | {ok}\n"
        ));
    }
    text
}

/// What this run says of each.
pub(crate) fn of(figures: &Figures) -> Vec<Goal> {
    let (off, on) = (
        Defence::Guard { seal: false }.name(),
        Defence::Guard { seal: true }.name(),
    );
    let goal = |figure, reach, measured| Goal {
        figure,
        reach,
        measured,
    };
    vec![
        goal(
            "seal on: packets through, all tamperings",
            "0",
            leaked(figures),
        ),
        goal(
            "seal on: complete IMDS requests under attack",
            "0",
            at_most(figures.row(attack::ID, on, attack::ANSWERED), 0.0),
        ),
        goal(
            "seal off, nft: tamper to closed",
            "p50 ≤ 120 µs, p99 ≤ 1 ms, ≥ 1,000 × shorter than the poll",
            closed(figures, off),
        ),
        goal(
            "seal off, nft: packets per flush",
            "≤ 20",
            at_most(figures.row("window", off, PACKETS), 20.0),
        ),
        goal(
            "one verification beside 50,000 rules",
            "≤ 150 µs, ≥ 1,000 × cheaper than iptables-save",
            verification(figures),
        ),
        goal(
            "idle: context switches",
            "≤ 0.1 /s",
            at_most(figures.row(idle::ID, idle::WHO, idle::SWITCHES), 0.1),
        ),
        goal(
            "idle: CPU",
            "0.0 %",
            // What rounds to 0.0.
            at_most(figures.row(idle::ID, idle::WHO, idle::CPU), 0.05),
        ),
        goal(
            "idle: RSS",
            "≤ 5 MiB",
            at_most(
                figures.row(idle::ID, idle::WHO, idle::RSS),
                5.0 * 1024.0 * 1024.0,
            ),
        ),
        goal(
            "40,000 foreign commits",
            "the last state is verified",
            stormed(figures),
        ),
        goal(
            "start to proved",
            "≤ 50 ms",
            at_most(figures.row(start::ID, start::WHO, start::WHAT), 50e-3),
        ),
        goal(
            "one pass over 500 tasks",
            "≤ 50 ms",
            at_most(
                figures.row(tasks::ID, tasks::PASS, &tasks::over(500)),
                50e-3,
            ),
        ),
        goal(
            "a task's block: taken out to back",
            "p50 ≤ 5 ms",
            at_most(figures.row(tasks::ID, tasks::REPAIR, tasks::CLOSED), 5e-3),
        ),
        goal(
            "probe: 20 bridges and 50 tasks",
            "≤ 5 s",
            at_most(figures.row(probe::ID, probe::WHO, probe::WHAT), 5.0),
        ),
        goal(
            "the edge: packets of 64 bytes, of those without",
            "≥ 98 %",
            at_least(figures.row(edge::ID, edge::PACKETS, edge::RATIO), 98.0),
        ),
        goal(
            "the edge: TCP throughput, of that without",
            "≥ 98 %",
            at_least(figures.row(edge::ID, edge::STREAM, edge::RATIO), 98.0),
        ),
        goal(
            "the edge: a new interface to its chain",
            "p99 ≤ 1 ms",
            figures
                .row(edge::ID, edge::INTERFACE, edge::CHAIN)
                .map(|row| (row.unit.show(row.p99), row.p99 <= 1e-3)),
        ),
    ]
}

fn at_most(row: Option<&Row>, limit: f64) -> Option<(String, bool)> {
    row.map(|row| (row.unit.show(row.p50), row.p50 <= limit))
}

fn at_least(row: Option<&Row>, limit: f64) -> Option<(String, bool)> {
    row.map(|row| (row.unit.show(row.p50), row.p50 >= limit))
}

fn leaked(figures: &Figures) -> Option<(String, bool)> {
    let figure = figures.get(sealed::ID)?;
    let most = figure
        .rows
        .iter()
        .map(|row| row.max)
        .max_by(f64::total_cmp)?;
    let tamperings: usize = figure.rows.iter().map(|row| row.n).sum();
    let shown = Unit::Packets.show(most);
    Some((
        format!("at most {shown} in {tamperings} tamperings"),
        most == 0.0,
    ))
}

fn closed(figures: &Figures, off: &str) -> Option<(String, bool)> {
    let row = figures.row("window", off, WINDOW)?;
    let poll = figures.row("window", Defence::Poll.name(), WINDOW)?;
    let times = poll.p50 / row.p50;
    let (p50, p99) = (row.unit.show(row.p50), row.unit.show(row.p99));
    let ok = row.p50 <= 120e-6 && row.p99 <= 1e-3 && times >= 1000.0;
    Some((format!("{p50}, {p99}, {times:.0} ×"), ok))
}

fn verification(figures: &Figures) -> Option<(String, bool)> {
    let beside = verify::beside(50_000);
    let own = figures.row(verify::ID, verify::SENTINEL, &beside)?;
    let save = figures.row(verify::ID, verify::SAVE, &beside)?;
    let times = save.p50 / own.p50;
    let ok = own.p50 <= 150e-6 && times >= 1000.0;
    Some((format!("{}, {times:.0} ×", own.unit.show(own.p50)), ok))
}

fn stormed(figures: &Figures) -> Option<(String, bool)> {
    let held = figures.row(storm::ID, storm::WHO, storm::HELD)?.p50 == 1.0;
    let back = figures.row(storm::ID, storm::WHO, storm::BACK);
    let shown = match back {
        Some(back) => format!("on top after {}", back.unit.show(back.p50)),
        None => "not on top".to_owned(),
    };
    let verdict = if held { "held" } else { "not held" };
    Some((format!("{shown}, {verdict}"), held && back.is_some()))
}
