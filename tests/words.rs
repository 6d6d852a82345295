//! What the program says is true: of an open host, of a host without iptables, of a file that is not
//! there, of what it has not done.

use std::process::Output;

use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// The exit code and everything that was printed.
fn run(lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
    said(&lab.netguard(args).output().unwrap())
}

fn said(output: &Output) -> (Option<i32>, String) {
    let (out, err) = (&output.stdout, &output.stderr);
    let text = [out, err].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code(), text.concat())
}

/// Hides every program of iptables from the host, as on an image without it.
fn without_iptables(lab: &Lab) {
    lab.host.sh(
        "mkdir /run/empty; for d in /usr/sbin /usr/local/sbin; do mount --bind /run/empty $d; done",
    );
}

#[test]
fn an_open_host_says_so_first_and_is_not_called_protected() {
    let lab = Lab::new();
    let daemon = lab.start_daemon("ECS_CLUSTER=x\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    let open = "IMDS OPEN: nothing asks for the block (ECS_AWSVPC_BLOCK_IMDS is not set); to block: \
                add ECS_AWSVPC_BLOCK_IMDS=true to /run/lab/ecs.config";
    for command in ["status", "check"] {
        let (code, text) = run(&lab, &[command]);
        assert_eq!((code, text.lines().next()), (Some(0), Some(open)), "{text}");
    }
    let (code, text) = run(&lab, &["config"]);
    assert_eq!(code, Some(0));
    assert!(text.contains(open), "{text}");
    let health = lab.get("/healthz");
    assert_eq!(health.status, 200);
    assert!(
        health.body.starts_with("imds-open: nothing asks"),
        "{}",
        health.body
    );
    let metrics = lab.get("/metrics").body;
    for line in [
        "ecs_netguard_imds_open 1",
        "ecs_netguard_state{state=\"imds-open\"} 1",
        "ecs_netguard_state{state=\"protected\"} 0",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    lab.write("ecs.config", BLOCK);
    eventually(LONG, "protected", || {
        run(&lab, &["status"]).1.starts_with("PROTECTED")
    });
    assert!(
        lab.get("/metrics")
            .body
            .contains("ecs_netguard_imds_open 0")
    );
    lab.write("config.toml", "[imds]\nblock = \"never\"\n");
    eventually(LONG, "open again", || {
        run(&lab, &["status"])
            .1
            .contains("to block: set block = \"always\" under [imds] in config.toml")
    });
}

#[test]
fn release_removes_everything_that_it_can_without_iptables() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "1");
    // `nft` stands where iptables does, and is needed to look.
    lab.host.sh("cp $(command -v nft) /run/nft");
    without_iptables(&lab);
    let (code, text) = run(&lab, &["release"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("IPv4 filter FORWARD: "), "{text}");
    assert!(text.contains("inet ecs_netguard"), "{text}");
    let left = lab.host.sh("/run/nft list ruleset");
    assert!(
        !left.contains("ecs-netguard") && !left.contains("ecs_netguard"),
        "{left}"
    );
    assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "0");
    let (code, text) = run(&lab, &["release"]);
    assert_eq!((code, text.as_str()), (Some(0), "Nothing to remove.\n"));
}

#[test]
fn release_names_legacy_tables_that_it_cannot_search() {
    let lab = Lab::new();
    lab.write("config.toml", "[iptables]\nbackend = \"legacy\"\n");
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    without_iptables(&lab);
    let (code, text) = run(&lab, &["release"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("iptables-legacy is not installed; install it"),
        "{text}"
    );
    assert!(
        text.contains("removed  nftables table inet ecs_netguard"),
        "{text}"
    );
}

#[test]
fn check_shows_drift_and_layers_where_only_the_seal_holds() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    let (code, text) = run(&lab, &["check"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("PROTECTED"), "{text}");
    assert!(text.contains("visible violated, sealed held"), "{text}");
    assert!(text.contains("\nDrift\n"), "{text}");
    let missing = text.matches("-j DROP missing").count();
    assert!(missing >= 4, "{text}");
}

#[test]
fn a_config_toml_that_cannot_be_read_is_not_quoted() {
    let lab = Lab::new();
    lab.write("config.toml", "[imds]\nblock = 3\n");
    let daemon = lab.start_daemon("");
    let log = daemon.wait_for_log("the rules are kept with", LONG);
    assert!(!log.contains("\"always\" under [imds]"), "{log}");
    let reason = "imds-block is required: what /run/lab/config.toml asks for is not known";
    assert!(log.contains(reason), "{log}");
}

#[test]
fn a_textfile_that_cannot_be_written_is_one_event_and_stands_in_status() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[metrics]\ntextfile = \"/run/lab/missing/ecs_netguard.prom\"\n[verify]\ninterval = \"1s\"\n",
    );
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("cannot write /run/lab/missing/ecs_netguard.prom", LONG);
    let verified = |n: u64| {
        eventually(LONG, "verified again", || {
            let status: serde_json::Value =
                serde_json::from_str(&lab.get("/v1/status").body).unwrap();
            status["verification"]["count"].as_u64().unwrap() >= n
        });
    };
    // Each is followed by an attempt, two seconds apart at the most.
    verified(8);
    let (_, text) = run(&lab, &["status"]);
    assert!(text.contains("! metrics.textfile: cannot write"), "{text}");
    assert!(text.contains("its directory does not exist"), "{text}");
    let (_, events) = run(&lab, &["events"]);
    assert_eq!(events.matches("cannot write").count(), 1, "{events}");
    lab.host.sh("mkdir /run/lab/missing");
    eventually(LONG, "written", || {
        lab.dir().join("missing/ecs_netguard.prom").exists()
            && !run(&lab, &["status"]).1.contains("cannot write")
    });
}

