use std::time::{Duration, UNIX_EPOCH};

use super::names::MAX_COMMANDS;
use super::*;
use crate::events::By;
use crate::posture::Posture;
use crate::report::{EdgeReport, GuaranteeReport};
use crate::seal::SealState;
use crate::verdict::Standing;

fn drift(comm: &str) -> Event {
    Event {
        by: Some(By {
            pid: 1,
            comm: comm.to_owned(),
            ..By::default()
        }),
        repair: Some(Duration::from_millis(2)),
        ..Event::new(Kind::Drift, "gone").about(Guarantee::ImdsBlock)
    }
}

#[test]
fn drift_is_counted_by_command_and_the_time_it_was_open() {
    let metrics = Metrics::new(UNIX_EPOCH);
    metrics.count(&drift("nft"));
    metrics.count(&Event {
        sealed: Some(true),
        ..drift("nft")
    });
    let text = metrics.text(Overall::Protected);
    for line in [
        r#"ecs_netguard_drift_total{guarantee="imds-block",command="nft"} 2"#,
        r#"ecs_netguard_repairs_total{guarantee="imds-block",result="repaired"} 2"#,
        r#"ecs_netguard_window_seconds_total{guarantee="imds-block"} 0.002"#,
        r#"ecs_netguard_repair_duration_seconds_count 2"#,
        r#"ecs_netguard_state{state="protected"} 1"#,
        r#"ecs_netguard_state{state="undecided"} 0"#,
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}

#[test]
fn names_that_anybody_can_choose_are_bounded_and_harmless() {
    let metrics = Metrics::new(UNIX_EPOCH);
    metrics.count(&drift("a\"b\n{c}\u{202e}"));
    for n in 0..1000 {
        metrics.count(&drift(&format!("name{n}")));
    }
    let text = metrics.text(Overall::Protected);
    let drift: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ecs_netguard_drift_total"))
        .collect();
    assert_eq!(drift.len(), MAX_COMMANDS + 1, "{text}");
    assert!(text.contains(r#"command="a_b__c__"} 1"#), "{text}");
    assert!(text.contains(r#"command="other"} 981"#), "{text}");
}

#[test]
fn what_protection_lacks_is_counted_and_goes_with_its_cause() {
    let metrics = Metrics::new(UNIX_EPOCH);
    let mut report = Report::new(UNIX_EPOCH, Vec::new());
    report.uncovered = vec!["virbr0".to_owned()];
    report.tasks_unknown = vec!["left alone".to_owned(); 2];
    report.edge = Some(EdgeReport {
        state: SealState::Missing,
        stored: false,
        explanation: String::new(),
        interfaces: ["ens5", "ens6", "ens7"].map(str::to_owned).into(),
        uncovered: ["ens6", "ens7"].map(str::to_owned).into(),
    });
    metrics.note(&report);
    metrics.worker_restarted();
    let text = metrics.text(Overall::Protected);
    for line in [
        r#"ecs_netguard_uncovered_interfaces{layer="visible"} 1"#,
        r#"ecs_netguard_uncovered_interfaces{layer="edge"} 2"#,
        r#"ecs_netguard_layer_state{layer="edge",state="missing"} 1"#,
        "ecs_netguard_tasks_unknown 2",
        "ecs_netguard_worker_restarts_total 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}:\n{text}");
    }
    metrics.note(&Report::new(UNIX_EPOCH, Vec::new()));
    let text = metrics.text(Overall::Protected);
    for line in [
        r#"ecs_netguard_uncovered_interfaces{layer="visible"} 0"#,
        r#"ecs_netguard_uncovered_interfaces{layer="edge"} 0"#,
        "ecs_netguard_tasks_unknown 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}:\n{text}");
    }
}

#[test]
fn the_last_program_that_changed_a_guarantees_rules_is_named_and_no_other() {
    let metrics = Metrics::new(UNIX_EPOCH);
    let at = |second, comm: &str, parent: Option<&str>| {
        let mut event = drift(comm);
        event.time = UNIX_EPOCH + Duration::from_secs(second);
        if let Some(by) = &mut event.by {
            by.parent = parent.map(str::to_owned);
        }
        metrics.count(&event);
    };
    at(100, "iptables", Some("deploy.sh (pid 7) ← cron (pid 6)"));
    at(200, "nft", None);
    at(300, "iptables", Some("a b.sh (pid 9)"));
    metrics.count(&Event {
        kind: Kind::NotRepaired,
        by: None,
        ..drift("")
    });
    let text = metrics.text(Overall::Protected);
    for counted in [
        r#"drift_total{guarantee="imds-block",command="iptables"} 2"#,
        r#"repairs_total{guarantee="imds-block",result="failed"} 1"#,
    ] {
        assert!(text.contains(counted), "{counted}:\n{text}");
    }
    assert!(!text.contains(r#"command="unknown""#), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ecs_netguard_last_drift"))
        .collect();
    assert_eq!(
        lines,
        [
            r#"ecs_netguard_last_drift_timestamp_seconds{guarantee="imds-block",command="iptables",parent="a_b.sh"} 300.0"#
        ]
    );
}

#[test]
fn a_guarantee_has_one_state_and_one_source_at_a_time() {
    let metrics = Metrics::new(UNIX_EPOCH);
    let mut report = Report::new(
        UNIX_EPOCH,
        GuaranteeReport::all(&Posture::everything("first"), &[], |_| None),
    );
    for (state, second, reason) in [
        (Standing::Held, 10, "first"),
        (Standing::Violated, 20, "second"),
    ] {
        for of in &mut report.guarantees {
            of.standing = state;
            of.since = Some(UNIX_EPOCH + Duration::from_secs(second));
            of.reason = reason.to_owned();
        }
        metrics.note(&report);
    }
    let text = metrics.text(Overall::NotProtected);
    let of = |name: &str| {
        let start = format!("ecs_netguard_{name}{{guarantee=\"imds-block\"");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        of("guarantee_since_timestamp_seconds"),
        r#"ecs_netguard_guarantee_since_timestamp_seconds{guarantee="imds-block",state="violated"} 20.0"#
    );
    assert_eq!(
        of("guarantee_required"),
        r#"ecs_netguard_guarantee_required{guarantee="imds-block",source="second"} 1"#
    );
}
