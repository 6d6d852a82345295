use std::path::PathBuf;

use super::*;
use crate::events::{By, Event, Kind};
use crate::guarantee::Guarantee;
use crate::ruleset::Family;
use crate::seal::SealState;
use crate::status::model::{
    Backend, Daemon, Layer, Layers, SCHEMA, Seal, Stopped, Trap, Verification,
};

fn sample() -> Status {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let guarantee = |name, standing, reason: &str, problems: &[&str]| GuaranteeStatus {
        name,
        standing,
        required: standing != Standing::NotRequired,
        reason: reason.to_owned(),
        since: time,
        problems: problems.iter().map(|p| (*p).to_owned()).collect(),
        layers: Layers {
            visible: standing,
            sealed: (standing == Standing::Violated).then_some(Standing::Held),
        },
        stopped: Vec::new(),
    };
    let backend = |family| Backend {
        family,
        name: "iptables-nft".into(),
        version: "1.8.9".into(),
        path: "/usr/sbin/iptables".into(),
    };
    let mut imds = guarantee(
        Guarantee::ImdsBlock,
        Standing::Violated,
        "ECS_AWSVPC_BLOCK_IMDS=true (/etc/ecs/ecs.config:3)",
        &["not true that TCP from docker0 is dropped: it is let through by filter FORWARD rule 1"],
    );
    imds.stopped = vec![Stopped {
        family: Family::V4,
        interface: "docker+".into(),
        layer: Layer::Visible,
        packets: 7,
    }];
    let off = guarantee(
        Guarantee::LoopbackShield,
        Standing::NotRequired,
        "x\u{1b}[2J",
        &[],
    );
    let drift = Event {
        time: time - Duration::from_secs(3_725),
        by: Some(By {
            pid: 4711,
            comm: "iptables".into(),
            ..By::default()
        }),
        ..Event::new(
            Kind::Drift,
            "imds-block: 3 rules missing, put right in 4.1 ms",
        )
    };
    Status {
        schema: SCHEMA,
        version: "0.1.0".into(),
        host: "ip-10-0-0-10".into(),
        kernel: "6.1.0".into(),
        time,
        state: Overall::NotProtected,
        stale: None,
        guarantees: vec![imds, off],
        backends: vec![backend(Family::V4), backend(Family::V6)],
        seal: Some(Seal {
            state: SealState::Owned,
            stored: false,
            explanation: "nobody else can change it".into(),
        }),
        tasks: Vec::new(),
        drifts: vec![drift],
        traps: vec![Trap {
            path: PathBuf::from("/etc/ecs/ecs.config"),
            line: 2,
            message: "in quotes".into(),
        }],
        warnings: vec!["something".into()],
        verification: Verification {
            last: Some(time - Duration::from_secs(2)),
            ..Verification::default()
        },
        daemon: Daemon {
            pid: 1,
            started: time,
            uptime_seconds: 10_000.0,
            memory_bytes: Some(4_404_019),
            cpu_seconds: None,
        },
        last_event: 1,
    }
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
