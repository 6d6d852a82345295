//! How the status socket bears a crowd: many requests from many clients, a thousand more that say
//! nothing, while a program flushes the rules. A real daemon in a private lab; prints
//! figures.
//!
//! `make load`, or `load [REQUESTS] [FLUSHES]`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement stops where it goes wrong"
)]

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::crowd::Crowd;
use lab::daemon::Daemon;
use lab::figures::{number, percentile};
use lab::tamper::Backend;
use lab::wait::eventually;

const CLIENTS: u64 = 64;
const SILENT: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("a number"));
    let requests: u64 = arguments.next().unwrap_or(10_000);
    let flushes: u64 = arguments.next().unwrap_or(10);
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", PATIENCE);
    lab.get("/v1/status");
    println!(
        "memory before             {:>8} KiB",
        memory(&daemon, "VmRSS")
    );

    let silent: Vec<UnixStream> = (0..SILENT).map_while(|_| lab.connect().ok()).collect();
    println!("silent clients            {:>8}", silent.len());
    let (crowd, attack) = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(&lab, &daemon, flushes));
        (lab.crowd(CLIENTS, requests), attack.join().unwrap())
    });
    drop(silent);
    print(&crowd);
    attack.print("flushes repaired", flushes);
    println!(
        "memory at its most        {:>8} KiB",
        memory(&daemon, "VmHWM")
    );
    println!(
        "memory after              {:>8} KiB",
        memory(&daemon, "VmRSS")
    );
    println!(
        "healthz                   {:>8}",
        lab.get("/healthz").status
    );
}

fn print(crowd: &Crowd) {
    let done = crowd.times.len() as u64;
    let rate = done as f64 / crowd.wall.as_secs_f64();
    println!(
        "requests answered         {done:>8}, {} not, {rate:.0} a second",
        crowd.failed
    );
    println!("  time to answer          {}", quantiles(&crowd.times));
}

/// Flushes, and how long from the start of iptables until each was reported as repaired. More than ten in ten seconds are reported
/// summed up, and these times then say nothing.
struct Attack(Vec<Duration>);

impl Attack {
    fn print(&self, what: &str, of: u64) {
        println!("{what:<26}{:>8} of {of}", self.0.len());
        println!("  time                    {}", quantiles(&self.0));
    }
}

fn quantiles(times: &[Duration]) -> String {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent| percentile(&times, percent).unwrap_or(0.0) * 1e3;
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        at(50),
        at(99),
        at(100)
    )
}

fn attack(lab: &Lab, daemon: &Daemon, flushes: u64) -> Attack {
    let tamper = lab.tamper(Backend::Nft);
    let flush = |_| {
        let seen = daemon.log().len();
        let started = Instant::now();
        tamper.flush("filter", Some("FORWARD"));
        eventually(PATIENCE, "the flush is repaired", || {
            daemon.log()[seen..].contains("repaired")
        });
        started.elapsed()
    };
    Attack((0..flushes).map(flush).collect())
}

/// A line of /proc/PID/status, in KiB.
fn memory(daemon: &Daemon, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    number(&status, field)
}
