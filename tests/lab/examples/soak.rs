//! What a daemon is like after a long time: tasks, interfaces, routes, rules, reloads and clients of the status
//! socket come and go while containers ask for IMDS, and another program flushes the rules. A real daemon in a
//! private lab. Prints a line for each part of the time, compares the last with the first, and fails where
//! memory or descriptors grew, or a packet got through.
//!
//! `make soak`, or `soak [MINUTES]`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement stops where it goes wrong"
)]

use std::fs;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::asking::Asking;
use lab::daemon::Daemon;
use lab::figures::{number, percentile};
use lab::tamper::Backend;
use lab::task::Plan;
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
/// Lines to print.
const PARTS: u32 = 10;
/// Between two flushes: more than thirty a minute by one program are a fight, from which the guard steps back.
const FLUSH: Duration = Duration::from_millis(2500);
/// How much more the median of the last parts may be than that of the first, in per cent.
const GROWTH: u64 = 10;

fn main() {
    let minutes = std::env::args().nth(1);
    let Ok(minutes) = minutes.map_or(Ok(30), |text| text.parse::<u32>()) else {
        eprintln!("soak: MINUTES is a whole number");
        std::process::exit(2);
    };
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"5s\"\n");
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n");
    daemon.wait_for_log("the rules are kept with", PATIENCE);
    let worker = child(daemon.pid());
    lab.counter().reset();
    println!(
        "{:>8} {:>7} {:>8} {:>16} {:>16} {:>6} {:>8} {:>8} {:>8}",
        "minutes",
        "rounds",
        "asked",
        "daemon KiB",
        "worker KiB",
        "files",
        "repairs",
        "p50 ms",
        "p99 ms"
    );
    let asking = Asking::start(&lab);
    let parts = churn(&lab, &daemon, worker, MINUTE * minutes / PARTS, &asking);
    let arrived = lab.counter().arrived().total();
    println!("packets that reached IMDS: {arrived} of {}", asking.asked());
    let failures = judge(&parts, arrived);
    failures.iter().for_each(|failure| println!("{failure}"));
    std::process::exit(i32::from(!failures.is_empty()));
}

/// A part of the time: the least that the processes had, since what a pass or a client needs for a moment is no
/// growth, and the repairs.
struct Part {
    rounds: u64,
    daemon: Usage,
    worker: Usage,
    repairs: Vec<f64>,
}

/// What a process has.
#[derive(Clone, Copy)]
struct Usage {
    rss: u64,
    anonymous: u64,
    files: usize,
}

impl Usage {
    fn of(pid: Pid) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        Self {
            rss: number(&status, "VmRSS"),
            anonymous: number(&status, "RssAnon"),
            files: fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("it runs")
                .count(),
        }
    }

    fn least(self, other: Self) -> Self {
        Self {
            rss: self.rss.min(other.rss),
            anonymous: self.anonymous.min(other.anonymous),
            files: self.files.min(other.files),
        }
    }
}

fn child(pid: Pid) -> Pid {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).expect("the daemon runs");
    let first = children.split_whitespace().next().expect("it has a worker");
    Pid::from_raw(first.parse().expect("a process's number"))
}

fn churn(lab: &Lab, daemon: &Daemon, worker: Pid, part: Duration, asking: &Asking) -> Vec<Part> {
    let began = Instant::now();
    let (mut flushed, mut seen, mut rounds) = (began, 0, 0);
    let mut parts = Vec::new();
    for number in 1..=PARTS {
        let mut repairs = Vec::new();
        let (mut of_daemon, mut of_worker) = (Usage::of(daemon.pid()), Usage::of(worker));
        while began.elapsed() < part * number {
            round(lab, rounds);
            rounds += 1;
            if flushed.elapsed() >= FLUSH {
                lab.tamper(Backend::Nft).flush("filter", None);
                flushed = Instant::now();
            }
            repairs.extend(repairs_since(lab, &mut seen));
            of_daemon = of_daemon.least(Usage::of(daemon.pid()));
            of_worker = of_worker.least(Usage::of(worker));
        }
        repairs.sort_by(f64::total_cmp);
        let memory = |of: Usage| format!("{} ({})", of.rss, of.anonymous);
        println!(
            "{:>8.1} {rounds:>7} {:>8} {:>16} {:>16} {:>3}+{:<2} {:>8} {:>8.2} {:>8.2}",
            began.elapsed().as_secs_f64() / 60.0,
            asking.asked(),
            memory(of_daemon),
            memory(of_worker),
            of_daemon.files,
            of_worker.files,
            repairs.len(),
            at(&repairs, 50),
            at(&repairs, 99),
        );
        parts.push(Part {
            rounds,
            daemon: of_daemon,
            worker: of_worker,
            repairs,
        });
    }
    parts
}

