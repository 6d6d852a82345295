//! `make bench`: what the guard is worth against what people use today, in one run, in namespaces.
//!
//! Each figure is measured where it can be compared: the same lab, the same packets, the same core
//! kept free for the sender; and the other side is a script or program as a user would write it
//! (`baselines/`). Absolute figures are those of the machine; the ratios are what to quote.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement stops where it goes wrong"
)]

mod apply;
mod attack;
mod change;
mod check;
mod compare;
mod crowd;
mod defence;
mod edge;
mod floor;
mod flow;
mod goals;
mod idle;
mod machine;
mod options;
mod probe;
mod report;
mod rules;
mod saved;
mod sealed;
mod start;
mod storm;
mod tasks;
mod time;
mod verify;
mod window;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde::Serialize;

use goals::Goal;
use machine::{Cores, Machine};
use options::Options;
use report::{Figure, Figures};

/// The whole run.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    figures: Figures,
    goals: Vec<Goal>,
}

/// How a table comes about.
type Measure = Box<dyn Fn(&Options) -> Figure>;

/// All tables by their ids, in the order in which they are measured.
fn measures() -> Vec<(&'static str, Measure)> {
    let mut measures: Vec<(_, Measure)> = vec![(floor::ID, Box::new(floor::measure))];
    for case in window::CASES {
        measures.push((case.id, Box::new(move |options| case.measure(options))));
    }
    measures.push((sealed::ID, Box::new(sealed::measure)));
    measures.push((attack::ID, Box::new(attack::measure)));
    measures.push((storm::ID, Box::new(storm::measure)));
    measures.push((verify::ID, Box::new(verify::measure)));
    measures.push((change::ID, Box::new(change::measure)));
    measures.push((check::ID, Box::new(check::measure)));
    measures.push((apply::ID, Box::new(apply::measure)));
    measures.push((saved::ID, Box::new(saved::measure)));
    measures.push((start::ID, Box::new(start::measure)));
    measures.push((edge::ID, Box::new(edge::measure)));
    measures.push((probe::ID, Box::new(probe::measure)));
    measures.push((tasks::ID, Box::new(tasks::measure)));
    measures.push((crowd::ID, Box::new(crowd::measure)));
    measures.push((idle::ID, Box::new(idle::measure)));
    measures
}

/// A figure that is missed is a result; one that could not be measured is a failure.
fn main() -> ExitCode {
    let options = Options::parse();
    if let [a, b] = options.compare.as_slice() {
        return match compare::compare(a, b) {
            Ok(table) => {
                print!("{table}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        };
    }
    let start = Instant::now();
    let measures = measures();
    let known: Vec<&str> = measures.iter().map(|(id, _)| *id).collect();
    if let Some(unknown) = options.only.iter().find(|id| !known.contains(&id.as_str())) {
        eprintln!("no table {unknown}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut report = Report {
        machine: Machine::describe(),
        figures: Figures::default(),
        goals: Vec::new(),
    };
    println!("{}", report.machine);
    let mut failed = Vec::new();
    let cores = Cores::all();
    for (id, measure) in measures {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == id) {
            continue;
        }
        // What goes wrong in one does not take the others along.
        match catch_unwind(AssertUnwindSafe(|| measure(&options))) {
            Ok(figure) => {
                print!("{}", figure.show());
                report.figures.0.push(figure);
            }
            Err(_) => failed.push(id),
        }
        cores.bind();
    }
    report.goals = goals::of(&report.figures);
    print!("{}", goals::show(&report.goals));
    let file = write(&report);
    println!(
        "\n{:.0} s in all; the same as JSON: {file}",
        start.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        eprintln!("could not be measured: {}", failed.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Writes `bench.json` beside what Cargo built.
fn write(report: &Report) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    let json = serde_json::to_vec_pretty(report).expect("figures are JSON");
    fs::write(&file, json).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    file.display().to_string()
}
