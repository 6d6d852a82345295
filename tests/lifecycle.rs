//! The daemon over time: installed, tampered with, restarted, doubled, released.

use lab::Lab;
use lab::imds::{IMDS, IMDS6};
use lab::namespace::Namespace;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
const ROUTE_LOCALNET: &str = "net/ipv4/conf/all/route_localnet";

/// The tagged rules of a save, table by table: the backends print the tables in orders of their own.
fn tagged(save: &str) -> Vec<&str> {
    let mut tables: Vec<&str> = save.split("\n*").collect();
    tables.sort_unstable();
    let lines = tables.into_iter().flat_map(str::lines);
    lines
        .filter(|line| line.contains("ecs-netguard: "))
        .collect()
}

fn reaches_imds(from: &Namespace) -> bool {
    from.http_get("169.254.169.254", 80, "/latest/meta-data/")
        .is_ok()
}

fn reaches_credentials(from: &Namespace) -> bool {
    from.task_credentials().is_ok()
}

#[test]
fn the_rules_are_the_documented_ones_once_each_after_everything() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.write(
            "config.toml",
            format!("[iptables]\nbackend = \"{}\"\n", name(backend)),
        );
        let tamper = lab.tamper(backend);
        for round in 0..10 {
            let mut daemon = lab.start_daemon(BLOCK);
            daemon.wait_for_log("the rules are kept with", LONG);
            if round % 3 == 1 {
                tamper.ecs_init_pre_start();
            }
            if round % 3 == 2 {
                tamper.ecs_init_post_stop();
            }
            let second = lab.netguard(["run"]).output().unwrap();
            assert_eq!(second.status.code(), Some(2));
            assert!(daemon.terminate().success(), "{}", daemon.log());
        }
        lab.netguard(["apply"]).run();
        // The backends print the same rules in the same words.
        insta::assert_snapshot!("rules_v4", tagged(&tamper.save()).join("\n"));
        insta::assert_snapshot!("rules_v6", tagged(&tamper.save6()).join("\n"));
    }
}

fn name(backend: Backend) -> &'static str {
    if backend == Backend::Nft {
        "nft"
    } else {
        "legacy"
    }
}

#[test]
fn what_is_removed_is_restored_and_reported() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let settings = format!("[iptables]\nbackend = \"{}\"\n", name(backend));
        lab.write("config.toml", settings);
        let daemon = lab.start_daemon(BLOCK);
        daemon.wait_for_log("the rules are kept with", LONG);
        assert!(!reaches_imds(&lab.docker));
        let tamper = lab.tamper(backend);
        let strikes: [(&str, &dyn Fn()); 5] = [
            ("imds-block: 4 rules missing", &|| {
                tamper.flush("filter", Some("FORWARD"))
            }),
            ("imds-block: 4 rules displaced", &|| {
                tamper.docker25_restart()
            }),
            ("task-credentials:", &|| tamper.flush("nat", None)),
            ("route_localnet=1` missing, repaired", &|| {
                lab.host.set_sysctl(ROUTE_LOCALNET, "0");
            }),
            ("loopback-shield:", &|| {
                tamper.flush("filter", Some("INPUT"))
            }),
        ];
        for (words, strike) in strikes {
            let seen = daemon.log().len();
            strike();
            eventually(LONG, words, || daemon.log()[seen..].contains(words));
            assert!(!reaches_imds(&lab.docker), "{words}");
            assert!(reaches_credentials(&lab.docker), "{words}");
        }
    }
}

#[test]
fn displaced_and_doubled_rules_are_drift() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[seal]\nenabled = false\n[edge]\nenabled = false\n",
    );
    lab.netguard(["apply"]).run();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    let tamper = lab.tamper(Backend::Nft);
    let before = tamper.save();
    let rule = tagged(&before)
        .into_iter()
        .find(|line| line.contains("docker+"))
        .unwrap();
    lab.host.sh(&format!("iptables-nft {rule}"));
    let found = lab.netguard(["check", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["drifts"][0]["kind"], "doubled", "{report}");
    tamper.iptables("-I FORWARD 1 -j ACCEPT");
    let found = lab.netguard(["check"]).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    lab.netguard(["apply"]).run();
    let after = tamper.save();
    assert_eq!(tagged(&after), tagged(&before));
    let forward: Vec<_> = after
        .lines()
        .filter(|line| line.starts_with("-A FORWARD"))
        .collect();
    assert_eq!(
        forward.last(),
        Some(&"-A FORWARD -j ACCEPT"),
        "another program's rule stays: {after}"
    );
}

