//! A fleet for a real Prometheus: one process answers for any number of hosts what real daemons answered, in every
//! state that a host can be in, and at a known moment some hosts turn bad. Prints by which shipped alert each was
//! found and after how many scrapes, and what the fleet costs Prometheus. Fails where a bad host is not found within
//! two scrapes, another host is reported, the documented query for unprotected hosts answers wrongly, or a query of
//! the dashboard takes a second.
//!
//! `make fleet`, or `fleet [HOSTS] [SECONDS]`: for how long the alerts are watched.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement stops where it goes wrong"
)]

mod hosts;
mod questions;
mod recording;
mod text;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use lab::Lab;
use lab::prometheus::{Prometheus, value};
use lab::wait::eventually;

use hosts::Fleet;
use recording::{STATES, Source, record};
use watching::Watch;

/// Between two scrapes of a host, and between two evaluations of the rules.
const INTERVAL: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |otherwise| arguments.next().unwrap_or(Ok(otherwise));
    let (Ok(size), Ok(seconds)) = (next(1000), next(150)) else {
        eprintln!("fleet: HOSTS and SECONDS are whole numbers");
        std::process::exit(2);
    };
    let well = Arc::new(recorded(&STATES[0]));
    let old = Arc::new(recording::old());
    let stories = STATES.iter().map(|state| match state.source {
        Source::Recorded if state.alert.is_some() => Arc::new(recorded(state)),
        Source::Recorded | Source::Dies => Arc::clone(&well),
        Source::Old | Source::OldDies => Arc::clone(&old),
    });
    let stories: Vec<_> = stories.collect();

    let lab = Lab::new();
    let fleet = Arc::new(Fleet::new(size, &stories));
    let _server = fleet.serve(&lab).expect("it listens");
    let prometheus = Prometheus::start(&lab, INTERVAL, &fleet.scrape_configs());
    let all = fleet.hosts.len();
    eventually(PATIENCE, "all hosts are scraped twice", || {
        let scraped = prometheus.ask("count(sum_over_time(up[1h]) >= 2)");
        scraped
            .first()
            .is_some_and(|count| value(count) as usize == all)
    });
    println!(
        "{all} hosts, scraped every {} s; some turn bad now",
        INTERVAL.as_secs()
    );
    let mut failures = Watch::run(&fleet, &prometheus, Duration::from_secs(seconds as u64));
    failures.extend(questions::ask(&lab, &fleet, &prometheus));
    failures
        .iter()
        .for_each(|failure| println!("FAILED: {failure}"));
    std::process::exit(i32::from(!failures.is_empty()));
}

fn recorded(state: &recording::State) -> text::Story {
    println!("recording a real daemon: {}", state.name);
    record(state)
}
