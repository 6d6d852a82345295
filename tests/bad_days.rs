//! Tools that fail, kernels that lack something, people without root: a clear message, never a
//! crash, never half a protection.

use std::fs::File;
use std::process::Output;

use lab::Lab;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\n";
const BLOCK_AND_TASKS: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

fn words(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// Puts a shell script in the place of the system's iptables and ip6tables, which are one program by
/// many names; the real one is then `/run/real/iptables` and so on. In the host alone.
fn replace(lab: &Lab, script: &str) {
    let script = format!("real=/run/real/${{0##*/}}\n{script}");
    lab.script(lab.inside("fake"), &script);
    lab.host.sh(
        "mkdir /run/real && multi=$(readlink -f /usr/sbin/iptables) && cp $multi /run/real/multi
        for name in iptables ip6tables iptables-restore ip6tables-restore; do
            ln -s multi /run/real/$name
        done
        mount --bind /run/lab/fake $multi",
    );
}

fn apply(lab: &Lab, ecs_config: &str) -> (Option<i32>, String) {
    lab.write("ecs.config", ecs_config);
    let output = lab.netguard(["apply"]).output().unwrap();
    (output.status.code(), words(&output))
}

#[test]
fn iptables_that_fails_is_named_with_its_own_words() {
    let cases = [
        (
            "echo 'Another app is currently holding the xtables lock.' >&2; exit 4",
            "xtables lock",
        ),
        (
            "echo 'bad argument' >&2; exit 2",
            "exit code 2: bad argument",
        ),
        ("echo garbage; exit 0", "could not be understood"),
        ("exit 127", "exit code 127"),
    ];
    for (script, expected) in cases {
        let lab = Lab::new();
        let script = format!("case $* in *--version*) exec $real --version;; esac\n{script}");
        replace(&lab, &script);
        let (code, words) = apply(&lab, BLOCK);
        assert_eq!(code, Some(3), "{words}");
        assert!(words.contains(expected), "{expected}: {words}");
        assert!(words.contains("/usr/sbin/iptables"), "{words}");
        apply(&lab, BLOCK_AND_TASKS);
        assert_eq!(
            lab.host.sysctl("net/ipv4/conf/all/route_localnet"),
            "0",
            "no shield, no sysctl"
        );
    }
}

#[test]
fn route_localnet_waits_for_the_shield_whatever_iptables_says_it_did() {
    let lab = Lab::new();
    replace(
        &lab,
        "case $0 in *-restore) cat >/dev/null; exit 0;; esac\nexec $real \"$@\"",
    );
    let (code, words) = apply(&lab, BLOCK_AND_TASKS);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("loopback shield is not there"), "{words}");
    let routed = lab.host.sysctl("net/ipv4/conf/all/route_localnet");
    assert_eq!(routed, "0", "{words}");
}

#[test]
fn a_held_lock_is_waited_for_with_a_limit() {
    let lab = Lab::new();
    lab.host.sh("touch /run/xtables.lock
        (flock 9; echo taken > /run/lab/taken; exec sleep 60) 9>/run/xtables.lock >/dev/null 2>&1 &
        echo $! > /run/lab/holder
        until [ -s /run/lab/taken ]; do sleep 0.01; done");
    lab.write("ecs.config", BLOCK);
    let run = |command| {
        let command = [command, "--backend", "legacy"];
        let output = lab.netguard(command).output().unwrap();
        (output.status.code(), words(&output))
    };
    let (code, words) = run("check");
    assert_eq!(code, Some(1), "what only reads does not wait: {words}");
    assert!(!words.contains("xtables.lock"), "{words}");
    let (code, words) = run("apply");
    lab.host.sh("kill -KILL $(cat /run/lab/holder)");
    assert_ne!(code, Some(0), "{words}");
    assert!(words.contains("xtables.lock"), "{words}");
}

#[test]
fn without_iptables_the_error_says_what_to_install() {
    let lab = Lab::new();
    lab.host.sh(
        "mkdir /run/empty; for d in /usr/sbin /usr/local/sbin; do mount --bind /run/empty $d; done",
    );
    let (code, words) = apply(&lab, BLOCK);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("install iptables"), "{words}");
}

#[test]
fn when_a_step_fails_route_localnet_is_not_set() {
    let lab = Lab::new();
    // The filter table is rebuilt, the NAT table is refused.
    replace(
        &lab,
        "case $0 in *-restore) ;; *) exec $real \"$@\";; esac
        input=$(cat)
        case $input in *'*nat'*) echo 'no nat today' >&2; exit 1;; esac
        printf '%s\\n' \"$input\" | $real \"$@\"",
    );
    let (code, words) = apply(&lab, BLOCK_AND_TASKS);
    assert_eq!(code, Some(1), "{words}");
    assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "0");
    assert!(words.contains("no nat today"), "{words}");
    assert!(
        lab.docker
            .http_get("169.254.169.254", 80, "/latest/meta-data/")
            .is_err(),
        "the block stands"
    );
}

