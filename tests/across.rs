//! Across restarts and boots: what is remembered, what is done where nothing can be, and leaving.

use std::fs;

use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\n";
/// Long, so that what is seen is seen because a file changed.
const LONG_INTERVAL: &str = "[verify]\ninterval = \"1h\"\n";
const SHORT_INTERVAL: &str = "[verify]\ninterval = \"1s\"\n";

fn blocked(lab: &Lab) -> bool {
    let imds = "169.254.169.254:80".parse().unwrap();
    !lab.docker.tcp_connects(imds)
}

fn visible(lab: &Lab) -> bool {
    let rules = lab.tamper(Backend::Nft).save();
    rules.contains("ecs-netguard: imds-block")
}

fn started(daemon: &Daemon) -> String {
    daemon.wait_for_log("the rules are kept with", LONG)
}

#[test]
fn what_ecs_config_asked_for_stays_across_restarts() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let mut daemon = lab.start_daemon(BLOCK);
    started(&daemon);
    daemon.terminate();
    for spoil in [
        "rm /run/lab/ecs.config",
        "printf '\\0' > /run/lab/ecs.config",
    ] {
        lab.host.sh(spoil);
        // As after a boot: nothing is left in the kernel.
        lab.host.sh("iptables -F; ip6tables -F; nft flush ruleset");
        assert!(!blocked(&lab));
        let mut daemon = Daemon::start(lab.netguard(["run"]));
        let log = started(&daemon);
        assert!(
            log.contains("/run/lab/ecs.config") && log.contains("stays in force"),
            "{log}"
        );
        assert!(blocked(&lab), "{spoil}");
        daemon.terminate();
    }
    fs::remove_file(lab.dir().join("ecs.config")).unwrap();
    let said = lab.netguard(["check"]).run();
    assert!(said.contains("is gone"), "{said}");
    lab.netguard(["apply"]).run();
    assert!(blocked(&lab), "neither does `apply` take it out");
    lab.write("ecs.config", "ECS_CLUSTER=x\n");
    lab.netguard(["apply"]).run();
    assert!(!blocked(&lab), "now it says something");
    lab.write("ecs.config", BLOCK);
    lab.netguard(["apply"]).run();
    lab.netguard(["release"]).run();
    fs::remove_file(lab.dir().join("ecs.config")).unwrap();
    lab.netguard(["apply"]).run();
    assert!(!blocked(&lab), "after a release nothing is required");
}

#[test]
fn until_cloud_init_is_done_an_unset_wish_is_a_block() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    lab.host
        .sh("mkdir -p /run/lab/root/run/cloud-init && touch /run/lab/root/run/cloud-init/enabled");
    let booting = || {
        let root = lab.inside("root");
        lab.netguard(["run"])
            .env("ECS_NETGUARD_CLOUD_INIT_ROOT", root)
    };
    let mut daemon = Daemon::start(booting());
    let log = started(&daemon);
    assert!(log.contains("cloud-init"), "{log}");
    assert!(blocked(&lab));
    // User data has its say, and then another one.
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=false\n");
    eventually(LONG, "what is written decides", || !blocked(&lab));
    lab.write("ecs.config", "ECS_CLUSTER=x\n");
    eventually(LONG, "not set is not said", || blocked(&lab));
    lab.host
        .sh("echo '{\"v1\": {\"datasource\": \"DataSourceEc2Local\"}}' > /run/lab/root/run/cloud-init/result.json");
    eventually(LONG, "cloud-init is done", || !blocked(&lab));
    daemon.terminate();
    let daemon = Daemon::start(booting());
    started(&daemon);
    assert!(!blocked(&lab));
}

/// A small file system of its own where the state is kept.
fn small_disk(lab: &Lab) {
    lab.host
        .sh("mount -t tmpfs -o size=64k,mode=700 none /run/lab/state");
}

