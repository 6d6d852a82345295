//! The edge as the daemon keeps and reports it.

use serde_json::Value;

use super::*;
use lab::cgroup::{TaskSlice, unify};
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::task::Plan;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\n";

fn started(lab: &Lab) -> Daemon {
    let daemon = lab.start_daemon(BLOCK);
    eventually(LONG, "everything is held", || {
        status(lab)["state"] == "protected"
    });
    daemon
}

fn status(lab: &Lab) -> Value {
    let output = lab.netguard(["status", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn the_daemon_reports_it_and_what_it_stopped() {
    let lab = Lab::new();
    let _daemon = started(&lab);
    let edge = &status(&lab)["edge"];
    assert!(
        edge["state"].as_str().unwrap().starts_with("owned"),
        "{edge}"
    );
    assert_eq!(edge["interfaces"].as_array().unwrap().len(), 1, "{edge}");
    write_frames(&lab.host, "ens5", &mac(&lab.imds, "lan"));
    assert_eq!(lab.counter().arrived().total(), 0);
    eventually(LONG, "the packets are counted", || {
        let status = status(&lab);
        let guarantees = status["guarantees"].as_array().unwrap();
        let block = guarantees
            .iter()
            .find(|of| of["name"] == "imds-block")
            .unwrap();
        let counts = block["stopped"].as_array().unwrap();
        let at_the_edge = |count: &&Value| count["layer"] == "edge";
        counts
            .iter()
            .filter(at_the_edge)
            .all(|count| count["packets"].as_u64() > Some(90))
            && counts.iter().filter(at_the_edge).count() == 2
    });
    let output = lab.netguard(["check", "--json"]).output().unwrap();
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["edge"]["state"], edge["state"], "{checked}");
}

#[test]
fn with_every_visible_rule_flushed_again_and_again_nothing_leaves() {
    let lab = Lab::new();
    let unnamed = unnamed(&lab);
    let daemon = started(&lab);
    for _ in 0..5 {
        lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
        for ns in [&lab.docker, &unnamed] {
            drop(ns.udp_send(SocketAddr::new(IMDS, 80)));
            drop(ns.udp_send(SocketAddr::new(IMDS6, 80)));
        }
        write_frames(&lab.host, "ens5", &mac(&lab.imds, "lan"));
        assert_eq!(
            lab.counter().arrived().total(),
            0,
            "{:?}",
            lab.counter().arrived()
        );
    }
    assert!(lab.host.role_credentials_v2(IMDS).is_ok(), "the host's own");
    lab.counter().reset();
    // What the daemon leaves behind holds too.
    drop(daemon);
    drop(unnamed.udp_send(SocketAddr::new(IMDS, 80)));
    assert_eq!(lab.counter().arrived().total(), 0);
}

#[test]
fn packets_from_an_allowed_interface_pass_and_no_others() {
    let lab = Lab::new();
    let bridge = |name: &'static str, number: u8| {
        container(
            &lab,
            name,
            &format!(
                "ip link add {name}0 type bridge forward_delay 0; ip link set {name}0 up
                 ip addr add 172.31.{number}.1/24 dev {name}0
                 ip link add veth{number} type veth peer name eth0 netns NETNS
                 ip link set veth{number} master {name}0 up"
            ),
            &format!("172.31.{number}.2/24"),
            &format!("172.31.{number}.1"),
        )
    };
    let (proxy, other) = (bridge("proxy", 1), bridge("lxc", 2));
    lab.imds.sh("ip route add 172.31.0.0/16 via 10.0.0.10");
    lab.write("config.toml", "[edge]\nallow = [\"proxy+\"]\n");
    let all_is_so = |what: &str| {
        assert!(proxy.role_credentials_v1(IMDS).is_ok(), "{what}");
        lab.counter().reset();
        for ns in [&other, &lab.docker] {
            drop(ns.udp_send(SocketAddr::new(IMDS, 80)));
        }
        let arrived = lab.counter().arrived();
        assert_eq!(arrived.total(), 0, "{what}: {arrived:?}");
        assert!(lab.host.role_credentials_v1(IMDS).is_ok(), "{what}");
    };
    let daemon = started(&lab);
    all_is_so("the daemon runs");
    assert_eq!(lab.netguard(["check"]).status().unwrap().code(), Some(0));
    let marks = || lab.host.sh("nft -s list chain inet ecs_netguard forward");
    let before = marks();
    drop(daemon);
    all_is_so("it was killed");
    let _daemon = started(&lab);
    all_is_so("it runs again");
    assert_eq!(marks(), before, "what is marked is marked as before");
    lab.write("config.toml", "# the defaults\n");
    eventually(LONG, "the proxy is no exception any more", || {
        proxy.role_credentials_v1(IMDS).is_err()
    });
}

#[test]
fn a_new_or_renamed_interface_gets_its_chain_from_the_sentinel() {
    let lab = Lab::new();
    let _daemon = started(&lab);
    for script in [
        "ip link add spare type veth peer name other",
        "ip link set spare name fresh",
        "ip link set fresh master ecs-bridge",
    ] {
        lab.host.sh(script);
        eventually(LONG, script, || look(&lab).state.is_owned());
    }
    assert_eq!(look(&lab).interfaces.len(), 3);
    eventually(LONG, "it is reported", || {
        let reported = status(&lab)["edge"].clone();
        reported["interfaces"]
            .as_array()
            .is_some_and(|names| names.len() == 3)
            && reported["state"]
                .as_str()
                .is_some_and(|state| state.starts_with("owned"))
    });
    assert_eq!(status(&lab)["state"], "protected");
}

#[test]
fn a_twin_that_another_program_removed_is_drift_and_repaired() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let command = lab.netguard(["run", "--kernel-lacking", "persist"]);
    let _daemon = Daemon::start(command);
    eventually(LONG, "the edge stands", || {
        status(&lab)["edge"]["state"] == "owned"
    });
    lab.host.sh("nft delete table netdev ecs_netguard_twin");
    eventually(LONG, "the twin is back", || !look(&lab).twinless);
    eventually(LONG, "it is reported, with the program", || {
        let drifts = status(&lab)["recent_drifts"].clone();
        let mut drifts = drifts.as_array().into_iter().flatten();
        drifts.any(|drift| {
            drift["objects"][0] == "nftables netdev ecs_netguard_twin"
                && drift["by"]["comm"] == "nft"
        })
    });
}

