//! The hub between the daemon and its readers: the last pass's report, the events, the figures.
//!
//! The daemon publishes after every pass and pushes what happened; the status socket, metrics and files
//! for other programs read. A lock is held for as long as it takes to copy a pointer or to append to a
//! queue, never while anything is written, formatted or waited for: no reader can hold up the daemon.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::history::{History, RING};
use super::metrics::Metrics;
use super::packet_counters::{PacketCounters, Reading};
use super::probes::Probes;
use crate::events::{Event, Kind, journal};
use crate::guarantee::{Guarantee, Rules};
use crate::reconcile::Host;
use crate::report::{PacketCount, Report};
use crate::tasks::{Mode, Task};
use crate::verdict::{Overall, Standing};

/// How many of the last drifts `/v1/status` shows.
const DRIFTS: usize = 5;
/// How many intervals of verification may pass without one before what is known counts as old.
const MISSED_INTERVALS: u32 = 3;
/// What a pass itself may take, on a slow machine with very large rulesets.
const SLACK: Duration = Duration::from_secs(120);

/// The hub. Every reader holds it in an `Arc`.
#[derive(Debug)]
pub struct Hub {
    /// When the daemon began.
    pub started: SystemTime,
    begun: Instant,
    inner: Mutex<Inner>,
    history: Mutex<Option<History>>,
    counters: Mutex<PacketCounters>,
    probes: Mutex<Option<Probes>>,
    /// The files for other programs that could not be written, and why.
    unwritten: Mutex<Vec<String>>,
    /// The number of the last event, for readers that wait for the next.
    last: watch::Sender<u64>,
    /// How many passes were published, for readers that wait for the next.
    passes: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    current: Option<Current>,
    since: BTreeMap<Guarantee, (Standing, SystemTime)>,
    ring: VecDeque<Arc<Event>>,
    last: u64,
    verifications: u64,
    /// The packets stopped, as they were read last.
    stopped: BTreeMap<Guarantee, Vec<PacketCount>>,
}

/// The last report.
#[derive(Debug)]
struct Current {
    report: Arc<Report>,
    verified: Instant,
    settings: Publishing,
}

