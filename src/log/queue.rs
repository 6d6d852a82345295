//! Between the threads that log and what takes the messages: a queue with a bound, and a thread that writes.
//!
//! journald may be stuck, and so may what reads standard error. The thread that writes then waits, and no other
//! does: a message that finds no room is dropped and counted.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::record::Record;

/// The most bytes that wait: some six hundred ordinary messages.
const MAX_BYTES: usize = 256 * 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many messages were dropped since the process began.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Record>,
    bytes: usize,
    writing: bool,
}

impl Queue {
    /// A queue whose messages `write` takes, on a thread of its own.
    pub(super) fn start(write: impl Fn(&Record) + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let messages = Arc::clone(&queue);
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut told = 0;
            loop {
                write(&messages.next());
                messages.finish();
                let count = dropped();
                if count > told {
                    // By this very queue.
                    tracing::warn!(
                        "dropped {} log messages: their reader was stuck or gone",
                        count - told
                    );
                    told = count;
                }
            }
        })?;
        Ok(queue)
    }

    /// Adds a message, where there is room.
    pub(super) fn push(&self, message: Record) {
        let mut inner = self.lock();
        if inner.bytes + message.size() > MAX_BYTES && !inner.waiting.is_empty() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        inner.bytes += message.size();
        inner.waiting.push_back(message);
        self.changed.notify_all();
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |inner: &mut Inner| inner.writing || !inner.waiting.is_empty();
        let _late = self
            .changed
            .wait_timeout_while(self.lock(), limit, busy)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn next(&self) -> Record {
        let mut inner = self.lock();
        loop {
            if let Some(message) = inner.waiting.pop_front() {
                inner.bytes -= message.size();
                inner.writing = true;
                return message;
            }
            let more = self.changed.wait(inner);
            inner = more.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self) {
        self.lock().writing = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::record::Capture;
    use super::*;

    /// A record of an event with a long message.
    fn message() -> Record {
        let (tell, told) = sync_channel(1);
        let capture = Capture::new(move |record| tell.send(record).unwrap());
        let subscriber = tracing_subscriber::registry().with(capture);
        tracing::subscriber::with_default(subscriber, || tracing::info!("{}", "x".repeat(1024)));
        told.recv().unwrap()
    }

    #[test]
    fn a_stuck_reader_stops_no_one_and_what_it_missed_is_counted() {
        let (unstick, stuck) = sync_channel::<()>(0);
        let (tell, told) = sync_channel(10_000);
        let queue = Queue::start(move |message| {
            let _unstuck_for_good = stuck.recv();
            tell.send(message.size()).unwrap();
        })
        .unwrap();
        let before = dropped();
        let began = Instant::now();
        let room = (MAX_BYTES / message().size()) as u64;
        for _ in 0..2 * room {
            queue.push(message());
        }
        queue.flush(Duration::from_millis(10));
        assert!(began.elapsed() < Duration::from_secs(5));
        let kept = 2 * room - (dropped() - before);
        // One was taken out of the queue and is being written.
        assert!((room..=room + 1).contains(&kept), "{kept} of {room}");
        drop(unstick);
        queue.flush(Duration::from_secs(20));
        assert_eq!(told.try_iter().count() as u64, kept);
    }
}
