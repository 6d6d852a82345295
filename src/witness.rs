//! From what the sentinel tells to what people read: who it was, what it was about, how long it took.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::event::{By, Event, Kind};
use crate::guarantee::Guarantee;
use crate::plan::Drift;
use crate::sentinel::Displacement;

/// How many displacements by one program are told one by one.
const EACH: u32 = 10;

/// For how long they are counted, and how often the rest is summed up.
const WINDOW: Duration = Duration::from_secs(10);

/// Makes events of displacements, and sums up where there are too many to read.
#[derive(Debug, Default)]
pub struct Witness {
    began: Option<Instant>,
    told: u32,
    /// What was not told one by one.
    more: Option<More>,
}

#[derive(Debug)]
struct More {
    count: u32,
    comm: Option<String>,
    guarantees: BTreeSet<Guarantee>,
    slowest: Duration,
}

impl Witness {
    /// What there is to tell of a displacement: an event for each guarantee that it touched, or
    /// nothing where there were too many lately.
    pub fn saw(&mut self, displacement: &Displacement, now: Instant) -> Vec<Event> {
        let mut events = Vec::from_iter(self.sum_up(now));
        self.told += 1;
        let fight = displacement.pause.is_some_and(|pause| pause.first);
        if self.told > EACH && !fight {
            self.add(displacement);
            return events;
        }
        let by = displacement.by.as_ref();
        events.extend(events_of(displacement, by));
        if fight {
            events.push(fight_event(displacement, by));
        }
        events
    }

    /// What was held back, once its time is over.
    pub fn sum_up(&mut self, now: Instant) -> Option<Event> {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) < WINDOW {
            return None;
        }
        self.began = Some(now);
        self.told = 0;
        let more = self.more.take()?;
        let names: Vec<&str> = more.guarantees.iter().map(|g| g.name()).collect();
        let by = match &more.comm {
            Some(comm) => format!(" by {}", crate::config::shown(comm)),
            None => String::new(),
        };
        let message = format!(
            "{}: displaced {} more times{by} and put right each time, in at most {}",
            names.join(", "),
            more.count,
            spell(more.slowest)
        );
        Some(Event {
            repair: Some(more.slowest),
            ..Event::new(Kind::Drift, message)
        })
    }

    /// When [`Witness::sum_up`] will have something to say.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.more.as_ref()?;
        Some(self.began? + WINDOW)
    }

    fn add(&mut self, displacement: &Displacement) {
        let comm = displacement.by.as_ref().map(|by| by.comm.clone());
        let more = self.more.get_or_insert(More {
            count: 0,
            comm: comm.clone(),
            guarantees: BTreeSet::new(),
            slowest: Duration::ZERO,
        });
        more.count += 1;
        if more.comm != comm {
            more.comm = None;
        }
        let guarantees = displacement.drifts.iter().map(|drift| drift.guarantee);
        more.guarantees.extend(guarantees);
        if let Ok(took) = displacement.repaired {
            more.slowest = more.slowest.max(took);
        }
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
            Ok(took) => (Kind::Drift, format!("put right in {}", spell(*took))),
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
fn spell(duration: Duration) -> String {
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
    use crate::plan::DriftKind;
    use crate::sentinel::fight::Pause;

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
        assert_eq!(witness.sum_up(start), None);
        let due = witness.due().unwrap();
        let sum = witness.sum_up(due).unwrap();
        assert!(sum.message.contains("990 more times"), "{}", sum.message);
        assert_eq!(witness.due(), None);
        assert_eq!(witness.saw(&displacement(), due).len(), 1);
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
