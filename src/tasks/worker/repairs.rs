//! What is reported of repairs, and how long a task is left alone after one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sentinel::backoff::{Backoff, QUIET, WINDOW};
use crate::tasks::discovery::Repair;
use crate::tasks::protocol::{Happened, Repaired};

/// How much longer than a look at a task the rest after it is in a fight with it: so that the fight
/// costs at most a tenth of a processor.
const REST_IN_FIGHT: u32 = 9;

/// No rest is longer, however long the look took on a busy host.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How many repairs of one namespace are reported one by one within [`WINDOW`]; the rest are counted.
const REPORTED: usize = 10;

/// What is remembered of the repairs in each namespace, by its inode.
#[derive(Default)]
pub(super) struct Repairs {
    tasks: BTreeMap<u64, Trouble>,
    fights: Backoff<u64>,
}

/// What is remembered of a task that needs repairs.
struct Trouble {
    /// Before then it is left alone.
    rest: Instant,
    /// Until when repairs of it are followed by a rest.
    fight: Option<Instant>,
    reported: Vec<Instant>,
    counted: u64,
}

impl Repairs {
    /// Until when a namespace is left alone.
    pub(super) fn rest(&self, netns: u64) -> Option<Instant> {
        self.tasks.get(&netns).map(|trouble| trouble.rest)
    }

    /// The namespace is gone.
    pub(super) fn forget(&mut self, netns: u64) {
        self.tasks.remove(&netns);
    }

    /// Takes note of a repair after a look that took so long; what is to be reported.
    pub(super) fn note(
        &mut self,
        repair: Repair,
        by: Option<&(u32, String)>,
        took: Duration,
        now: Instant,
    ) -> Vec<Happened> {
        let netns = repair.netns;
        let name = by.map(|(_, name)| name.as_str());
        let pause = self.fights.repaired(&netns, name, now);
        let trouble = self.tasks.entry(netns).or_insert(Trouble {
            rest: now,
            fight: None,
            reported: Vec::new(),
            counted: 0,
        });
        let mut happened = Vec::new();
        // Leaving it alone for long would be to give up; a rest that bounds the cost is enough.
        if let Some(pause) = pause {
            trouble.fight = Some(now + QUIET);
            if pause.first {
                happened.push(Happened::Fight(netns));
            }
        }
        if trouble.fight.is_some_and(|until| until > now) {
            trouble.rest = now + (took * REST_IN_FIGHT).min(LONGEST_REST);
        }
        trouble
            .reported
            .retain(|at| now.duration_since(*at) < WINDOW);
        if trouble.reported.len() >= REPORTED {
            trouble.counted += 1;
            return happened;
        }
        trouble.reported.push(now);
        happened.push(Happened::Repaired(Repaired {
            netns,
            objects: repair.objects,
            micros: u64::try_from(repair.took.as_micros()).unwrap_or(u64::MAX),
            by: by.cloned(),
            more: std::mem::take(&mut trouble.counted),
        }));
        happened
    }

    /// The repairs that were only counted.
    pub(super) fn counted(&mut self) -> Vec<Happened> {
        let counted = self.tasks.iter_mut().filter(|(_, t)| t.counted > 0);
        counted
            .map(|(netns, trouble)| {
                Happened::Repaired(Repaired {
                    netns: *netns,
                    objects: Vec::new(),
                    micros: 0,
                    by: None,
                    more: std::mem::take(&mut trouble.counted),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair(repairs: &mut Repairs, now: Instant) -> Vec<Happened> {
        repair_after(Duration::from_millis(1), repairs, now)
    }

    fn repair_after(took: Duration, repairs: &mut Repairs, now: Instant) -> Vec<Happened> {
        let repair = Repair {
            netns: 7,
            objects: vec!["blackhole 169.254.169.254".into()],
            took: Duration::from_micros(20),
        };
        let by = (42, "ip".to_owned());
        repairs.note(repair, Some(&by), took, now)
    }

    #[test]
    fn ten_repairs_are_reported_and_the_rest_are_counted() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        let reported: usize = (0..14).map(|_| repair(&mut repairs, now).len()).sum();
        assert_eq!(reported, REPORTED);
        let counted = repairs.counted();
        assert!(
            matches!(counted.as_slice(), [Happened::Repaired(r)] if r.more == 4),
            "{counted:?}"
        );
        assert_eq!(repairs.counted(), []);
    }

    #[test]
    fn a_fight_is_reported_once_and_followed_by_rests() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        let fights = (0..100)
            .flat_map(|_| repair(&mut repairs, now))
            .filter(|happened| *happened == Happened::Fight(7));
        assert_eq!(fights.count(), 1);
        assert_eq!(repairs.rest(7), Some(now + Duration::from_millis(9)));
        repair_after(Duration::from_secs(2), &mut repairs, now);
        assert_eq!(repairs.rest(7), Some(now + LONGEST_REST));
        repairs.forget(7);
        assert_eq!(repairs.rest(7), None);
    }
}
