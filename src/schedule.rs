//! When to reconcile, verify, feed the watchdog, try again, and leave. Pure: the caller passes the
//! time, carries out the [`Action`]s, and calls again at [`Schedule::deadline`] at the latest.
//!
//! Goals, and how each is met:
//!
//! 1. *A change is looked at soon, a burst of them once.* A reconcile waits for [`QUIET`] after the
//!    last change, at most [`BURST`] after the first, and costs no more than a tenth of a processor
//!    ([`REST`]) where a pass takes less than half a second. However long one takes, a change waits for
//!    no more than [`LONGEST_REST`] after it.
//! 2. *Whatever happens, the host is verified in time.* The safety net's deadline counts from the last
//!    verification that ended, so no number of other events moves it.
//! 3. *The watchdog is fed by verification alone.* A pass that looked at nothing feeds nothing.
//! 4. *Nothing is lost while a pass runs.* What happens meanwhile is a reason for the next one, unless
//!    the pass is known to have read it.
//! 5. *Signals are never in a queue behind work.* They are answered at once, also while a pass runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::plan::ChainId;

/// How long it must have been quiet after a change: an iptables script takes a few milliseconds from
/// one command to the next.
const QUIET: Duration = Duration::from_millis(50);

/// How long the input files must have been left alone: an editor truncates and then writes, and the
/// empty file in between means nothing.
const INPUTS_QUIET: Duration = Duration::from_millis(200);

/// How long at most writing to them is waited for.
const INPUTS_BURST: Duration = Duration::from_secs(2);

/// How long at most a burst of changes is waited for.
const BURST: Duration = Duration::from_millis(500);

/// How long the lock of iptables-legacy must have been left alone: another iptables without `-w` fails
/// where it finds the lock taken, and ecs-init 1.105.1 starts several in a row.
const LOCK_QUIET: Duration = Duration::from_millis(200);

/// How long at most uses of that lock are waited for. The seal holds meanwhile.
const LOCK_BURST: Duration = Duration::from_secs(2);

/// How long after a pass that failed its own last use of that lock may still be reported.
const OWN_USE: Duration = Duration::from_millis(100);

/// How many times as long as a pass the time after it is without another for changes alone.
const REST: u32 = 9;

/// No such time is longer: on a busy host a pass may take seconds, most of which it waits for the
/// processor.
const LONGEST_REST: Duration = RETRY;

/// How soon a pass is repeated that could not do or read everything.
const RETRY: Duration = Duration::from_secs(5);

/// How often an ability that the kernel was found to lack is tried again: a module may have been
/// loaded since.
const RETRY_UNSUPPORTED: Duration = Duration::from_secs(3600);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// SIGXCPU: the kernel says that a realtime thread ran for too long.
    Overrun,
    /// An input file may have changed.
    Inputs,
    /// The cgroup of the tasks appeared or disappeared.
    TaskCgroup,
    /// Another program committed this generation to nf_tables.
    Committed(u32),
    /// Something else changed: interfaces, tasks, a sysctl.
    Changed,
    /// iptables-legacy's lock was used.
    LockUsed,
    /// The sentinel leaves a chain alone until then, since another program keeps undoing its repairs.
    Paused(ChainId, Instant),
    /// Events are held back until then.
    HeldBack(Instant),
    /// The pass ended.
    Ended(Ended),
    /// The deadline passed.
    Tick,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whether the guarantees were proved, or nothing can have changed since they were. Not so where the
    /// pass had nothing to look at: the inputs say what they said before.
    pub verified: bool,
    /// The generation of nf_tables that was read.
    pub generation: Option<u32>,
    /// Whether everything is as it should be, so that there is nothing to try again soon.
    pub settled: bool,
    /// Whether another pass should follow at once: what was read was no longer true at the end.
    pub again: bool,
    /// How often to verify where nothing seems to have changed.
    pub interval: Duration,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a pass. None is running.
    Pass(Cause),
    /// Say that the daemon is ready.
    Ready,
    /// Feed the watchdog.
    FeedWatchdog,
    /// Report the events that were held back.
    SumUp,
    /// Make the sentinel a thread like any other.
    Demote,
    /// End. The rules stay.
    Leave,
}

