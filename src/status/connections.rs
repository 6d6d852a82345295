//! The connections of the status socket: how many there may be, and which one makes room.
//!
//! A client that connects and says nothing must not keep others out, however many of its kind there
//! are. When every place is taken the oldest connection that has not sent its request makes room,
//! then the oldest that does not read its answer. Each has a short while before that can happen to
//! it, so that a client which does what clients do is served even in the middle of a flood.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// In the order in which they came.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    since: Instant,
    phase: Phase,
    task: Option<AbortHandle>,
}

/// A place among the connections, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    connections: Connections,
}

impl Connections {
    /// A place for another connection, at the cost of one that has had its time; or how long to wait
    /// until there is one.
    pub(super) fn place(&self, now: Instant) -> Result<Place, Duration> {
        let mut table = self.lock();
        let mut leaving = None;
        if table.entries.len() >= MAX_CONNECTIONS {
            let leaves = table.make_room(now)?;
            leaving = table.entries.remove(leaves).task;
        }
        let id = table.next;
        table.next += 1;
        table.entries.push(Entry {
            id,
            since: now,
            phase: Phase::Asking,
            task: None,
        });
        drop(table);
        // Its own place is looked for when the task is dropped: not under the lock.
        if let Some(task) = leaving {
            task.abort();
        }
        Ok(Place {
            id,
            connections: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Which entry makes room.
    fn make_room(&self, now: Instant) -> Result<usize, Duration> {
        let mut wait = TIME_TO_READ;
        for (phase, time) in [(Phase::Asking, TIME_TO_ASK), (Phase::Reading, TIME_TO_READ)] {
            let Some(oldest) = self.entries.iter().position(|entry| entry.phase == phase) else {
                continue;
            };
            let age = now.saturating_duration_since(self.entries[oldest].since);
            if age >= time {
                return Ok(oldest);
            }
            wait = wait.min(time - age);
        }
        Err(wait)
    }
}

impl Place {
    /// Which number the connection has, to be told of the task that serves it.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Notes how far the connection is.
    pub(super) fn reached(&self, phase: Phase) {
        let mut table = self.connections.lock();
        if let Some(entry) = table.entries.iter_mut().find(|entry| entry.id == self.id) {
            entry.phase = phase;
        }
    }

    /// How far the connection is.
    pub(super) fn phase(&self) -> Phase {
        let table = self.connections.lock();
        let entry = table.entries.iter().find(|entry| entry.id == self.id);
        entry.map_or(Phase::Asking, |entry| entry.phase)
    }
}

impl Connections {
    /// Notes which task serves a connection, so that it can be ended.
    pub(super) fn serves(&self, id: u64, task: AbortHandle) {
        let mut table = self.lock();
        if let Some(entry) = table.entries.iter_mut().find(|entry| entry.id == id) {
            entry.task = Some(task);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let id = self.id;
        self.connections
            .lock()
            .entries
            .retain(|entry| entry.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(now: Instant) -> (Connections, Vec<Place>) {
        let connections = Connections::default();
        let places = (0..MAX_CONNECTIONS)
            .map(|_| connections.place(now).unwrap())
            .collect();
        (connections, places)
    }

    #[test]
    fn the_oldest_that_asks_nothing_makes_room_when_it_has_had_its_time() {
        let now = Instant::now();
        let (connections, places) = full(now);
        places[0].reached(Phase::Following);
        places[1].reached(Phase::Reading);
        assert_eq!(connections.place(now).unwrap_err(), TIME_TO_ASK);
        let later = now + TIME_TO_ASK;
        let _new = connections.place(later).unwrap();
        let ids: Vec<u64> = connections.lock().entries.iter().map(|e| e.id).collect();
        assert!(!ids.contains(&2), "the first that asked nothing: {ids:?}");
        assert_eq!(ids.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn who_does_not_read_makes_room_where_all_have_asked() {
        let now = Instant::now();
        let (connections, places) = full(now);
        places
            .iter()
            .for_each(|place| place.reached(Phase::Reading));
        assert_eq!(
            connections.place(now + TIME_TO_ASK).unwrap_err(),
            TIME_TO_READ - TIME_TO_ASK
        );
        assert!(connections.place(now + TIME_TO_READ).is_ok());
    }

    #[test]
    fn a_place_that_is_given_back_is_free() {
        let now = Instant::now();
        let (connections, mut places) = full(now);
        places.pop();
        assert!(connections.place(now).is_ok());
    }
}