#[test]
fn sigterm_leaves_the_rules_and_release_takes_them_out() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.write(
            "config.toml",
            format!("[iptables]\nbackend = \"{}\"\n", name(backend)),
        );
        let tamper = lab.tamper(backend);
        let program = backend.iptables();
        lab.host.sh(&format!(
            "{program} -A FORWARD -s 10.9.9.9/32 -m comment --comment 'an admin' -j DROP"
        ));
        let (before, before6) = (rules(&tamper.save()), rules(&tamper.save6()));
        let mut daemon = lab.start_daemon(BLOCK);
        daemon.wait_for_log("the rules are kept with", LONG);
        let refused = lab.netguard(["release"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains(&format!("pid {}", daemon.pid())), "{words}");
        assert!(daemon.terminate().success());
        assert!(!reaches_imds(&lab.docker), "stopped, the rules stay");
        assert_eq!(lab.host.sysctl(ROUTE_LOCALNET), "1");
        lab.netguard(["release"]).run();
        assert_eq!(
            (rules(&tamper.save()), rules(&tamper.save6())),
            (before, before6)
        );
        assert_eq!(lab.host.sysctl(ROUTE_LOCALNET), "0", "as it was before");
        assert!(
            lab.netguard(["release"])
                .run()
                .contains("Nothing to remove"),
            "idempotent"
        );
    }
}

/// The rules of a save: chains that exist because a program listed them are no change.
fn rules(save: &str) -> Vec<String> {
    save.lines()
        .filter(|line| line.starts_with("-A"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn release_keeps_route_localnet_while_ecs_init_needs_it() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    let tamper = lab.tamper(Backend::Nft);
    tamper.ecs_init_pre_start();
    let words = lab.netguard(["release"]).run();
    assert!(words.contains("route_localnet stays 1"), "{words}");
    assert_eq!(lab.host.sysctl(ROUTE_LOCALNET), "1");
    assert!(
        reaches_credentials(&lab.docker),
        "ecs-init's own rules still serve"
    );
    tamper.ecs_init_post_stop();
    lab.netguard(["release"]).run();
    assert_eq!(lab.host.sysctl(ROUTE_LOCALNET), "0");
}

#[test]
fn a_wish_that_ends_takes_the_rules_out_and_route_localnet_back() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    lab.write(
        "ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS=false\nECS_ENABLE_TASK_IAM_ROLE=false\n",
    );
    lab.netguard(["apply"]).run();
    let save = lab.tamper(Backend::Nft).save();
    let left = tagged(&save);
    assert!(
        left.iter()
            .all(|line| line.contains("introspection-shield")),
        "{left:?}"
    );
    assert_eq!(lab.host.sysctl(ROUTE_LOCALNET), "0");
}

#[test]
fn the_second_daemon_refuses_and_names_the_first() {
    let lab = Lab::new();
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    let second = lab.netguard(["run"]).output().unwrap();
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{words}");
    assert!(
        words.contains(&format!("ecs-netguard run (pid {})", daemon.pid())),
        "{words}"
    );
}

#[test]
fn the_systems_own_iptables_decides_the_backend() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.tamper(backend).make_default().unwrap();
        lab.write("ecs.config", BLOCK);
        let words = lab.netguard(["apply"]).run();
        assert!(words.contains(&backend.iptables()), "{words}");
        assert!(!tagged(&lab.tamper(backend).save()).is_empty());
        assert!(!reaches_imds(&lab.docker));
    }
}

/// The agent is a process of the host, and credentials of tasks may come to it from the service
/// (docs/architecture.md): whatever is installed, restarted or released, it gets there.
#[test]
fn the_agent_reaches_the_service_at_all_times() {
    let lab = Lab::new();
    lab.host.set_patience(LONG);
    let reaches = |when: &str| {
        for address in [IMDS, IMDS6] {
            let answer = lab.host.role_credentials_v1(address);
            assert!(answer.is_ok(), "{when}: {address}: {answer:?}");
        }
        assert!(lab.host.icmp_echo(IMDS).unwrap(), "{when}");
    };
    reaches("before");
    let mut daemon = lab.start_daemon(BLOCK);
    // Also while the first rules are installed.
    while !daemon.log().contains("the rules are kept with") {
        reaches("at the start");
    }
    assert!(!reaches_imds(&lab.docker));
    reaches("under the daemon");
    daemon.kill();
    reaches("after the daemon was killed");
    let mut daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    reaches("after a restart");
    daemon.terminate();
    reaches("after the daemon was stopped");
    lab.netguard(["release"]).run();
    reaches("after the release");
}
