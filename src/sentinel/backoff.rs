//! When to hold back: two programs that undo each other's work for ever help no one.
//!
//! A fight is one chain undone by one program more than [`LIMIT`] times within [`WINDOW`]. Then the
//! visible layer of that chain is left alone for a while, and longer each time the fight goes on; the
//! seal stays. No clock is read here: the caller passes the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many repairs after the same program are no fight yet. A Docker daemon's start displaces the
/// rules about ten times within two seconds; three starts in a row, as a failing unit makes, still
/// are no fight.
pub const LIMIT: usize = 30;

/// The time within which they are counted: a script that repeats itself every two seconds is just
/// not a fight, and costs little.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The first pause: over before most people have read of it.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// No pause is longer: when the other program has ended, the rules are back within five minutes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// When this long after a pause no other one began, the fight is over: twice the longest pause.
pub const QUIET: Duration = Duration::from_secs(10 * 60);

/// How many programs are counted apart in one chain; the one longest unheard of gives way. Names are
/// chosen by the other side, memory is not to be.
const PROGRAMS: usize = 8;

/// A time in which the visible layer of a chain is to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it ends.
    pub until: Instant,
    /// Whether the fight is new: the moment for its one warning.
    pub first: bool,
}

/// The fights over chains; `K` names a chain.
#[derive(Debug, Clone)]
pub struct Backoff<K> {
    chains: BTreeMap<K, Chain>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self {
            chains: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Chain {
    /// The one that was heard of last stands last.
    programs: Vec<Program>,
    pause: Option<Paused>,
}

#[derive(Debug, Clone)]
struct Program {
    /// `None` for all whose name is not known.
    name: Option<String>,
    /// The last repairs, at most [`LIMIT`] + 1.
    repairs: VecDeque<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Paused {
    until: Instant,
    length: Duration,
}

impl<K: Ord + Clone> Backoff<K> {
    /// Takes note that the chain was repaired after the program `by` had changed it; programs
    /// whose names are not known count as one. The pause that is to begin now, if any.
    pub fn repaired(&mut self, key: &K, by: Option<&str>, now: Instant) -> Option<Pause> {
        if !self.chains.contains_key(key) {
            self.chains.insert(key.clone(), Chain::default());
        }
        let chain = self.chains.get_mut(key)?;
        if chain.pause.is_some_and(|pause| pause.until > now) || !chain.is_fight(by, now) {
            return None;
        }
        // The count starts over with every pause.
        chain.programs.clear();
        let going_on = chain
            .pause
            .filter(|last| now.saturating_duration_since(last.until) < QUIET);
        let length = going_on.map_or(FIRST_PAUSE, |last| (last.length * 2).min(LONGEST_PAUSE));
        let until = now + length;
        chain.pause = Some(Paused { until, length });
        Some(Pause {
            until,
            first: going_on.is_none(),
        })
    }

    /// Whether the chain's visible layer is to be left alone now.
    #[must_use]
    pub fn paused(&self, key: &K, now: Instant) -> bool {
        let pause = self.chains.get(key).and_then(|chain| chain.pause);
        pause.is_some_and(|pause| pause.until > now)
    }

    /// When the earliest of the pauses ends: the time to look at its chain again.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.chains
            .values()
            .filter_map(|chain| chain.pause)
            .map(|pause| pause.until)
            .filter(|until| *until > now)
            .min()
    }
}

impl Chain {
    /// Counts a repair.
    fn is_fight(&mut self, by: Option<&str>, now: Instant) -> bool {
        let known = self
            .programs
            .iter()
            .position(|program| program.name.as_deref() == by);
        let mut program = match known {
            Some(index) => self.programs.remove(index),
            None => Program {
                name: by.map(str::to_owned),
                repairs: VecDeque::new(),
            },
        };
        program.repairs.push_back(now);
        if program.repairs.len() > LIMIT + 1 {
            program.repairs.pop_front();
        }
        let first = program.repairs.front().copied().unwrap_or(now);
        let fight = program.repairs.len() > LIMIT && now.saturating_duration_since(first) < WINDOW;
        if self.programs.len() == PROGRAMS {
            self.programs.remove(0);
        }
        self.programs.push(program);
        fight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Repairs as fast as `every`, whenever there is no pause; the pauses and when they began.
    fn enemy(
        fights: &mut Backoff<u8>,
        from: Instant,
        every: Duration,
        repairs: usize,
    ) -> Vec<(Instant, Pause)> {
        let (mut now, mut pauses) = (from, Vec::new());
        for _ in 0..repairs {
            now += every;
            if let Some(pause) = fights.repaired(&1, Some("iptables"), now) {
                assert!(fights.paused(&1, now));
                assert_eq!(fights.next(now), Some(pause.until));
                pauses.push((now, pause));
                now = pause.until;
                assert!(!fights.paused(&1, now), "the end is not part of it");
                assert_eq!(fights.next(now), None);
            }
        }
        pauses
    }

    #[test]
    fn a_start_of_docker_is_no_fight() {
        let (mut fights, now) = (Backoff::default(), Instant::now());
        assert_eq!(enemy(&mut fights, now, SECOND / 5, 30), []);
        assert_eq!(enemy(&mut fights, now + 100 * SECOND, 2 * SECOND, 500), []);
        let hour = now + Duration::from_secs(3600);
        assert_eq!(enemy(&mut fights, hour, SECOND * 199 / 100, 31).len(), 1);
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_one_is_the_first() {
        let mut fights = Backoff::default();
        let pauses = enemy(&mut fights, Instant::now(), SECOND / 100, 31 * 11);
        let seconds = pauses.iter().map(|(began, p)| (p.until - *began).as_secs());
        let seconds: Vec<u64> = seconds.collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let first: Vec<bool> = pauses.iter().map(|(_, p)| p.first).collect();
        assert!(first[0] && !first[1..].contains(&true));
    }

    #[test]
    fn ten_quiet_minutes_end_a_fight() {
        for (quiet, first) in [(QUIET - SECOND, false), (QUIET, true)] {
            let (mut fights, now) = (Backoff::default(), Instant::now());
            let last = enemy(&mut fights, now, SECOND / 100, 31 * 3)[2].1.until;
            // The thirty before the one that counts come just before it.
            let again = last + quiet - SECOND / 100 * 31;
            let (began, pause) = enemy(&mut fights, again, SECOND / 100, 31)[0];
            assert_eq!((pause.first, pause.until - began == SECOND), (first, first));
        }
    }

    #[test]
    fn programs_and_chains_are_counted_apart() {
        let (mut fights, now) = (Backoff::default(), Instant::now());
        for _ in 0..LIMIT {
            for by in [Some("iptables"), Some("nft"), None] {
                assert_eq!(fights.repaired(&1, by, now), None);
                assert_eq!(fights.repaired(&2, by, now), None);
            }
        }
        assert!(fights.repaired(&1, None, now).is_some());
        assert!(fights.paused(&1, now) && !fights.paused(&2, now));
        assert_eq!(fights.repaired(&1, Some("nft"), now), None, "in a pause");
    }

    #[test]
    fn names_made_up_by_the_other_side_take_no_memory() {
        let (mut fights, now) = (Backoff::default(), Instant::now());
        for n in 0..10_000 {
            fights.repaired(&1, Some(&n.to_string()), now);
        }
        assert_eq!(fights.chains[&1].programs.len(), PROGRAMS);
    }

    proptest! {
        /// Whatever comes: a pause begins only after more than LIMIT repairs by one program within
        /// WINDOW since the last one, lasts between the shortest and the longest, and there is one
        /// exactly when it is due.
        #[test]
        fn a_pause_is_due_or_there_is_none(
            steps in prop::collection::vec((0u64..700, 0u8..2, 0usize..3), 1..600),
        ) {
            let names = [None, Some("a"), Some("b")];
            let mut fights = Backoff::default();
            let mut seen: Vec<(Instant, u8, usize)> = Vec::new();
            let mut now = Instant::now();
            for (milliseconds, key, name) in steps {
                now += Duration::from_millis(milliseconds);
                let paused = fights.paused(&key, now);
                let pause = fights.repaired(&key, names[name], now);
                if paused {
                    prop_assert_eq!(pause, None);
                    continue;
                }
                seen.push((now, key, name));
                let count = seen
                    .iter()
                    .filter(|(at, k, n)| (*k, *n) == (key, name) && now - *at < WINDOW)
                    .count();
                prop_assert_eq!(pause.is_some(), count > LIMIT);
                if let Some(pause) = pause {
                    let length = pause.until - now;
                    prop_assert!((FIRST_PAUSE..=LONGEST_PAUSE).contains(&length));
                    prop_assert!(fights.next(now).unwrap() <= pause.until);
                    seen.retain(|(_, k, _)| *k != key);
                }
            }
        }
    }
}
