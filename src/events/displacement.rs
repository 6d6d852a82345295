//! Drift, and what came of it, as a value; and the events that it makes. Pure.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::event::{By, Event, Kind};
use super::limit::{HeldBack, Rate};
use crate::config::sanitize;
use crate::guarantee::Guarantee;
use crate::plan::{ChainId, Drift, DriftKind};
use crate::sentinel::backoff::Pause;

/// How many displacements of one sort are recorded one by one.
pub(super) const RATE: Rate = Rate {
    each: 10,
    window: Duration::from_secs(10),
};

/// What another program did to what the guard keeps, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Displacement {
    /// When it was noticed.
    pub at: SystemTime,
    /// What differed.
    pub drifts: Vec<Drift>,
    /// The program, where the kernel names it.
    pub by: Option<By>,
    /// How long it took from noticing it until it was repaired, or why it was not.
    pub repaired: Result<Duration, String>,
    /// Whether the seal kept packets out all the while; `None` where that is not known.
    pub sealed: Option<bool>,
    /// Whether the guarantee was proved to hold meanwhile, so that this is no alarm.
    pub held: bool,
    /// The chains that are now left alone for a while.
    pub paused: Vec<(ChainId, Pause)>,
}

/// Displacements are of one sort if the same program did the same to the same guarantees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sort {
    comm: Option<String>,
    drifts: BTreeSet<(Guarantee, DriftKind)>,
}

impl Displacement {
    pub(super) fn sort(&self) -> Sort {
        Sort {
            comm: self.by.as_ref().map(|by| by.comm.clone()),
            drifts: self.drifts.iter().map(|d| (d.guarantee, d.kind)).collect(),
        }
    }

    /// Whether a fight begins with it: that is always recorded.
    pub(super) fn begins_fight(&self) -> bool {
        self.paused.iter().any(|(_, pause)| pause.first)
    }

    /// An event for each guarantee and kind of drift, and one for a fight that begins.
    pub(super) fn events(&self) -> Vec<Event> {
        let groups: BTreeSet<(Guarantee, DriftKind)> =
            self.drifts.iter().map(|d| (d.guarantee, d.kind)).collect();
        let fight = self.begins_fight().then(|| self.fight());
        let events = groups.into_iter().map(|of| self.event(of));
        events.chain(fight).collect()
    }

    fn event(&self, (guarantee, kind): (Guarantee, DriftKind)) -> Event {
        let of = |drift: &&Drift| (drift.guarantee, drift.kind) == (guarantee, kind);
        let objects: Vec<String> = (self.drifts.iter().filter(of))
            .map(|drift| drift.object.clone())
            .collect();
        let what = objects_in_words(&objects);
        let (event, end) = match &self.repaired {
            Ok(took) => (
                Kind::Drift,
                format!("repaired in {}", format_duration(*took)),
            ),
            Err(why) => (Kind::NotRepaired, format!("NOT repaired: {why}")),
        };
        let meanwhile = match (self.held, self.sealed) {
            (true, _) => "; the guarantee held meanwhile",
            (_, Some(true)) => "; the seal held meanwhile",
            _ => "",
        };
        Event {
            time: self.at,
            objects,
            by: self.by.clone(),
            repair: self.repaired.clone().ok().filter(|_| !self.held),
            sealed: self.sealed,
            held: self.held,
            ..Event::new(
                event,
                format!("{guarantee}: {what} {kind}, {end}{meanwhile}"),
            )
            .about(guarantee)
        }
    }

    fn fight(&self) -> Event {
        let message = "a program keeps undoing the guard's rules; the visible rules are now restored at \
             longer and longer intervals, up to five minutes, and the seal keeps packets out. Find out \
             what runs it, and stop it or make it leave rules with the comment \"ecs-netguard: …\" alone";
        Event {
            guarantee: self.drifts.first().map(|drift| drift.guarantee),
            by: self.by.clone(),
            sealed: Some(true),
            ..Event::new(Kind::Fight, message)
        }
    }
}

