//! What the daemon does when another program changes what it keeps: noticed, repaired and reported.

mod alone;
mod survives;

use std::time::Duration;

use lab::Lab;
use lab::daemon::Daemon;
use lab::imds::IMDS;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BOTH: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
const UNSEALED: &str = "[seal]\nenabled = false\n[edge]\nenabled = false\n";
/// A turn, and nine times as long after the one before it.
const TURNS: Duration = Duration::from_secs(120);
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// A lab with a daemon that has proved, and whose sentinel has its orders.
fn guarded(settings: &str) -> (Lab, Daemon) {
    let lab = Lab::new();
    lab.write("config.toml", settings);
    let daemon = lab.start_daemon(BOTH);
    daemon.wait_for_log("imds-block is held", LONG);
    (lab, daemon)
}

fn rules(save: &str) -> Vec<String> {
    let lines = save.lines().filter(|line| line.starts_with("-A"));
    lines.map(str::to_owned).collect()
}

/// Waits until the rules are what they were, once each and in order.
#[track_caller]
fn back(lab: &Lab, backend: Backend, before: &[String], what: &str) {
    eventually(LONG, what, || rules(&lab.tamper(backend).save()) == before);
}

#[test]
fn a_tampering_is_reported_with_program_pid_what_and_how_long() {
    let (lab, daemon) = guarded("");
    lab.host
        .sh("sh -c 'iptables-nft -F FORWARD; true' # a shell that goes on");
    let log = daemon.wait_for_log("repaired in", LONG);
    let line = log
        .lines()
        .find(|line| line.contains("repaired in"))
        .unwrap();
    for words in [
        "WARN",
        "imds-block: 4 rules missing",
        "the seal held",
        "by iptables-nft (pid ",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
}

#[test]
fn whatever_is_removed_comes_back_as_it_was() {
    let (lab, _daemon) = guarded(UNSEALED);
    let tamper = lab.tamper(Backend::Nft);
    let (before, before6) = (rules(&tamper.save()), rules(&tamper.save6()));
    assert_eq!(before.len(), 9, "{before:?}");
    for command in [
        "iptables-nft -F",
        "iptables-nft -t nat -F",
        "iptables-nft -D FORWARD 2",
        "ip6tables-nft -F INPUT",
        "nft flush ruleset",
        "nft delete table ip filter",
        "nft flush chain ip nat OUTPUT",
        "printf '*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n' | iptables-nft-restore",
    ] {
        lab.host.sh(command);
        back(&lab, Backend::Nft, &before, command);
        eventually(LONG, command, || rules(&tamper.save6()) == before6);
        assert!(lab.docker.role_credentials_v1(IMDS).is_err(), "{command}");
        assert!(lab.docker.task_credentials().is_ok(), "{command}");
    }
}

#[test]
fn iptables_finds_and_deletes_the_rules_as_its_own() {
    let (lab, _daemon) = guarded(UNSEALED);
    let tamper = lab.tamper(Backend::Nft);
    let before = rules(&tamper.save());
    for rule in &before {
        let (table, words) = if rule.contains("169.254.170.2") {
            ("nat", rule.strip_prefix("-A ").unwrap())
        } else {
            ("filter", rule.strip_prefix("-A ").unwrap())
        };
        lab.host.sh(&format!("iptables-nft -t {table} -C {words}"));
        lab.host.sh(&format!("iptables-nft -t {table} -D {words}"));
        back(&lab, Backend::Nft, &before, rule);
    }
}

#[test]
fn a_rule_on_top_does_not_stay_on_top() {
    let (lab, _daemon) = guarded(UNSEALED);
    let tamper = lab.tamper(Backend::Nft);
    let before = rules(&tamper.save());
    tamper.iptables("-I FORWARD -i docker0 -j ACCEPT");
    let theirs = "-A FORWARD -i docker0 -j ACCEPT".to_owned();
    let last = before
        .iter()
        .rposition(|rule| rule.starts_with("-A FORWARD"))
        .unwrap();
    let mut after = before.clone();
    after.insert(last + 1, theirs);
    back(&lab, Backend::Nft, &after, "theirs below, ours on top");
    assert!(lab.docker.role_credentials_v1(IMDS).is_err());
}

#[test]
fn a_sysctl_is_restored_however_it_is_changed() {
    let (lab, daemon) = guarded("");
    for _ in 0..3 {
        let seen = daemon.log().len();
        lab.host.set_sysctl(ROUTE_LOCALNET, "0");
        eventually(LONG, "route_localnet is back", || {
            lab.host.sysctl(ROUTE_LOCALNET) == "1"
        });
        eventually(LONG, "it is reported", || {
            daemon.log()[seen..].contains("route_localnet=1` missing, repaired")
        });
    }
}

#[test]
fn a_bridge_is_covered_from_the_moment_it_appears() {
    let (lab, _daemon) = guarded("[credentials]\nroute_localnet = \"bridges\"\n");
    lab.host.sh("ip link add br-fedcba987654 type bridge");
    eventually(LONG, "the new bridge routes loopback addresses", || {
        lab.host
            .sysctl("net/ipv4/conf/br-fedcba987654/route_localnet")
            == "1"
    });
    lab.host.sh("ip link add unrelated type bridge");
    eventually(LONG, "the daemon knows of the bridge", || {
        let rules = lab.netguard(["check", "--json"]).run();
        rules.contains("br-fedcba987654")
    });
    assert_eq!(
        lab.host.sysctl("net/ipv4/conf/unrelated/route_localnet"),
        "0"
    );
    lab.host.sh("ip link delete br-fedcba987654");
}

#[test]
fn legacy_rules_come_back_and_the_seal_holds_until_then() {
    for more in [UNSEALED, ""] {
        let lab = Lab::new();
        lab.write(
            "config.toml",
            format!("{more}[iptables]\nbackend = \"legacy\"\n"),
        );
        let daemon = lab.start_daemon(BOTH);
        daemon.wait_for_log("imds-block is held", LONG);
        let before = rules(&lab.tamper(Backend::Legacy).save());
        lab.counter().reset();
        for command in [
            "iptables-legacy -w -F",
            "iptables-legacy -w -t nat -F",
            "iptables-legacy -w -I FORWARD -j ACCEPT; iptables-legacy -w -D FORWARD 3",
            "iptables-legacy -w -D FORWARD -j ACCEPT || true",
        ] {
            lab.host.sh(command);
            if more.is_empty() {
                assert!(lab.docker.role_credentials_v1(IMDS).is_err(), "{command}");
            }
            eventually(TURNS, command, || {
                let now = rules(&lab.tamper(Backend::Legacy).save());
                let ours: Vec<&String> = now
                    .iter()
                    .filter(|rule| rule.contains("ecs-netguard"))
                    .collect();
                ours == before.iter().collect::<Vec<_>>()
                    && now.iter().position(|rule| rule.starts_with("-A FORWARD"))
                        == now.iter().position(|rule| rule.contains("imds-block"))
            });
            assert!(lab.docker.role_credentials_v1(IMDS).is_err(), "{command}");
        }
        assert_eq!(lab.counter().arrived().total(), 0, "{more}");
    }
}

#[test]
fn what_leaves_the_legacy_rules_in_place_is_looked_at_too() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[iptables]\nbackend = \"legacy\"\n[credentials]\nopen_input = \"never\"\n",
    );
    let daemon = lab.start_daemon(BOTH);
    daemon.wait_for_log("task-credentials is held", LONG);
    lab.tamper(Backend::Legacy)
        .iptables("-A INPUT -p tcp --dport 51679 -j DROP");
    daemon.wait_for_log("task-credentials is VIOLATED", TURNS);
}