/// What the settings say of how reports are published.
#[derive(Debug, Clone, Default)]
pub struct Publishing {
    /// How often the daemon verifies even where nothing seems to have changed.
    pub interval: Duration,
    /// Where metrics are written for node_exporter.
    pub textfile: Option<PathBuf>,
    /// Where the inventory document is written for the SSM agent.
    pub inventory: Option<PathBuf>,
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
    /// An empty hub, without a memory of earlier events.
    #[cfg(test)]
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::with(None, Vec::new()))
    }

    /// An empty hub that goes on with the history in `state_dir`.
    #[must_use]
    pub fn open(state_dir: &Path) -> Arc<Self> {
        let (history, events) = History::open(state_dir);
        let probe = |event: &&Event| matches!(event.kind, Kind::Probed | Kind::ProbeViolated);
        let told = events.iter().rev().find(probe).map(|event| event.time);
        let hub = Self {
            probes: Mutex::new(Some(Probes::of(state_dir, told))),
            ..Self::with(Some(history), events)
        };
        Arc::new(hub)
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
            counters: Mutex::default(),
            probes: Mutex::default(),
            unwritten: Mutex::default(),
            last: watch::Sender::new(last),
            passes: watch::Sender::new(0),
        }
    }

    /// For how long the daemon has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Publishes what a pass found. Since when a guarantee stands so is filled in here.
    pub fn publish(&self, mut report: Report, settings: Publishing) {
        let mut inner = self.lock();
        let at = report.time;
        for guarantee in &mut report.guarantees {
            let now = (guarantee.standing, at);
            let since = inner.since.entry(guarantee.name).or_insert(now);
            if since.0 != guarantee.standing {
                *since = now;
            }
            guarantee.since = Some(since.1);
        }
        count(&mut report, &inner.stopped);
        report.verification.interval = Some(settings.interval.as_secs_f64());
        inner.verifications += 1;
        let report = Arc::new(report);
        inner.current = Some(Current {
            report: Arc::clone(&report),
            verified: Instant::now(),
            settings,
        });
        drop(inner);
        self.metrics.note(&report);
        self.passes.send_modify(|passes| *passes += 1);
    }

    /// Notes that a quiet look found nothing that can have changed since the last pass.
    pub fn verified_again(&self) {
        self.recount();
        let now = SystemTime::now();
        let mut inner = self.lock();
        let Some(current) = &mut inner.current else {
            return;
        };
        current.verified = Instant::now();
        Arc::make_mut(&mut current.report).verification.last = Some(now);
        inner.verifications += 1;
        drop(inner);
        self.metrics.verified_again(now);
        self.passes.send_modify(|passes| *passes += 1);
    }

    /// Takes note of the outcome of a probe that was recorded since the last time.
    fn look_for_probes(&self) {
        let Some((record, event)) = lock(&self.probes).as_mut().map(Probes::look) else {
            return;
        };
        if let Some(record) = record {
            self.metrics.note_probe(&record);
        }
        if let Some(event) = event {
            self.record(event);
        }
    }

    /// Counts that the process that enters tasks' namespaces was started again.
    pub fn worker_restarted(&self) {
        self.metrics.worker_restarted();
    }

    /// Notes which files for other programs could not be written, and why.
    pub(super) fn note_unwritten(&self, failures: Vec<String>) {
        *lock(&self.unwritten) = failures;
    }

    /// Which files for other programs could not be written, and why.
    pub(super) fn unwritten(&self) -> Vec<String> {
        lock(&self.unwritten).clone()
    }

    /// From now on the packets that these rules stop are counted.
    pub fn count(&self, rules: Rules, host: Host) {
        lock(&self.counters).of(rules, host);
        self.recount();
    }

    /// Brings up to date how many packets were stopped, and which tasks are on the host's network,
    /// unless that was done a moment ago.
    pub fn recount(&self) {
        if let Some(reading) = lock(&self.counters).read() {
            self.take(reading);
        }
    }

    /// Whether that was done a moment ago; false also while it is done.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        let counters = self.counters.try_lock();
        counters.is_ok_and(|counters| counters.are_fresh())
    }

    /// Lets no packets be counted as long as this is held.
    #[cfg(test)]
    pub(super) fn hold_counters(&self) -> MutexGuard<'_, PacketCounters> {
        lock(&self.counters)
    }

    /// Takes what was read into the current report.
    fn take(&self, reading: Reading) {
        let mut inner = self.lock();
        inner.stopped = reading.stopped;
        let Inner {
            current, stopped, ..
        } = &mut *inner;
        let Some(current) = current else {
            return;
        };
        let report = Arc::make_mut(&mut current.report);
        count(report, stopped);
        if let Some(block) = report.guarantee(Guarantee::HostImdsBlock) {
            let standing = block.standing;
            let edge = report.edge.as_ref().is_some_and(|edge| edge.state.holds());
            report.tasks.retain(|task| task.mode != Mode::Host);
            let rows = reading.host_tasks.iter();
            report.tasks.extend(
                rows.map(|task| Task::on_host(&task.id, task.capabilities, standing, edge)),
            );
        }
        let report = Arc::clone(&current.report);
        drop(inner);
        self.metrics.note_stopped(&report);
        self.metrics.note_tasks(&report);
    }

    /// Records what happened, in the journal too; the text in it is made safe to print.
    pub fn record(&self, event: Event) {
        journal::say(&self.push(event.sanitize()));
    }

    /// Does what waits for a disk: looks for the outcome of a probe, and writes the events down that are
    /// not yet. Not on the loop.
    pub fn use_disk(&self) {
        self.look_for_probes();
        let mut history = lock(&self.history);
        if let Some(history) = history.as_mut() {
            let new = self.events(history.written, RING).events;
            history.add(&new, || self.lock().ring.iter().cloned().collect());
        }
    }

    /// Takes what happened, gives it its number, and wakes its followers.
    pub fn push(&self, event: Event) -> Arc<Event> {
        let mut inner = self.lock();
        inner.last += 1;
        let time = if event.time == SystemTime::UNIX_EPOCH {
            SystemTime::now()
        } else {
            event.time
        };
        let event = Arc::new(Event {
            seq: inner.last,
            time,
            ..event
        });
        if inner.ring.len() == RING {
            inner.ring.pop_front();
        }
        inner.ring.push_back(Arc::clone(&event));
        drop(inner);
        self.metrics.count(&event);
        self.last.send_modify(|last| *last = event.seq.max(*last));
        event
    }

    /// The last report; `None` before the first pass has ended.
    #[must_use]
    pub fn report(&self) -> Option<Arc<Report>> {
        let inner = self.lock();
        let current = inner.current.as_ref()?;
        Some(Arc::clone(&current.report))
    }

    /// What the settings say of how reports are published; nothing before the first.
    #[must_use]
    pub fn publishing(&self) -> Publishing {
        let inner = self.lock();
        let current = inner.current.as_ref();
        current.map_or_else(Publishing::default, |current| current.settings.clone())
    }

    /// How many verifications there were since the daemon began.
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

    /// Tells that another report was published.
    #[must_use]
    pub fn follow_passes(&self) -> watch::Receiver<u64> {
        self.passes.subscribe()
    }

    /// How the host stands as a whole, and why nothing current is known where that is so.
    #[must_use]
    pub fn overall(&self) -> (Overall, Option<String>) {
        let inner = self.lock();
        let Some(current) = &inner.current else {
            let why = "no verification has ended yet".to_owned();
            return (Overall::Undecided, Some(why));
        };
        match stale(current.verified.elapsed(), current.settings.interval) {
            Some(why) => (Overall::Undecided, Some(why)),
            None => (current.report.state, None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panicking thread left is whole: every change is one assignment or one push.
        lock(&self.inner)
    }
}

/// Why what was verified so long ago is too old to be relied on, where it is.
fn stale(age: Duration, interval: Duration) -> Option<String> {
    (age > interval * MISSED_INTERVALS + SLACK).then(|| {
        format!(
            "the last verification was {} s ago, though one is due every {} s",
            age.as_secs(),
            interval.as_secs()
        )
    })
}

fn count(report: &mut Report, stopped: &BTreeMap<Guarantee, Vec<PacketCount>>) {
    for guarantee in &mut report.guarantees {
        guarantee.stopped = stopped.get(&guarantee.name).cloned().unwrap_or_default();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
