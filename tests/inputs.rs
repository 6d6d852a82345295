//! What the operator writes, while the daemon runs: edits of every kind, and files that cannot be
//! read.

use lab::Lab;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

/// Long, so that what is seen is seen because the file changed.
const LONG_INTERVAL: &str = "[verify]\ninterval = \"1h\"\n";

fn blocked(lab: &Lab) -> bool {
    lab.tamper(Backend::Nft)
        .save()
        .contains("ecs-netguard: imds-block")
}

#[test]
fn every_way_to_change_ecs_config_is_seen() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let daemon = lab.start_daemon("ECS_CLUSTER=x\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    assert!(!blocked(&lab));
    let edits = [
        (
            "append",
            "echo ECS_AWSVPC_BLOCK_IMDS=true >> /run/lab/ecs.config",
            true,
        ),
        ("sed -i", "sed -i s/true/false/ /run/lab/ecs.config", false),
        (
            "rename",
            "echo ECS_AWSVPC_BLOCK_IMDS=1 > /run/lab/new && mv /run/lab/new /run/lab/ecs.config",
            true,
        ),
        (
            "in place",
            "echo ECS_CLUSTER=y > /run/lab/ecs.config",
            false,
        ),
        (
            "config.toml",
            "printf '[imds]\\nblock = \"always\"\\n' > /run/lab/config.toml",
            true,
        ),
        (
            "a comment",
            "echo '# the defaults' > /run/lab/config.toml",
            false,
        ),
    ];
    for (how, script, expected) in edits {
        lab.host.sh(script);
        eventually(LONG, how, || blocked(&lab) == expected);
    }
}

#[test]
fn a_directory_that_comes_late_is_seen() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let late = ["run", "--ecs-config", "/run/lab/late/ecs/ecs.config"];
    let daemon = lab::daemon::Daemon::start(lab.netguard(late));
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.host.sh("mkdir -p /run/lab/late/ecs");
    lab.host
        .sh("echo ECS_AWSVPC_BLOCK_IMDS=true > /run/lab/late/ecs/ecs.config");
    eventually(LONG, "the late file counts", || blocked(&lab));
}

#[test]
fn an_ecs_config_that_cannot_be_read_keeps_what_it_said() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=false\nECS_ENABLE_TASK_IAM_ROLE=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.write("ecs.config", b"ECS_AWSVPC_BLOCK_IMDS=true\0\n");
    let log = daemon.wait_for_log("stays in force", LONG);
    assert!(log.contains("/run/lab/ecs.config"), "{log}");
    assert!(!blocked(&lab), "as before");
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    eventually(LONG, "readable again", || blocked(&lab));
    lab.write("ecs.config", vec![b'#'; 10 << 20]);
    daemon.wait_for_log("MiB", LONG);
    assert!(blocked(&lab), "as before");
}

#[test]
fn an_ecs_config_that_is_removed_keeps_what_it_said() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.host.sh("rm /run/lab/ecs.config");
    daemon.wait_for_log("/run/lab/ecs.config is gone", LONG);
    assert!(blocked(&lab));
    lab.write("ecs.config", "ECS_CLUSTER=x\n");
    eventually(
        LONG,
        "it is there again, and says nothing of a block",
        || !blocked(&lab),
    );
}

#[test]
fn the_last_good_settings_stay_over_a_restart_with_a_config_toml_that_says_nothing() {
    let good = format!("{LONG_INTERVAL}[imds]\nblock = \"always\"\ninterfaces = [\"mybr+\"]\n");
    for spoil in [
        "echo '[imds' >> /run/lab/config.toml",
        "rm /run/lab/config.toml",
        "> /run/lab/config.toml",
    ] {
        let lab = Lab::new();
        lab.write("config.toml", &good);
        let mut daemon = lab.start_daemon("ECS_CLUSTER=x\n");
        daemon.wait_for_log("the rules are kept with", LONG);
        let kept = || lab.tamper(Backend::Nft).save().contains("-i mybr+ ") && blocked(&lab);
        assert!(kept());
        lab.host.sh(spoil);
        daemon.wait_for_log("in force", LONG);
        assert!(kept(), "{spoil}");
        daemon.terminate();
        let daemon = lab::daemon::Daemon::start(lab.netguard(["run"]));
        daemon.wait_for_log("the rules are kept with", LONG);
        assert!(kept(), "after a restart: {spoil}");
        let status = lab.get("/v1/status").body;
        assert!(status.contains("in force"), "{status}");
    }
}

