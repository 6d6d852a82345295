//! What was to be reached, and whether this run did.

use serde::Serialize;

use crate::report::{Figures, Row, Unit};
use crate::window::{PACKETS, WINDOW};
use crate::{
    attack, change, check, crowd, defence::Defence, edge, floor, idle, probe, saved, sealed, start,
    storm, tasks, verify,
};

/// One line of the last table.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    figure: &'static str,
    reach: &'static str,
    /// As shown, and whether that is enough; none where it was not measured.
    measured: Option<(String, bool)>,
    /// The median as a multiple of what the kernel takes for what cannot be done without, as this run measured it.
    of_the_floor: Option<f64>,
}

/// The table as text.
pub(crate) fn show(goals: &[Goal]) -> String {
    let head = [
        "figure",
        "to reach",
        "measured",
        "ok?",
        "× the kernel's floor",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(goals.iter().map(|goal| {
        let (measured, ok) = match &goal.measured {
            Some((measured, true)) => (measured.as_str(), "yes"),
            Some((measured, false)) => (measured.as_str(), "MISSED"),
            None => ("not measured", "–"),
        };
        let floor = goal.of_the_floor.map(|times| format!("{times:.1}"));
        let floor = floor.unwrap_or_default();
        [goal.figure, goal.reach, measured, ok, &floor].map(str::to_owned)
    }));
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (a, b, c, d) = (width(0), width(1), width(2), width(3));
    let mut text = "\n== Reached?\n".to_owned();
    for [figure, reach, measured, ok, floor] in &lines {
        let line = format!("   {figure:a$} | {reach:b$} | {measured:c$} | {ok:d$} | {floor}");
        text.push_str(&format!("{}\n", line.trim_end()));
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
        of_the_floor: None,
    };
    // Medians and 99th percentiles that must be no longer, beside what the kernel takes.
    let timed = |figure, reach, row: Option<&Row>, limits: [f64; 2], floor| {
        let floor = figures.row(floor::ID, floor::KERNEL, floor);
        Goal {
            figure,
            reach,
            measured: row.map(|row| within(row, limits)),
            of_the_floor: row.zip(floor).map(|(row, floor)| row.p50 / floor.p50),
        }
    };
    const ANY: f64 = f64::INFINITY;
    const MIB: f64 = 1024.0 * 1024.0;
    let idle = |what| figures.row(idle::ID, idle::WHO, what);
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
        timed(
            "start to the last packet that passes",
            "≤ 10 ms",
            figures.row(start::ID, start::WHO, start::CLOSED),
            [10e-3, ANY],
            floor::PROGRAM,
        ),
        timed(
            "start to proved and READY=1",
            "≤ 35 ms",
            figures.row(start::ID, start::WHO, start::WHAT),
            [35e-3, ANY],
            floor::PROGRAM,
        ),
        timed(
            "check, cold, beside Docker's rules and ten bridges",
            "≤ 15 ms",
            figures.row(check::ID, check::WHO, check::WHAT),
            [15e-3, ANY],
            floor::PROGRAM,
        ),
        timed(
            "a proof after a change, beside 50,000 rules",
            "≤ 5 ms",
            figures.row(change::ID, change::WHO, &verify::beside(50_000)),
            [5e-3, ANY],
            floor::ROUND_TRIP,
        ),
        timed(
            "10,000 accepting rules above a block, saved",
            "≤ 100 ms",
            figures.row(saved::ID, saved::WHO, saved::ABOVE),
            [100e-3, ANY],
            floor::PROGRAM,
        ),
        timed(
            "seal off, nft: tamper to closed",
            "p50 ≤ 100 µs, p99 ≤ 200 µs",
            figures.row("window", off, WINDOW),
            [100e-6, 200e-6],
            floor::COMMIT,
        ),
        goal(
            "the same, of a script that polls",
            "≥ 1,000 × shorter",
            quicker(figures, off),
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
        timed(
            "a task's block: taken out to back",
            "p50 ≤ 1 ms, p99 ≤ 10 ms",
            figures.row(tasks::ID, tasks::REPAIR, tasks::CLOSED),
            [1e-3, 10e-3],
            floor::COMMIT,
        ),
        timed(
            "one pass over 500 tasks",
            "≤ 10 ms",
            figures.row(tasks::ID, tasks::PASS, &tasks::over(500)),
            [10e-3, ANY],
            floor::ROUND_TRIP,
        ),
        timed(
            "a new task to its block",
            "p99 ≤ 3 ms",
            figures.row(tasks::ID, tasks::NEW, tasks::BLOCKED),
            [ANY, 3e-3],
            floor::COMMIT,
        ),
        goal(
            "the edge: packets of 64 bytes, of those without",
            "≥ 98 %",
            at_least(figures.row(edge::ID, edge::PACKETS, edge::RATIO), 98.0),
        ),
        goal(
            "the edge: what it adds to a packet of 64 bytes",
            "≤ 30 ns",
            at_most(figures.row(edge::ID, edge::PACKETS, edge::ADDED), 30e-9),
        ),
        goal(
            "the edge: TCP throughput, of that without",
            "≥ 98 %",
            at_least(figures.row(edge::ID, edge::STREAM, edge::RATIO), 98.0),
        ),
        timed(
            "the edge: a new interface to its chain",
            "p99 ≤ 1 ms",
            figures.row(edge::ID, edge::INTERFACE, edge::CHAIN),
            [ANY, 1e-3],
            floor::COMMIT,
        ),
        goal(
            "idle: context switches",
            "≤ 0.1 /s",
            at_most(idle(idle::SWITCHES), 0.1),
        ),
        // What rounds to 0.0.
        goal("idle: CPU", "0.0 %", at_most(idle(idle::CPU), 0.05)),
        goal(
            "RSS, its own memory",
            "≤ 1.5 MiB",
            at_most(idle(idle::OWN), 1.5 * MIB),
        ),
        goal("RSS", "≤ 5 MiB", at_most(idle(idle::RSS), 5.0 * MIB)),
        goal(
            "memory with the processes for tasks",
            "≤ 8 MiB",
            at_most(idle(idle::TOGETHER), 8.0 * MIB),
        ),
        goal("the binary", "≤ 4 MB", at_most(idle(idle::BINARY), 4e6)),
        goal(
            "10,000 status requests from 64 clients",
            "p99 ≤ 20 ms",
            figures
                .row(crowd::ID, crowd::WHO, crowd::WHAT)
                .map(|row| within(row, [ANY, 20e-3])),
        ),
        goal(
            "40,000 foreign commits",
            "the last state is verified",
            stormed(figures),
        ),
        goal(
            "probe: 20 bridges and 50 tasks",
            "≤ 5 s",
            at_most(figures.row(probe::ID, probe::WHO, probe::WHAT), 5.0),
        ),
    ]
}

/// What of the median and the 99th percentile has a limit, and whether it keeps it.
fn within(row: &Row, limits: [f64; 2]) -> (String, bool) {
    let values = [row.p50, row.p99].into_iter().zip(limits);
    let limited = values.filter(|(_, limit)| limit.is_finite());
    let shown: Vec<String> = limited
        .clone()
        .map(|(value, _)| row.unit.show(value))
        .collect();
    (
        shown.join(", "),
        limited.clone().all(|(value, limit)| value <= limit),
    )
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

fn quicker(figures: &Figures, off: &str) -> Option<(String, bool)> {
    let row = figures.row("window", off, WINDOW)?;
    let poll = figures.row("window", Defence::Poll.name(), WINDOW)?;
    let times = poll.p50 / row.p50;
    Some((format!("{times:.0} ×"), times >= 1000.0))
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
