//! What the daemon takes of a machine on which nothing happens.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::defence::guard;
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::figures::number;
use lab::tamper::Backend;

pub(crate) const ID: &str = "idle";
pub(crate) const WHO: &str = "ecs-netguard run";
pub(crate) const SWITCHES: &str = "context switches";
pub(crate) const CPU: &str = "CPU time";
pub(crate) const RSS: &str = "RSS";
pub(crate) const OWN: &str = "RSS, its own memory";
pub(crate) const TOGETHER: &str = "PSS, with the processes for tasks";
pub(crate) const BINARY: &str = "the binary";

/// What the start leaves behind (a thread of a pool, a timer) is gone after this.
const SETTLE: Duration = Duration::from_secs(12);

/// What a thread had used up at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    switches: u64,
    cpu: Duration,
}

pub(crate) fn measure(options: &Options) -> Figure {
    let mut figure = Figure::new(
        ID,
        format!("the daemon on a quiet host for {} s", options.seconds),
    );
    let lab = Lab::new();
    let daemon = guard(&lab, Backend::Nft, true);
    sleep(SETTLE);
    let (before, begin) = (threads(daemon.pid()), Instant::now());
    sleep(options.duration());
    let (after, seconds) = (threads(daemon.pid()), begin.elapsed().as_secs_f64());
    let (mut switches, mut cpu) = (0, Duration::ZERO);
    for (thread, now) in &after {
        let then = before.get(thread).copied().unwrap_or_default();
        switches += now.switches - then.switches;
        cpu += now.cpu - then.cpu;
    }
    let rate = switches as f64 / seconds;
    figure.add_one(WHO, SWITCHES, Unit::PerSecond, rate);
    let percent = cpu.as_secs_f64() / seconds * 100.0;
    figure.add_one(WHO, CPU, Unit::Percent, percent);
    let status = read(format!("/proc/{}/status", daemon.pid()));
    for (what, field) in [
        (RSS, "VmRSS"),
        (OWN, "RssAnon"),
        ("RSS, pages of files", "RssFile"),
    ] {
        let bytes = number(&status, field) * 1024;
        figure.add_one(WHO, what, Unit::Bytes, bytes as f64);
    }
    let pss = family(daemon.pid()).into_iter().map(pss).sum();
    figure.add_one(WHO, TOGETHER, Unit::Bytes, pss);
    figure.add_one(WHO, "threads", Unit::Count, after.len() as f64);
    let size = fs::metadata(lab::daemon::binary()).map_or(0, |file| file.len());
    figure.add_one(WHO, BINARY, Unit::Bytes, size as f64);
    figure
}

fn threads(pid: Pid) -> BTreeMap<String, Used> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    tasks
        .filter_map(|task| {
            let task = task.ok()?.path();
            // A thread may end while it is looked at.
            let status = fs::read_to_string(task.join("status")).ok()?;
            let time = fs::read_to_string(task.join("schedstat")).ok()?;
            let nanoseconds = time.split_ascii_whitespace().next()?.parse().ok()?;
            let used = Used {
                switches: number(&status, "voluntary_ctxt_switches")
                    + number(&status, "nonvoluntary_ctxt_switches"),
                cpu: Duration::from_nanos(nanoseconds),
            };
            Some((task.file_name()?.to_string_lossy().into_owned(), used))
        })
        .collect()
}

/// A process and all below it.
fn family(pid: Pid) -> Vec<Pid> {
    let children = read(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.split_ascii_whitespace();
    let below = children.filter_map(|pid| Some(family(Pid::from_raw(pid.parse().ok()?))));
    [pid].into_iter().chain(below.flatten()).collect()
}

/// Memory, what is shared divided among those who share it (proc_pid_smaps(5)).
fn pss(pid: Pid) -> f64 {
    (number(&read(format!("/proc/{pid}/smaps_rollup")), "Pss") * 1024) as f64
}

fn read(file: String) -> String {
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"))
}