#[test]
fn a_table_that_iptables_cannot_list_is_reported_and_the_others_are_kept() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Nft);
    tamper.iptables("-t nat -A PREROUTING -j ACCEPT");
    lab.host.sh("nft add rule ip nat PREROUTING queue num 1 || nft add rule ip nat PREROUTING ip daddr vmap '{ 10.1.1.1 : accept }'; nft add rule ip nat PREROUTING tcp dport '{ 80, 90 }' accept");
    let listing = lab.host.try_run("iptables-nft -t nat -S");
    let (code, words) = apply(&lab, BLOCK);
    assert!(
        lab.docker
            .http_get("169.254.169.254", 80, "/latest/meta-data/")
            .is_err()
    );
    if let Err(reason) = listing {
        assert!(reason.contains("incompatible"), "{reason}");
        assert_eq!(code, Some(3), "{words}");
        assert!(words.contains("incompatible"), "{words}");
    }
}

#[test]
fn a_rule_deleted_between_reading_and_writing_starts_the_turn_over() {
    let lab = Lab::new();
    apply(&lab, BLOCK);
    let before = lab.tamper(Backend::Nft).save();
    lab.tamper(Backend::Nft)
        .iptables("-I FORWARD -i docker0 -j ACCEPT");
    replace(
        &lab,
        "case $0 in */iptables-restore) [ -e /run/once ] || { touch /run/once
            /run/real/iptables -D FORWARD -d 169.254.169.254/32 -i docker+ -m comment --comment 'ecs-netguard: imds-block' -j DROP
        };; esac
        exec $real \"$@\"",
    );
    let (code, text) = apply(&lab, BLOCK);
    assert_eq!(code, Some(0), "{text}");
    let after = lab.host.sh("/run/real/iptables -S FORWARD");
    let own: Vec<_> = after
        .lines()
        .filter(|line| line.contains("ecs-netguard: "))
        .collect();
    let wanted: Vec<_> = before
        .lines()
        .filter(|line| line.contains("imds-block"))
        .collect();
    assert_eq!(own, wanted, "whole, once, in order");
}

#[test]
fn an_ecs_config_that_cannot_be_read_takes_no_rule_out() {
    let lab = Lab::new();
    assert_eq!(apply(&lab, BLOCK).0, Some(0));
    let before = lab.tamper(Backend::Nft).save();
    let (code, text) = apply(&lab, "ECS_AWSVPC_BLOCK_IMDS=true\0\n");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/run/lab/ecs.config"), "{text}");
    assert_eq!(lab.netguard(["check"]).status().unwrap().code(), Some(2));
    let rules = |save: &str| {
        let lines = save.lines().filter(|line| line.starts_with("-A"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rules(&lab.tamper(Backend::Nft).save()), rules(&before));
}

#[test]
fn what_release_could_not_remove_it_does_not_call_removed() {
    let lab = Lab::new();
    apply(&lab, BLOCK);
    replace(
        &lab,
        "case $0 in *-restore) echo 'not today' >&2; exit 1;; esac; exec $real \"$@\"",
    );
    let output = lab.netguard(["release"]).output().unwrap();
    let text = words(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("not today") && !text.contains("removed  IPv4 filter"),
        "{text}"
    );
}

#[test]
fn ip6tables_that_fails_leaves_ipv4_kept_and_says_so() {
    let lab = Lab::new();
    replace(
        &lab,
        "case $0 in *ip6tables*) echo 'no IPv6 here' >&2; exit 3;; esac; exec $real \"$@\"",
    );
    let (code, text) = apply(&lab, BLOCK_AND_TASKS);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("no IPv6 here") && text.contains("task-credentials      held"),
        "{text}"
    );
    assert!(
        !lab.docker
            .tcp_connects("169.254.169.254:80".parse().unwrap())
    );
    lab.write("config.toml", "[imds]\nipv6 = \"never\"\n");
    let (code, text) = apply(&lab, BLOCK_AND_TASKS);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_disk_that_hangs_holds_up_no_answer_and_not_the_end() {
    let lab = Lab::new();
    // A history that takes some events and then no more.
    lab.host.sh("mkfifo /run/lab/state/events.jsonl");
    let path = lab.dir().join("state/events.jsonl");
    let disk = File::options().read(true).write(true).open(path).unwrap();
    fcntl(&disk, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    let count = || {
        let status: Value = serde_json::from_str(&lab.get("/v1/status").body).unwrap();
        status["verification"]["count"].as_u64()
    };
    let before = count();
    // Each is an event.
    for round in 0..40 {
        daemon.hangup();
        eventually(LONG, &format!("pass {round}"), || {
            count() > before.map(|n| n + round)
        });
    }
    for target in ["/v1/status", "/metrics", "/healthz"] {
        assert_eq!(lab.get(target).status, 200, "{target}");
    }
    daemon.terminate();
}

#[test]
fn an_ordinary_user_is_advised_to_use_sudo() {
    let lab = Lab::new();
    for command in ["run", "apply", "check", "release"] {
        let line = format!(
            "chmod 755 /run /run/lab; exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all {} {command}",
            lab.binary_for_all()
        );
        let output = lab.host.command("sh").arg("-c").arg(line).output().unwrap();
        let words = words(&output);
        assert!(
            matches!(output.status.code(), Some(2 | 3)),
            "{command}: {words}"
        );
        assert!(words.contains("sudo"), "{command}: {words}");
    }
    for command in ["--help", "--version", "config"] {
        let line = format!(
            "exec setpriv --reuid 65534 --regid 65534 --clear-groups {} {command}",
            lab.binary_for_all()
        );
        let output = lab.host.command("sh").arg("-c").arg(line).output().unwrap();
        assert!(output.status.success(), "{command}: {}", words(&output));
    }
}
