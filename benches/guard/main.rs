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

#[allow(dead_code, reason = "the bench needs a part of what the tests need")]
#[path = "../../tests/lab/mod.rs"]
mod lab;

mod apply;
mod attack;
mod defence;
mod flow;
mod goals;
mod idle;
mod machine;
mod report;
mod rules;
mod saved;
mod sealed;
mod start;
mod storm;
mod time;
mod verify;
mod window;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use machine::Machine;
use report::{Figure, Report};

/// Measures the guard, and what people use today, in network namespaces of its own.
#[derive(Debug, Parser)]
struct Options {
    /// Measure these alone (ids of tables, such as window,idle)
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    only: Vec<String>,
    /// How often each quick tampering is repeated
    #[arg(long, default_value_t = 200, value_name = "N")]
    repetitions: usize,
    /// How long what takes a length of time lasts
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// A table's id and how it comes about.
type Measure = (&'static str, Box<dyn Fn(&Options) -> Figure>);

fn measures() -> Vec<Measure> {
    let mut measures: Vec<Measure> = Vec::new();
    for case in window::CASES {
        measures.push((case.id, Box::new(move |options| case.measure(options))));
    }
    let others: [(&'static str, fn(&Options) -> Figure); 8] = [
        (sealed::ID, sealed::measure),
        (attack::ID, attack::measure),
        (storm::ID, storm::measure),
        (verify::ID, verify::measure),
        (apply::ID, apply::measure),
        (saved::ID, saved::measure),
        (start::ID, start::measure),
        (idle::ID, idle::measure),
    ];
    for (id, measure) in others {
        measures.push((id, Box::new(measure)));
    }
    measures
}

fn main() {
    let options = Options::parse();
    let start = Instant::now();
    let measures = measures();
    let known: Vec<&str> = measures.iter().map(|(id, _)| *id).collect();
    if let Some(unknown) = options.only.iter().find(|id| !known.contains(&id.as_str())) {
        eprintln!("no table {unknown}; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let mut report = Report {
        machine: Machine::describe(),
        figures: Vec::new(),
    };
    println!("{}", report.machine);
    for (id, measure) in measures {
        if options.only.is_empty() || options.only.iter().any(|only| only == id) {
            let figure = measure(&options);
            print!("{}", figure.show());
            report.figures.push(figure);
        }
    }
    print!("{}", goals::show(&report));
    let file = write(&report);
    println!(
        "\n{:.0} s in all; the same as JSON: {file}",
        start.elapsed().as_secs_f64()
    );
}

/// Writes `bench.json` beside what Cargo built.
fn write(report: &Report) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    let json = serde_json::to_vec_pretty(report).expect("figures are JSON");
    fs::write(&file, json).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    file.display().to_string()
}