/// Why a pass is taken; several reasons may have come together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// It is the first.
    pub start: bool,
    /// SIGHUP asked for it: everything is read again, and [`Action::Ready`] follows it.
    pub hangup: bool,
    /// An input file may have changed.
    pub inputs: bool,
    /// The cgroup of the tasks appeared or disappeared.
    pub task_cgroup: bool,
    /// Another program changed something.
    pub changes: bool,
    /// Only the safety net asks: where nothing can have changed since the last pass, that is enough.
    pub quiet: bool,
    /// What the kernel was found to lack is to be tried again.
    pub retry_unsupported: bool,
    /// The chains that are left alone, since another program keeps undoing their repair and the seal
    /// holds.
    pub paused: Vec<ChainId>,
}

impl Cause {
    /// Whether everything is to be looked at, also what no event has named.
    #[must_use]
    pub const fn everything(&self) -> bool {
        self.hangup || !(self.start || self.inputs || self.task_cgroup || self.changes)
    }
}

/// What has happened, and what follows from it.
#[derive(Debug)]
pub struct Schedule {
    /// Half of systemd's watchdog time, where it set one.
    watchdog: Option<Duration>,
    interval: Duration,
    settled: bool,
    /// When the running pass began, and whether [`Action::Ready`] follows it.
    running: Option<(Instant, bool)>,
    /// When the daemon began.
    began: Instant,
    /// When the last verification ended.
    verified: Option<Instant>,
    /// Why a pass is due now.
    due: Cause,
    unseen: Option<Unseen>,
    /// The first and the last time that input files were written to since a pass read them.
    inputs: Option<(Instant, Instant)>,
    /// The same of the lock of iptables-legacy.
    lock: Option<(Instant, Instant)>,
    own_use: Option<Instant>,
    rest: Option<Instant>,
    pauses: BTreeMap<ChainId, Instant>,
    held_back: Option<Instant>,
    retry_unsupported: Instant,
}

/// Changes that no pass has read.
#[derive(Debug)]
struct Unseen {
    first: Instant,
    last: Instant,
    /// The last one's generation of nf_tables; `None` where one of them has no number.
    generation: Option<u32>,
}

impl Schedule {
    /// Begins. The first action is a pass.
    #[must_use]
    pub fn new(watchdog: Option<Duration>, now: Instant) -> Self {
        Self {
            watchdog,
            interval: RETRY,
            settled: false,
            running: None,
            began: now,
            verified: None,
            due: Cause {
                start: true,
                ..Cause::default()
            },
            unseen: None,
            inputs: None,
            lock: None,
            own_use: None,
            rest: None,
            pauses: BTreeMap::new(),
            held_back: None,
            retry_unsupported: now + RETRY_UNSUPPORTED,
        }
    }

