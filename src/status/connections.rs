//! The connections of the status socket: how many there may be, and which one makes room.
//!
//! A client that connects and says nothing must not keep others out, however many of its kind there
//! are. When every place is taken the oldest connection that has not sent its request makes room,
//! then the oldest that does not read its answer. Each has a short while before that can happen to
//! it, so that a client which does what clients do is served even in the middle of a flood.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How many connections there may be.
pub const MAX_CONNECTIONS: usize = 64;

/// What a client has time for in any case: to send its request, once it has connected.
const TIME_TO_ASK: Duration = Duration::from_millis(50);
/// What it has time for in any case: to read its answer.
const TIME_TO_READ: Duration = Duration::from_secs(1);

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The request has not come yet, or not all of it.
    Asking,
    /// It is being answered.
    Reading,
    /// It follows events: as long as it likes, and there are few of these.
    Following,
}

/// The connections, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Connections(Vec<Connection>);

#[derive(Debug)]
struct Connection {
    since: Instant,
    phase: watch::Receiver<Phase>,
    task: AbortHandle,
}

impl Connections {
    /// Notes a connection since `now`, and the task that serves it.
    pub(super) fn add(&mut self, now: Instant, phase: watch::Receiver<Phase>, task: AbortHandle) {
        self.0.push(Connection {
            since: now,
            phase,
            task,
        });
    }

    /// Makes room for another connection, at the cost of one that has had its time where all places
    /// are taken; or says how long to wait until one has.
    pub(super) fn make_room(&mut self, now: Instant) -> Result<(), Duration> {
        self.0.retain(|connection| !connection.task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return Ok(());
        }
        let mut wait = TIME_TO_READ;
        for (phase, time) in [(Phase::Asking, TIME_TO_ASK), (Phase::Reading, TIME_TO_READ)] {
            let oldest = self.0.iter().position(|c| *c.phase.borrow() == phase);
            let Some(oldest) = oldest else {
                continue;
            };
            let age = now.saturating_duration_since(self.0[oldest].since);
            if age >= time {
                self.0.remove(oldest).task.abort();
                return Ok(());
            }
            wait = wait.min(time - age);
        }
        Err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as there may be, all since `now`.
    fn full(now: Instant) -> (Connections, Vec<watch::Sender<Phase>>) {
        let mut connections = Connections::default();
        let phases = (0..MAX_CONNECTIONS).map(|_| {
            let (phase, phases) = watch::channel(Phase::Asking);
            let task = tokio::spawn(std::future::pending::<()>());
            connections.add(now, phases, task.abort_handle());
            phase
        });
        let phases = phases.collect();
        (connections, phases)
    }

    /// The places of those that are left, by their number in the beginning.
    fn left(connections: &Connections, phases: &[watch::Sender<Phase>]) -> Vec<usize> {
        let there = |phase: &watch::Sender<Phase>| {
            let is = |c: &Connection| c.phase.same_channel(&phase.subscribe());
            connections.0.iter().any(is)
        };
        (0..phases.len()).filter(|n| there(&phases[*n])).collect()
    }

    #[tokio::test]
    async fn the_oldest_that_asks_nothing_makes_room_when_it_has_had_its_time() {
        let now = Instant::now();
        let (mut connections, phases) = full(now);
        phases[0].send_replace(Phase::Following);
        phases[1].send_replace(Phase::Reading);
        assert_eq!(connections.make_room(now), Err(TIME_TO_ASK));
        assert_eq!(left(&connections, &phases).len(), MAX_CONNECTIONS);
        assert_eq!(connections.make_room(now + TIME_TO_READ), Ok(()));
        let others: Vec<_> = (0..MAX_CONNECTIONS).filter(|n| *n != 2).collect();
        assert_eq!(left(&connections, &phases), others);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_room_where_all_have_asked() {
        let now = Instant::now();
        let (mut connections, phases) = full(now);
        for phase in &phases {
            phase.send_replace(Phase::Reading);
        }
        let wait = connections.make_room(now + TIME_TO_ASK);
        assert_eq!(wait, Err(TIME_TO_READ - TIME_TO_ASK));
        assert_eq!(connections.make_room(now + TIME_TO_READ), Ok(()));
        assert_eq!(left(&connections, &phases)[0], 1);
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_takes_no_place() {
        let now = Instant::now();
        let (mut connections, phases) = full(now);
        let last = &connections.0[MAX_CONNECTIONS - 1].task;
        last.abort();
        while !last.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(connections.make_room(now), Ok(()));
        assert_eq!(left(&connections, &phases).len(), MAX_CONNECTIONS - 1);
    }
}