/// What comes and goes on a host within a second or so.
fn round(lab: &Lab, number: u64) {
    let task = lab.task(Plan::default());
    lab.host.sh(
        "for n in 1 2 3 4; do ip link add soak$n type veth peer name other$n; ip link set soak$n up; done
         ip link add br-soak type bridge; ip link set br-soak up
         ip addr add 192.0.2.1/24 dev soak1; ip route add 198.51.100.0/24 via 192.0.2.2 onlink dev soak1
         nft add table inet soak; nft add chain inet soak forward '{ type filter hook forward priority 10; }'
         nft delete table inet soak
         for n in 1 2 3 4; do ip link del soak$n; done; ip link del br-soak",
    );
    for path in ["/v1/status", "/metrics", "/healthz", "/v1/events?since=0"] {
        lab.get(path);
    }
    if number.is_multiple_of(10) {
        // It hangs up in the middle.
        drop(lab.connect());
        lab.write(
            "config.toml",
            format!("# {number}\n[verify]\ninterval = \"5s\"\n"),
        );
    }
    task.stop(&lab.host);
}

/// How long each repair of imds-block took that was reported since, in seconds.
fn repairs_since(lab: &Lab, seen: &mut u64) -> Vec<f64> {
    let reply = lab.get(&format!("/v1/events?since={seen}"));
    let events = reply.body.lines().map(serde_json::from_str);
    let events: Vec<Value> = events.map(|event| event.expect("an event")).collect();
    *seen = events
        .last()
        .map_or(*seen, |event| event["seq"].as_u64().expect("a number"));
    let about = events
        .iter()
        .filter(|event| event["guarantee"] == "imds-block");
    about
        .filter_map(|event| event["repair_seconds"].as_f64())
        .collect()
}

/// A percentile of sorted times, in milliseconds.
fn at(times: &[f64], percent: usize) -> f64 {
    percentile(times, percent).map_or(f64::NAN, |seconds| seconds * 1e3)
}

type Figure = fn(&Part) -> u64;

/// What is not as it was: the last third against the second, since a daemon grows to its size at first.
fn judge(parts: &[Part], arrived: u64) -> Vec<String> {
    let third = parts.len() / 3;
    let (middle, end) = (&parts[third..2 * third], &parts[parts.len() - third..]);
    let median = |parts: &[Part], of: Figure| {
        let mut all: Vec<u64> = parts.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let of: [(&str, Figure); 4] = [
        ("the daemon's memory (KiB)", |part| part.daemon.anonymous),
        ("the worker's memory (KiB)", |part| part.worker.anonymous),
        ("the daemon's descriptors", |part| part.daemon.files as u64),
        ("the worker's descriptors", |part| part.worker.files as u64),
    ];
    let mut failures = Vec::new();
    if arrived > 0 {
        failures.push(format!("{arrived} packets reached IMDS"));
    }
    for (what, figure) in of {
        let (before, after) = (median(middle, figure), median(end, figure));
        println!("{what}: {before}, at the end {after}");
        if after * 100 > before * (100 + GROWTH) {
            failures.push(format!("{what} grew by more than {GROWTH} %"));
        }
    }
    let p99 = |parts: &[Part]| {
        let mut all: Vec<f64> = parts.iter().flat_map(|part| part.repairs.clone()).collect();
        all.sort_by(f64::total_cmp);
        at(&all, 99)
    };
    let rounds = parts.last().map_or(0, |part| part.rounds);
    println!(
        "repairs, p99: {:.2} ms, at the end {:.2} ms",
        p99(middle),
        p99(end)
    );
    println!(
        "rounds: {rounds}, each with a task, five interfaces, a table of another's and four requests"
    );
    failures
}
