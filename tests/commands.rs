//! What operators of other daemons expect of a command line: files are checked before they count,
//! changes shown before they are made, and what happened can be read when the daemon is dead.

use std::os::unix::fs::PermissionsExt as _;

use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// The exit code, standard output and standard error.
fn run(lab: &Lab, args: &[&str]) -> (Option<i32>, String, String) {
    let output = lab.netguard(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn config_check_names_every_error_at_once_and_traps_by_exit_code() {
    let lab = Lab::new();
    let check = || {
        let (code, out, err) = run(&lab, &["config", "--check"]);
        assert_eq!(err, "");
        (code, out)
    };
    assert_eq!(check(), (Some(0), String::new()));
    lab.write(
        "ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS=\"true\"\nECS_ENABLE_TASK_IAM_ROLL=true\n",
    );
    let (code, out) = check();
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(
        out.matches("trap: /run/lab/ecs.config:").count(),
        2,
        "{out}"
    );
    lab.write(
        "config.toml",
        "[imds]\nblok = 1\nblock = 3\n[sael]\nenabled = true\n[verify]\ninterval = \"5h\"\n\
         [log]\nlevel = \"loud\"\n",
    );
    let (code, out) = check();
    assert_eq!(code, Some(2), "{out}");
    let errors: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    let at = |line: usize| format!("error: /run/lab/config.toml:{line}: ");
    assert_eq!(errors.len(), 5, "{out}");
    for (error, line) in errors.iter().zip([2, 3, 4, 7, 9]) {
        assert!(error.starts_with(&at(line)), "{out}");
    }
    let (code, json, _) = run(&lab, &["config", "--check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, json["errors"].as_array().unwrap().len()),
        (Some(2), 5)
    );
}

#[test]
fn what_has_to_be_required_ends_with_1_where_it_is_not() {
    let lab = Lab::new();
    lab.write("ecs.config", "");
    run(&lab, &["apply"]);
    let (code, out, err) = run(&lab, &["check"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = run(&lab, &["check", "--require", "imds-block"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert_eq!(
        err,
        "imds-block is not required on this host, so nothing keeps it\n"
    );
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("imds-block is held", LONG);
    for command in ["check", "status"] {
        let (code, out, err) = run(&lab, &[command, "--require", "imds-block"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        let (code, ..) = run(&lab, &[command, "--require", "host-imds-block"]);
        assert_eq!(code, Some(1));
    }
}

#[test]
fn a_reload_says_what_changed() {
    let lab = Lab::new();
    let mut daemon = lab.start_daemon("ECS_CLUSTER=x\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.write("config.toml", "[verify]\ninterval = \"1m 1s\"\n");
    daemon.wait_for_log(
        "configuration reloaded: config.toml: verify.interval \"1m\" → \"1m 1s\"",
        LONG,
    );
    lab.write("ecs.config", BLOCK);
    daemon.wait_for_log(
        "configuration reloaded: ECS_AWSVPC_BLOCK_IMDS (not set) → true; ECS_ENABLE_TASK_IAM_ROLE (not \
         set) → true",
        LONG,
    );
    daemon.hangup();
    daemon.wait_for_log("configuration reloaded: no change", LONG);
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let before = lab.host.sh("nft list ruleset");
    let (code, out, _) = run(&lab, &["apply", "--dry-run"]);
    assert_eq!(code, Some(1), "{out}");
    for line in [
        "+ IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+",
        "+ net.ipv4.conf.all.route_localnet=1",
        "+ nftables inet ecs_netguard prerouting: iifname \"docker*\" ip daddr 169.254.169.254 drop",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(lab.host.sh("nft list ruleset"), before);
    assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "0");
    lab.netguard(["apply"]).run();
    let (code, out, _) = run(&lab, &["apply", "--dry-run"]);
    assert_eq!((code, out.as_str()), (Some(0), "Nothing to change.\n"));
    lab.write("ecs.config", "ECS_ENABLE_TASK_IAM_ROLE=true\n");
    lab.tamper(Backend::Nft).docker25_restart();
    let (_, out, _) = run(&lab, &["apply", "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let removed = json["remove"].to_string();
    assert!(
        removed.contains("IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+"),
        "{out}"
    );
}

#[test]
fn events_are_read_from_the_history_when_the_daemon_is_dead() {
    let lab = Lab::new();
    let mut daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    daemon.wait_for_log("imds-block: 4 rules missing", LONG);
    let (code, live, _) = run(&lab, &["events"]);
    assert_eq!(code, Some(0));
    // The daemon waits for no disk. The file has one line more.
    eventually(LONG, "the events are written down", || {
        std::fs::read_to_string(lab.dir().join("state/events.jsonl"))
            .is_ok_and(|history| history.lines().count() > live.lines().count())
    });
    daemon.kill();
    let (code, dead, err) = run(&lab, &["events"]);
    assert_eq!(code, Some(4), "{err}");
    assert_eq!(dead, live);
    assert!(
        err.starts_with("ecs-netguard: no daemon answers on "),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
    let lines = |args: &[&str]| {
        let args: Vec<&str> = ["events"].iter().chain(args).copied().collect();
        run(&lab, &args).1.lines().count()
    };
    assert_eq!(lines(&["--limit", "2"]), 2);
    assert_eq!(lines(&["--kind", "started"]), 1);
    assert_eq!(lines(&["--kind", "started", "--kind", "drift"]), 2);
    assert_eq!(lines(&["--since", "1h"]), live.lines().count());
    assert_eq!(lines(&["--since", "2020-01-01"]), live.lines().count());
    assert_eq!(lines(&["--since", "2100-01-01 00:00"]), 0);
    let (code, _, err) = run(&lab, &["events", "--since", "yesterday"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn a_daemon_that_is_silent_is_waited_for_as_long_as_was_asked() {
    let lab = Lab::new();
    let _listener =
        std::os::unix::net::UnixListener::bind(lab.dir().join("run/status.sock")).unwrap();
    for command in ["status", "events"] {
        let (code, _, err) = run(&lab, &[command, "--timeout", "50ms"]);
        assert_eq!(code, Some(4), "{err}");
        assert!(err.contains("no answer within 50ms"), "{err}");
    }
}

#[test]
fn the_log_can_be_json_and_says_why_at_the_debug_level() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let args = ["run", "--log-format", "json", "--log-level", "debug"];
    let daemon = Daemon::start(lab.netguard(args));
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    daemon.wait_for_log("imds-block: 4 rules missing", LONG);
    daemon.wait_for_log("woken by Committed(", LONG);
    let log = daemon.wait_for_log("pass: compared ", LONG);
    let complete = log.rsplit_once('\n').unwrap().0;
    let lines: Vec<serde_json::Value> = complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let drift = lines
        .iter()
        .find(|line| line["netguard_kind"] == "drift")
        .unwrap();
    assert_eq!(drift["level"], "warn");
    assert_eq!(drift["netguard_guarantee"], "imds-block");
    assert!(drift["time"].as_str().unwrap().ends_with('Z'), "{drift}");
}

#[test]
fn a_report_holds_everything_and_no_secret() {
    let lab = Lab::new();
    let config =
        format!("{BLOCK}ECS_ENGINE_AUTH_DATA={{\"registry\":{{\"password\":\"hunter2\"}}}}\n");
    let daemon = lab.start_daemon(&config);
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.host
        .sh("iptables-nft -A INPUT -m comment --comment 'token=hunter2' -j ACCEPT");
    let (code, out, err) = run(&lab, &["report", "--output", "/run/lab/report.txt"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("/run/lab/report.txt\n"), "{out}");
    let path = lab.dir().join("report.txt");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    for part in [
        "==== versions\n\necs-netguard ",
        "==== config\n\n/run/lab/ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS                     true",
        "==== status\n\n{",
        "==== check\n\nPROTECTED",
        "\"claim\": \"",
        " started started; the rules are kept with",
        "==== rules: IPv4, Nft\n\n# Generated by iptables-nft-save",
        "table inet ecs_netguard",
        "(left out: this line may hold a secret)",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let (code, _, err) = run(&lab, &["report", "--output", "/run/lab/report.txt"]);
    assert_eq!(code, Some(2), "an earlier one is not overwritten: {err}");
}

#[test]
fn every_help_has_examples_and_common_options_stand_at_the_top() {
    let lab = Lab::new();
    let (_, top, _) = run(&lab, &["--help"]);
    assert!(
        top.contains("Options of every command:") && top.contains("Examples:"),
        "{top}"
    );
    let commands = top
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let names = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let (code, help, _) = run(&lab, &[name, "--help"]);
        assert_eq!(code, Some(0));
        assert!(help.contains("Examples:\n  "), "{help}");
        assert!(!help.contains("--state-dir"), "{help}");
    }
}

/// Names of interfaces and paths come from elsewhere, and may hold what clears a terminal.
#[test]
fn nothing_that_is_printed_moves_the_cursor() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.write("config.toml", "[edge]\nenabled = false\n");
    // ESC [ 2 J, the same with a C1 control character (U+009B), and bytes that are not UTF-8.
    for name in ["a\\033[2J", "b\\302\\2332J", "c\\377\\376"] {
        lab.host
            .sh(&format!("ip link add \"$(printf '{name}')\" type bridge"));
    }
    let nowhere = "/nowhere\u{1b}[2J\u{9b}2J";
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["apply", "--dry-run"],
        &["apply"],
        &["explain", "--iif", "docker0", "--dst", "169.254.169.254"],
        &["config"],
        &["report", "--output", "-"],
        &["config", "--ecs-config", nowhere],
        &["release"],
    ] {
        let (_, out, err) = run(&lab, args);
        for text in [&out, &err] {
            let moves = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
            assert_eq!(text.chars().find(moves), None, "{args:?}: {text:?}");
        }
        match args {
            ["check"] => {
                for name in ["a\\u{1b}[2J", "b\\u{9b}2J", "c\\xff\\xfe"] {
                    assert!(out.contains(name), "{name}: {out}");
                }
            }
            ["check", "--json"] => {
                let report: serde_json::Value = serde_json::from_str(&out).unwrap();
                assert!(report.to_string().contains("b\u{9b}2J"), "{report}");
            }
            ["config", "--ecs-config", _] => assert!(err.contains("/nowhere\\u{1b}[2J"), "{err}"),
            _ => {}
        }
    }
}
