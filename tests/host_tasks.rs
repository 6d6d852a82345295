//! Tasks on the host's own network: kept from the metadata service by their cgroup, while the ECS agent
//! and the host's own programs reach it.

use lab::cgroup::{MOUNT, TaskSlice, asks, bash, sends, unify};
use lab::daemon::Daemon;
use lab::imds::{IMDS, IMDS6, ROLE};
use lab::tamper::Backend;
use lab::wait::{LONG, eventually, within};
use lab::{HOST, Lab};

const UNSEALED: &str =
    "[seal]\nenabled = false\n[edge]\nenabled = false\nraw_frames = \"accept\"\n";
const LEGACY: &str = "[iptables]\nbackend = \"legacy\"\n";
const HELD: &str = "host-imds-block is held";

/// config.toml for a slice, with what stands after it.
fn settings(slice: &TaskSlice, more: &str) -> String {
    let name = &slice.name;
    format!("[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{name}\"\n{more}")
}

/// A lab whose host has cgroups of version 2.
fn unified() -> Lab {
    let lab = Lab::new();
    unify(&lab.host);
    lab
}

fn guarded(slice: &TaskSlice, more: &str) -> (Lab, Daemon) {
    let lab = unified();
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
    let (lab, slice) = (unified(), TaskSlice::new());
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
        daemon.wait_for_log(HELD, LONG);
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
        let told = within(LONG, || {
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
        daemon.wait_for_log(HELD, LONG);
        let mut ids = vec![slice.id()];
        for _ in 0..times {
            slice.remove();
            slice.make();
            eventually(LONG, "the rules are for the new slice", || {
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
        daemon.wait_for_log(HELD, LONG);
        daemon.terminate();
        assert_eq!(check(&lab).0, 0);
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        slice.remove();
        slice.make();
        assert_eq!(visible(&lab, Backend::Nft).len(), 2, "it looks alive");
        let answer = slice.run(&lab.host, &asks(IMDS));
        assert!(answer.is_some(), "{more}: and matches no process");
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
        // A daemon that starts repairs it.
        let _daemon = lab.start_daemon("");
        eventually(LONG, "the rules are for the new slice", || {
            up_to_date(&lab, &slice, Backend::Nft)
        });
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, more);
        // No rule is left over for a slice that is gone.
        slice.remove();
        eventually(LONG, "the rules are gone", || {
            visible(&lab, Backend::Nft).is_empty()
        });
        let (code, text) = check(&lab);
        assert_eq!(code, 0, "there is nothing to stop: {text}");
    }
}

#[test]
fn what_is_flushed_comes_back_alive() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, UNSEALED);
    daemon.wait_for_log(HELD, LONG);
    for command in [
        "iptables-nft -F OUTPUT; ip6tables-nft -F OUTPUT",
        "nft flush ruleset",
    ] {
        lab.host.sh(command);
        eventually(LONG, command, || up_to_date(&lab, &slice, Backend::Nft));
        tasks_are_blocked_and_the_agent_is_not(&lab, &slice, command);
    }
    let log = daemon.wait_for_log("repaired in", LONG);
    assert!(log.contains("host-imds-block"), "{log}");
}

#[test]
fn iptables_legacy_works_for_others_once_the_slice_is_gone() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, &format!("{LEGACY}{UNSEALED}"));
    daemon.wait_for_log(HELD, LONG);
    slice.remove();
    // Until the rule is out the kernel refuses every change of the table.
    eventually(LONG, "another program changes a rule", || {
        let command =
            "iptables-legacy -w -A INPUT -j ACCEPT && ip6tables-legacy -w -A INPUT -j ACCEPT";
        lab.host.try_run(command).is_ok()
    });
    assert_eq!(visible(&lab, Backend::Legacy), Vec::<String>::new());
}

