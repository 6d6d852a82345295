//! Tasks on the host's own network: kept from the metadata service by their cgroup, while the ECS agent
//! and the host's own programs reach it.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use std::time::Duration;

use lab::cgroup::{ClassedTasks, MOUNT, TaskSlice, asks, bash, sends};
use lab::daemon::Daemon;
use lab::imds::{IMDS, IMDS6, ROLE};
use lab::tamper::Backend;
use lab::wait::{eventually, within};
use lab::{HOST, Lab};

const SOON: Duration = Duration::from_secs(20);
const UNSEALED: &str = "[seal]\nenabled = false\n";
const LEGACY: &str = "[iptables]\nbackend = \"legacy\"\n";
const HELD: &str = "host-imds-block is held";

/// config.toml for a slice, with what stands after it.
fn settings(slice: &TaskSlice, more: &str) -> String {
    let name = &slice.name;
    format!("[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{name}\"\n{more}")
}

fn guarded(slice: &TaskSlice, more: &str) -> (Lab, Daemon) {
    let lab = Lab::new();
    lab.write("config.toml", settings(slice, more));
    let daemon = lab.start_daemon("");
    (lab, daemon)
}

/// Nothing that a task sends gets there, on any protocol; the agent is answered.
#[track_caller]
fn tasks_are_blocked_and_the_agent_is_not(lab: &Lab, slice: &TaskSlice, what: &str) {
    lab.counter().reset();
    for imds in [IMDS, IMDS6] {
        assert_eq!(slice.run(&lab.host, &asks(imds)), None, "{what}: {imds}");
        slice.run(&lab.host, &sends(imds));
    }
    let arrived = lab.counter().arrived();
    assert_eq!(arrived.total(), 0, "{what}: {arrived:?}");
    for imds in [IMDS, IMDS6] {
        let answer = bash(&lab.host, &asks(imds));
        assert!(
            answer.is_some_and(|text| text.ends_with(ROLE)),
            "{what}: the agent asks {imds}"
        );
    }
    assert!(lab.counter().arrived().from(HOST) > 0);
}