#[test]
fn where_the_state_was_lost_and_the_files_are_gone_the_rules_stay() {
    for damage in ["{", "", "{\"schema\":99,\"crc32\":0,\"state\":{}}"] {
        let lab = Lab::new();
        lab.write("config.toml", "[imds]\ninterfaces = [\"mybr+\"]\n");
        let mut daemon =
            lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n");
        daemon.wait_for_log("the rules are kept with", LONG);
        daemon.terminate();
        let tagged = || {
            let save = lab.tamper(Backend::Nft).save();
            let tagged = save.lines().filter(|line| line.contains("ecs-netguard: "));
            tagged.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = tagged();
        lab.host.sh("rm /run/lab/ecs.config /run/lab/config.toml");
        for name in ["state.json", "state.json.previous"] {
            lab.write(&format!("state/{name}"), damage);
        }
        // The second start finds a state again, which says that what was asked for is unknown.
        for _ in 0..2 {
            let mut daemon = lab::daemon::Daemon::start(lab.netguard(["run"]));
            let log = daemon.wait_for_log("the rules are kept with", LONG);
            assert!(log.contains("what it asked for is not known"), "{log}");
            let now = tagged();
            assert!(before.iter().all(|rule| now.contains(rule)), "{now:#?}");
            let docker = "-i docker+ -m comment --comment \"ecs-netguard: imds-block\"";
            assert!(now.iter().any(|rule| rule.contains(docker)), "{now:#?}");
            daemon.terminate();
        }
        lab.write("config.toml", "# the defaults\n");
        let _daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=false\n");
        eventually(LONG, "the files say it again", || !blocked(&lab));
    }
}

#[test]
fn what_cannot_be_read_at_the_start_blocks_and_goes_on_blocking() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon("\0");
    daemon.wait_for_log("IMDS is blocked", LONG);
    daemon.wait_for_log("the rules are kept with", LONG);
    // Each flush is repaired by a later turn: so several turns have seen the same file.
    for _ in 0..2 {
        assert!(blocked(&lab));
        lab.tamper(Backend::Nft).flush("filter", None);
        eventually(LONG, "a later turn blocks too", || blocked(&lab));
    }
    lab.write("config.toml", "[imds]\nblock = \"never\"\n");
    eventually(LONG, "config.toml is readable, and decides", || {
        !blocked(&lab)
    });

    // On a host that remembers no settings.
    let lab = Lab::new();
    lab.write("config.toml", "[imds]\nblock = 3\n");
    let daemon = lab.start_daemon("");
    daemon.wait_for_log("IMDS is blocked", LONG);
    daemon.wait_for_log("the rules are kept with", LONG);
    assert!(blocked(&lab));
    lab.tamper(Backend::Nft).flush("filter", None);
    eventually(LONG, "a later turn blocks too", || blocked(&lab));
}

#[test]
fn a_wish_that_the_agent_cannot_read_is_a_block_with_a_warning() {
    for value in ["\"true\"", "yes", "ture", "TRUE!"] {
        let lab = Lab::new();
        let daemon = lab.start_daemon(&format!("ECS_AWSVPC_BLOCK_IMDS={value}\n"));
        let log = daemon.wait_for_log("the rules are kept with", LONG);
        assert!(blocked(&lab), "{value}");
        assert!(
            log.contains("WARN") && log.contains("ECS_AWSVPC_BLOCK_IMDS"),
            "{log}"
        );
    }
}

#[test]
fn hangup_reads_everything_again() {
    let lab = Lab::new();
    lab.write("config.toml", LONG_INTERVAL);
    let mut daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.tamper(Backend::Nft).flush("filter", None);
    daemon.hangup();
    eventually(LONG, "restored", || blocked(&lab));
}
