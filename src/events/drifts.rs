//! From what the sentinel tells to what people read: who it was, what it was about, how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::sanitize;
use crate::events::{By, Event, Kind};
use crate::guarantee::Guarantee;
use crate::plan::{Drift, DriftKind};
use crate::sentinel::Displacement;

/// How many displacements of one kind are told one by one.
const EACH: u32 = 10;

/// For how long they are counted, and how often the rest is summed up.
const WINDOW: Duration = Duration::from_secs(10);

/// How many kinds are counted apart. A program may call itself what it likes.
const KINDS: usize = 32;

/// Displacements are of one kind if the same program did the same to the same guarantees; `None` is
/// for those that are too many to be told apart.
type Sort = Option<(Option<String>, BTreeSet<(Guarantee, DriftKind)>)>;

/// Makes events of displacements, and sums up where there are too many to read.
#[derive(Debug, Default)]
pub struct Witness {
    streams: BTreeMap<Sort, Stream>,
}

/// Displacements of one kind within a window.
#[derive(Debug)]
struct Stream {
    began: Instant,
    told: u32,
    /// How many were not told one by one.
    more: u32,
    slowest: Duration,
}

impl Witness {
    /// What there is to tell of a displacement: an event for each guarantee that it touched, or
    /// nothing where there were too many of its kind lately.
    pub fn saw(&mut self, displacement: &Displacement, now: Instant) -> Vec<Event> {
        let mut events = self.sum_up(now);
        let mut sort = Some(sort_of(displacement));
        if self.streams.len() >= KINDS && !self.streams.contains_key(&sort) {
            sort = None;
        }
        let stream = self.streams.entry(sort).or_insert(Stream {
            began: now,
            told: 0,
            more: 0,
            slowest: Duration::ZERO,
        });
        let fight = displacement.pause.is_some_and(|pause| pause.first);
        if stream.told >= EACH && !fight {
            stream.more += 1;
            let took = displacement.repaired.clone().unwrap_or_default();
            stream.slowest = stream.slowest.max(took);
            return events;
        }
        stream.told += 1;
        let by = displacement.by.as_ref();
        events.extend(events_of(displacement, by));
        if fight {
            events.push(fight_event(displacement, by));
        }
        events
    }

    /// What was held back, of those kinds whose time is over.
    pub fn sum_up(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.streams.retain(|sort, stream| {
            let goes_on = now.saturating_duration_since(stream.began) < WINDOW;
            if !goes_on && stream.more > 0 {
                events.push(summary(sort, stream));
            }
            goes_on
        });
        events
    }

    /// When [`Witness::sum_up`] will have something to say.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let held_back = self.streams.values().filter(|stream| stream.more > 0);
        held_back.map(|stream| stream.began + WINDOW).min()
    }
}

fn sort_of(displacement: &Displacement) -> (Option<String>, BTreeSet<(Guarantee, DriftKind)>) {
    let comm = displacement.by.as_ref().map(|by| by.comm.clone());
    let drifts = displacement.drifts.iter();
    (comm, drifts.map(|d| (d.guarantee, d.kind)).collect())
}

