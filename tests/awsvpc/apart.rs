//! The power to go into namespaces is the child's alone.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use lab::daemon::runs;
use lab::imds::IMDS;
use lab::task::Plan;

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
    let worker = worker(&daemon);
    for process in [supervisor(&daemon), worker] {
        assert_eq!(status(process, "CapEff"), POWER | CAP_NET_ADMIN);
        assert_eq!(status(process, "CapPrm"), POWER | CAP_NET_ADMIN);
        assert_eq!(status(process, "CapInh"), 0);
    }
    assert_eq!(status(worker, "NoNewPrivs"), 1);
    // SECCOMP_MODE_FILTER; what the filter does is tested beside it.
    assert_eq!(status(worker, "Seccomp"), 2);
}

fn end(process: i32) {
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    wait_gone(process);
}

fn wait_gone(process: i32) {
    eventually(LONG, "the process is gone", || !runs(process));
}

#[test]
fn without_the_supervisor_the_daemon_ends_and_without_the_daemon_both() {
    let lab = Lab::new();
    let mut first = daemon(&lab);
    end(supervisor(&first));
    let exit = first.wait(LONG);
    assert!(!exit.success(), "{exit}");
    assert!(
        first.log().contains("ended unexpectedly"),
        "{}",
        first.log()
    );

    let mut second = daemon(&lab);
    let processes = [supervisor(&second), worker(&second)];
    for process in processes {
        kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
    }
    assert!(
        second.terminate().success(),
        "systemd's SIGTERM goes to all: {}",
        second.log()
    );
    processes.into_iter().for_each(wait_gone);
}

#[test]
fn a_worker_that_ends_is_started_again_and_a_task_over_which_it_ends_is_left_alone() {
    let lab = Lab::new();
    let mut daemon = daemon(&lab);
    let (good, bad) = (lab.task(Plan::default()), lab.task(Plan::default()));
    wait_until_held(&lab, &good);
    wait_until_held(&lab, &bad);
    // Nothing here ends it, so that it is done by hand; what it has in hand it notes at its standard output.
    let end_over = |netns: u64| {
        let worker = worker(&daemon);
        let note = format!("/proc/{worker}/fd/1");
        kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
        // On another processor it may go on for a moment, and write over the note.
        let stat = format!("/proc/{worker}/stat");
        let stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
        eventually(LONG, "the worker has stopped", stopped);
        std::fs::write(note, netns.to_ne_bytes()).unwrap();
        end(worker);
    };
    let inode = std::fs::metadata(bad.ns.netns()).unwrap().ino();
    end_over(0);
    daemon.wait_for_log("ended (signal: 9 (SIGKILL)) and was started again", LONG);
    for _ in 0..3 {
        end_over(inode);
    }
    eventually(LONG, "the verdict is not known", || {
        let (status, _) = json(&lab, "status");
        let text = status.to_string();
        (text.contains("ended over it again and again")
            && status["guarantees"]
                .as_array()
                .unwrap()
                .iter()
                .any(|of| of["name"] == "awsvpc-imds-block" && of["standing"] == "undecided"))
        .then_some(())
    });
    let metrics = lab.get("/metrics").body;
    let unknown = "\necs_netguard_tasks_unknown 1\n";
    assert!(metrics.contains(unknown), "{metrics}");
    // One that is killed before it has said how the one before it ended is not counted.
    let never = "\necs_netguard_worker_restarts_total 0\n";
    assert!(!metrics.contains(never), "{metrics}");
    let said = format!("while it looked into the network namespace {inode}");
    assert!(daemon.log().contains(&said), "{}", daemon.log());
    // The other task is guarded as ever, and the one left alone has what it had.
    wait_until_held(&lab, &good);
    good.ns.sh("nft flush ruleset");
    daemon.wait_for_log("missing in the network namespace of task", LONG);
    assert!(good.ns.role_credentials_v1(IMDS).is_err());
    assert!(bad.ns.role_credentials_v1(IMDS).is_err());
    assert!(daemon.is_running());
    good.stop(&lab.host);
    bad.stop(&lab.host);
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
