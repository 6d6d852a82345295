//! However a test ends, nothing of its lab remains.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::Lab;
use lab::daemon::{Daemon, runs};
use lab::docker::{Docker, Programs};
use lab::imds::IMDS;
use lab::wait::{LONG, eventually};

/// Everything by which a lab could outlive itself.
pub(crate) struct Traces {
    namespaces: BTreeSet<String>,
    pids: Vec<u32>,
}

impl Traces {
    pub(crate) fn of(lab: &Lab, daemons: &[&Daemon]) -> Self {
        let namespaces = lab
            .namespaces()
            .iter()
            .flat_map(|ns| ns.identities())
            .collect();
        Self {
            namespaces,
            pids: daemons
                .iter()
                .map(|d| d.pid().as_raw().cast_unsigned())
                .collect(),
        }
    }

    /// Looks into every task and every open file of the machine, and at what is mounted.
    fn found(&self) -> Vec<String> {
        let mut found: Vec<_> = tasks()
            .flat_map(|task| {
                let links = ["ns/net", "ns/mnt"].into_iter().map(|ns| task.join(ns));
                let files = fs::read_dir(task.join("fd")).into_iter().flatten();
                links
                    .chain(files.filter_map(|fd| Some(fd.ok()?.path())))
                    .collect::<Vec<_>>()
            })
            .filter(|link| {
                let target = fs::read_link(link).unwrap_or_default();
                self.namespaces.contains(&*target.to_string_lossy())
            })
            .map(|link| link.display().to_string())
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(
            mounts
                .lines()
                .filter(|l| self.namespaces.iter().any(|n| l.contains(n)))
                .map(str::to_owned),
        );
        let processes = self.pids.iter().filter(|pid| runs(pid));
        found.extend(processes.map(|pid| format!("process {pid}")));
        found
    }

    #[track_caller]
    pub(crate) fn vanish(&self) {
        assert!(self.namespaces.len() >= 12, "two of each of six");
        eventually(LONG, "the lab is gone", || {
            let found = self.found();
            if !found.is_empty() {
                println!("still there: {found:?}");
            }
            found.is_empty()
        });
    }
}

fn tasks() -> impl Iterator<Item = std::path::PathBuf> {
    let numbered = |dir: std::path::PathBuf| {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
    };
    numbered("/proc".into())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok())
        })
        .flat_map(move |process| numbered(process.join("task")))
}

fn busy_lab() -> (Lab, Daemon) {
    let lab = Lab::new();
    let daemon = Daemon::start(lab.host.command("sleep").arg("1000000"));
    assert!(lab.docker.role_credentials_v1(IMDS).is_ok());
    (lab, daemon)
}

#[test]
fn nothing_is_left_when_it_is_dropped() {
    let (lab, daemon) = busy_lab();
    let traces = Traces::of(&lab, &[&daemon]);
    assert!(
        !traces.found().is_empty(),
        "the search finds a lab that lives"
    );
    drop(lab); // Before the daemon: the kernel ends it with the namespace.
    traces.vanish();
    drop(daemon);
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut traces = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (lab, daemon) = busy_lab();
        traces = Some(Traces::of(&lab, &[&daemon]));
        panic!("a test fails");
    }));
    assert!(result.is_err());
    traces.unwrap().vanish();
}

impl Traces {
    fn tell_and_wait(&self) {
        for name in &self.namespaces {
            println!("namespace {name}");
        }
        for pid in &self.pids {
            println!("pid {pid}");
        }
        println!("built");
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Set in the process that is to be killed.
const TO_BE_KILLED: &str = "LAB_TO_BE_KILLED";

/// Whether this process is the one that a test below kills.
fn is_to_be_killed() -> bool {
    std::env::var_os(TO_BE_KILLED).is_some()
}

/// Runs the test that asks, once more in a process of its own, and kills that in the middle of its
/// work: what it left, and its last cgroup.
fn kill_in_the_middle(test: &str) -> (Traces, Option<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut traces = Traces {
        namespaces: BTreeSet::new(),
        pids: vec![child.id()],
    };
    let mut cgroup = None;
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
    {
        match line.split_once(' ') {
            Some(("namespace", name)) => drop(traces.namespaces.insert(name.to_owned())),
            Some(("pid", pid)) => traces.pids.push(pid.parse().unwrap()),
            Some(("cgroup", name)) => cgroup = Some(name.to_owned()),
            _ if line == "built" => break,
            _ => {}
        }
    }
    assert!(
        !traces.found().is_empty(),
        "the search finds a lab that lives"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    (traces, cgroup)
}

#[test]
fn nothing_is_left_after_a_kill() {
    if is_to_be_killed() {
        let (lab, daemon) = busy_lab();
        return Traces::of(&lab, &[&daemon]).tell_and_wait();
    }
    let (traces, _) = kill_in_the_middle("leaves_nothing::nothing_is_left_after_a_kill");
    assert_eq!(traces.pids.len(), 2);
    traces.vanish();
}

#[test]
fn nothing_is_left_of_docker_after_a_kill() {
    let programs = Programs::get().unwrap();
    if is_to_be_killed() {
        let lab = Lab::builder().without_docker0().build();
        let docker = lab.start_docker(&programs);
        docker.container("one", "bridge");
        println!("cgroup {}", docker.cgroup());
        return docker_traces(&lab, &docker, "one").tell_and_wait();
    }
    let (traces, cgroup) =
        kill_in_the_middle("leaves_nothing::nothing_is_left_of_docker_after_a_kill");
    assert_eq!(traces.namespaces.len(), 15);
    traces.vanish();
    // But for empty cgroups, which the next one sweeps up: this one, or another test's.
    let cgroup = cgroup.unwrap();
    let lab = Lab::builder().without_docker0().build();
    drop(lab.start_docker(&programs));
    assert_eq!(cgroups_named(&cgroup), "");
}

pub(crate) fn cgroups_named(name: &str) -> String {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", name])
        .output();
    String::from_utf8_lossy(&found.unwrap().stdout).into_owned()
}

/// The lab's traces, and those of a Docker daemon and one of its containers.
pub(crate) fn docker_traces(lab: &Lab, docker: &Docker<'_>, container: &str) -> Traces {
    let mut traces = Traces::of(lab, &[]);
    let container = format!("/proc/{}/ns", docker.container_pid(container));
    for file in [
        "/proc/1/ns/mnt",
        &format!("{container}/mnt"),
        &format!("{container}/net"),
    ] {
        let identity = docker.beside("readlink").arg(file).run();
        assert!(
            traces.namespaces.insert(identity.trim().to_owned()),
            "{file}"
        );
    }
    traces
}
