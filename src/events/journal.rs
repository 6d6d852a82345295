//! Events in the journal: how urgent each kind is, and the fields by which programs find it.
//!
//! `journalctl MESSAGE_ID=…` finds a kind, `journalctl NETGUARD_GUARANTEE=imds-block` a guarantee,
//! `journalctl -x` explains each by `systemd/ecs-netguard.catalog`.

use tracing::Level;

use crate::events::{Event, Kind};
use crate::verdict::Standing;

/// The kind's number in the journal (sd-journal's message ids: random, and never changed).
#[must_use]
pub const fn message_id(kind: Kind) -> &'static str {
    match kind {
        Kind::Started => "6c4011557e8545609f7bb10f1d11eccd",
        Kind::Stopped => "e5692bc7731a4229b839569ab2b51b10",
        Kind::Posture => "004c8b07b8114221926f9a500be1f495",
        Kind::Reloaded => "0d3ba6f7f5f84d4a9d52a4f4e9a1c3b7",
        Kind::Installed => "ee4394e16a3e4e9bb82ba86d97f221e3",
        Kind::Drift => "7577440d7b374c3eb698279650fc0d5a",
        Kind::NotRepaired => "a4b8c57d96de4f6bbb84d7f8f6a9f527",
        Kind::Fight => "822a0f472407489592d306c4bc0cd848",
        Kind::Held => "ccd5b63cd78444be8116cf755b21ba0f",
        Kind::Violated => "b442f7c9a9944507ac1a9b75403eb374",
        Kind::Undecided => "52c0c4bfba6e4a6696396fab43574c4b",
        Kind::Trap => "dc3bdb64430946c9baa96b2bf9b5a0c1",
        Kind::Probed => "c1b1f5839b22401fb7a03061a748853f",
        Kind::ProbeViolated => "ecf799cdff0c4e26b08beb028831411c",
        Kind::Warning => "f181e48a4e974ece8bc9c807be5f22a9",
    }
}

/// How urgent an event is. [`crate::log`] makes of an error the journal's "critical".
const fn level(event: &Event) -> Level {
    match event.kind {
        Kind::Violated | Kind::ProbeViolated => Level::ERROR,
        Kind::Drift | Kind::NotRepaired | Kind::Probed if event.held => Level::INFO,
        Kind::Drift
        | Kind::NotRepaired
        | Kind::Fight
        | Kind::Undecided
        | Kind::Trap
        | Kind::Probed
        | Kind::Warning => Level::WARN,
        Kind::Started
        | Kind::Stopped
        | Kind::Posture
        | Kind::Reloaded
        | Kind::Installed
        | Kind::Held => Level::INFO,
    }
}

/// How the guarantee stands after the event, where it says so.
const fn state(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Held => Some(Standing::Held.name()),
        Kind::Violated => Some(Standing::Violated.name()),
        Kind::Undecided => Some(Standing::Undecided.name()),
        _ => None,
    }
}

/// Writes an event down. Its text has been made safe to print.
pub fn say(event: &Event) {
    let by = event.by.as_ref();
    let window = event.repair.map(|repair| repair.as_micros() as u64);
    let objects = Some(event.objects.join("\n")).filter(|objects| !objects.is_empty());
    macro_rules! say {
        ($macro:ident) => {
            tracing::$macro!(
                message_id = message_id(event.kind),
                netguard_event = event.seq,
                netguard_kind = event.kind.name(),
                netguard_guarantee = event.guarantee.map(|guarantee| guarantee.name()),
                netguard_state = state(event.kind),
                netguard_by_comm = by.map(|by| by.comm.as_str()),
                netguard_by_pid = by.map(|by| by.pid),
                netguard_by_exe = by.and_then(|by| by.exe.as_deref()),
                netguard_by_unit = by.and_then(|by| by.unit.as_deref()),
                netguard_window_usec = window,
                netguard_objects = objects.as_deref(),
                "{}",
                event.sentence()
            )
        };
    }
    match level(event) {
        Level::ERROR => say!(error),
        Level::WARN => say!(warn),
        _ => say!(info),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::events::event::By;
    use crate::guarantee::Guarantee;

    /// What an event is in a log with levels and fields.
    fn said(event: &Event) -> String {
        let (written, log) = io::pipe().unwrap();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(Arc::new(log))
            .finish();
        tracing::subscriber::with_default(log, || say(event));
        io::read_to_string(written).unwrap()
    }

    #[test]
    fn an_event_is_written_down_as_urgent_as_it_is_and_with_what_is_known() {
        for (kind, level) in [
            (Kind::Violated, "ERROR"),
            (Kind::Undecided, "WARN"),
            (Kind::Held, "INFO"),
        ] {
            let said = said(&Event::new(kind, "so it is"));
            let begin = format!("{level} so it is message_id=");
            assert!(said.trim_start().starts_with(&begin), "{said}");
            let state = format!("netguard_state={:?}", kind.name());
            assert!(said.contains(&state), "{said}");
            assert!(!said.contains("netguard_objects"), "{said}");
        }
        let drift = Event {
            guarantee: Some(Guarantee::ImdsBlock),
            objects: vec!["one".to_owned(), "two".to_owned()],
            repair: Some(Duration::from_micros(166)),
            by: Some(By {
                pid: 4711,
                comm: "iptables".to_owned(),
                ..By::default()
            }),
            ..Event::new(Kind::Drift, "put back")
        };
        let said = said(&drift);
        for field in [
            "netguard_guarantee=\"imds-block\"",
            "netguard_by_comm=\"iptables\"",
            "netguard_by_pid=4711",
            "netguard_window_usec=166",
            "netguard_objects=\"one\\ntwo\"",
        ] {
            assert!(said.contains(field), "{field}: {said}");
        }
        assert!(!said.contains("netguard_by_exe"), "{said}");
    }

    #[test]
    fn the_catalog_explains_every_kind_once() {
        let catalog = include_str!("../../systemd/ecs-netguard.catalog");
        let entries: Vec<&str> = catalog.split("\n-- ").skip(1).collect();
        assert_eq!(entries.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let id = message_id(kind);
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let entry = entries.iter().find(|entry| entry.starts_with(id));
            let entry = entry.unwrap_or_else(|| panic!("{}", kind.name()));
            assert!(entry.contains("\nSubject: ") && entry.contains("\n\n"));
        }
    }

    #[test]
    fn what_is_urgent() {
        let level = |kind| level(&Event::new(kind, ""));
        assert_eq!(level(Kind::Violated), Level::ERROR);
        assert_eq!(level(Kind::Drift), Level::WARN);
        assert_eq!(level(Kind::Trap), Level::WARN);
        assert_eq!(level(Kind::Held), Level::INFO);
        let held = Event {
            held: true,
            ..Event::new(Kind::Drift, "")
        };
        assert_eq!(super::level(&held), Level::INFO);
    }
}
