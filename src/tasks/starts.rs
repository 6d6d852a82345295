//! Whether the process that goes into tasks' namespaces is started again when it has ended, and which
//! namespaces it then leaves alone. Pure.
//!
//! Whatever is in a task's namespace must not end it. Should something do so all the same, that costs the one
//! task its verdict, and not every task on the host its guard.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How often it may end over one namespace within [`WINDOW`] before that is left alone.
const MOST: usize = 3;
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How long a namespace is left alone after the last such end.
pub const ASIDE: Duration = Duration::from_secs(60 * 60);
/// How often it may end within [`SOON`] with nothing in hand: then something is wrong that a start does not mend.
const MOST_OTHERS: usize = 3;
const SOON: Duration = Duration::from_secs(10);

/// When it ended, over which namespace.
#[derive(Debug, Default)]
pub struct Starts {
    over: BTreeMap<u64, Vec<Instant>>,
    others: VecDeque<Instant>,
}

impl Starts {
    /// Takes note of an end, with the inode of the namespace that was being looked into. Whether to start it
    /// again.
    pub fn ended(&mut self, over: Option<u64>, now: Instant) -> bool {
        self.over
            .retain(|_, ends| ends.last().is_some_and(|last| now - *last < ASIDE));
        match over {
            Some(netns) => {
                let ends = self.over.entry(netns).or_default();
                if ends.len() < MOST {
                    ends.retain(|end| now - *end < WINDOW);
                }
                ends.push(now);
                true
            }
            None => {
                self.others.push_back(now);
                self.others.retain(|end| now - *end < SOON);
                self.others.len() <= MOST_OTHERS
            }
        }
    }

    /// The namespaces that are to be left alone.
    pub fn aside(&self, now: Instant) -> impl Iterator<Item = u64> {
        let over = self.over.iter().filter(move |(_, ends)| {
            ends.len() >= MOST && ends.last().is_some_and(|last| now - *last < ASIDE)
        });
        over.map(|(netns, _)| *netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at these seconds over one namespace; whether it is left alone after each.
    fn aside_after(ends: &[u64]) -> Vec<bool> {
        let (mut starts, began) = (Starts::default(), Instant::now());
        let after = |second: &u64| {
            let now = began + Duration::from_secs(*second);
            assert!(starts.ended(Some(7), now));
            assert!(
                starts.ended(Some(8 + second), now),
                "another's ends are its own"
            );
            starts.aside(now).any(|netns| netns == 7)
        };
        ends.iter().map(after).collect()
    }

    #[test]
    fn a_namespace_over_which_it_ends_three_times_in_ten_minutes_is_left_alone() {
        assert_eq!(aside_after(&[0, 1, 2]), [false, false, true]);
        assert_eq!(aside_after(&[0, 300, 599]), [false, false, true]);
        assert_eq!(aside_after(&[0, 300, 600]), [false, false, false]);
        assert_eq!(
            aside_after(&[0, 300, 600, 601]),
            [false, false, false, true]
        );
    }

    #[test]
    fn it_is_looked_at_again_an_hour_later() {
        let (mut starts, began) = (Starts::default(), Instant::now());
        for second in [0, 1, 2] {
            starts.ended(Some(7), began + Duration::from_secs(second));
        }
        let aside = |starts: &Starts, seconds| {
            let aside = starts.aside(began + Duration::from_secs(seconds));
            aside.collect::<Vec<_>>()
        };
        assert_eq!(aside(&starts, 3601), [7]);
        assert_eq!(aside(&starts, 3602), [0; 0]);
        // And after one more end, three of them count again.
        starts.ended(Some(7), began + Duration::from_secs(3602));
        assert_eq!(aside(&starts, 3602), [0; 0]);
    }

    #[test]
    fn each_end_over_what_is_left_alone_prolongs_that() {
        let (mut starts, began) = (Starts::default(), Instant::now());
        for second in [0, 1, 2, 3000] {
            starts.ended(Some(7), began + Duration::from_secs(second));
        }
        let aside = |seconds| starts.aside(began + Duration::from_secs(seconds)).count();
        assert_eq!(aside(6599), 1);
        assert_eq!(aside(6600), 0);
    }

    #[test]
    fn over_nothing_it_may_end_three_times_in_ten_seconds() {
        let (mut starts, began) = (Starts::default(), Instant::now());
        let mut again = |millis| starts.ended(None, began + Duration::from_millis(millis));
        assert!(again(0) && again(1) && again(2));
        assert!(!again(9999));
        assert!(!again(10_000), "those at 1 and 2 ms and 9.999 s count");
        assert!(
            again(10_002),
            "that at 10 s counts, too, and the two before"
        );
    }
}
