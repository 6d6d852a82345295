//! How long something takes, again and again.

use std::time::{Duration, Instant};

/// Enough for a median, and little enough for what takes seconds.
const RUNS: usize = 25;
const FEWEST: usize = 5;
const BUDGET: Duration = Duration::from_secs(2);

/// Times `work`, after one time that does not count: 25 times, fewer where that takes too long.
pub(crate) fn times(work: impl FnMut()) -> Vec<Duration> {
    times_after(|| {}, work)
}

/// The same where each time needs a preparation that is not timed.
pub(crate) fn times_after(mut prepare: impl FnMut(), mut work: impl FnMut()) -> Vec<Duration> {
    prepare();
    work();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < RUNS && (times.len() < FEWEST || begin.elapsed() < BUDGET) {
        prepare();
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times
}
