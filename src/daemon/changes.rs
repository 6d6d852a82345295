//! When to look again after something changed: soon, but once for a burst of changes, and never so
//! often that looking costs more than a small part of a processor. Pure.

use std::time::{Duration, Instant};

/// How long it must have been quiet: an iptables script takes a few milliseconds from one command to
/// the next.
const QUIET: Duration = Duration::from_millis(50);

/// How long at most a burst is waited for.
const BURST: Duration = Duration::from_millis(500);

/// How long iptables-legacy's lock must not have been opened or closed: where another program's iptables
/// has no `-w`, it fails if it finds the lock taken. ecs-init 1.105.1 starts several in a row.
const LOCK_QUIET: Duration = Duration::from_millis(200);

/// How long at most that is waited for.
const LOCK_BURST: Duration = Duration::from_secs(2);

/// How long after a turn its own last use of the lock may still be reported.
const OWN_USE: Duration = Duration::from_millis(100);

/// How much longer than a turn the time after it is, so that turns cost at most a tenth of a
/// processor however quickly somebody changes the rules.
const REST: u32 = 9;

/// What happened since the last turn.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The first and the last change that no turn has seen, and its generation where it has one.
    unseen: Option<Unseen>,
    /// The first and the last use of iptables-legacy's lock that no turn has seen the result of.
    lock: Option<(Instant, Instant)>,
    /// Until then a use of the lock is taken for that of a turn that failed.
    own_use: Option<Instant>,
    /// Before then no turn is taken.
    rest: Option<Instant>,
}

#[derive(Debug)]
struct Unseen {
    first: Instant,
    last: Instant,
    generation: Option<u32>,
}

impl Changes {
    /// Somebody changed something; `generation` is that of nf_tables afterwards, if it was that.
    pub(super) fn noticed(&mut self, generation: Option<u32>, now: Instant) {
        let unseen = self.unseen.get_or_insert(Unseen {
            first: now,
            last: now,
            generation,
        });
        unseen.last = now;
        // A change without a number cannot be known to have been seen.
        unseen.generation = unseen.generation.and(generation);
    }

    /// A program, or a turn that changed something, opened or closed iptables-legacy's lock.
    pub(super) fn lock_used(&mut self, now: Instant) {
        if self.own_use.is_none_or(|until| until <= now) {
            let (_, last) = self.lock.get_or_insert((now, now));
            *last = now;
        }
    }

    /// A turn ended that took that long, and read this generation of nf_tables. It has seen what
    /// came before it began, and what has no higher number.
    ///
    /// Whose a use of the lock was is not known: one during a turn is a reason for another, which only
    /// reads, and reading does not use the lock. After one that `failed` it is none, since what could
    /// not be done is tried again later anyway, and would use the lock each time.
    pub(super) fn turn_ended(
        &mut self,
        now: Instant,
        took: Duration,
        generation: Option<u32>,
        failed: bool,
    ) {
        self.rest = Some(now + took * REST);
        self.lock.take_if(|(_, last)| failed || *last + took < now);
        self.own_use = failed.then_some(now + OWN_USE);
        let seen = |unseen: &mut Unseen| match (unseen.generation, generation) {
            // The number wraps around.
            (Some(change), Some(read)) => change.wrapping_sub(read).cast_signed() <= 0,
            _ => unseen.last + took < now,
        };
        self.unseen.take_if(seen);
    }

    /// When the next turn is to be taken; `None` while there is no reason.
    pub(super) fn settles(&self) -> Option<Instant> {
        let unseen = self.unseen.as_ref();
        let change = unseen.map(|unseen| (unseen.last + QUIET).min(unseen.first + BURST));
        let lock = self.lock;
        let lock = lock.map(|(first, last)| (last + LOCK_QUIET).min(first + LOCK_BURST));
        // While the lock is in use no other change is a reason to take it.
        let settled = change.max(lock)?;
        Some(self.rest.map_or(settled, |rest| settled.max(rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_change_is_looked_at_when_it_is_quiet() {
        let start = Instant::now();
        let mut changes = Changes::default();
        assert_eq!(changes.settles(), None);
        changes.noticed(Some(5), start);
        assert_eq!(changes.settles(), Some(start + QUIET));
    }

    #[test]
    fn a_burst_is_looked_at_once_but_not_late() {
        let start = Instant::now();
        let mut changes = Changes::default();
        for step in 0..100 {
            changes.noticed(Some(step), start + ms(10) * step);
        }
        assert_eq!(changes.settles(), Some(start + BURST));
    }

    #[test]
    fn what_a_turn_has_read_is_no_reason_for_another() {
        let start = Instant::now();
        let mut changes = Changes::default();
        changes.noticed(Some(u32::MAX), start);
        changes.noticed(Some(1), start);
        changes.turn_ended(start, ms(1), Some(u32::MAX), false);
        assert!(changes.settles().is_some(), "the last change came after");
        changes.turn_ended(start, ms(1), Some(1), false);
        assert_eq!(changes.settles(), None);
        changes.noticed(None, start);
        changes.noticed(Some(1), start);
        changes.turn_ended(start, ms(1), Some(2), false);
        assert!(
            changes.settles().is_some(),
            "whether it saw what has no number is not known"
        );
        changes.turn_ended(start + ms(5), ms(1), Some(2), false);
        assert_eq!(changes.settles(), None, "it began afterwards");
    }

    #[test]
    fn turns_leave_nine_tenths_of_the_time() {
        let start = Instant::now();
        let mut changes = Changes::default();
        changes.turn_ended(start, ms(100), Some(1), false);
        changes.noticed(Some(2), start);
        assert_eq!(changes.settles(), Some(start + ms(900)));
    }

    #[test]
    fn a_use_of_the_lock_is_looked_at_after_200_ms_of_quiet_but_not_late() {
        let start = Instant::now();
        let mut changes = Changes::default();
        changes.lock_used(start);
        assert_eq!(changes.settles(), Some(start + ms(200)));
        changes.noticed(Some(5), start);
        assert_eq!(
            changes.settles(),
            Some(start + ms(200)),
            "whatever else changed"
        );
        changes.lock_used(start + ms(190));
        assert_eq!(
            changes.settles(),
            Some(start + ms(390)),
            "a program goes on"
        );
        for step in 2..100 {
            changes.lock_used(start + ms(100) * step);
        }
        assert_eq!(changes.settles(), Some(start + ms(2000)));
    }

    #[test]
    fn a_use_of_the_lock_during_a_turn_is_looked_at_unless_the_turn_failed() {
        let start = Instant::now();
        let mut changes = Changes::default();
        changes.lock_used(start);
        changes.turn_ended(start + ms(20), ms(10), Some(1), false);
        assert_eq!(changes.settles(), None, "it was over when the turn began");
        changes.lock_used(start + ms(45));
        changes.turn_ended(start + ms(50), ms(10), Some(1), false);
        assert_eq!(changes.settles(), Some(start + ms(245)));
        changes.turn_ended(start + ms(50), ms(10), Some(1), true);
        assert_eq!(changes.settles(), None, "it is tried again anyway");
        changes.lock_used(start + ms(149));
        assert_eq!(changes.settles(), None, "its own last use");
        changes.lock_used(start + ms(150));
        assert_eq!(changes.settles(), Some(start + ms(350)));
    }
}