#[test]
fn explain_names_the_tables_that_the_host_has() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    let packet = ["explain", "--iif", "docker0", "--dst", "169.254.169.254"];
    let (code, text) = run(&lab, &packet);
    assert_eq!(code, Some(0), "{text}");
    let seal = "· nftables inet ecs_netguard · prerouting\n    1  matches";
    assert!(text.contains(seal), "{text}");
    assert!(!text.contains("· raw ·"), "{text}");
    let shown = lab.host.sh("nft list table inet ecs_netguard");
    assert!(shown.contains("chain prerouting"), "{shown}");
}

#[test]
fn a_named_file_that_does_not_exist_is_an_error() {
    let lab = Lab::new();
    for (option, file) in [
        ("--config", "/run/lab/typo.toml"),
        ("--ecs-config", "/run/lab/typo"),
    ] {
        for command in ["check", "apply", "config", "status"] {
            let (code, text) = run(&lab, &[command, option, file]);
            assert_eq!(code, Some(2), "{command}: {text}");
            assert_eq!(
                text,
                format!("ecs-netguard: {option}: {file} does not exist\n")
            );
        }
    }
    lab.host.sh("rm /run/lab/config.toml");
    let (code, text) = run(&lab, &["config"]);
    assert_eq!(
        code,
        Some(0),
        "one that was not typed may be missing: {text}"
    );
    let run = ["run", "--config", "/run/lab/typo.toml"];
    let daemon = Daemon::start(lab.netguard(run));
    let log = daemon.wait_for_log("the rules are kept with", LONG);
    assert!(
        log.contains("--config: /run/lab/typo.toml does not exist"),
        "{log}"
    );
}

#[test]
fn two_daemons_in_one_network_namespace_exclude_each_other() {
    let lab = Lab::new();
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    let (code, text) = run(
        &lab,
        &[
            "run",
            "--runtime-dir",
            "/run/other",
            "--state-dir",
            "/run/s",
        ],
    );
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains(&format!(
            "ecs-netguard run (pid {}) is running",
            daemon.pid()
        )),
        "{text}"
    );
    let (code, _) = run(&lab, &["release", "--runtime-dir", "/run/other"]);
    assert_eq!(code, Some(2));
}

#[test]
fn check_makes_no_table() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    for backend in ["legacy", "nft"] {
        let (_, text) = run(&lab, &["check", "--backend", backend]);
        assert!(text.contains("imds-block"), "{text}");
        let tables =
            "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names";
        assert_eq!(lab.host.sh(tables), "", "{backend}");
        assert_eq!(lab.host.sh("nft list tables"), "", "{backend}");
    }
    let (code, text) = run(&lab, &["apply", "--backend", "legacy"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn in_a_pid_namespace_a_program_is_not_called_gone() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let command = lab.host.command("unshare");
    let command = command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    let daemon = Daemon::start(with_paths(command.arg(binary()).arg("run"), &lab));
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.host.sh("nft flush chain ip filter FORWARD");
    let log = daemon.wait_for_log("by nft (pid ", LONG);
    let line = log
        .lines()
        .find(|line| line.contains("by nft (pid "))
        .unwrap();
    assert!(
        line.contains("not visible from this PID namespace"),
        "{line}"
    );
}
