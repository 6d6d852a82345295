//! The lock of iptables-legacy.

use super::*;

#[test]
fn the_lock_of_iptables_legacy_is_left_alone_until_it_has_been_quiet() {
    let mut life = Life::new();
    life.now += SECOND;
    for _ in 0..10 {
        assert_eq!(life.after(ms(150), Event::LockUsed), []);
    }
    assert_eq!(life.pass(), (LOCK_QUIET, changes()));
    life.after(ms(1), Event::Ended(ENDED));
    assert_eq!(
        life.schedule.settles(),
        None,
        "it was over when the pass began"
    );
    life.on(Event::LockUsed);
    life.on(Event::Committed(2));
    assert_eq!(
        life.pass(),
        (LOCK_QUIET, changes()),
        "whatever else changed"
    );
}

#[test]
fn a_use_of_the_lock_during_a_pass_is_a_reason_for_another_unless_the_pass_failed() {
    for settled in [true, false] {
        let mut life = Life::new();
        life.on(Event::Hangup);
        life.after(ms(1), Event::LockUsed);
        let ended = Ended { settled, ..ENDED };
        life.after(ms(1), Event::Ended(ended));
        let due = life.schedule.settles();
        assert_eq!(due.is_some(), settled);
        // What is reported late of a pass that failed is its own use too.
        life.after(OWN_USE - ms(1), Event::LockUsed);
        assert_eq!(life.schedule.settles().is_some(), settled);
        life.after(ms(1), Event::LockUsed);
        assert_eq!(life.pass(), (LOCK_QUIET, changes()));
    }
}

#[test]
fn a_lock_that_is_used_without_end_is_waited_for_two_seconds() {
    let mut life = Life::new();
    life.now += SECOND;
    life.on(Event::LockUsed);
    let began = life.now;
    while life.after(ms(100), Event::LockUsed).is_empty() {}
    assert_eq!(life.now - began, LOCK_BURST);
    // The use at the very moment of its beginning may not have been read.
    life.after(ms(1), Event::Ended(ENDED));
    assert!(life.schedule.settles().is_some());
    life.pass();
    life.after(ms(1), Event::Ended(ENDED));
    // The count starts over.
    life.after(10 * SECOND, Event::LockUsed);
    assert_eq!(life.pass(), (LOCK_QUIET, changes()));
}

#[test]
fn the_safety_net_waits_for_the_lock_too() {
    let mut life = Life::new();
    life.now += MINUTE - ms(100);
    life.on(Event::LockUsed);
    assert_eq!(life.pass().0, LOCK_QUIET);
}