#[test]
fn in_a_fight_the_guard_holds_back_and_the_seal_holds() {
    let (lab, daemon) = guarded("");
    let before = rules(&lab.tamper(Backend::Nft).save());
    lab.host
        .sh("i=0; while [ $i -lt 60 ]; do iptables-nft -F FORWARD; i=$((i+1)); done");
    daemon.wait_for_log("keeps undoing the guard's rules", LONG);
    assert!(lab.docker.role_credentials_v1(IMDS).is_err());
    assert_eq!(lab.counter().arrived().total(), 0);
    back(&lab, Backend::Nft, &before, "when the pause is over");
    let log = daemon.log();
    assert_eq!(log.matches("keeps undoing").count(), 1, "{log}");
    // Ten in ten seconds one by one, the one that made it a fight, and the repair at the end of the
    // pause: a dozen, or two where sixty commands take longer than ten seconds.
    let told = log.matches("imds-block: 4 rules missing").count();
    assert!(told <= 24, "{told} lines for one fight:\n{log}");
}

#[test]
fn the_sentinel_is_a_realtime_thread() {
    let (_lab, daemon) = guarded("");
    let tasks = format!("/proc/{}/task", daemon.pid());
    let stat = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap())
        .find(|stat| stat.contains("(sentinel)"))
        .unwrap();
    // The 40th and 41st fields of /proc/PID/stat (proc_pid_stat(5)) are rt_priority and policy.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[37], fields[38]), ("1", "1"), "{stat}");
}

#[test]
fn while_the_slow_side_is_stalled_the_sentinel_repairs() {
    let (lab, mut daemon) = guarded(UNSEALED);
    let before = rules(&lab.tamper(Backend::Nft).save());
    // From now on every iptables that the daemon starts hangs, and with it the turn that waits.
    lab.write("hangs", "#!/bin/sh\nexec sleep 600\n");
    lab.host.sh("chmod 755 /run/lab/hangs");
    let real = lab
        .host
        .sh("readlink -f /usr/sbin/iptables")
        .trim()
        .to_owned();
    lab.host
        .shadow(&lab.inside("hangs"), std::path::Path::new(&real))
        .unwrap();
    daemon.hangup();
    eventually(LONG, "the turn hangs", || {
        lab.host.try_run("pgrep -f 'sleep 600'").is_ok()
    });
    for _ in 0..5 {
        lab.host.sh("nft flush chain ip filter FORWARD");
        eventually(LONG, "the rules are back", || {
            let chain = lab.host.sh("nft list chain ip filter FORWARD");
            chain.matches("ecs-netguard: imds-block").count() == 4
        });
        assert!(lab.docker.role_credentials_v1(IMDS).is_err());
    }
    assert_eq!(before.len(), 9);
    assert!(daemon.is_running());
}
