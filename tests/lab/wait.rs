//! Waiting for something to become true, with a limit and a name.
//!
//! Tests wait for what they need and never for a length of time: a sleep is too long on a quiet
//! machine and too short on a busy one.

use std::io;
use std::time::{Duration, Instant};

/// Longer than anything that works takes, on a busy machine too: what a test has waited for so long in vain is not to
/// come.
pub const LONG: Duration = Duration::from_secs(60);

/// A call of the system until no signal ends it early. A wait with a limit is ended by a process that is stopped
/// and goes on, whatever handlers there are (signal(7)), and by much that looks like load.
pub fn uninterrupted<T, E: Into<io::Error>>(
    mut call: impl FnMut() -> Result<T, E>,
) -> io::Result<T> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// What [`eventually`] can wait for: a condition, or a value that is not there yet.
pub trait Ready {
    /// What the wait yields.
    type Value;
    /// The value, once it is there.
    fn ready(self) -> Option<Self::Value>;
}

impl Ready for bool {
    type Value = ();
    fn ready(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Ready for Option<T> {
    type Value = T;
    fn ready(self) -> Option<T> {
        self
    }
}

/// Asks `probe` again and again until it says yes; panics with `what` when `timeout` has passed.
#[track_caller]
pub fn eventually<R: Ready>(timeout: Duration, what: &str, probe: impl FnMut() -> R) -> R::Value {
    match within(timeout, probe) {
        Some(value) => value,
        None => panic!("waited {timeout:?} in vain for: {what}"),
    }
}

/// As [`eventually`], for waits whose failure is an answer and not the end of the test.
pub fn within<R: Ready>(timeout: Duration, mut probe: impl FnMut() -> R) -> Option<R::Value> {
    let deadline = Instant::now() + timeout;
    // Short at first, since most waits are for a few hundred microseconds; then longer, so as not
    // to take a core from what is being waited for.
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(value) = probe().ready() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Closes a file and waits until the kernel knows: a child that another thread has just started keeps a copy
/// until it comes to its exec, which takes its time on a busy machine.
#[track_caller]
pub fn close<T>(file: T, mut is_open: impl FnMut() -> bool) {
    drop(file);
    eventually(LONG, "the file to be closed", || !is_open());
}
