//! What the daemon knows, put up for everybody who asks.
//!
//! The guard publishes after every turn and pushes what happened; the status socket, metrics and
//! files for other programs read. A lock is held for as long as it takes to copy a pointer or to
//! append to a queue, never while anything is written, formatted or waited for: no reader can hold
//! up the guard.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::history::History;
use super::metrics::Metrics;
use super::model::{Overall, Stopped};
use super::packet_counters::{Counting, Now};
use super::published::Published;
use crate::events::{Event, Kind};
use crate::guarantee::{Guarantee, Rules};
use crate::reconcile::{Host, Standing};

/// How many events are kept, in memory and on disk.
pub const RING: usize = 1000;

/// How many of the last drifts `/v1/status` shows.
const DRIFTS: usize = 5;

/// The board. Everybody holds it in an `Arc`.
#[derive(Debug)]
pub struct Hub {
    /// When the daemon began.
    pub started: SystemTime,
    begun: Instant,
    inner: Mutex<Inner>,
    history: Mutex<Option<History>>,
    counting: Mutex<Counting>,
    /// The number of the last event, for those who wait for the next.
    last: watch::Sender<u64>,
    /// How many turns were published, for those who wait for the next.
    turns: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    published: Option<Arc<Published>>,
    since: BTreeMap<Guarantee, (Standing, SystemTime)>,
    ring: VecDeque<Arc<Event>>,
    last: u64,
    verifications: u64,
    /// The packets stopped, as they were read last.
    stopped: BTreeMap<Guarantee, Vec<Stopped>>,
}

/// Some of the events, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    /// How many that were asked for are not kept any more.
    pub missed: u64,
    /// The events.
    pub events: Vec<Arc<Event>>,
}

