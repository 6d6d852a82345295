//! Probes from within awsvpc tasks, and from the cgroup of tasks on the host's network.

use super::{BLOCK, NO_TASKS, connections, packets, probe, probe_and_compare};
use lab::Lab;
use lab::cgroup::{TaskSlice, unify};
use lab::task::Plan;

/// A task that cannot write frames.
fn without_net_raw() -> Plan {
    Plan {
        setpriv: ["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]
            .map(str::to_owned)
            .to_vec(),
        ..Plan::default()
    }
}

#[test]
fn a_task_is_probed_from_its_own_address() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let task = lab.task(without_net_raw());
    // The agent's blackholes alone: a socket that names its interface gets past them.
    let probed = probe_and_compare(&lab);
    assert_eq!(probed.code, 1, "{probed}");
    let id = probed.place("task", "")["from"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let bound = probed.seen("task", &id, |what| what == "tcp-bound");
    assert_eq!(bound, ["answered"], "{probed}");
    let others = probed.seen("task", &id, |what| packets(what) && what != "tcp-bound");
    assert_eq!(others, ["stopped by route"], "{probed}");

    lab.netguard(["apply"]).run();
    let probed = probe_and_compare(&lab);
    assert_eq!(probed.code, 0, "{probed}");
    let bound = probed.seen("task", &id, |what| what == "tcp-bound");
    assert_eq!(bound, ["stopped by seal"], "{probed}");
    assert_eq!(
        probed.seen("task", &id, connections),
        ["answered"],
        "{probed}"
    );
    task.stop(&lab.host);
}

#[test]
fn of_frames_of_a_task_it_says_what_arrives() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let task = lab.task(Plan::default());
    lab.netguard(["apply"]).run();
    lab.counter().reset();
    let probed = probe(&lab, &[]);
    probed.is_what_arrived(&lab);
    let id = probed.place("task", "")["from"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows = probed.place("task", &id)["rows"]
        .as_array()
        .unwrap()
        .clone();
    let frames = rows
        .iter()
        .filter(|row| row["what"].as_str().unwrap().starts_with("frame"));
    assert_eq!(frames.count(), 8, "{probed}");
    let others = probed.seen("task", &id, |what| {
        packets(what) && !what.starts_with("frame")
    });
    assert!(
        others.iter().all(|seen| seen.starts_with("stopped by ")),
        "{others:?}"
    );
    task.stop(&lab.host);
}

#[test]
fn tasks_on_the_hosts_network_are_probed_from_a_cgroup_that_goes_again() {
    let (lab, slice) = (Lab::new(), TaskSlice::new());
    unify(&lab.host);
    let name = &slice.name;
    lab.write("ecs.config", BLOCK);
    lab.write(
        "config.toml",
        format!("{NO_TASKS}host_tasks = true\nhost_tasks_cgroup = \"{name}\"\n"),
    );
    let probed = probe_and_compare(&lab);
    assert_eq!(probed.code, 1, "{probed}");
    assert_eq!(
        probed.seen("host-tasks", "", packets),
        ["answered"],
        "{probed}"
    );

    lab.netguard(["apply"]).run();
    let probed = probe_and_compare(&lab);
    assert_eq!(probed.code, 0, "{probed}");
    assert_eq!(
        probed.seen("host-tasks", "", packets),
        ["stopped by seal"],
        "{probed}"
    );
    assert_eq!(
        probed.seen("host-tasks", "", connections),
        ["answered"],
        "{probed}"
    );
    assert_eq!(probed.seen("host", "", packets), ["answered"], "{probed}");
    // Only an empty slice can be removed: nothing is in it any more.
    slice.remove();
    let probed = probe(&lab, &["--only", "tasks"]);
    assert!(
        probed.list("notes")[0]
            .as_str()
            .unwrap()
            .contains("host tasks were not probed")
    );
}