#[test]
fn without_cgroups_for_tasks_it_is_undecided_and_says_why() {
    let slice = TaskSlice::new();
    let lab = unified();
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

/// Version 1 alone, and with version 2 beside it: the ECS agent then keeps tasks in version 1.
#[test]
fn without_cgroup_v2_it_is_undecided_and_names_the_way_out() {
    for controllers in ["memory", "memory unified"] {
        let slice = TaskSlice::named();
        let lab = Lab::new();
        lab.host.sh(&format!(
            "umount -l -R {MOUNT}; mount -t tmpfs cgroups {MOUNT}; cd {MOUNT}; mkdir {controllers}
            ! test -d unified || mount -t cgroup2 none unified; mkdir -p memory/ecs/0f"
        ));
        lab.write("config.toml", settings(&slice, ""));
        let applied = lab.netguard(["apply"]).status().unwrap();
        assert_eq!(applied.code(), Some(3));
        let (code, text) = check(&lab);
        assert_eq!(code, 3, "{text}");
        let name = &slice.name;
        for words in [
            "host-imds-block       undecided",
            &format!(
                "this host does not run cgroup v2 (/sys/fs/cgroup is not its hierarchy): tasks have no \
                 cgroup v2 under {name}, so their sockets cannot be matched; boot with \
                 systemd.unified_cgroup_hierarchy=1 (cgroup v2), or set host_tasks = false and run these \
                 tasks in awsvpc mode"
            ),
        ] {
            assert!(text.contains(words), "{controllers}: {words}: {text}");
        }
        assert_eq!(visible(&lab, Backend::Nft), Vec::<String>::new());
    }
}

#[test]
fn a_slice_that_is_not_there_is_nothing_to_stop() {
    let slice = TaskSlice::named();
    let (lab, daemon) = guarded(&slice, "");
    daemon.wait_for_log(HELD, LONG);
    let (code, text) = check(&lab);
    assert_eq!(code, 0, "{text}");
    let note = format!("there is no cgroup {} now", slice.name);
    assert!(text.contains(&note), "{text}");
    slice.make();
    eventually(LONG, "the rules are for the slice", || {
        up_to_date(&lab, &slice, Backend::Nft)
    });
    tasks_are_blocked_and_the_agent_is_not(&lab, &slice, "made later");
}

#[test]
fn when_it_is_turned_off_the_rules_go() {
    let slice = TaskSlice::new();
    let (lab, daemon) = guarded(&slice, "");
    daemon.wait_for_log(HELD, LONG);
    lab.write("config.toml", "# the defaults\n");
    eventually(LONG, "the rules are gone", || {
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
    let lab = unified();
    lab.write("config.toml", settings(&slice, ""));
    lab.netguard(["apply"]).output().unwrap();
    let tasks = || {
        let output = lab.netguard(["check", "--json"]).output().unwrap();
        let turn: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        turn["tasks"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(tasks(), Vec::<serde_json::Value>::new(), "no task runs");
    let elsewhere = slice.sleeper(&lab.host, "unshare -n");
    assert_eq!(
        tasks(),
        Vec::<serde_json::Value>::new(),
        "a network of its own"
    );
    drop(elsewhere);
    let plain = "setpriv --bounding-set=-all --inh-caps=-all";
    let here = slice.sleeper(&lab.host, plain);
    let expected = serde_json::json!([
        {"id": "0f", "mode": "host", "standing": "held", "frames_stopped": true}
    ]);
    assert_eq!(serde_json::Value::from(tasks()), expected);
    let raw = slice.sleeper(&lab.host, "setpriv --bounding-set=-all,+net_raw");
    assert_eq!(tasks()[0]["powers"], serde_json::json!(["net-raw"]));
    let text = check(&lab).1;
    assert!(text.contains("Tasks\n  0f"), "{text}");
    // The daemon sees as much with the few rights it has.
    let daemon = lab.start_daemon("");
    daemon.wait_for_log(HELD, LONG);
    let status = lab.netguard(["status", "--json"]).run();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tasks"][0]["id"], "0f");
    assert_eq!(status["tasks"][0]["mode"], "host");
    // No event reports a task that ends; an answer lists what runs then.
    drop((here, raw));
    eventually(LONG, "it is listed no more", || {
        let status = lab.netguard(["status", "--json"]).run();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["tasks"].as_array().is_none_or(Vec::is_empty)
    });
}
