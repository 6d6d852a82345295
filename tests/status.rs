//! Asking the daemon: over its socket, and with the commands that do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::imds::IMDS;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

const QUICK: &str = "[verify]\ninterval = \"1s\"\n";

fn running(ecs_config: &str) -> (Lab, Daemon) {
    let lab = Lab::new();
    lab.write("config.toml", QUICK);
    let daemon = lab.start_daemon(ecs_config);
    daemon.wait_for_log("the rules are kept with", LONG);
    (lab, daemon)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn events(lab: &Lab, query: &str) -> Vec<Value> {
    let reply = lab.get(&format!("/v1/events{query}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.lines().map(json).collect()
}

/// The published schema, in which an answer may have no field that is not written there.
struct Schema(Value);

impl Schema {
    fn new() -> Self {
        fn close(value: &mut Value) {
            if let Some(object) = value.as_object_mut() {
                if object.contains_key("properties") {
                    object.insert("additionalProperties".into(), false.into());
                }
                object.values_mut().for_each(close);
            } else if let Some(list) = value.as_array_mut() {
                list.iter_mut().for_each(close);
            }
        }
        let mut schema = json(include_str!("../docs/status.schema.json"));
        close(&mut schema);
        Self(schema)
    }

    #[track_caller]
    fn check(&self, definition: &str, answer: &Value) {
        let mut schema = self.0.clone();
        schema["$ref"] = format!("#/$defs/{definition}").into();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{definition}: {errors:#?}\n{answer:#}");
    }
}

#[test]
fn real_answers_are_as_the_schema_says() {
    let (lab, _daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLL=true\n");
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    eventually(LONG, "drift is reported", || {
        events(&lab, "")
            .iter()
            .any(|event| event["kind"] == "drift")
    });
    let traps = events(&lab, "")
        .into_iter()
        .filter(|event| event["kind"] == "trap");
    assert_eq!(traps.count(), 1, "said once, not every turn");
    let schema = Schema::new();
    let status = json(&lab.get("/v1/status").body);
    schema.check("report", &status);
    assert_eq!(status["state"], "protected");
    assert_eq!(status["guarantees"][0]["name"], "imds-block");
    assert_eq!(
        status["guarantees"][0]["reason"],
        "ECS_AWSVPC_BLOCK_IMDS=true (/run/lab/ecs.config:1)"
    );
    assert_eq!(status["traps"][0]["line"], 2);
    assert_eq!(status["recent_drifts"][0]["guarantee"], "imds-block");
    assert!(
        status["recent_drifts"][0]["repair_seconds"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert!(status["daemon"]["memory_bytes"].as_u64().unwrap() > 1024 * 1024);
    for definition in ["guarantees", "posture", "rules"] {
        let answer = json(&lab.get(&format!("/v1/{definition}")).body);
        schema.check(definition, &answer);
    }
    let rules = json(&lab.get("/v1/rules").body);
    let block = &rules["rules"][0];
    assert_eq!(
        (&block["place"], &block["in_place"]),
        (&"filter FORWARD".into(), &true.into())
    );
    let edge = rules["rules"].as_array().unwrap().iter();
    let edge: Vec<&Value> = edge.filter(|rule| rule["layer"] == "edge").collect();
    assert_eq!(edge.len(), 2, "{rules}");
    assert_eq!(edge[0]["in_place"], true, "{rules}");
    assert_eq!(
        edge[0]["place"],
        "nftables netdev ecs_netguard, egress of ens5"
    );
    for event in events(&lab, "") {
        schema.check("events-line", &event);
    }
    assert_eq!(lab.get("/healthz").body, "protected\n");
}

#[test]
fn check_and_apply_print_the_same_report_of_live_and_of_saved_rules() {
    let lab = Lab::new();
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let schema = Schema::new();
    let report = |arguments: &[&str]| {
        let output = lab.netguard(arguments).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        schema.check("report", &report);
        report
    };
    assert_eq!(report(&["check", "--json"])["state"], "not-protected");
    let applied = report(&["apply", "--json"]);
    assert_eq!(applied["state"], "protected");
    assert!(!applied["drifts"].as_array().unwrap().is_empty());
    assert_eq!(report(&["check", "--json"])["drifts"], Value::Array(vec![]));
    lab.write("saved.rules", lab.tamper(Backend::Nft).save());
    lab.write("saved.rules6", lab.tamper(Backend::Nft).save6());
    let both = [
        "--ruleset",
        "/run/lab/saved.rules",
        "--ruleset6",
        "/run/lab/saved.rules6",
    ];
    let saved = report(&[&["check", "--json"][..], &both].concat());
    assert_eq!(saved["guarantees"][0]["standing"], "held");
    assert_eq!(saved.get("host"), None);
}

#[test]
fn packets_that_were_stopped_are_counted_also_across_repairs() {
    let (lab, _daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let stopped = || {
        let status = json(&lab.get("/v1/status").body);
        let of =
            |stopped: &&Value| stopped["family"] == "ipv4" && stopped["interface"] == "docker+";
        let list = status["guarantees"][0]["stopped"].as_array().cloned();
        let packets = list.iter().flatten().filter(of);
        packets
            .map(|stopped| stopped["packets"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(lab.docker.role_credentials_v1(IMDS).is_err());
    eventually(LONG, "they are counted", || stopped() > 0);
    let before = stopped();
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    eventually(LONG, "the flush is repaired", || {
        events(&lab, "")
            .iter()
            .any(|event| event["kind"] == "drift")
    });
    assert!(stopped() >= before);
    assert!(lab.docker.role_credentials_v1(IMDS).is_err());
    eventually(LONG, "they add up", || stopped() > before);
    let shown = lab.netguard(["status"]).run();
    assert!(shown.contains(" packets stopped"), "{shown}");
    let metrics = lab.get("/metrics").body;
    let name = "ecs_netguard_packets_stopped_total{guarantee=\"imds-block\"";
    assert!(metrics.contains(name), "{metrics}");
}

#[test]
fn events_are_asked_for_by_number_and_outlive_the_daemon() {
    let (lab, mut daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let all = events(&lab, "");
    let numbers: Vec<u64> = all.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(events(&lab, "?since=2"), all[2..]);
    assert_eq!(events(&lab, "?limit=2"), all[all.len() - 2..]);
    assert_eq!(events(&lab, "?limit=0"), [] as [Value; 0]);
    assert_eq!(events(&lab, "?since=2&limit=1"), all[all.len() - 1..]);
    assert_eq!(events(&lab, "?since=99999999"), [] as [Value; 0]);
    daemon.terminate();
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    let after = events(&lab, "");
    assert_eq!(after[..all.len()], all);
    assert_eq!(after[all.len()]["kind"], "stopped");
}

#[test]
fn a_follower_hears_of_every_event() {
    let (lab, _daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let mut stream = lab.connect().unwrap();
    stream
        .write_all(b"GET /v1/events?follow&limit=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert!(lines.by_ref().any(|line| line.is_empty()), "the head");
    for _ in 0..2 {
        lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
        let event = lines.by_ref().find(|line| line.starts_with('{')).unwrap();
        assert_eq!(json(&event)["kind"], "drift", "{event}");
    }
}

#[test]
fn the_socket_is_for_root_and_the_group_and_gone_with_the_daemon() {
    let (lab, mut daemon) = running("");
    let path = lab.dir().join("run/status.sock");
    let data = path.metadata().unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o660);
    assert_eq!(data.uid(), 0);
    daemon.kill();
    assert!(path.exists(), "left behind by a daemon that was killed");
    let status = lab.netguard(["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(4));
    let mut daemon = lab.start_daemon("");
    daemon.wait_for_log("the rules are kept with", LONG);
    assert_eq!(lab.get("/healthz").status, 200, "replaced by the next");
    daemon.terminate();
    assert!(!path.exists());
}

#[test]
fn the_group_may_ask_where_there_is_one() {
    let lab = Lab::new();
    lab.write("group", "root:x:0:\necs-netguard:x:4242:\n");
    lab.host
        .shadow("/run/lab/group".as_ref(), "/etc/group".as_ref())
        .unwrap();
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    let data = lab.dir().join("run/status.sock").metadata().unwrap();
    assert_eq!((data.uid(), data.gid()), (0, 4242));
    let as_user = |groups: &str| {
        lab.host
            .command("setpriv")
            .args(["--reuid=1000", "--regid=1000", groups, "curl", "-s"])
            .args([
                "--unix-socket",
                "/run/lab/run/status.sock",
                "http://x/healthz",
            ])
            .output()
            .unwrap()
    };
    assert_eq!(as_user("--groups=4242").stdout, b"protected\n");
    assert_eq!(as_user("--clear-groups").stdout, b"");
}

#[test]
fn the_exit_code_of_status_is_a_health_check() {
    let lab = Lab::new();
    let without = lab.netguard(["status"]).output().unwrap();
    let message = String::from_utf8(without.stderr).unwrap();
    assert_eq!(without.status.code(), Some(4));
    for word in [
        "/run/lab/run/status.sock",
        "systemctl status ecs-netguard",
        "ecs-netguard check",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(lab.netguard(["events"]).status().unwrap().code(), Some(4));

    let (lab, _daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let status = |args: &[&str]| {
        let output = lab.netguard(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = status(&["status"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("PROTECTED"), "{text}");
    assert!(
        text.contains(
            "imds-block            held          ECS_AWSVPC_BLOCK_IMDS=true (/run/lab/ecs.config:1)"
        ),
        "{text}"
    );
    assert!(
        !text.contains('\x1b'),
        "no colour, since this is no terminal"
    );
    let (code, text) = status(&["status", "--json"]);
    assert_eq!(code, 0);
    Schema::new().check("report", &json(&text));

    // What iptables cannot list truthfully cannot be judged.
    lab.host
        .sh("nft insert rule ip filter INPUT tcp dport 51679 meta cpu 0 drop");
    let undecided = eventually(LONG, "undecided", || {
        let (code, text) = status(&["status"]);
        (code == 3).then_some(text)
    });
    assert!(undecided.starts_with("UNDECIDED"), "{undecided}");
    assert_eq!(lab.get("/healthz").status, 503);
}

#[test]
fn a_required_claim_that_is_not_held_is_exit_code_1() {
    let lab = Lab::new();
    lab.write("config.toml", "[credentials]\nopen_input = \"never\"\n");
    lab.host.sh("iptables -P INPUT DROP");
    let daemon = lab.start_daemon("ECS_ENABLE_TASK_IAM_ROLE=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    let output = lab.netguard(["status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("NOT PROTECTED"), "{text}");
    let health = lab.get("/healthz");
    assert_eq!(health.status, 503);
    assert!(
        health.body.starts_with(
            "not-protected: task-credentials: Requests for task credentials do not arrive"
        ),
        "{health:?}"
    );
}

#[test]
fn events_that_are_followed_end_with_the_daemon_and_a_watch_reconnects() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[verify]\ninterval = \"1s\"\n[log]\nlevel = \"debug\"\n",
    );
    let mut daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    thread::scope(|scope| {
        let script = "exec \"$0\" status --watch >/run/lab/screens";
        let watch = lab.host.command("sh").args(["-c", script]);
        let mut watch = Daemon::start(with_paths(watch.arg(binary()), &lab));
        let screens = || std::fs::read_to_string(lab.dir().join("screens")).unwrap();
        let follow = scope.spawn(|| lab.netguard(["events", "--follow"]).output().unwrap());
        // Every request is logged, which is how this knows that both have asked.
        let log = daemon.wait_for_log("GET /v1/status from process", LONG);
        assert!(log.contains("of user 0: 200"), "{log}");
        daemon.wait_for_log("GET /v1/events?follow from process", LONG);
        lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
        daemon.wait_for_log("repaired", LONG);
        let drawn = || daemon.log().matches("GET /v1/status from").count() > 1;
        eventually(LONG, "it draws again", drawn);
        daemon.terminate();
        let follow = follow.join().unwrap();
        assert_eq!(follow.status.code(), Some(4), "{follow:?}");
        assert!(screens().matches("PROTECTED").count() >= 2, "{}", screens());
        assert!(screens().contains("Last drifts"), "{}", screens());
        eventually(LONG, "the watch says why it waits", || {
            screens().contains("no daemon answers on ")
        });
        let before = screens().len();
        let _again = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
        eventually(LONG, "it draws the next daemon", || {
            screens()[before..].contains("PROTECTED")
        });
        watch.terminate();
        let events = String::from_utf8(follow.stdout).unwrap();
        assert!(
            events.contains("  started       started; the rules are kept with"),
            "{events}"
        );
        assert!(
            events.contains("imds-block: 4 rules missing, repaired"),
            "{events}"
        );
    });
}

#[test]
fn a_daemon_that_is_stopped_is_reported_within_two_seconds() {
    let (lab, mut daemon) = running("");
    daemon.signal(Signal::SIGSTOP);
    let commands: [&[&str]; 4] = [
        &["status"],
        &["status", "--watch"],
        &["events"],
        &["events", "--follow"],
    ];
    thread::scope(|scope| {
        for command in commands {
            let lab = &lab;
            scope.spawn(move || {
                let began = Instant::now();
                let output = lab.netguard(command).output().unwrap();
                // Without its limit of 2 s it would wait for ever.
                assert!(began.elapsed() < Duration::from_secs(20), "{command:?}");
                let message = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(4), "{command:?}: {message}");
                assert!(message.contains("no answer within 2s"), "{message}");
            });
        }
    });
    daemon.signal(Signal::SIGCONT);
    assert_eq!(lab.get("/healthz").status, 200);
}

#[test]
fn events_as_a_person_reads_them() {
    let (lab, _daemon) = running("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let run = |args: &[&str]| lab.netguard(args).run();
    let text = run(&["events"]);
    assert!(
        text.lines()
            .any(|line| line.contains("  held          imds-block is held")),
        "{text}"
    );
    let one = run(&["events", "--guarantee", "task-credentials"]);
    assert!(
        one.lines().count() > 0 && !one.contains("imds-block"),
        "{one}"
    );
    assert_eq!(run(&["events", "--since", "1h"]), text);
    let raw = run(&["events", "--json"]);
    assert_eq!(raw, lab.get("/v1/events").body);
    let bad = lab
        .netguard(["events", "--guarantee", "imds"])
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(2));
}