/// One event for those that were held back; of many sorts where there is none.
pub(super) fn summary(sort: Option<&Sort>, held_back: &HeldBack) -> Event {
    let (by, what) = match sort {
        Some(sort) => {
            let names: BTreeSet<&str> = sort.drifts.iter().map(|(g, _)| g.name()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            let comm = sort.comm.as_ref();
            let by = comm.map_or_else(String::new, |comm| format!(" by {}", sanitize(comm)));
            (by, names.join(", "))
        }
        None => (" by several programs".to_owned(), "rules".to_owned()),
    };
    let HeldBack {
        count,
        failed,
        slowest,
    } = held_back;
    let slowest_in_words = format_duration(*slowest);
    let end = match failed {
        0 => format!("repaired each time, in at most {slowest_in_words}"),
        _ if failed == count => "NOT repaired".to_owned(),
        _ => format!(
            "repaired {} times, in at most {slowest_in_words}, and {failed} times NOT repaired",
            count - failed
        ),
    };
    let times = if *count == 1 { "time" } else { "times" };
    let kind = if *failed == 0 {
        Kind::Drift
    } else {
        Kind::NotRepaired
    };
    Event {
        repair: (failed < count).then_some(*slowest),
        ..Event::new(
            kind,
            format!("{what}: displaced {count} more {times}{by}; {end}"),
        )
    }
}

/// "3 rules", or the one there is.
pub(super) fn objects_in_words(objects: &[String]) -> String {
    match objects {
        [one] => format!("`{one}`"),
        many => format!("{} rules", many.len()),
    }
}

/// `81 µs`, `5.1 ms`, `2.0 s`
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1e-3 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ruleset::Family;

    fn drift(guarantee: Guarantee, kind: DriftKind, object: &str) -> Drift {
        Drift {
            guarantee,
            kind,
            object: object.to_owned(),
        }
    }

    fn displacement() -> Displacement {
        let object = "IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP";
        Displacement {
            at: SystemTime::UNIX_EPOCH,
            drifts: vec![drift(Guarantee::ImdsBlock, DriftKind::Missing, object)],
            by: None,
            repaired: Ok(Duration::from_micros(81)),
            sealed: Some(true),
            held: false,
            paused: Vec::new(),
        }
    }

    fn messages(displacement: &Displacement) -> String {
        let events = displacement.events();
        let lines = events
            .iter()
            .map(|e| format!("{}: {}", e.kind.name(), e.message));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_displacement_in_words() {
        let mut of = displacement();
        insta::assert_snapshot!(messages(&of), @"drift: imds-block: `IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP` missing, repaired in 81 µs; the seal held meanwhile");
        of.sealed = Some(false);
        of.repaired = Err("another table owns the name".to_owned());
        insta::assert_snapshot!(messages(&of), @"not-repaired: imds-block: `IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP` missing, NOT repaired: another table owns the name");
        of.repaired = Ok(Duration::from_millis(4));
        of.held = true;
        insta::assert_snapshot!(messages(&of), @"drift: imds-block: `IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP` missing, repaired in 4.0 ms; the guarantee held meanwhile");
        assert_eq!(of.events()[0].repair, None, "it is no alarm");
        assert!(of.events()[0].held);
    }

    #[test]
    fn one_event_for_each_guarantee_and_kind_of_drift() {
        let mut of = displacement();
        of.sealed = None;
        of.drifts = vec![
            drift(Guarantee::TaskCredentials, DriftKind::Missing, "a"),
            drift(Guarantee::ImdsBlock, DriftKind::Missing, "b"),
            drift(Guarantee::TaskCredentials, DriftKind::Stray, "c"),
            drift(Guarantee::TaskCredentials, DriftKind::Missing, "d"),
        ];
        insta::assert_snapshot!(messages(&of), @r"
        drift: imds-block: `b` missing, repaired in 81 µs
        drift: task-credentials: 2 rules missing, repaired in 81 µs
        drift: task-credentials: `c` no longer wanted, repaired in 81 µs
        ");
        assert_eq!(of.events()[1].objects, ["a", "d"]);
        assert_eq!(of.events()[1].guarantee, Some(Guarantee::TaskCredentials));
    }

    #[test]
    fn a_fight_that_begins_is_one_event_more() {
        let mut of = displacement();
        let pause = |first| {
            let chain = ChainId {
                family: Family::V4,
                table: "filter".to_owned(),
                chain: "FORWARD".to_owned(),
            };
            let until = Instant::now();
            (chain, Pause { until, first })
        };
        of.paused = vec![pause(false)];
        assert_eq!(of.events().len(), 1, "it goes on");
        of.paused = vec![pause(false), pause(true)];
        let kinds: Vec<Kind> = of.events().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Drift, Kind::Fight]);
    }

    #[test]
    fn sorts_differ_by_program_and_by_what_was_done() {
        let of = displacement();
        let mut other = of.clone();
        other.drifts[0].object = "another rule".to_owned();
        assert_eq!(of.sort(), other.sort());
        other.drifts[0].kind = DriftKind::Displaced;
        assert_ne!(of.sort(), other.sort());
        let mut other = of.clone();
        other.by = Some(By::default());
        assert_ne!(of.sort(), other.sort());
    }

    #[test]
    fn a_summary_counts_failures_as_failures() {
        let mut of = displacement();
        of.by = Some(By {
            comm: "nft".to_owned(),
            ..By::default()
        });
        let sort = of.sort();
        let slowest = Duration::from_millis(7);
        let mut lines = Vec::new();
        for (count, failed) in [(1, 0), (990, 0), (990, 990), (990, 10)] {
            let held_back = HeldBack {
                count,
                failed,
                slowest,
            };
            let event = summary(Some(&sort), &held_back);
            assert_eq!(event.kind == Kind::Drift, failed == 0);
            assert_eq!(event.repair, (failed < count).then_some(slowest));
            lines.push(event.message);
        }
        lines.push(summary(None, &HeldBack::default()).message);
        insta::assert_snapshot!(lines.join("\n"), @r"
        imds-block: displaced 1 more time by nft; repaired each time, in at most 7.0 ms
        imds-block: displaced 990 more times by nft; repaired each time, in at most 7.0 ms
        imds-block: displaced 990 more times by nft; NOT repaired
        imds-block: displaced 990 more times by nft; repaired 980 times, in at most 7.0 ms, and 10 times NOT repaired
        rules: displaced 0 more times by several programs; repaired each time, in at most 0 µs
        ");
    }

    #[test]
    fn durations_in_words() {
        for (micros, words) in [
            (81, "81 µs"),
            (999, "999 µs"),
            (1000, "1.0 ms"),
            (5_130, "5.1 ms"),
            (999_900, "999.9 ms"),
            (1_000_000, "1.0 s"),
            (61_500_000, "61.5 s"),
        ] {
            assert_eq!(format_duration(Duration::from_micros(micros)), words);
        }
    }
}
