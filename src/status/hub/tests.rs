use super::*;
use crate::posture::Posture;
use crate::report::{GuaranteeReport, Layer};
use crate::ruleset::Family;

fn push(hub: &Hub, count: usize) {
    for _ in 0..count {
        hub.push(Event::new(Kind::Drift, "gone"));
    }
}

fn seqs(events: &Events) -> Vec<u64> {
    events.events.iter().map(|event| event.seq).collect()
}

#[test]
fn events_are_numbered_and_asked_for_by_number() {
    let hub = Hub::new();
    assert_eq!(hub.events(0, 9), Events::default());
    push(&hub, 4);
    assert_eq!(seqs(&hub.events(0, 9)), [1, 2, 3, 4]);
    assert_eq!(seqs(&hub.events(2, 1)), [3]);
    assert_eq!(hub.events(4, 9), Events::default());
    assert_eq!(hub.events(u64::MAX, 9), Events::default());
    assert_eq!(hub.last_event(), 4);
}

#[test]
fn a_late_client_learns_how_many_events_it_missed() {
    let hub = Hub::new();
    push(&hub, RING + 10);
    let events = hub.events(3, usize::MAX);
    assert_eq!((events.missed, events.events.len()), (7, RING));
    assert_eq!(hub.events(10, 1).missed, 0);
}

#[test]
fn numbers_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(dir.path());
    push(&hub, 3);
    hub.use_disk();
    let hub = Hub::open(dir.path());
    push(&hub, 1);
    hub.use_disk();
    assert_eq!(seqs(&hub.events(0, 9)), [1, 2, 3, 4]);
    assert_eq!(seqs(&Hub::open(dir.path()).events(0, 9)), [1, 2, 3, 4]);
}

#[test]
fn a_follower_is_woken() {
    let hub = Hub::new();
    let mut last = hub.follow_events();
    push(&hub, 2);
    assert!(last.has_changed().unwrap());
    assert_eq!(*last.borrow_and_update(), 2);
}

#[test]
fn before_the_first_pass_nothing_is_known() {
    let (overall, why) = Hub::new().overall();
    assert_eq!(overall, Overall::Undecided);
    assert!(why.unwrap().contains("no verification"));
}

#[test]
fn the_last_drifts_are_the_last() {
    let hub = Hub::new();
    push(&hub, 7);
    hub.push(Event::new(Kind::Held, "again"));
    let drifts: Vec<u64> = hub.drifts().iter().map(|event| event.seq).collect();
    assert_eq!(drifts, [3, 4, 5, 6, 7]);
}

#[test]
fn what_is_too_old_is_not_relied_on() {
    let minute = Duration::from_secs(60);
    assert_eq!(stale(MISSED_INTERVALS * minute + SLACK, minute), None);
    let old = stale(
        MISSED_INTERVALS * minute + SLACK + Duration::from_secs(1),
        minute,
    );
    assert_eq!(
        old.unwrap(),
        "the last verification was 301 s ago, though one is due every 60 s"
    );
}

#[test]
fn since_when_a_guarantee_stands_so_is_kept_until_it_stands_otherwise() {
    let hub = Hub::new();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let publish = |seconds, standing| {
        let posture = Posture::everything("test");
        let mut guarantees = GuaranteeReport::all(&posture, &[], |_| None);
        guarantees[0].standing = standing;
        hub.publish(Report::new(at(seconds), guarantees), Publishing::default());
        hub.report().unwrap().guarantees[0].since
    };
    assert_eq!(publish(1, Standing::Held), Some(at(1)));
    assert_eq!(publish(2, Standing::Held), Some(at(1)));
    assert_eq!(publish(3, Standing::Violated), Some(at(3)));
    assert_eq!(publish(4, Standing::Held), Some(at(4)));
}

#[test]
fn a_quiet_look_counts_as_a_verification_and_not_as_a_pass_of_the_same_length() {
    let hub = Hub::new();
    hub.verified_again();
    assert_eq!(hub.verifications(), 0, "nothing was verified before");
    let report = Report::new(SystemTime::UNIX_EPOCH, Vec::new());
    hub.publish(report, Publishing::default());
    hub.verified_again();
    assert_eq!(hub.verifications(), 2);
    let last = hub.report().unwrap().verification.last;
    assert!(last.is_some_and(|last| last > SystemTime::UNIX_EPOCH));
    let text = hub.metrics_text();
    for line in [
        "ecs_netguard_verifications_total 2",
        "ecs_netguard_verification_duration_seconds_count 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn what_was_stopped_is_reported_until_it_is_read_again() {
    let hub = Hub::new();
    let count = PacketCount {
        family: Family::V4,
        interface: "docker+".into(),
        layer: Layer::Sealed,
        packets: 7,
    };
    hub.take(Reading {
        stopped: BTreeMap::from([(Guarantee::ImdsBlock, vec![count.clone()])]),
        ..Reading::default()
    });
    let posture = Posture::everything("test");
    let report = Report::new(
        SystemTime::UNIX_EPOCH,
        GuaranteeReport::all(&posture, &[], |_| None),
    );
    hub.publish(report, Publishing::default());
    assert_eq!(hub.report().unwrap().guarantees[0].stopped, [count]);
    let text = hub.metrics_text();
    let line = r#"ecs_netguard_packets_stopped_total{guarantee="imds-block",family="ipv4",interface="docker+",layer="sealed"} 7"#;
    assert!(text.contains(line), "{text}");
}
