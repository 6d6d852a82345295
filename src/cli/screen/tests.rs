use std::path::PathBuf;

use super::*;
use crate::events::{By, Event, Kind};
use crate::guarantee::Guarantee;
use crate::plan::{Drift, DriftKind};
use crate::posture::Posture;

use crate::report::{Backend, Daemon, Failure, Layer, PacketCount, SealReport, Trap, Verification};
use crate::ruleset::Family;
use crate::seal::SealState;

/// What a daemon answers on a bad day.
fn sample() -> Report {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let backend = |family| Backend {
        family,
        name: "iptables-nft".into(),
        version: "1.8.9".into(),
        path: "/usr/sbin/iptables".into(),
    };
    let posture = Posture::everything("ECS_AWSVPC_BLOCK_IMDS=true (/etc/ecs/ecs.config:3)");
    let mut guarantees = GuaranteeReport::all(&posture, &[], |_| None);
    guarantees.truncate(3);
    let imds = &mut guarantees[0];
    imds.standing = Standing::Violated;
    imds.layers.visible = Standing::Violated;
    imds.layers.sealed = Some(Standing::Held);
    imds.problems = vec![
        "Containers can reach the instance metadata service: tcp 172.17.0.2:40000 > 169.254.169.254:80 from \
         docker0 is accepted by filter FORWARD rule 1 (`-j ACCEPT`)"
            .into(),
    ];
    imds.stopped = vec![PacketCount {
        family: Family::V4,
        interface: "docker+".into(),
        layer: Layer::Visible,
        packets: 1,
    }];
    guarantees[2].reason = "x\u{1b}[2J".into();
    let drift = Event {
        time: time - Duration::from_secs(3_725),
        by: Some(By {
            pid: 4711,
            comm: "iptables".into(),
            ..By::default()
        }),
        ..Event::new(
            Kind::Drift,
            "imds-block: 3 rules missing, repaired in 4.1 ms",
        )
    };
    Report {
        host: Some("ip-10-0-0-10".into()),
        kernel: Some("6.1.0".into()),
        version: "0.2.0".into(),
        backends: vec![backend(Family::V4), backend(Family::V6)],
        seal: Some(SealReport {
            state: SealState::Owned,
            stored: false,
            explanation: "owned by the daemon".into(),
        }),
        drifts: vec![Drift {
            guarantee: Guarantee::ImdsBlock,
            kind: DriftKind::Missing,
            object: "IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP".into(),
        }],
        changes: vec!["rebuild IPv4 filter".into()],
        failures: vec![Failure {
            family: Family::V6,
            object: "filter".into(),
            message: "rebuild IPv6 filter: the lock is held".into(),
        }],
        recent_drifts: vec![drift],
        traps: vec![Trap {
            path: PathBuf::from("/etc/ecs/ecs.config"),
            line: 2,
            message: "in quotes".into(),
        }],
        input_warnings: vec!["a file".into()],
        warnings: vec!["something".into()],
        verification: Verification {
            last: Some(time - Duration::from_secs(2)),
            ..Verification::default()
        },
        daemon: Some(Daemon {
            pid: 1,
            started: time,
            uptime_seconds: 10_000.0,
            memory_bytes: Some(4_404_019),
            cpu_seconds: None,
            log_dropped: 0,
        }),
        ..Report::new(time, guarantees)
    }
}

#[test]
fn without_a_daemon_what_differs_and_what_was_changed_is_shown() {
    let look = Look {
        colour: false,
        width: Some(80),
    };
    let report = Report {
        daemon: None,
        host: None,
        recent_drifts: Vec::new(),
        ..sample()
    };
    insta::assert_snapshot!(look.screen(&report));
}

#[test]
fn one_screen() {
    let look = Look {
        colour: false,
        width: Some(80),
    };
    let screen = look.screen(&sample());
    insta::assert_snapshot!(screen);
    assert!(screen.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn colours_where_they_are_wanted() {
    let look = Look {
        colour: true,
        width: None,
    };
    let screen = look.screen(&sample());
    assert!(screen.starts_with("\u{1b}[1;31mNOT PROTECTED\u{1b}[0m"));
    assert!(
        !screen.contains("\u{1b}[2J"),
        "foreign text moves no cursor"
    );
}
