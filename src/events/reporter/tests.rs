use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::posture::Posture;
use crate::report::{Backend, Failure, GuaranteeReport};
use crate::ruleset::Family;

fn drift(guarantee: Guarantee, kind: DriftKind, object: &str) -> Drift {
    Drift {
        guarantee,
        kind,
        object: object.to_owned(),
    }
}

/// A report of a pass that changed something, of which nothing is left to do.
fn report() -> Report {
    let posture = Posture::everything("test");
    let guarantees = GuaranteeReport::all(&posture, &[], |_| None);
    let mut report = Report::new(SystemTime::UNIX_EPOCH, guarantees);
    report.verification.repaired = 0.004;
    report.drifts = vec![
        drift(Guarantee::ImdsBlock, DriftKind::Missing, "a"),
        drift(Guarantee::ImdsBlock, DriftKind::Missing, "b"),
        drift(Guarantee::TaskCredentials, DriftKind::Stray, "c"),
    ];
    report.changes = vec!["a step".to_owned()];
    report
}

/// A reporter that has heard of this posture and of how all stands.
fn reporter() -> Reporter {
    let mut reporter = Reporter::default();
    let quiet = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    pass(&mut reporter, &quiet, &[], &[], (true, true));
    reporter
}

fn pass(
    reporter: &mut Reporter,
    report: &Report,
    left: &[Drift],
    held_before: &[Guarantee],
    (first, new_wish): (bool, bool),
) -> String {
    let passed = Passed {
        report,
        left,
        held_before: &held_before.iter().copied().collect(),
        first,
        new_wish,
    };
    let events = reporter.pass(passed, Instant::now());
    let line = |event: &Event| {
        let about = event.guarantee.map_or("", |guarantee| guarantee.name());
        format!("{} [{about}] {}", event.kind.name(), event.message)
    };
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_first_pass_says_what_is_required_what_was_installed_and_how_all_stands() {
    let mut report = report();
    report.traps = vec![Trap {
        path: PathBuf::from("/etc/ecs/ecs.config"),
        line: 3,
        message: "in quotes".to_owned(),
    }];
    report.warnings = vec!["a warning".to_owned()];
    let backend = |family, version: &str| Backend {
        family,
        name: "iptables-nft".to_owned(),
        version: version.to_owned(),
        path: String::new(),
    };
    report.backends = vec![backend(Family::V4, "1.8.9"), backend(Family::V6, "1.8.9")];
    let mut reporter = Reporter::default();
    insta::assert_snapshot!(pass(&mut reporter, &report, &[], &[], (true, true)), @r"
    trap [] /etc/ecs/ecs.config:3: in quotes
    posture [imds-block] imds-block is required: test
    posture [awsvpc-imds-block] awsvpc-imds-block is required: test
    posture [host-imds-block] host-imds-block is not required: host_tasks = false under [imds] in config.toml
    posture [loopback-shield] loopback-shield is required: test
    posture [introspection-shield] introspection-shield is required: test
    posture [task-credentials] task-credentials is required: test
    installed [imds-block] imds-block: 2 rules installed in 4.0 ms
    installed [task-credentials] task-credentials: `c` removed in 4.0 ms
    warning [] a warning
    held [imds-block] imds-block is held
    held [awsvpc-imds-block] awsvpc-imds-block is held
    held [loopback-shield] loopback-shield is held
    held [introspection-shield] introspection-shield is held
    held [task-credentials] task-credentials is held
    started [] started; the rules are kept with iptables-nft 1.8.9
    ");
    report.changes.clear();
    assert_eq!(
        pass(&mut reporter, &report, &[], &[], (false, true)),
        "",
        "all is known"
    );
    report.backends[1].version = "1.8.10".to_owned();
    let again = pass(&mut reporter, &report, &[], &[], (true, true));
    assert_eq!(
        again,
        "started [] started; the rules are kept with iptables-nft 1.8.9 and iptables-nft 1.8.10"
    );
    report.backends.clear();
    let again = pass(&mut reporter, &report, &[], &[], (true, true));
    assert_eq!(
        again,
        "started [] started without iptables: the visible rules cannot be kept"
    );
}

#[test]
fn what_could_not_be_installed_is_not_said_to_be() {
    let mut report = report();
    report.failures = vec![Failure {
        family: Family::V4,
        object: "filter".to_owned(),
        message: "rebuild IPv4 filter: no".to_owned(),
    }];
    let left = report.drifts[1..].to_vec();
    let mut reporter = reporter();
    insta::assert_snapshot!(pass(&mut reporter, &report, &left, &[], (false, true)), @r"
    not-repaired [imds-block] imds-block: 2 rules could NOT be installed: rebuild IPv4 filter: no
    not-repaired [task-credentials] task-credentials: `c` could NOT be removed: rebuild IPv4 filter: no
    ");
}

#[test]
fn drift_is_an_alarm_unless_the_guarantee_held_meanwhile() {
    let report = report();
    let said = pass(
        &mut reporter(),
        &report,
        &[],
        &[Guarantee::ImdsBlock],
        (false, false),
    );
    insta::assert_snapshot!(said, @r"
    drift [imds-block] imds-block: 2 rules missing, repaired in 4.0 ms; the guarantee held meanwhile
    drift [task-credentials] task-credentials: `c` no longer wanted, repaired in 4.0 ms
    ");
}

#[test]
fn what_a_pass_only_saw_is_not_said_to_be_repaired() {
    let mut report = report();
    report.changes.clear();
    assert_eq!(
        pass(
            &mut reporter(),
            &report,
            &report.drifts,
            &[],
            (false, false)
        ),
        ""
    );
}

#[test]
fn what_cannot_be_repaired_is_said_once_until_it_differs() {
    let mut report = report();
    report.changes.clear();
    let failure = |message: &str| Failure {
        family: Family::V4,
        object: "filter".to_owned(),
        message: message.to_owned(),
    };
    report.failures = vec![failure("the lock is held")];
    let left = report.drifts.clone();
    let mut reporter = reporter();
    insta::assert_snapshot!(pass(&mut reporter, &report, &left, &[], (false, false)), @r"
    not-repaired [imds-block] imds-block: 2 rules missing, NOT repaired: the lock is held
    not-repaired [task-credentials] task-credentials: `c` no longer wanted, NOT repaired: the lock is held
    ");
    assert_eq!(pass(&mut reporter, &report, &left, &[], (false, false)), "");
    // Less is left than before: that is news.
    insta::assert_snapshot!(pass(&mut reporter, &report, &left[..2], &[], (false, false)), @r"
    not-repaired [imds-block] imds-block: 2 rules missing, NOT repaired: the lock is held
    drift [task-credentials] task-credentials: `c` no longer wanted, repaired in 4.0 ms
    ");
    // Once repaired it is drift again when it comes back.
    report.failures.clear();
    report.changes = vec!["a step".to_owned()];
    pass(&mut reporter, &report, &[], &[], (false, false));
    let said = pass(&mut reporter, &report, &left, &[], (false, false));
    assert!(
        said.contains("NOT repaired: it was changed again meanwhile"),
        "{said}"
    );
}

#[test]
fn how_a_guarantee_stands_is_said_when_it_changes() {
    let mut reporter = reporter();
    let mut report = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    let mut said = |standing, problem: &str| {
        report.guarantees[0].standing = standing;
        report.guarantees[0].problems = vec![problem.to_owned()];
        pass(&mut reporter, &report, &[], &[], (false, false))
    };
    use Standing::{Held, NotRequired, Undecided, Violated};
    let lines = [
        said(Violated, "x"),
        said(Violated, "x"),
        said(Violated, "y"),
        said(Undecided, "z"),
        said(Held, ""),
        said(Held, ""),
        said(NotRequired, ""),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    violated [imds-block] imds-block is VIOLATED: x

    violated [imds-block] imds-block is VIOLATED: y
    undecided [imds-block] imds-block cannot be proved: z
    held [imds-block] imds-block is held
    ");
}

#[test]
fn a_violation_names_the_program_that_changed_what_is_kept_since_it_held() {
    let mut reporter = reporter();
    let displaced = |reporter: &mut Reporter, guarantee, comm: &str| {
        let displacement = Displacement {
            at: SystemTime::UNIX_EPOCH,
            drifts: vec![drift(guarantee, DriftKind::Missing, "a")],
            by: Some(By {
                comm: comm.to_owned(),
                ..By::default()
            }),
            repaired: Ok(Duration::ZERO),
            sealed: None,
            held: false,
            paused: Vec::new(),
        };
        reporter.displaced(&displacement, Instant::now());
    };
    let mut report = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    let mut by = |reporter: &mut Reporter, standing| {
        report.guarantees[0].standing = standing;
        let passed = Passed {
            report: &report,
            left: &[],
            held_before: &BTreeSet::new(),
            first: false,
            new_wish: false,
        };
        let events = reporter.pass(passed, Instant::now());
        let comm = |event: Event| event.by.map(|by| by.comm);
        events.into_iter().map(comm).collect::<Vec<_>>()
    };
    use Standing::{Held, Undecided, Violated};
    assert_eq!(by(&mut reporter, Violated), [None], "it is not known");
    displaced(&mut reporter, Guarantee::TaskCredentials, "ufw");
    displaced(&mut reporter, Guarantee::ImdsBlock, "nft");
    displaced(&mut reporter, Guarantee::ImdsBlock, "iptables");
    let iptables = [Some("iptables".to_owned())];
    assert_eq!(by(&mut reporter, Undecided), iptables);
    assert_eq!(by(&mut reporter, Violated), iptables);
    assert_eq!(by(&mut reporter, Held), [None]);
    displaced(&mut reporter, Guarantee::ImdsBlock, "iptables");
    assert_eq!(by(&mut reporter, Held), [], "it held all the while");
    assert_eq!(by(&mut reporter, Violated), [None], "it was not that");
}

#[test]
fn a_guarantee_that_was_never_anything_else_is_not_said_to_be_held_again() {
    let mut reporter = Reporter::default();
    let report = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    let said = pass(&mut reporter, &report, &[], &[], (false, false));
    assert!(!said.contains("is held"), "{said}");
    assert!(said.contains("imds-block is required: test"));
}

#[test]
fn a_changed_posture_is_said_whole_and_a_trap_once() {
    let mut reporter = reporter();
    let mut report = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    report.guarantees[0].reason = "another line".to_owned();
    let said = pass(&mut reporter, &report, &[], &[], (false, false));
    assert_eq!(said.lines().count(), Guarantee::ALL.len());
    assert!(said.contains("posture [imds-block] imds-block is required: another line"));
    assert!(said.contains("host-imds-block is not required"));
}

#[test]
fn a_trouble_is_reported_once_an_hour_however_often_it_comes() {
    let mut reporter = Reporter::default();
    let start = Instant::now();
    assert!(reporter.trouble("no socket".into(), start).is_some());
    assert_eq!(reporter.due(), None);
    for _ in 0..9 {
        assert_eq!(reporter.trouble("no socket".into(), start), None);
    }
    assert!(reporter.trouble("another".into(), start).is_some());
    let due = start + TROUBLES.window;
    assert_eq!(reporter.due(), Some(due));
    let sums = reporter.sum_up(due);
    let messages: Vec<&str> = sums.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(messages, ["no socket (9 more times within an hour)"]);
    assert!(
        reporter.trouble("no socket".into(), due).is_some(),
        "it came back"
    );
}

#[test]
fn a_warning_that_comes_and_goes_does_not_fill_the_history() {
    let mut reporter = reporter();
    let mut report = Report {
        drifts: Vec::new(),
        changes: Vec::new(),
        ..report()
    };
    let mut said = 0;
    for round in 0..100 {
        report.warnings = vec!["a warning".to_owned(); round % 2];
        report.input_warnings = vec!["a file".to_owned(); round % 2];
        let lines = pass(&mut reporter, &report, &[], &[], (false, false));
        said += lines.lines().count();
    }
    assert_eq!(said, 2);
}

#[test]
fn of_a_thousand_displacements_ten_are_recorded_and_a_sum() {
    let displacement = Displacement {
        at: SystemTime::UNIX_EPOCH,
        drifts: vec![drift(Guarantee::ImdsBlock, DriftKind::Missing, "a")],
        by: None,
        repaired: Err("no".to_owned()),
        sealed: Some(true),
        held: false,
        paused: Vec::new(),
    };
    let mut reporter = Reporter::default();
    let start = Instant::now();
    let mut recorded = 0;
    for _ in 0..1000 {
        recorded += reporter.displaced(&displacement, start).len();
    }
    assert_eq!(recorded, 10);
    let sums = reporter.sum_up(reporter.due().unwrap());
    let messages: Vec<&str> = sums.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        messages,
        ["imds-block: displaced 990 more times; NOT repaired"]
    );
}
