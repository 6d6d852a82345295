//! The power to go into namespaces is the child's alone.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_BROADCAST.
const POWER: u64 = 1 << 21 | 1 << 19 | 1 << 11;
const CAP_NET_ADMIN: u64 = 1 << 12;

/// A line of a process's status, as a number.
fn status(pid: i32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

#[test]
fn the_daemon_has_none_of_that_power_and_the_child_no_other() {
    let lab = Lab::new();
    let daemon = daemon(&lab);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(daemon.pid().as_raw(), set) & POWER, 0, "{set}");
    }
    let keeper = keeper(&daemon);
    assert_eq!(status(keeper, "CapEff"), POWER | CAP_NET_ADMIN);
    assert_eq!(status(keeper, "CapPrm"), POWER | CAP_NET_ADMIN);
    assert_eq!(status(keeper, "CapInh"), 0);
    assert_eq!(status(keeper, "NoNewPrivs"), 1);
    // SECCOMP_MODE_FILTER; what the filter does is tested beside it.
    assert_eq!(status(keeper, "Seccomp"), 2);
}

#[test]
fn without_the_child_the_daemon_ends_and_without_the_daemon_the_child() {
    let lab = Lab::new();
    let mut first = daemon(&lab);
    let child = keeper(&first);
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    let exit = first.wait(LONG);
    assert!(!exit.success(), "{exit}");
    assert!(
        first.log().contains("ended unexpectedly"),
        "{}",
        first.log()
    );

    let mut second = daemon(&lab);
    let child = keeper(&second);
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    assert!(
        second.terminate().success(),
        "systemd's SIGTERM goes to both: {}",
        second.log()
    );
    let gone = || !Path::new(&format!("/proc/{child}")).exists();
    eventually(LONG, "the child is gone", gone);
}

#[test]
fn never_means_no_child_and_no_power() {
    let lab = Lab::new();
    lab.write("config.toml", "[imds]\nawsvpc = \"never\"\n");
    let daemon = daemon(&lab);
    let path = format!("/proc/{0}/task/{0}/children", daemon.pid());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "");
    assert_eq!(status(daemon.pid().as_raw(), "CapBnd") & POWER, 0);
    lab.write("config.toml", "# the defaults\n");
    daemon.wait_for_log("systemctl restart ecs-netguard", LONG);
}
