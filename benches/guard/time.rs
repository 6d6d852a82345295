//! How long something takes, again and again.

use std::time::{Duration, Instant};

/// How often: enough for a median, and no more than a second of what takes long.
const MOST: usize = 1000;
const FEWEST: usize = 5;
const BUDGET: Duration = Duration::from_secs(1);

/// Times `work` again and again, after one time that does not count.
pub(crate) fn times(work: impl FnMut()) -> Vec<Duration> {
    times_after(|| {}, work)
}

/// The same where each time needs a preparation that is not timed.
pub(crate) fn times_after(mut prepare: impl FnMut(), mut work: impl FnMut()) -> Vec<Duration> {
    prepare();
    work();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < MOST && (times.len() < FEWEST || begin.elapsed() < BUDGET) {
        prepare();
        let start = Instant::now();
        work();
        times.push(start.elapsed());
    }
    times
}
