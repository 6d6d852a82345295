//! However the daemon ends, a native table with the drops stays, and containers stay out.

use super::BOTH;
use lab::Lab;
use lab::daemon::Daemon;
use lab::imds::{IMDS, IMDS6};
use lab::systemd::FdStore;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

#[track_caller]
fn nothing_gets_through(lab: &Lab, what: &str) {
    for container in lab.containers() {
        for imds in [IMDS, IMDS6] {
            assert!(container.role_credentials_v1(imds).is_err(), "{what}");
        }
    }
    assert_eq!(lab.counter().arrived().total(), 0, "{what}");
}

fn is_owned(lab: &Lab) -> bool {
    lab.host
        .try_run("nft flush table inet ecs_netguard")
        .is_err_and(|error| error.contains("Operation not permitted"))
}

fn started(lab: &Lab, daemon: Daemon) -> Daemon {
    daemon.wait_for_log("imds-block is held", LONG);
    assert!(is_owned(lab), "the seal is the daemon's own");
    daemon
}

#[test]
fn sigterm_and_sigkill_leave_a_native_table_through_a_docker_restart() {
    for kill in [false, true] {
        let lab = Lab::new();
        let mut daemon = started(&lab, lab.start_daemon(BOTH));
        if kill {
            daemon.kill();
        } else {
            daemon.terminate();
        }
        nothing_gets_through(&lab, "the daemon is gone");
        lab.tamper(Backend::Nft).docker25_restart();
        nothing_gets_through(&lab, "Docker restarted without a daemon");
        lab.tamper(Backend::Nft).flush("filter", None);
        nothing_gets_through(&lab, "the visible rules are gone too");
        let _again = started(&lab, lab.start_daemon(BOTH));
        nothing_gets_through(&lab, "a new daemon");
    }
}

#[test]
fn with_an_fd_store_sigkill_leaves_the_table_owned_and_the_next_daemon_changes_it() {
    let lab = Lab::new();
    let store = FdStore::listen(&lab);
    lab.write("ecs.config", BOTH);
    let mut daemon = Daemon::start(store.give(&lab, lab.netguard(["run"])));
    store.wait_for("READY=1", LONG);
    assert_eq!(store.names(), ["seal", "edge"]);
    for round in 0..3 {
        assert!(is_owned(&lab));
        daemon.kill();
        assert!(is_owned(&lab), "round {round}: while no daemon runs");
        lab.tamper(Backend::Nft).flush("filter", None);
        nothing_gets_through(&lab, "no daemon runs");
        daemon = started(&lab, Daemon::start(store.give(&lab, lab.netguard(["run"]))));
        nothing_gets_through(&lab, "the next daemon");
    }
    // Another wish is another table: only its owner can do that.
    lab.write("config.toml", "[imds]\ninterfaces = [\"docker0\"]\n");
    eventually(LONG, "the table follows the wish", || {
        let table = lab.host.sh("nft list table inet ecs_netguard");
        table.contains("\"docker0\"") && !table.contains("br-*")
    });
    assert!(is_owned(&lab));
    daemon.terminate();
    assert!(is_owned(&lab), "systemd still holds the socket");
    store.empty();
    let released = lab.netguard(["release"]).run();
    assert!(
        released.contains("nftables table inet ecs_netguard"),
        "{released}"
    );
    assert_eq!(lab.host.sh("nft list tables inet"), "");
}

/// As on kernels before 6.9 and before 5.12, where an un-owned table is what stays, or all there
/// is.
#[test]
fn on_older_kernels_an_unowned_table_is_guarded_follows_the_wish_and_stays() {
    for (lacking, table) in [("persist", "ecs_netguard_twin"), ("owner", "ecs_netguard")] {
        let lab = Lab::new();
        lab.write("ecs.config", BOTH);
        let run = lab
            .netguard(["run"])
            .env("ECS_NETGUARD_KERNEL_LACKING", lacking);
        let mut daemon = Daemon::start(run);
        daemon.wait_for_log("imds-block is held", LONG);
        let list = || lab.host.try_run(&format!("nft list table inet {table}"));
        let drops = || list().map_or(0, |text| text.matches(" drop").count());
        assert_eq!(drops(), 16, "{lacking}: {:?}", list());
        for tampering in ["flush chain inet T forward", "delete table inet T"] {
            lab.host
                .sh(&format!("nft {}", tampering.replace('T', table)));
            eventually(LONG, tampering, || drops() == 16);
            nothing_gets_through(&lab, tampering);
        }
        let seen = daemon.log().len();
        lab.host.sh("nft flush ruleset");
        // The owned table is not flushed; an un-owned one is, with the rest.
        let held = "the seal held meanwhile";
        let expected = match lacking {
            "persist" => held,
            _ => "missing, repaired",
        };
        eventually(LONG, "the flush is reported", || {
            drops() == 16 && daemon.log()[seen..].contains(expected)
        });
        lab.write(
            "config.toml",
            "[imds]\ninterfaces = [\"docker0\", \"br-+\"]\n",
        );
        eventually(LONG, "the table follows the wish", || drops() == 8);
        lab.host
            .sh(&format!("nft flush chain inet {table} forward"));
        eventually(LONG, "what is new is guarded", || drops() == 8);
        lab.write("config.toml", "# the defaults\n");
        eventually(LONG, "and again", || drops() == 16);
        let log = daemon.log();
        assert_eq!(log[seen..].contains(held), lacking == "persist", "{log}");
        daemon.kill();
        assert_eq!(drops(), 16, "{lacking}: after the daemon");
        lab.tamper(Backend::Nft).docker25_restart();
        nothing_gets_through(&lab, "Docker restarted without a daemon");
        let run = lab
            .netguard(["run"])
            .env("ECS_NETGUARD_KERNEL_LACKING", lacking);
        let again = Daemon::start(run);
        again.wait_for_log("imds-block is held", LONG);
        lab.write("config.toml", "[imds]\nblock = \"never\"\n");
        eventually(LONG, "nothing is wanted any more", || drops() == 0);
        eventually(LONG, "and nothing is blocked", || {
            lab.docker.role_credentials_v1(IMDS).is_ok()
        });
    }
}
