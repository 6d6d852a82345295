//! The one rate limit of events: of many alike only the first are recorded one by one, the rest is
//! summed up. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many sorts are counted apart. Names of programs and interfaces are chosen by others, memory is
/// not.
const SORTS: usize = 32;

/// How much of a sort is recorded one by one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// So many events,
    pub(super) each: u32,
    /// within this time.
    pub(super) window: Duration,
}

/// What was held back of one sort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeldBack {
    /// How many events.
    pub(super) count: u32,
    /// How many of them report a failure.
    pub(super) failed: u32,
    /// The longest that one of the others took.
    pub(super) slowest: Duration,
}

/// Counts events by sort; those that are too many to be distinguished have the sort `None`.
#[derive(Debug)]
pub(super) struct Limit<S> {
    streams: BTreeMap<Option<S>, Stream>,
}

impl<S> Default for Limit<S> {
    fn default() -> Self {
        Self {
            streams: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
struct Stream {
    ends: Instant,
    recorded: u32,
    held_back: HeldBack,
}

impl<S: Ord> Limit<S> {
    /// Whether an event of this sort is recorded by itself; one that is not is counted, with how long
    /// what it is about took, or that it failed.
    pub(super) fn admits(
        &mut self,
        sort: S,
        rate: Rate,
        took: Result<Duration, ()>,
        now: Instant,
    ) -> bool {
        let mut sort = Some(sort);
        if self.streams.len() >= SORTS && !self.streams.contains_key(&sort) {
            sort = None;
        }
        let stream = self.streams.entry(sort).or_insert(Stream {
            ends: now + rate.window,
            recorded: 0,
            held_back: HeldBack::default(),
        });
        if stream.recorded < rate.each {
            stream.recorded += 1;
            return true;
        }
        let held_back = &mut stream.held_back;
        held_back.count += 1;
        match took {
            Ok(took) => held_back.slowest = held_back.slowest.max(took),
            Err(()) => held_back.failed += 1,
        }
        false
    }

    /// What was held back of the sorts whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Vec<(Option<S>, HeldBack)> {
        let over = self.streams.extract_if(.., |_, stream| stream.ends <= now);
        over.map(|(sort, stream)| (sort, stream.held_back))
            .filter(|(_, held_back)| held_back.count > 0)
            .collect()
    }

    /// When [`Limit::over`] will have something to say.
    pub(super) fn due(&self) -> Option<Instant> {
        let held_back = self.streams.values().filter(|s| s.held_back.count > 0);
        held_back.map(|stream| stream.ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        each: 2,
        window: Duration::from_secs(10),
    };
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_are_admitted_and_the_rest_is_summed_up() {
        let now = Instant::now();
        let mut limit = Limit::default();
        let took = [Ok(MS), Ok(9 * MS), Ok(3 * MS), Err(()), Ok(2 * MS)];
        let admitted: Vec<bool> = took
            .into_iter()
            .map(|took| limit.admits("a", RATE, took, now))
            .collect();
        assert_eq!(admitted, [true, true, false, false, false]);
        assert_eq!(limit.due(), Some(now + RATE.window));
        assert_eq!(limit.over(now + RATE.window - MS), []);
        let sum = HeldBack {
            count: 3,
            failed: 1,
            slowest: 3 * MS,
        };
        assert_eq!(limit.over(now + RATE.window), [(Some("a"), sum)]);
        assert_eq!(limit.due(), None);
        assert!(limit.admits("a", RATE, Ok(MS), now), "it starts over");
    }

    #[test]
    fn what_was_not_too_much_is_not_summed_up() {
        let now = Instant::now();
        let mut limit = Limit::default();
        assert!(limit.admits("a", RATE, Ok(MS), now));
        assert_eq!(limit.due(), None);
        assert_eq!(limit.over(now + RATE.window), []);
        assert!(limit.streams.is_empty());
    }

    #[test]
    fn one_sort_does_not_hold_back_another_and_sorts_are_bounded() {
        let now = Instant::now();
        let mut limit = Limit::default();
        for sort in 0..SORTS {
            assert!(limit.admits(sort, RATE, Ok(MS), now), "{sort}");
        }
        let admitted = (100..200).filter(|sort| limit.admits(*sort, RATE, Ok(MS), now));
        assert_eq!(admitted.count(), 2, "they are one sort");
        assert_eq!(limit.streams.len(), SORTS + 1);
        assert!(limit.admits(0, RATE, Ok(MS), now), "it is known");
        let sums = limit.over(now + RATE.window);
        assert_eq!((sums.len(), sums[0].0), (1, None));
        assert_eq!(sums[0].1.count, 98);
    }
}