#[test]
fn a_kernel_without_an_egress_hook_is_named() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let command = lab.netguard(["run", "--kernel-lacking", "owner"]);
    let _daemon = Daemon::start(command);
    eventually(LONG, "the first pass ends", || {
        status(&lab)["state"] == "protected"
    });
    let edge = &status(&lab)["edge"];
    assert_eq!(edge["state"], "missing");
    let explanation = edge["explanation"].as_str().unwrap();
    assert!(explanation.contains("Linux 5.16"), "{explanation}");
}

#[test]
fn release_and_a_switch_remove_it() {
    let lab = Lab::new();
    let daemon = started(&lab);
    assert!(
        lab.host
            .sh("nft list ruleset")
            .contains("table netdev ecs_netguard")
    );
    lab.write("config.toml", "[edge]\nenabled = false\n");
    eventually(LONG, "it is switched off", || {
        !lab.host.sh("nft list ruleset").contains("table netdev")
    });
    lab.write("config.toml", "# the defaults\n");
    eventually(LONG, "it is back", || look(&lab).state.is_owned());
    drop(daemon);
    let released = lab.netguard(["release"]).run();
    assert!(
        released.contains("nftables table netdev ecs_netguard"),
        "{released}"
    );
    assert!(!lab.host.sh("nft list ruleset").contains("netdev"));
}

