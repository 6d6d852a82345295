//! Under systemd the daemon writes to the journal, with fields that programs can ask for.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use lab::Lab;
use lab::daemon::Daemon;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// A journal of the lab's own: the host has its own /run.
fn journal(lab: &Lab) -> UnixDatagram {
    lab.host.run(|| {
        fs::create_dir_all("/run/systemd/journal").unwrap();
        let socket = UnixDatagram::bind(JOURNAL).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket
    })
}

#[test]
fn events_go_to_the_journal_with_their_fields() {
    let lab = Lab::new();
    let journal = journal(&lab);
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let mut daemon = Daemon::start(lab.netguard(["run"]).env("JOURNAL_STREAM", "8:1"));
    let mut buffer = vec![0; 64 * 1024];
    let entry = loop {
        let length = journal.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.contains("imds-block is held") {
            break text;
        }
    };
    for field in [
        "NETGUARD_GUARANTEE",
        "imds-block",
        "SYSLOG_IDENTIFIER",
        "ecs-netguard",
        "PRIORITY",
    ] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    daemon.terminate();
    assert_eq!(daemon.log(), "", "nothing is said twice");
}

#[test]
fn without_a_journal_it_says_so_and_writes_to_stderr() {
    let lab = Lab::new();
    lab.write("ecs.config", "");
    let daemon = Daemon::start(lab.netguard(["run"]).env("JOURNAL_STREAM", "8:1"));
    let log = daemon.wait_for_log("keeping the rules", Duration::from_secs(20));
    assert!(log.contains("logging to stderr instead"), "{log}");
}