impl Hub {
    /// An empty board, without a memory of earlier events.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with(None, Vec::new()))
    }

    /// An empty board that goes on with the history in `state_dir`.
    #[must_use]
    pub fn open(state_dir: &Path) -> Arc<Self> {
        let (history, events) = History::open(state_dir);
        Arc::new(Self::with(Some(history), events))
    }

    fn with(history: Option<History>, events: Vec<Event>) -> Self {
        let last = events.last().map_or(0, |event| event.seq);
        let started = SystemTime::now();
        Self {
            started,
            metrics: Metrics::new(started),
            begun: Instant::now(),
            inner: Mutex::new(Inner {
                ring: events.into_iter().map(Arc::new).collect(),
                last,
                ..Inner::default()
            }),
            history: Mutex::new(history),
            counting: Mutex::default(),
            last: watch::Sender::new(last),
            turns: watch::Sender::new(0),
        }
    }

    /// For how long the daemon has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Puts up what a turn found. Since when a guarantee stands so is filled in here.
    pub fn publish(&self, mut published: Published) {
        let mut inner = self.lock();
        for status in &mut published.guarantees {
            let since = inner
                .since
                .entry(status.name)
                .or_insert((status.standing, published.at));
            if since.0 != status.standing {
                *since = (status.standing, published.at);
            }
            status.since = since.1;
        }
        inner.verifications += 1;
        let published = Arc::new(published.counted(&inner.stopped));
        inner.published = Some(Arc::clone(&published));
        drop(inner);
        self.metrics.note(&published);
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// From now on the packets that these rules stop are counted.
    pub fn count(&self, rules: Rules, host: Host) {
        lock(&self.counting).of(rules, host);
        self.recount();
    }

    /// Brings up to date how many packets were stopped, and which tasks are on the host's network,
    /// unless that was done a moment ago.
    pub fn recount(&self) {
        if let Some(now) = lock(&self.counting).read() {
            self.put_up(now);
        }
    }

    /// Puts up how it is now, until that is read again.
    pub(super) fn put_up(&self, now: Now) {
        let mut inner = self.lock();
        inner.stopped = now.stopped;
        let Some(published) = &inner.published else {
            return;
        };
        let published = Published::clone(published)
            .counted(&inner.stopped)
            .with_host_tasks(&now.host_tasks);
        let published = Arc::new(published);
        inner.published = Some(Arc::clone(&published));
        drop(inner);
        self.metrics.note_stopped(&published);
        self.metrics.note_tasks(&published);
    }

    /// Says that everything was looked at again, and is as it was put up last.
    pub fn still_holds(&self) {
        self.recount();
        if let Some(published) = self.published() {
            self.publish(published.renewed());
        }
    }

    /// Puts up what happened, gives it its number, and wakes those who follow.
    pub fn push(&self, event: Event) -> Arc<Event> {
        let mut inner = self.lock();
        inner.last += 1;
        let event = Arc::new(Event {
            seq: inner.last,
            ..event
        });
        if inner.ring.len() == RING {
            inner.ring.pop_front();
        }
        inner.ring.push_back(Arc::clone(&event));
        drop(inner);
        self.metrics.count(&event);
        self.last.send_modify(|last| *last = event.seq.max(*last));
        let mut history = lock(&self.history);
        if let Some(history) = history.as_mut() {
            history.add(&event, || self.lock().ring.iter().cloned().collect());
        }
        event
    }

    /// What the last turn found; `None` before the first.
    #[must_use]
    pub fn published(&self) -> Option<Arc<Published>> {
        self.lock().published.clone()
    }

    /// How many turns were published since the daemon began.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        self.lock().verifications
    }

    /// The figures for Prometheus, as OpenMetrics text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.text(self.overall().0)
    }

    /// The number of the last event; 0 before the first.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        self.lock().last
    }

    /// The events after number `since`, at most `limit` of them.
    #[must_use]
    pub fn events(&self, since: u64, limit: usize) -> Events {
        let inner = self.lock();
        let oldest = inner.ring.front().map_or(inner.last + 1, |e| e.seq);
        let from = inner.ring.partition_point(|event| event.seq <= since);
        Events {
            missed: oldest.saturating_sub(since.saturating_add(1)),
            events: inner.ring.range(from..).take(limit).cloned().collect(),
        }
    }

    /// The last drifts and fights, oldest first.
    #[must_use]
    pub fn drifts(&self) -> Vec<Arc<Event>> {
        let drift = |event: &&Arc<Event>| {
            matches!(event.kind, Kind::Drift | Kind::NotRepaired | Kind::Fight)
        };
        let inner = self.lock();
        let mut last: Vec<_> = inner.ring.iter().rev().filter(drift).take(DRIFTS).collect();
        last.reverse();
        last.into_iter().cloned().collect()
    }

    /// Tells the number of the last event, and every later one.
    #[must_use]
    pub fn follow_events(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Tells that another turn was published.
    #[must_use]
    pub fn follow_turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// How the host stands as a whole, and why nothing current is known where that is so.
    #[must_use]
    pub fn overall(&self) -> (Overall, Option<String>) {
        let Some(published) = self.published() else {
            return (
                Overall::Undecided,
                Some("no verification has ended yet".to_owned()),
            );
        };
        match published.stale() {
            Some(why) => (Overall::Undecided, Some(why)),
            None => (published.overall(), None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panicking thread left is whole: every change is one assignment or one push.
        lock(&self.inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(board: &Hub, count: usize) {
        for _ in 0..count {
            board.push(Event::new(Kind::Drift, "gone"));
        }
    }

    fn seqs(events: &Events) -> Vec<u64> {
        events.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_numbered_and_asked_for_by_number() {
        let board = Hub::new();
        assert_eq!(board.events(0, 9), Events::default());
        push(&board, 4);
        assert_eq!(seqs(&board.events(0, 9)), [1, 2, 3, 4]);
        assert_eq!(seqs(&board.events(2, 1)), [3]);
        assert_eq!(board.events(4, 9), Events::default());
        assert_eq!(board.events(u64::MAX, 9), Events::default());
        assert_eq!(board.last_event(), 4);
    }

    #[test]
    fn who_asks_too_late_is_told_what_is_missing() {
        let board = Hub::new();
        push(&board, RING + 10);
        let events = board.events(3, usize::MAX);
        assert_eq!((events.missed, events.events.len()), (7, RING));
        assert_eq!(board.events(10, 1).missed, 0);
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        push(&Hub::open(dir.path()), 3);
        let board = Hub::open(dir.path());
        push(&board, 1);
        assert_eq!(seqs(&board.events(0, 9)), [1, 2, 3, 4]);
    }

    #[test]
    fn who_follows_is_woken() {
        let board = Hub::new();
        let mut last = board.follow_events();
        push(&board, 2);
        assert!(last.has_changed().unwrap());
        assert_eq!(*last.borrow_and_update(), 2);
    }

    #[test]
    fn before_the_first_turn_nothing_is_known() {
        let (overall, why) = Hub::new().overall();
        assert_eq!(overall, Overall::Undecided);
        assert!(why.unwrap().contains("no verification"));
    }

    #[test]
    fn the_last_drifts_are_the_last() {
        let board = Hub::new();
        push(&board, 7);
        board.push(Event::new(Kind::Held, "again"));
        let drifts: Vec<u64> = board.drifts().iter().map(|event| event.seq).collect();
        assert_eq!(drifts, [3, 4, 5, 6, 7]);
    }
}