#[test]
fn where_only_tasks_of_the_host_are_blocked_raw_frames_end_and_containers_pass() {
    let lab = Lab::new();
    unify(&lab.host);
    let slice = TaskSlice::new();
    let settings = format!(
        "[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{}\"\n",
        slice.name
    );
    lab.write("config.toml", settings);
    let _daemon = lab.start_daemon("");
    eventually(LONG, "the edge stands", || {
        status(&lab)["edge"]["state"]
            .as_str()
            .is_some_and(|state| state.starts_with("owned"))
    });
    write_frames(&lab.host, "ens5", &mac(&lab.imds, "lan"));
    let arrived = lab.counter().arrived();
    assert_eq!(arrived.total(), 0, "{arrived:?}");
    assert!(lab.docker.role_credentials_v1(IMDS).is_ok());
    let _task = slice.sleeper(&lab.host, "");
    let report = lab.netguard(["check", "--json"]).output().unwrap().stdout;
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["tasks"][0]["frames_stopped"], true, "{report}");
    assert_eq!(report["state"], "imds-open", "{report}");
}

#[test]
fn an_awsvpc_tasks_raw_frames_end_in_its_own_namespace() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let task = lab.task(Plan::default());
    let uplink = mac(&lab.imds, "lan");
    assert!(write_frames(&task.ns, "eth0", &uplink).0 > 0);
    eventually(LONG, "without the guard they arrive", || {
        lab.counter().arrived().total() > 100
    });
    let _daemon = started(&lab);
    lab.counter().reset();
    assert_eq!(write_frames(&task.ns, "eth0", &uplink).0, 0);
    for service in [IMDS, IMDS6] {
        drop(task.ns.udp_send(SocketAddr::new(service, 80)));
    }
    assert_eq!(lab.counter().arrived().total(), 0);
    // A table of that name that drops nothing is altered, and repaired.
    task.ns
        .sh("nft delete table netdev ecs_netguard; nft add table netdev ecs_netguard");
    eventually(LONG, "it is repaired", || {
        task.ns.sh("nft list ruleset").contains("hook egress")
    });
    assert_eq!(write_frames(&task.ns, "eth0", &uplink).0, 0);
    task.ns.sh("ip link add more type veth peer name end");
    eventually(LONG, "a new interface gets its chain", || {
        task.ns.sh("nft list ruleset").contains("\"more\"")
    });
}

#[test]
fn a_task_that_can_write_raw_frames_is_a_way_through_where_nothing_stops_them() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.write("config.toml", "[imds]\nawsvpc = \"audit\"\n");
    let _task = lab.task(Plan::default());
    let check = || {
        let output = lab.netguard(["check", "--json"]).output().unwrap();
        let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
        let guarantees = checked["guarantees"].as_array().unwrap();
        let of = guarantees
            .iter()
            .find(|of| of["name"] == "awsvpc-imds-block")
            .unwrap();
        of["problems"].to_string()
    };
    assert!(
        check().contains("it can write raw frames (CAP_NET_RAW)"),
        "{}",
        check()
    );
    lab.write(
        "config.toml",
        "[imds]\nawsvpc = \"audit\"\n[edge]\nraw_frames = \"accept\"\n",
    );
    assert!(!check().contains("raw frames"), "{}", check());
}

#[test]
fn a_bridge_that_nothing_covers_is_counted_and_the_edge_covers_it() {
    let lab = Lab::new();
    lab.host.sh("ip link add lxc0 type bridge");
    lab.write("config.toml", "[edge]\nenabled = false\n");
    let mut daemon = started(&lab);
    let counted = || {
        let metrics = lab.get("/metrics").body;
        let name = "ecs_netguard_uncovered_interfaces{layer=\"visible\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::to_owned)
    };
    assert_eq!(status(&lab)["uncovered"], serde_json::json!(["lxc0"]));
    assert_eq!(counted().as_deref(), Some("1"));
    daemon.terminate();
    // An empty file would keep the settings of the last good one.
    lab.write("config.toml", "# the defaults\n");
    let _daemon = started(&lab);
    assert_eq!(status(&lab)["uncovered"], Value::Null);
    assert_eq!(counted().as_deref(), Some("0"));
}
