//! The dashboard's queries, the documented one for unprotected hosts, and what the fleet costs Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use lab::Lab;
use lab::figures::number;
use lab::prometheus::{Prometheus, Query, dashboard, label, unprotected_hosts, value};

use super::hosts::{Fleet, SILENT_FOR};
use super::recording::{Way, now};

/// Above it a query of the dashboard is too slow.
const SLOW: Duration = Duration::from_secs(1);
/// How many of the slowest are shown.
const SHOWN: usize = 3;
/// How often each is asked; the median counts, since other programs run beside.
const TIMES: usize = 3;
/// What a recorded state needed until it was noticed and proved, at most, in seconds.
const NOTICED: f64 = 60.0;

/// Asks all, prints what came of it, and returns what is wrong.
pub(super) fn ask(lab: &Lab, fleet: &Fleet, prometheus: &Prometheus<'_>) -> Vec<String> {
    let mut failures = unprotected(fleet, prometheus);
    let mut queries = dashboard("40s");
    queries.push(Query {
        expr: unprotected_hosts(),
        range: false,
    });
    let timed = queries
        .iter()
        .map(|query| (duration(fleet, prometheus, query), query));
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    println!("{} queries; the slowest:", queries.len());
    for (time, query) in timed.iter().take(SHOWN) {
        println!(
            "{:>6} ms  {}",
            time.as_millis(),
            query.expr.replace('\n', " ")
        );
    }
    let slow = timed.iter().filter(|(time, _)| *time >= SLOW);
    failures.extend(slow.map(|(time, query)| format!("{time:?}: {}", query.expr)));
    costs(lab, fleet, prometheus);
    failures
}

fn duration(fleet: &Fleet, prometheus: &Prometheus<'_>, query: &Query) -> Duration {
    let (start, end) = (fleet.start.to_string(), now().to_string());
    let expr = ("query", query.expr.as_str());
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let range = [expr, ("start", &start), ("end", &end), ("step", "15")];
            let (_answer, time) = if query.range {
                prometheus.api("query_range", &range)
            } else {
                prometheus.api("query", &[expr])
            };
            time
        })
        .collect();
    times.sort();
    times[TIMES / 2]
}

/// Whether the documented query names all unprotected hosts, since when, and by whom, and no other host.
fn unprotected(fleet: &Fleet, prometheus: &Prometheus<'_>) -> Vec<String> {
    let answer = prometheus.ask(&unprotected_hosts());
    let mut failures = Vec::new();
    let mut wanted = BTreeSet::new();
    for host in &fleet.hosts {
        let Some((guarantee, state)) = host.state.unprotected else {
            continue;
        };
        wanted.insert(host.name.clone());
        let found = answer.iter().find(|series| {
            label(series, "instance") == host.name
                && label(series, "guarantee") == guarantee
                && label(series, "state") == state
        });
        let Some(found) = found else {
            failures.push(format!(
                "the documented query does not name {} ({})",
                host.name, host.state.name
            ));
            continue;
        };
        let (command, parent) = host.state.by.unwrap_or_default();
        if label(found, "command") != command || label(found, "parent") != parent {
            failures.push(format!(
                "the documented query blames the wrong program: {found}"
            ));
        }
        let silent = state == "silent" && host.way == Way::Textfile;
        let began = fleet.turned() - if silent { SILENT_FOR } else { 0.0 };
        let off = value(found) - began;
        if off.abs() > NOTICED {
            failures.push(format!(
                "the documented query is wrong by {off:.0} s: {found}"
            ));
        }
    }
    let named: BTreeSet<String> = answer
        .iter()
        .map(|series| label(series, "instance"))
        .collect();
    for host in named.difference(&wanted) {
        failures.push(format!(
            "the documented query names {host}, which is protected"
        ));
    }
    println!(
        "the documented query names {} of {} unprotected hosts, and {} others",
        named.intersection(&wanted).count(),
        wanted.len(),
        named.difference(&wanted).count()
    );
    failures
}

/// What a fleet of this size is to Prometheus.
fn costs(lab: &Lab, fleet: &Fleet, prometheus: &Prometheus<'_>) {
    let host = fleet.hosts.last().expect("a healthy host");
    let text = fleet.text(host, None).expect("it answers");
    let gzip = lab.host.command("gzip").arg("-c").stdin(text.clone());
    let zipped = gzip.output().expect("gzip runs").stdout.len();
    let one = |query: &str| prometheus.ask(query).first().map_or(0.0, value);
    let (tsdb, _time) = prometheus.api("status/tsdb", &[]);
    let series = &tsdb["headStats"]["numSeries"];
    let status = fs::read_to_string(format!("/proc/{}/status", prometheus.pid())).expect("it runs");
    let versions = prometheus.ask("count by (version) (ecs_netguard_build_info)");
    let versions = versions
        .iter()
        .map(|of| format!("{} ({} hosts)", label(of, "version"), value(of)));
    println!("versions: {}", versions.collect::<Vec<_>>().join(", "));
    println!(
        "a healthy host: {} series, {} bytes a scrape, {zipped} gzipped",
        one(&format!(
            "scrape_samples_scraped{{instance=\"{}\"}}",
            host.name
        )),
        text.len(),
    );
    println!(
        "Prometheus: {series} series, {:.0} samples/s, {} MiB of memory",
        one("sum(scrape_samples_scraped)") / super::INTERVAL.as_secs_f64(),
        number(&status, "VmRSS") / 1024,
    );
}
