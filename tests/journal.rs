//! Under systemd the daemon writes to the journal, with fields that programs can ask for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use ecs_netguard::events::Kind;
use ecs_netguard::events::journal::message_id;
use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually, uninterrupted};
use serde_json::Value;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// A journal of the lab's own: the host has its own /run.
fn journal(lab: &Lab) -> UnixDatagram {
    lab.host.run(|| {
        fs::create_dir_all("/run/systemd/journal").unwrap();
        let socket = UnixDatagram::bind(JOURNAL).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    })
}

/// The next entry whose message contains `text`, as the journal is sent it: `FIELD=value` lines, or
/// a name, a length of eight bytes and a value (systemd.io/JOURNAL_NATIVE_PROTOCOL).
fn entry(journal: &UnixDatagram, text: &str) -> BTreeMap<String, String> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = uninterrupted(|| journal.recv(&mut buffer)).unwrap();
        let fields = fields(&buffer[..length]);
        if fields.get("MESSAGE").is_some_and(|m| m.contains(text)) {
            return fields;
        }
    }
}

fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
                bytes = &rest[length + 1..];
                (line, String::from_utf8_lossy(&rest[..length]).into_owned())
            }
        };
        fields.insert(name, value);
    }
    fields
}

fn has(fields: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(
            fields.get(*name).map(String::as_str),
            Some(*value),
            "{name}: {fields:#?}"
        );
    }
}

/// The daemon's fields that the query for Logs Insights in docs/operations.md names.
fn fields_of_the_documented_query() -> Vec<&'static str> {
    let page = include_str!("../docs/operations.md");
    let start = page.find("filter ispresent(NETGUARD_STATE)").unwrap();
    let query = page[start..].split("```").next().unwrap();
    let words = query.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    // journald adds its own, which begin with an underscore.
    let fields: Vec<&str> = words
        .filter(|word| word.len() > 2 && !word.starts_with('_'))
        .collect();
    assert!(fields.contains(&"NETGUARD_GUARANTEE") && fields.contains(&"MESSAGE"));
    fields
}

#[test]
fn events_go_to_the_journal_with_their_fields() {
    let lab = Lab::new();
    let journal = journal(&lab);
    lab.write(
        "config.toml",
        "[verify]\ninterval = \"1s\"\n[credentials]\nopen_input = \"never\"\n",
    );
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=\"true\"\n");
    let mut daemon = Daemon::start(lab.netguard(["run"]).env("JOURNAL_STREAM", "8:1"));
    let (critical, warning, notice) = ("2", "4", "5");

    has(
        &entry(&journal, "quoted:"),
        &[
            ("MESSAGE_ID", message_id(Kind::Trap)),
            ("PRIORITY", warning),
        ],
    );
    has(
        &entry(&journal, "imds-block is held"),
        &[
            ("MESSAGE_ID", message_id(Kind::Held)),
            ("NETGUARD_GUARANTEE", "imds-block"),
            ("NETGUARD_STATE", "held"),
            ("SYSLOG_IDENTIFIER", "ecs-netguard"),
            ("PRIORITY", notice),
        ],
    );
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    let drift = entry(&journal, "missing, repaired");
    has(
        &drift,
        &[
            ("MESSAGE_ID", message_id(Kind::Drift)),
            ("NETGUARD_GUARANTEE", "imds-block"),
            ("PRIORITY", warning),
        ],
    );
    assert!(drift["NETGUARD_WINDOW_USEC"].parse::<u64>().unwrap() > 0);
    assert!(
        drift["NETGUARD_OBJECTS"].contains("IPv4 filter FORWARD"),
        "{drift:#?}"
    );

    lab.write("ecs.config", "ECS_ENABLE_TASK_IAM_ROLE=true\n");
    has(
        &entry(&journal, "task-credentials is held"),
        &[("NETGUARD_STATE", "held")],
    );
    lab.host.sh("iptables -P INPUT DROP");
    let violated = entry(&journal, "task-credentials is VIOLATED");
    for field in fields_of_the_documented_query() {
        assert!(violated.contains_key(field), "{field}: {violated:#?}");
    }
    has(
        &violated,
        &[
            ("MESSAGE_ID", message_id(Kind::Violated)),
            ("NETGUARD_STATE", "violated"),
            ("PRIORITY", critical),
        ],
    );
    daemon.terminate();
    has(
        &entry(&journal, "stopped; the rules stay"),
        &[("MESSAGE_ID", message_id(Kind::Stopped))],
    );
    assert_eq!(daemon.log(), "", "nothing is said twice");
}

#[test]
fn a_stuck_journald_holds_up_nothing_and_what_it_missed_is_counted() {
    let lab = Lab::new();
    let journal = journal(&lab);
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let run = lab.netguard(["run", "--log-level", "debug"]);
    let mut daemon = Daemon::start(run.env("JOURNAL_STREAM", "8:1"));
    // It takes ten datagrams, which nothing reads. Each request is a message.
    let status = || serde_json::from_str::<Value>(&lab.get("/v1/status").body).unwrap();
    let dropped = || status()["daemon"]["log_dropped"].as_u64().unwrap();
    eventually(LONG, "it listens", || lab.connect().is_ok());
    eventually(LONG, "messages are dropped", || dropped() > 10);
    let verified = || status()["verification"]["count"].as_u64().unwrap();
    let before = verified();
    eventually(LONG, "it goes on verifying", || verified() > before + 1);
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    eventually(LONG, "it goes on repairing", || {
        lab.tamper(Backend::Nft).save().contains("imds-block")
    });
    let metrics = lab.get("/metrics").body;
    let counted = |line: &&str| line.starts_with("ecs_netguard_log_messages_dropped_total ");
    let line = metrics.lines().find(counted).unwrap();
    assert!(!line.ends_with(" 0"), "{line}");
    entry(&journal, "log messages: their reader was stuck");
    // Stuck again, it does not hold up the end.
    (0..200).for_each(|_| drop(status()));
    daemon.terminate();
}

#[test]
fn journalctl_takes_the_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let catalogs = dir.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&catalogs).unwrap();
    fs::create_dir_all(dir.path().join("var/lib/systemd/catalog")).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/ecs-netguard.catalog");
    fs::copy(source, catalogs.join("ecs-netguard.catalog")).unwrap();
    let root = format!("--root={}", dir.path().display());
    let journalctl = |argument: &str| {
        let output = Command::new("journalctl").args([&root, argument]).output();
        let output = output.expect("journalctl is there (systemd)");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    journalctl("--update-catalog");
    let list = journalctl("--list-catalog");
    for kind in Kind::ALL {
        assert!(list.contains(message_id(kind)), "{}: {list}", kind.name());
    }
}

#[test]
fn without_a_journal_it_says_so_and_writes_to_stderr() {
    let lab = Lab::new();
    lab.write("ecs.config", "");
    let daemon = Daemon::start(lab.netguard(["run"]).env("JOURNAL_STREAM", "8:1"));
    let log = daemon.wait_for_log("the rules are kept with", LONG);
    assert!(log.contains("logging to stderr instead"), "{log}");
}
