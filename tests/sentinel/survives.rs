//! However the daemon ends, a native table with the drops stays, and containers stay out.

use super::{BOTH, SOON};
use crate::lab::Lab;
use crate::lab::daemon::Daemon;
use crate::lab::imds::{IMDS, IMDS6};
use crate::lab::systemd::FdStore;
use crate::lab::tamper::Backend;

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
    daemon.wait_for_log("imds-block is held", SOON);
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
    store.wait_for("READY=1", SOON);
    assert_eq!(store.names(), ["seal"]);
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
    crate::lab::wait::eventually(SOON, "the table follows the wish", || {
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