fn summary(sort: &Sort, stream: &Stream) -> Event {
    let (by, what) = match sort {
        Some((comm, drifts)) => {
            let names: BTreeSet<&str> = drifts.iter().map(|(g, _)| g.name()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            let by = comm.as_ref().map(|comm| format!(" by {}", sanitize(comm)));
            (by.unwrap_or_default(), names.join(", "))
        }
        None => (" by several programs".to_owned(), "rules".to_owned()),
    };
    let message = format!(
        "{what}: displaced {} more times{by} and put right each time, in at most {}",
        stream.more,
        format_duration(stream.slowest)
    );
    Event {
        repair: Some(stream.slowest),
        ..Event::new(Kind::Drift, message)
    }
}

fn events_of(displacement: &Displacement, by: Option<&By>) -> Vec<Event> {
    let guarantees: BTreeSet<Guarantee> = displacement.drifts.iter().map(|d| d.guarantee).collect();
    let of = |guarantee: Guarantee| {
        let drifts: Vec<&Drift> = displacement
            .drifts
            .iter()
            .filter(|drift| drift.guarantee == guarantee)
            .collect();
        let what = match drifts.as_slice() {
            [one] => format!("`{}` {}", one.object, one.kind),
            many => {
                let kind = many.first().map_or(String::new(), |d| d.kind.to_string());
                format!("{} rules {kind}", many.len())
            }
        };
        let (kind, end) = match &displacement.repaired {
            Ok(took) => (
                Kind::Drift,
                format!("put right in {}", format_duration(*took)),
            ),
            Err(why) => (Kind::NotRepaired, format!("NOT put right: {why}")),
        };
        let sealed = if displacement.sealed {
            "; the seal held meanwhile"
        } else {
            ""
        };
        Event {
            time: displacement.at,
            objects: drifts.iter().map(|drift| drift.object.clone()).collect(),
            by: by.cloned(),
            repair: displacement.repaired.clone().ok(),
            sealed: Some(displacement.sealed),
            ..Event::new(kind, format!("{guarantee}: {what}, {end}{sealed}")).about(guarantee)
        }
    };
    guarantees.into_iter().map(of).collect()
}

fn fight_event(displacement: &Displacement, by: Option<&By>) -> Event {
    let guarantee = displacement.drifts.first().map(|drift| drift.guarantee);
    let message = "a program undoes the guard's rules again and again; the visible rules are now put \
         back at longer and longer intervals, up to five minutes, and the seal keeps packets out. Find \
         out what runs it, and stop it or make it leave rules with the comment \"ecs-netguard: …\" \
         alone";
    Event {
        guarantee,
        by: by.cloned(),
        sealed: Some(true),
        ..Event::new(Kind::Fight, message)
    }
}

/// `81 µs`, `5.1 ms`, `2.0 s`
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
    use super::*;
    use crate::sentinel::backoff::Pause;

    fn displacement() -> Displacement {
        Displacement {
            at: std::time::SystemTime::UNIX_EPOCH,
            drifts: vec![Drift {
                guarantee: Guarantee::ImdsBlock,
                kind: DriftKind::Missing,
                object: "IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP".into(),
            }],
            by: None,
            repaired: Ok(Duration::from_micros(81)),
            sealed: true,
            pause: None,
        }
    }

    #[test]
    fn one_displacement_is_one_sentence() {
        let events = Witness::default().saw(&displacement(), Instant::now());
        let messages: Vec<&str> = events.iter().map(|e| e.message.as_str()).collect();
        insta::assert_snapshot!(messages.join("\n"), @"imds-block: `IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP` missing, put right in 81 µs; the seal held meanwhile");
    }

    #[test]
    fn a_thousand_are_ten_and_a_sum() {
        let start = Instant::now();
        let mut witness = Witness::default();
        let mut told = 0;
        for _ in 0..1000 {
            told += witness.saw(&displacement(), start).len();
        }
        assert_eq!(told, 10);
        assert_eq!(witness.sum_up(start), []);
        let due = witness.due().unwrap();
        let sums = witness.sum_up(due);
        let [sum] = sums.as_slice() else {
            panic!("{sums:?}");
        };
        assert!(sum.message.contains("990 more times"), "{}", sum.message);
        assert_eq!(witness.due(), None);
        assert_eq!(witness.saw(&displacement(), due).len(), 1);
    }

    #[test]
    fn one_kind_does_not_drown_another_and_kinds_are_bounded() {
        let start = Instant::now();
        let mut witness = Witness::default();
        for _ in 0..100 {
            witness.saw(&displacement(), start);
        }
        let by = |comm: String| Displacement {
            by: Some(By {
                comm,
                ..By::default()
            }),
            ..displacement()
        };
        assert_eq!(witness.saw(&by("nft".into()), start).len(), 1);
        for n in 0..1000 {
            witness.saw(&by(format!("p{n}")), start);
        }
        assert!(witness.streams.len() <= KINDS + 1);
    }

    #[test]
    fn a_fight_is_told_however_much_there_is_to_tell() {
        let start = Instant::now();
        let mut witness = Witness::default();
        for _ in 0..1000 {
            witness.saw(&displacement(), start);
        }
        let fight = Displacement {
            pause: Some(Pause {
                until: start,
                first: true,
            }),
            ..displacement()
        };
        let kinds: Vec<Kind> = witness.saw(&fight, start).iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Kind::Drift, Kind::Fight]);
    }
}