#[test]
fn where_nothing_can_be_remembered_the_rules_are_still_kept() {
    let cases = [
        (
            "a full disk",
            "dd if=/dev/zero of=/run/lab/state/full bs=4k 2>/dev/null || true",
            "rm /run/lab/state/full",
        ),
        (
            "a read-only directory",
            "mount -o remount,ro /run/lab/state",
            "mount -o remount,rw /run/lab/state",
        ),
        (
            "no directory, nor a place for one",
            "umount /run/lab/state; rmdir /run/lab/state; touch /run/lab/state",
            "rm /run/lab/state",
        ),
    ];
    for (case, break_it, mend_it) in cases {
        let lab = Lab::new();
        lab.write("config.toml", SHORT_INTERVAL);
        small_disk(&lab);
        lab.host.sh(break_it);
        let daemon = lab.start_daemon(BLOCK);
        let log = started(&daemon);
        assert!(log.contains("/run/lab/state"), "{case}: {log}");
        assert!(blocked(&lab), "{case}");
        for _ in 0..2 {
            lab.tamper(Backend::Nft).flush("filter", None);
            eventually(LONG, case, || visible(&lab));
            assert!(blocked(&lab), "{case}");
        }
        let warnings = daemon.log().matches("make /run/lab/state writable").count();
        assert_eq!(warnings, 1, "{case}: {}", daemon.log());
        lab.host.sh(mend_it);
        eventually(LONG, "it is written once it can be", || {
            let text = fs::read_to_string(lab.host.root().join("run/lab/state/state.json"));
            text.is_ok_and(|text| text.contains("ECS_AWSVPC_BLOCK_IMDS=true"))
        });
    }
}

#[test]
fn a_disk_that_fills_up_later_costs_no_more() {
    let lab = Lab::new();
    lab.write("config.toml", SHORT_INTERVAL);
    small_disk(&lab);
    let daemon = lab.start_daemon(BLOCK);
    started(&daemon);
    lab.host
        .sh("dd if=/dev/zero of=/run/lab/state/full bs=1k 2>/dev/null || true");
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=false\n");
    daemon.wait_for_log("make /run/lab/state writable", LONG);
    eventually(LONG, "the new wish counts", || !blocked(&lab));
    let state = || fs::read_to_string(lab.host.root().join("run/lab/state/state.json")).unwrap();
    assert!(
        state().contains("ECS_AWSVPC_BLOCK_IMDS=true"),
        "the old one"
    );
    lab.host.sh("rm /run/lab/state/full");
    eventually(LONG, "it is written once there is room", || {
        state().contains("ECS_AWSVPC_BLOCK_IMDS=false")
    });
}

#[test]
fn a_damaged_state_is_named_and_the_copy_used() {
    let lab = Lab::new();
    let mut daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=false\n");
    started(&daemon);
    lab.write("ecs.config", BLOCK);
    let path = lab.dir().join("state/state.json.previous");
    eventually(LONG, "a second write", || path.exists());
    daemon.kill();
    lab.write(
        "state/state.json.previous",
        fs::read(lab.dir().join("state/state.json")).unwrap(),
    );
    lab.write("state/state.json", "{\"schema\": 1,");
    lab.host.sh("rm /run/lab/ecs.config; nft flush ruleset");
    let daemon = Daemon::start(lab.netguard(["run"]));
    let log = started(&daemon);
    assert!(
        log.contains("/run/lab/state/state.json is damaged") && log.contains("state.json.previous"),
        "{log}"
    );
    assert!(blocked(&lab));
}

#[test]
fn an_image_takes_no_state_along_and_keeps_the_configuration() {
    let lab = Lab::new();
    lab.write("config.toml", SHORT_INTERVAL);
    let mut daemon = lab.start_daemon(BLOCK);
    started(&daemon);
    daemon.terminate();
    let said = lab.netguard(["release", "--image"]).run();
    assert!(
        said.contains("forgot   /run/lab/state/state.json"),
        "{said}"
    );
    assert!(said.contains("removed  IPv4 filter"), "{said}");
    assert!(!blocked(&lab));
    let left: Vec<_> = fs::read_dir(lab.dir().join("state")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        fs::read_to_string(lab.dir().join("config.toml")).unwrap(),
        SHORT_INTERVAL
    );
    let again = lab.netguard(["release", "--image"]).run();
    assert!(again.contains("Nothing to remove"), "{again}");
}