/// Exit code and text of `check`.
fn check(lab: &Lab) -> (i32, String) {
    let output = lab.netguard(["check"]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// The guard's rules in OUTPUT of filter, IPv4 and IPv6.
fn visible(lab: &Lab, backend: Backend) -> Vec<String> {
    let list = |tool: String| lab.host.sh(&format!("{tool} -S OUTPUT"));
    let both = list(backend.iptables()) + &list(backend.ip6tables());
    let rules = both
        .lines()
        .filter(|line| line.contains("ecs-netguard: host-imds-block"));
    rules.map(str::to_owned).collect()
}

/// Whether both rules are for the slice as it is now.
fn up_to_date(lab: &Lab, slice: &TaskSlice, backend: Backend) -> bool {
    let noted = slice.id().map(|id| format!("(cgroup {id})"));
    let rules = visible(lab, backend);
    let of_now = |rule: &String| noted.as_ref().is_some_and(|noted| rule.contains(noted));
    rules.len() == 2 && rules.iter().all(of_now)
}

#[test]
fn without_the_guard_a_task_reaches_it() {
    let (lab, slice) = (Lab::new(), TaskSlice::new());
    for imds in [IMDS, IMDS6] {
        let answer = slice.run(&lab.host, &asks(imds)).unwrap();
        assert!(answer.ends_with(ROLE), "{answer}");
        slice.run(&lab.host, &sends(imds));
    }
    let arrived = lab.counter().arrived();
    assert!(arrived.from(HOST) > 0 && arrived.v6() > 0, "{arrived:?}");
    assert!(arrived.proto(17) >= 2, "{arrived:?}");
}

#[test]
fn tasks_are_blocked_by_either_layer_alone_and_the_agent_is_not() {
    for (more, visible_rules) in [
        ("", 2),
        // iptables-legacy is spared such rules where the seal has them.
        (LEGACY, 0),
        (UNSEALED, 2),
        (&format!("{LEGACY}{UNSEALED}"), 2),
    ] {
        let slice = TaskSlice::new();
        let (lab, daemon) = guarded(&slice, more);
        daemon.wait_for_log(HELD, SOON);
        let backend = if more.contains(LEGACY) {
            Backend::Legacy
        } else {
            Backend::Nft
        };
        assert_eq!(visible(&lab, backend).len(), visible_rules, "{more}");
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        let (code, text) = check(&lab);
        assert_eq!(code, 0, "{more}: {text}");
        // The seal drops what the visible rules would have dropped.
        let sealed = !more.contains(UNSEALED);
        let counted = visible_rules == 2 && backend == Backend::Nft;
        let expected = [(counted, counted && !sealed), (sealed, sealed)];
        // What `status` tells is up to a second old.
        let mut last = Vec::new();
        let told = within(SOON, || {
            last = ["visible", "sealed"]
                .map(|layer| stopped(&lab, layer))
                .to_vec();
            last.iter().zip(expected).all(|(packets, (told, sees))| {
                packets.len() == if told { 2 } else { 0 }
                    && packets.iter().all(|packets| (*packets > 0) == sees)
            })
        });
        assert!(told.is_some(), "{more}: visible and sealed: {last:?}");
    }
}

/// How many packets of tasks a layer stopped, by family, as `status` tells.
fn stopped(lab: &Lab, layer: &str) -> Vec<u64> {
    let text = lab.netguard(["status", "--json"]).run();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut guarantees = status["guarantees"].as_array().unwrap().iter();
    let block = guarantees.find(|entry| entry["name"] == "host-imds-block");
    let counted = block.unwrap()["stopped"].as_array().into_iter().flatten();
    counted
        .filter(|entry| entry["layer"] == layer && entry["interface"] == "host tasks")
        .map(|entry| entry["packets"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_slice_that_comes_and_goes_is_covered_each_time() {
    for (more, times) in [("", 100), (UNSEALED, 20)] {
        let slice = TaskSlice::new();
        let (lab, daemon) = guarded(&slice, more);
        daemon.wait_for_log(HELD, SOON);
        let mut ids = vec![slice.id()];
        for _ in 0..times {
            slice.remove();
            slice.make();
            eventually(SOON, "the rules are for the new slice", || {
                up_to_date(&lab, &slice, Backend::Nft)
            });
            for imds in [IMDS, IMDS6] {
                slice.run(&lab.host, &sends(imds));
            }
            ids.push(slice.id());
        }
        let arrived = lab.counter().arrived();
        assert_eq!(arrived.total(), 0, "{more}: {arrived:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), times + 1, "each was another cgroup");
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        let (code, text) = check(&lab);
        assert_eq!((code, text.contains("dead rule")), (0, false), "{text}");
    }
}

#[test]
fn a_dead_match_is_called_so_while_no_daemon_runs() {
    for more in ["", UNSEALED] {
        let slice = TaskSlice::new();
        let (lab, mut daemon) = guarded(&slice, more);
        daemon.wait_for_log(HELD, SOON);
        daemon.terminate();
        assert_eq!(check(&lab).0, 0);
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        slice.remove();
        slice.make();
        assert_eq!(visible(&lab, Backend::Nft).len(), 2, "it looks alive");
        let answer = slice.run(&lab.host, &asks(IMDS));
        assert!(answer.is_some(), "{more}: and matches nobody");
        let (code, text) = check(&lab);
        assert_eq!(code, 1, "{more}: {text}");
        for words in ["dead rule: the cgroup", "host-imds-block       VIOLATED"] {
            assert!(text.contains(words), "{more}: {words}: {text}");
        }
        assert_eq!(text.contains("match no process"), more.is_empty(), "{text}");
        let walk = lab
            .netguard([
                "explain",
                "--dst",
                "169.254.169.254",
                "--cgroup",
                &slice.name,
            ])
            .output()
            .unwrap();
        let walk = String::from_utf8_lossy(&walk.stdout).into_owned();
        assert!(walk.contains("no       -d 169.254.169.254/32"), "{walk}");
        assert!(walk.contains("(dead: its cgroup was deleted"), "{walk}");
        // A daemon that starts mends it.
        let _daemon = lab.start_daemon("");
        eventually(SOON, "the rules are for the new slice", || {
            up_to_date(&lab, &slice, Backend::Nft)
        });
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        // No rule is left over for a slice that is gone.
        slice.remove();
        eventually(SOON, "the rules are gone", || {
            visible(&lab, Backend::Nft).is_empty()
        });
        let (code, text) = check(&lab);
        assert_eq!(code, 3, "version 2 stands beside version 1 here: {text}");
    }
}

#[test]
fn what_is_flushed_comes_back_alive() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, UNSEALED);
    daemon.wait_for_log(HELD, SOON);
    for command in [
        "iptables-nft -F OUTPUT; ip6tables-nft -F OUTPUT",
        "nft flush ruleset",
    ] {
        lab.host.sh(command);
        eventually(SOON, command, || up_to_date(&lab, &slice, Backend::Nft));
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, command);
    }
    let log = daemon.wait_for_log("put right in", SOON);
    assert!(log.contains("host-imds-block"), "{log}");
}

#[test]
fn iptables_legacy_works_for_others_once_the_slice_is_gone() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, &format!("{LEGACY}{UNSEALED}"));
    daemon.wait_for_log(HELD, SOON);
    slice.remove();
    // Until the rule is out the kernel refuses every change of the table.
    eventually(SOON, "another program changes a rule", || {
        let command =
            "iptables-legacy -w -A INPUT -j ACCEPT && ip6tables-legacy -w -A INPUT -j ACCEPT";
        lab.host.try_run(command).is_ok()
    });
    assert_eq!(visible(&lab, Backend::Legacy), Vec::<String>::new());
}

#[test]
fn without_cgroups_for_tasks_it_is_undecided_and_says_why() {
    let slice = TaskSlice::new();
    let lab = Lab::new();
    lab.write("config.toml", settings(&slice, ""));
    lab.write("ecs.config", "ECS_ENABLE_TASK_CPU_MEM_LIMIT=false\n");
    let applied = lab.netguard(["apply"]).status().unwrap();
    assert_eq!(applied.code(), Some(3));
    let (code, text) = check(&lab);
    assert_eq!(code, 3, "{text}");
    for words in [
        "host-imds-block       undecided",
        "ECS_ENABLE_TASK_CPU_MEM_LIMIT=false",
        "makes no cgroups for tasks",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn beside_version_1_a_slice_that_is_not_there_tells_nobody_apart() {
    let slice = TaskSlice::named();
    let lab = Lab::new();
    lab.host.sh(&format!(
        "mkdir /run/cgroup2; mount -t cgroup2 none /run/cgroup2; umount -l -R {MOUNT}; \
         mkdir /run/v1; mount --bind /run/v1 {MOUNT}; mkdir -p {MOUNT}/memory/ecs"
    ));
    lab.write("config.toml", settings(&slice, ""));
    let applied = lab.netguard(["apply"]).status().unwrap();
    assert_eq!(applied.code(), Some(3));
    let (code, text) = check(&lab);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("cgroups are of version 1 on this host"),
        "{text}"
    );
    assert!(text.contains("(/sys/fs/cgroup/memory/ecs)"), "{text}");
    lab.host.sh("umount /run/cgroup2");
    let (code, text) = check(&lab);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("this host has no cgroup hierarchy, neither"),
        "{text}"
    );
}

#[test]
fn where_all_is_version_2_no_slice_is_nothing_to_stop() {
    let slice = TaskSlice::named();
    let lab = Lab::new();
    lab.host.sh(&format!("mount -t cgroup2 none {MOUNT}"));
    lab.write("config.toml", settings(&slice, ""));
    let daemon = lab.start_daemon("");
    daemon.wait_for_log(HELD, SOON);
    let (code, text) = check(&lab);
    assert_eq!(code, 0, "{text}");
    let note = format!("there is no cgroup {} now", slice.name);
    assert!(text.contains(&note), "{text}");
    slice.make();
    eventually(SOON, "the rules are for the slice", || {
        up_to_date(&lab, &slice, Backend::Nft)
    });
    // The script goes by the machine's mount, which the lab's hides.
    lab.host.sh(&format!("umount {MOUNT}"));
    tasks_are_blocked_and_the_agent_is_not(&lab, &slice, "version 2");
}

#[test]
fn when_it_is_turned_off_the_rules_go() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, "");
    daemon.wait_for_log(HELD, SOON);
    lab.write("config.toml", "");
    eventually(SOON, "the rules are gone", || {
        visible(&lab, Backend::Nft).is_empty()
    });
    assert!(slice.run(&lab.host, &asks(IMDS)).is_some());
    let text = check(&lab).1;
    assert!(
        text.contains("host-imds-block       not required"),
        "{text}"
    );
}

