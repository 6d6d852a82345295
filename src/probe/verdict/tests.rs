use std::net::IpAddr;

use super::*;
use crate::probe::model::Asked;

fn row(what: Kind, to: &str, expected: Expected, seen: Seen) -> Row {
    let to: IpAddr = to.parse().unwrap();
    let by = (seen == Seen::Left).then(|| "ens5".to_owned());
    Row {
        what,
        to,
        expected,
        seen,
        layer: None,
        by,
    }
}

const V4: &str = "169.254.169.254";

fn host(service: Seen, agent: Seen) -> Tried {
    let mut tried = Tried::new(&Asked {
        place: Place::Host,
        block: None,
        ipv6: false,
        credentials: true,
        frames: false,
        netns: None,
    });
    tried.rows = vec![
        row(Kind::Tcp, V4, Expected::Answered, service),
        row(Kind::Connect, "127.0.0.1", Expected::Anything, agent),
    ];
    tried
}

fn bridge(block: Option<Guarantee>, rows: Vec<Row>) -> Tried {
    Tried {
        place: Place::Bridge {
            name: "docker0".to_owned(),
        },
        sources: Vec::new(),
        guarantee: block,
        rows,
        failure: None,
        notes: Vec::new(),
    }
}

fn judged(tried: &[Tried], check: Standing) -> Verdict {
    let check = BTreeMap::from([
        (Guarantee::ImdsBlock, check),
        (Guarantee::TaskCredentials, Standing::Held),
        (Guarantee::HostImdsBlock, Standing::NotRequired),
    ]);
    Verdict::of(tried, &check)
}

fn packet(seen: Seen) -> Row {
    row(Kind::Udp, V4, Expected::Stopped, seen)
}

fn connection(seen: Seen) -> Row {
    row(Kind::Connect, "169.254.170.2", Expected::Answered, seen)
}

const BLOCK: Option<Guarantee> = Some(Guarantee::ImdsBlock);

#[test]
fn the_worse_of_packets_and_proof_counts_and_a_contradiction_is_said() {
    use Standing::{Held, Undecided, Violated};
    for (seen, check, verdict, disagrees) in [
        (Seen::Stopped, Held, Held, false),
        (Seen::NoAnswer, Held, Held, false),
        (Seen::Left, Held, Violated, true),
        (Seen::Answered, Held, Violated, true),
        (Seen::Answered, Violated, Violated, false),
        (Seen::Stopped, Violated, Violated, true),
        (Seen::Stopped, Undecided, Undecided, false),
        (Seen::Left, Undecided, Violated, false),
        (Seen::NotSent, Held, Undecided, false),
    ] {
        let rows = vec![packet(seen), connection(Seen::Answered)];
        let tried = [host(Seen::Answered, Seen::Answered), bridge(BLOCK, rows)];
        let judged = judged(&tried, check);
        let found = (judged.verdict, !judged.disagreements.is_empty());
        assert_eq!(
            found,
            (verdict, disagrees),
            "{seen:?} {check:?}: {judged:?}"
        );
    }
}

#[test]
fn without_a_metadata_service_silence_proves_nothing_and_a_packet_that_left_does() {
    for (seen, verdict) in [
        (Seen::Stopped, Standing::Undecided),
        (Seen::Left, Standing::Violated),
    ] {
        let tried = [
            host(Seen::Left, Seen::Answered),
            bridge(BLOCK, vec![packet(seen)]),
        ];
        let judged = judged(&tried, Standing::Held);
        assert_eq!(judged.verdict, verdict, "{judged:?}");
        if seen == Seen::Stopped {
            insta::assert_snapshot!(judged.summary, @"UNDECIDED: the host's own TCP packet to 169.254.169.254 is not answered: without a metadata service, silence proves nothing");
        }
    }
}

#[test]
fn a_connection_that_fails_is_a_violation_where_the_agent_listens() {
    for (agent, verdict) in [
        (Seen::Answered, Standing::Violated),
        (Seen::Refused, Standing::Undecided),
    ] {
        let rows = vec![packet(Seen::Stopped), connection(Seen::NoAnswer)];
        let tried = [host(Seen::Answered, agent), bridge(BLOCK, rows)];
        assert_eq!(judged(&tried, Standing::Held).verdict, verdict, "{agent:?}");
    }
}

#[test]
fn a_place_that_could_not_be_tried_is_undecided_and_named() {
    let mut full = bridge(BLOCK, Vec::new());
    full.failure = Some("no free address".to_owned());
    let judged = judged(
        &[host(Seen::Answered, Seen::Answered), full],
        Standing::Held,
    );
    assert_eq!(judged.verdict, Standing::Undecided);
    assert_eq!(judged.summary, "UNDECIDED: bridge docker0: no free address");
}

#[test]
fn what_no_guarantee_covers_is_noted_and_breaks_none() {
    let rows = vec![row(Kind::Tcp, V4, Expected::Anything, Seen::Answered)];
    let tried = [host(Seen::Answered, Seen::Answered), bridge(None, rows)];
    let judged = judged(&tried, Standing::Held);
    assert_eq!(judged.verdict, Standing::Held);
    assert_eq!(judged.guarantees[0].packets, None);
    assert!(judged.notes[0].contains("[imds] interfaces"), "{judged:?}");
}

#[test]
fn a_violation_says_where_and_how() {
    let rows = vec![connection(Seen::NoAnswer), packet(Seen::Left)];
    let tried = [host(Seen::Answered, Seen::Answered), bridge(BLOCK, rows)];
    let judged = judged(&tried, Standing::Violated);
    insta::assert_snapshot!(judged.summary, @"VIOLATED: from bridge docker0, a packet (udp) to 169.254.169.254 left by ens5");
}
