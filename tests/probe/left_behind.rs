//! A probe leaves nothing, at whatever instant it is killed.
//!
//! `ECS_NETGUARD_KILLS` says how often; `make kill-test` does it 200 times.

use super::{BLOCK, NO_TASKS, probe};
use lab::Lab;
use lab::cgroup::{TaskSlice, unify};
use lab::daemon::Daemon;
use lab::wait::{LONG, eventually};

const KILLS: u64 = 12;

/// What there is on the host that a probe could leave.
fn all(lab: &Lab, slice: &TaskSlice) -> Vec<String> {
    let lines = lab.host.sh(
        "ip -br link | awk '{ print $1 }' | sort; ip netns list; bridge fdb | awk '{ print $3 }' | sort -u
         iptables-save -t filter | grep -v '^#'; nft -s list ruleset",
    );
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.extend(slice.within());
    lines
}

fn host() -> (Lab, TaskSlice) {
    let (lab, slice) = (Lab::new(), TaskSlice::new());
    unify(&lab.host);
    let name = &slice.name;
    lab.write("ecs.config", BLOCK);
    lab.write(
        "config.toml",
        format!("{NO_TASKS}host_tasks = true\nhost_tasks_cgroup = \"{name}\"\n"),
    );
    lab.netguard(["apply"]).run();
    (lab, slice)
}

#[test]
fn a_probe_that_ends_leaves_nothing() {
    let (lab, slice) = host();
    let before = all(&lab, &slice);
    assert_eq!(probe(&lab, &[]).code, 0);
    assert_eq!(
        all(&lab, &slice),
        before,
        "at the very moment when it has ended"
    );
}

#[test]
fn a_probe_that_is_killed_leaves_nothing() {
    let kills = std::env::var("ECS_NETGUARD_KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().unwrap());
    let (lab, slice) = host();
    let before = all(&lab, &slice);
    let began = std::time::Instant::now();
    assert_eq!(probe(&lab, &[]).code, 0);
    let whole = began.elapsed();
    for number in 0..kills {
        let mut probing = Daemon::start(lab.netguard(["probe"]));
        // Spread over all of its time, in an order that neighbours do not follow.
        let part = (number * 7 % kills) as u32;
        std::thread::sleep(whole * part / kills as u32);
        probing.kill();
        eventually(LONG, "nothing is left", || all(&lab, &slice) == before);
    }
    assert_eq!(probe(&lab, &[]).code, 0);
}

#[test]
fn what_was_left_by_two_kills_at_once_the_next_probe_removes() {
    let (lab, slice) = host();
    let before = all(&lab, &slice);
    slice.leave_behind("ecs-netguard-probe-1.scope");
    assert_ne!(all(&lab, &slice), before);
    assert_eq!(probe(&lab, &["--only", "tasks"]).code, 0);
    assert_eq!(all(&lab, &slice), before);
}