    /// Takes note of what happened; what is to be done now, in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Terminate => return vec![Action::Leave],
            Event::Overrun => actions.push(Action::Demote),
            Event::Hangup => self.due.hangup = true,
            Event::Inputs => touch(&mut self.inputs, now),
            Event::TaskCgroup => self.due.task_cgroup = true,
            Event::Committed(generation) => self.changed(Some(generation), now),
            Event::Changed => self.changed(None, now),
            Event::LockUsed => self.lock_used(now),
            Event::Paused(chain, until) => {
                let pause = self.pauses.entry(chain).or_insert(until);
                *pause = until.max(*pause);
            }
            Event::HeldBack(until) => self.held_back = Some(until),
            Event::Ended(ended) => actions.extend(self.ended(&ended, now)),
            Event::Tick => {}
        }
        if self.held_back.take_if(|until| *until <= now).is_some() {
            actions.push(Action::SumUp);
        }
        self.end_pauses(now);
        if self.running.is_none()
            && let Some(cause) = self.next(now)
        {
            self.running = Some((now, cause.start || cause.hangup));
            actions.push(Action::Pass(cause));
        }
        actions
    }

    /// When to call [`Schedule::on`] again though nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.running.is_none();
        let passes = [
            Some(self.safety_net()),
            self.settles(),
            self.inputs_settle(),
        ];
        let pauses = self.pauses.values().copied();
        let passes = passes.into_iter().flatten().filter(|_| idle);
        passes.chain(pauses).chain(self.held_back).min()
    }

    fn changed(&mut self, generation: Option<u32>, now: Instant) {
        let unseen = self.unseen.get_or_insert(Unseen {
            first: now,
            last: now,
            generation,
        });
        unseen.last = now;
        // A change without a number cannot be known to have been read.
        unseen.generation = unseen.generation.and(generation);
    }

    fn lock_used(&mut self, now: Instant) {
        if self.own_use.is_none_or(|until| until <= now) {
            touch(&mut self.lock, now);
        }
    }

    fn ended(&mut self, ended: &Ended, now: Instant) -> Vec<Action> {
        let Some((began, ready)) = self.running.take() else {
            return Vec::new();
        };
        if !ended.verified {
            return Vec::new();
        }
        self.verified = Some(now);
        self.interval = ended.interval;
        self.settled = ended.settled;
        self.rest = Some(now + ((now - began) * REST).min(LONGEST_REST));
        // Whose a use of the lock was is not known. One during a pass is a reason for another, which only
        // reads, and reading does not use the lock. After a pass that failed it is none: the next
        // attempt is due anyway, and would use the lock each time.
        self.lock
            .take_if(|(_, last)| !ended.settled || *last < began);
        self.own_use = (!ended.settled).then_some(now + OWN_USE);
        self.unseen
            .take_if(|unseen| match (unseen.generation, ended.generation) {
                // The number wraps around.
                (Some(change), Some(read)) => change.wrapping_sub(read).cast_signed() <= 0,
                _ => unseen.last < began,
            });
        if ended.again {
            self.changed(None, now);
        }
        let mut actions = Vec::new();
        if ready {
            actions.push(Action::Ready);
        }
        actions.push(Action::FeedWatchdog);
        actions
    }

    /// The end of a pause is a reason to look: nothing else may tell what happened meanwhile.
    fn end_pauses(&mut self, now: Instant) {
        let before = self.pauses.len();
        self.pauses.retain(|_, until| now < *until);
        if self.pauses.len() < before {
            self.due.changes = true;
        }
    }

    /// Why a pass is to be taken now.
    fn next(&mut self, now: Instant) -> Option<Cause> {
        let settled = self.settles().is_some_and(|at| at <= now);
        let net = self.safety_net() <= now;
        if self.inputs_settle().is_some_and(|at| at <= now) {
            self.inputs = None;
            self.due.inputs = true;
        }
        if self.due == Cause::default() && !settled && !net {
            return None;
        }
        let mut cause = std::mem::take(&mut self.due);
        cause.changes |= settled;
        // A quiet look does for the safety net, and for nothing else.
        cause.quiet = cause == Cause::default() && self.settled;
        if cause.hangup || self.retry_unsupported <= now {
            cause.retry_unsupported = true;
            cause.quiet = false;
            self.retry_unsupported = now + RETRY_UNSUPPORTED;
        }
        cause.paused = self.pauses.keys().cloned().collect();
        Some(cause)
    }

    /// When the changes are to be looked at; `None` while there are none.
    fn settles(&self) -> Option<Instant> {
        let unseen = self.unseen.as_ref();
        let change = unseen.map(|unseen| (unseen.last + QUIET).min(unseen.first + BURST));
        // While the lock is in use no other change is a reason to take it.
        let at = change.max(self.lock_is_free())?;
        Some(self.rest.map_or(at, |rest| at.max(rest)))
    }

    /// When the input files have been left alone for long enough; `None` where they were not written to.
    fn inputs_settle(&self) -> Option<Instant> {
        let (first, last) = self.inputs?;
        Some((last + INPUTS_QUIET).min(first + INPUTS_BURST))
    }

    /// When iptables-legacy's lock has been left alone for long enough; `None` where nothing used it.
    fn lock_is_free(&self) -> Option<Instant> {
        let (first, last) = self.lock?;
        Some((last + LOCK_QUIET).min(first + LOCK_BURST))
    }

    /// When everything is to be verified though nothing seems to have changed.
    fn safety_net(&self) -> Instant {
        let period = if self.settled {
            self.interval
        } else {
            self.interval.min(RETRY)
        };
        let period = self
            .watchdog
            .map_or(period, |watchdog| period.min(watchdog));
        // Before the first verification one is running or due, whatever the time.
        let at = self
            .verified
            .map_or(self.began, |verified| verified + period);
        at.max(self.lock_is_free().unwrap_or(at))
    }
}

/// Notes the first and the last time of something.
fn touch(times: &mut Option<(Instant, Instant)>, now: Instant) {
    let (_, last) = times.get_or_insert((now, now));
    *last = now;
}

#[cfg(test)]
mod tests;