#[test]
fn a_task_on_the_hosts_network_is_listed_with_its_id_and_what_it_can_do() {
    let slice = TaskSlice::new();
    let lab = Lab::new();
    lab.write("config.toml", settings(&slice, ""));
    lab.netguard(["apply"]).output().unwrap();
    let tasks = || {
        let output = lab.netguard(["check", "--json"]).output().unwrap();
        let turn: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        turn["tasks"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(tasks(), Vec::<serde_json::Value>::new(), "nobody runs");
    let elsewhere = slice.sleeper(&lab.host, "unshare -n");
    assert_eq!(
        tasks(),
        Vec::<serde_json::Value>::new(),
        "a network of its own"
    );
    drop(elsewhere);
    let plain = "setpriv --bounding-set=-all --inh-caps=-all";
    let here = slice.sleeper(&lab.host, plain);
    let expected = serde_json::json!([{"id": "0f", "mode": "host", "standing": "held"}]);
    assert_eq!(serde_json::Value::from(tasks()), expected);
    let raw = slice.sleeper(&lab.host, "setpriv --bounding-set=-all,+net_raw");
    assert_eq!(tasks()[0]["powers"], serde_json::json!(["net-raw"]));
    let text = check(&lab).1;
    assert!(text.contains("Tasks\n  0f"), "{text}");
    // The daemon sees as much with the few rights it has.
    let daemon = lab.start_daemon("");
    daemon.wait_for_log(HELD, SOON);
    let status = lab.netguard(["status", "--json"]).run();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tasks"][0]["id"], "0f");
    assert_eq!(status["tasks"][0]["mode"], "host");
    // Nobody tells the daemon of a task that ends; who asks is told what runs then.
    drop((here, raw));
    eventually(SOON, "it is listed no more", || {
        let status = lab.netguard(["status", "--json"]).run();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["tasks"].as_array().is_none_or(Vec::is_empty)
    });
}

#[test]
fn where_cgroups_are_of_version_1_tasks_are_known_by_their_class() {
    const CLASS: &str = "247797396";
    let controllers = std::fs::read_to_string("/proc/cgroups").unwrap();
    let net_cls = |line: &str| line.starts_with("net_cls") && line.ends_with("\t1");
    if !controllers.lines().any(net_cls) {
        println!("nothing to test: this kernel has no net_cls");
        return;
    }
    for more in ["", LEGACY, UNSEALED] {
        let lab = Lab::new();
        let tasks = ClassedTasks::new(&lab.host);
        assert!(tasks.run("0f/c1", &asks(IMDS)).is_some(), "nobody guards");
        let name = &tasks.name;
        let every = "[verify]\ninterval = \"1s\"\n";
        let settings = format!("[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{name}\"\n");
        lab.write("config.toml", format!("{settings}{every}{more}"));
        let daemon = lab.start_daemon("");
        daemon.wait_for_log(HELD, SOON);
        let blocked = |below: &str| {
            lab.counter().reset();
            for imds in [IMDS, IMDS6] {
                tasks.run(below, &sends(imds));
            }
            assert_eq!(lab.counter().arrived().total(), 0, "{more}: {below}");
            assert!(bash(&lab.host, &asks(IMDS6)).is_some(), "{more}: the agent");
        };
        assert_eq!(tasks.run("0f/c1", &asks(IMDS)), None, "{more}");
        blocked("0f/c1");
        let (code, text) = check(&lab);
        assert_eq!(code, 0, "{more}: {text}");
        // A new task's is made with it.
        tasks.make("1e/c1");
        assert_eq!(tasks.class("1e/c1"), CLASS);
        blocked("1e/c1");
        // Taken away it comes back; what somebody else gave stays, and is told.
        tasks.set_class("0f", 0);
        eventually(SOON, "the class is back", || tasks.class("0f") == CLASS);
        tasks.set_class("0f", 7);
        daemon.wait_for_log("host-imds-block could not be checked", SOON);
        assert_eq!(tasks.class("0f"), "7");
        let (code, text) = check(&lab);
        let named = text.contains(&format!("gave cgroup {name}/0f the class 0x7"));
        assert_eq!((code, named), (3, true), "{more}: {text}");
        tasks.remove();
        // A task that is in another hierarchy alone nobody can stop.
        lab.host.sh(&format!("mkdir -p {MOUNT}/memory/{name}/9c"));
        tasks.make("2d/c1");
        eventually(SOON, "the task outside is named", || {
            let (code, text) = check(&lab);
            code == 3 && text.contains("but of another controller: 9c;")
        });
        lab.host.sh(&format!("rmdir {MOUNT}/memory/{name}/9c"));
        eventually(SOON, "the new ones have it", || {
            tasks.class("2d/c1") == CLASS
        });
        eventually(SOON, "it is held", || check(&lab).0 == 0);
        blocked("2d/c1");
        drop(daemon);
        lab.netguard(["release"]).run();
        assert_eq!(tasks.class("2d/c1"), "0");
        assert!(tasks.run("2d/c1", &asks(IMDS)).is_some(), "{more}");
    }
}
