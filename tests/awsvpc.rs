//! Tasks with a network interface of their own: found, judged, and kept from the metadata service in
//! their own network namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support, as in #[test] functions"
)]

#[path = "awsvpc/apart.rs"]
mod apart;
#[path = "awsvpc/attacks.rs"]
mod attacks;
#[path = "awsvpc/found.rs"]
mod found;
#[path = "awsvpc/labels.rs"]
mod labels;
#[path = "awsvpc/managed.rs"]
mod managed;

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::task::Task;
use lab::wait::{LONG, eventually, within};
use serde_json::Value;

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=false\n";

/// Cgroups are the machine's, and a process in one of a task's is taken for a task by every daemon:
/// tests that make them run one after the other.
static CGROUPS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    CGROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by tests that make hundreds of tasks or thousands of interfaces: the kernel has one lock for the
/// interfaces of all namespaces, and each of these tests would wait for another's.
static INTERFACES: Mutex<()> = Mutex::new(());

fn with_many_interfaces() -> MutexGuard<'static, ()> {
    INTERFACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the daemon and waits for its first proof.
fn daemon(lab: &Lab) -> Daemon {
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    daemon
}

/// What a command that prints JSON says, and its exit code.
fn json(lab: &Lab, command: &str) -> (Value, i32) {
    let output = lab.netguard([command, "--json"]).output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        let error = String::from_utf8_lossy(&output.stderr);
        panic!("{command}: {e}: {error}")
    });
    (value, output.status.code().unwrap())
}

fn inode(task: &Task) -> u64 {
    std::fs::metadata(task.ns.netns()).unwrap().ino()
}

/// The task in the answer of `check` or `status`.
fn listed(value: &Value, task: &Task) -> Option<Value> {
    let tasks = value["tasks"].as_array().unwrap();
    let of = tasks.iter().find(|found| found["netns"] == inode(task));
    of.cloned()
}

/// Waits until the daemon holds the block in the task's namespace.
fn wait_until_held(lab: &Lab, task: &Task) -> Value {
    eventually(LONG, "the task is held", || {
        listed(&json(lab, "status").0, task).filter(|found| found["standing"] == "held")
    })
}

/// Everything about a namespace's network that the guard could have changed.
fn everything(ns: &lab::namespace::Namespace) -> String {
    ns.sh(
        "ip -N route show table all; ip -N -6 route show table all; ip -N rule; ip -N -6 rule
        ip -br link; ip -br addr; nft list ruleset; sysctl -a 2>/dev/null | grep '^net\\.ip' |
            grep -v -e 'addr_gen' -e 'random' -e 'secret' -e 'fib_' | sort",
    )
}

/// The process below the daemon that goes into tasks' namespaces.
fn worker(daemon: &Daemon) -> i32 {
    child(supervisor(daemon), "enter-tasks")
}

/// The one between, which starts it again.
fn supervisor(daemon: &Daemon) -> i32 {
    child(daemon.pid().as_raw(), "keep-tasks")
}

/// The child with this in its command line.
fn child(of: i32, word: &str) -> i32 {
    let find = || {
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
        let is_it = |pid: &&str| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains(word)
        };
        children.split_whitespace().find(is_it)?.parse().ok()
    };
    eventually(LONG, "the child runs", find)
}
