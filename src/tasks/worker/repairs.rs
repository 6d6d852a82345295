//! What is told of repairs, and how long a task is left alone after one.

use std::io;
use std::time::{Duration, Instant};

use super::WorkerClient;
use crate::sentinel::backoff::{QUIET, WINDOW};
use crate::tasks::discovery::Repair;
use crate::tasks::protocol::{Happened, Repaired, Told};

/// How much longer than a look at a task the rest after it is in a fight with it: so that the fight
/// costs at most a tenth of a processor.
const REST_IN_FIGHT: u32 = 9;

/// How many repairs of one namespace are told one by one within [`WINDOW`]; the rest are counted.
const TOLD: usize = 10;

/// What is remembered of a task that needs repairs.
pub(super) struct Trouble {
    /// Before then it is left alone.
    pub(super) rest: Instant,
    /// Until when repairs of it are followed by a rest.
    fight: Option<Instant>,
    told: Vec<Instant>,
    untold: u64,
}

impl WorkerClient<'_> {
    pub(super) fn repaired(
        &mut self,
        repair: Repair,
        by: Option<&(u32, String)>,
        took: Duration,
    ) -> io::Result<()> {
        let (now, netns) = (Instant::now(), repair.netns);
        let name = by.map(|(_, name)| name.as_str());
        let pause = self.fights.repaired(&netns, name, now);
        let trouble = self.tasks.entry(netns).or_insert(Trouble {
            rest: now,
            fight: None,
            told: Vec::new(),
            untold: 0,
        });
        // Leaving it alone for long would be to give up; a rest that bounds the cost is enough.
        if let Some(pause) = pause {
            trouble.fight = Some(now + QUIET);
            if pause.first {
                self.channel.send(&Told::Happened(Happened::Fight(netns)))?;
            }
        }
        if trouble.fight.is_some_and(|until| until > now) {
            trouble.rest = now + took * REST_IN_FIGHT;
        }
        trouble
            .told
            .retain(|told| now.duration_since(*told) < WINDOW);
        if trouble.told.len() >= TOLD {
            trouble.untold += 1;
            return Ok(());
        }
        trouble.told.push(now);
        let more = std::mem::take(&mut trouble.untold);
        self.repair(Repaired {
            netns,
            objects: repair.objects,
            micros: u64::try_from(repair.took.as_micros()).unwrap_or(u64::MAX),
            by: by.cloned(),
            more,
        })
    }

    fn repair(&self, repaired: Repaired) -> io::Result<()> {
        self.channel
            .send(&Told::Happened(Happened::Repaired(repaired)))
    }

    /// Tells of the repairs that were only counted.
    pub(super) fn count_up(&mut self, netns: u64) -> io::Result<()> {
        let untold = |trouble: &mut Trouble| std::mem::take(&mut trouble.untold);
        match self.tasks.get_mut(&netns).map(untold) {
            None | Some(0) => Ok(()),
            Some(more) => self.repair(Repaired {
                netns,
                objects: Vec::new(),
                micros: 0,
                by: None,
                more,
            }),
        }
    }
}
