mod floods;
mod lock;

use super::*;
use crate::ruleset::Family;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn chain(name: &str) -> ChainId {
    ChainId {
        family: Family::V4,
        table: "filter".to_owned(),
        chain: name.to_owned(),
    }
}

const ENDED: Ended = Ended {
    verified: true,
    generation: Some(1),
    settled: true,
    again: false,
    interval: MINUTE,
};

/// A schedule with a made-up clock.
struct Life {
    schedule: Schedule,
    began: Instant,
    now: Instant,
}

impl Life {
    /// Before its first pass.
    fn unborn(watchdog: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            schedule: Schedule::new(watchdog, now),
            began: now,
            now,
        }
    }

    /// With its first pass behind it, which took no time.
    fn new() -> Self {
        let mut life = Self::unborn(None);
        assert_eq!(life.on(Event::Tick).len(), 1);
        assert_eq!(
            life.on(Event::Ended(ENDED)),
            [Action::Ready, Action::FeedWatchdog]
        );
        life
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.schedule.on(event, self.now)
    }

    /// Lets time pass until the deadline; what is to be done then, and how long that was.
    fn sleep(&mut self) -> (Duration, Vec<Action>) {
        let deadline = self.schedule.deadline().expect("something is always due");
        let slept = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        (slept, self.on(Event::Tick))
    }

    /// Starts a pass by waiting; its cause.
    fn pass(&mut self) -> (Duration, Cause) {
        let (slept, actions) = self.sleep();
        let [Action::Pass(cause)] = actions.as_slice() else {
            panic!("{actions:?} after {slept:?}");
        };
        (slept, cause.clone())
    }

    fn after(&mut self, time: Duration, event: Event) -> Vec<Action> {
        self.now += time;
        self.on(event)
    }
}

fn quiet() -> Cause {
    Cause {
        quiet: true,
        ..Cause::default()
    }
}

fn changes() -> Cause {
    Cause {
        changes: true,
        ..Cause::default()
    }
}

#[test]
fn the_first_pass_comes_at_once_and_ready_after_it() {
    let mut life = Life::unborn(None);
    let cause = Cause {
        start: true,
        ..Cause::default()
    };
    assert_eq!(life.on(Event::Tick), [Action::Pass(cause)]);
    assert_eq!(life.schedule.deadline(), None, "it runs");
    let skipped = Ended {
        verified: false,
        ..ENDED
    };
    // A pass that verified nothing makes nothing ready, and is due again.
    let again = life.on(Event::Ended(skipped));
    assert!(matches!(again.as_slice(), [Action::Pass(_)]), "{again:?}");
}

#[test]
fn a_change_is_looked_at_when_it_is_quiet() {
    let mut life = Life::new();
    assert_eq!(life.on(Event::Committed(5)), []);
    assert_eq!(life.after(QUIET - ms(1), Event::Tick), []);
    assert_eq!(life.pass(), (ms(1), changes()));
}

#[test]
fn a_burst_is_looked_at_once_but_not_late() {
    let mut life = Life::new();
    let began = life.now;
    let mut passes = 0;
    for generation in 2..102 {
        let actions = life.after(ms(10), Event::Committed(generation));
        passes += actions.len();
        if passes == 1 {
            break;
        }
    }
    assert_eq!(life.now - began, BURST + ms(10), "ten more after the first");
}

#[test]
fn a_pass_costs_at_most_a_tenth_of_a_processor_and_a_change_never_waits_long() {
    for (took, rests) in [(100, 900), (500, 4500), (556, 5000), (4000, 5000)] {
        let mut life = Life::new();
        life.on(Event::Changed);
        life.pass();
        life.on(Event::Changed);
        assert_eq!(
            life.after(ms(took), Event::Ended(ENDED)),
            [Action::FeedWatchdog],
            "a change without a number during the pass may not have been read"
        );
        assert_eq!(life.pass(), (ms(rests), changes()), "after {took} ms");
    }
}

#[test]
fn what_a_pass_has_read_is_no_reason_for_another() {
    for (committed, read, again) in [
        (Some(5), Some(5), false),
        (Some(5), Some(6), false),
        (Some(6), Some(5), true),
        (Some(1), Some(u32::MAX), true),
        (Some(u32::MAX), Some(1), false),
        (Some(5), None, true),
        (None, Some(9), true),
    ] {
        let mut life = Life::new();
        life.on(Event::Hangup);
        let event = committed.map_or(Event::Changed, Event::Committed);
        life.on(event);
        let ended = Ended {
            generation: read,
            ..ENDED
        };
        life.after(ms(1), Event::Ended(ended));
        let due = life.pass();
        assert_eq!(due.1 == changes(), again, "{committed:?} {read:?}");
        assert_eq!(due.0 < SECOND, again);
    }
}

#[test]
fn what_came_before_a_pass_began_has_been_read() {
    let mut life = Life::new();
    life.on(Event::Changed);
    life.after(ms(1), Event::Hangup);
    life.after(ms(1), Event::Ended(ENDED));
    assert_eq!(life.pass(), (MINUTE, quiet()));
}

#[test]
fn a_number_among_changes_without_one_does_not_hide_them() {
    let mut life = Life::new();
    life.on(Event::Hangup);
    life.on(Event::Changed);
    life.on(Event::Committed(1));
    life.on(Event::Ended(ENDED));
    assert_eq!(life.pass().1, changes());
}

#[test]
fn the_watchdog_is_fed_by_verification_alone() {
    let mut life = Life::new();
    life.on(Event::TaskCgroup);
    let nothing_new = Ended {
        verified: false,
        settled: false,
        interval: SECOND,
        ..ENDED
    };
    assert_eq!(life.after(SECOND, Event::Ended(nothing_new)), []);
    assert_eq!(life.pass(), (MINUTE - SECOND, quiet()));
}

#[test]
fn the_net_comes_twice_in_the_watchdogs_time_and_sooner_while_something_is_not_settled() {
    for (watchdog, settled, interval, net) in [
        (None, true, MINUTE, MINUTE),
        (Some(7 * SECOND), true, MINUTE, 7 * SECOND),
        (Some(7 * MINUTE), true, MINUTE, MINUTE),
        (None, false, MINUTE, RETRY),
        (None, false, SECOND, SECOND),
        (Some(2 * SECOND), false, MINUTE, 2 * SECOND),
    ] {
        let mut life = Life::unborn(watchdog);
        life.on(Event::Tick);
        let ended = Ended {
            settled,
            interval,
            ..ENDED
        };
        life.on(Event::Ended(ended));
        let (slept, cause) = life.pass();
        assert_eq!((slept, cause.quiet), (net, settled));
        assert!(cause.everything());
    }
}

#[test]
fn a_quiet_look_does_for_the_net_alone() {
    for event in [Event::Inputs, Event::TaskCgroup, Event::Hangup] {
        let mut life = Life::new();
        let mut actions = life.on(event.clone());
        if event == Event::Inputs {
            actions = life.sleep().1;
        }
        let [Action::Pass(cause)] = actions.as_slice() else {
            panic!("{event:?}: {actions:?}");
        };
        assert!(!cause.quiet, "{event:?}");
        let why = (cause.inputs, cause.task_cgroup, cause.hangup);
        let expected = (
            event == Event::Inputs,
            event == Event::TaskCgroup,
            event == Event::Hangup,
        );
        assert_eq!(why, expected);
        assert_eq!(cause.everything(), event == Event::Hangup);
        assert_eq!(cause.retry_unsupported, event == Event::Hangup);
    }
    for cause in [
        changes(),
        Cause {
            start: true,
            ..Cause::default()
        },
    ] {
        assert!(!cause.everything());
    }
}

#[test]
fn signals_are_answered_while_a_pass_runs() {
    let mut life = Life::new();
    life.on(Event::Hangup);
    assert_eq!(life.on(Event::Overrun), [Action::Demote]);
    assert_eq!(life.on(Event::Hangup), []);
    assert_eq!(life.on(Event::Terminate), [Action::Leave]);
    // The second hangup is answered by a second pass.
    let actions = life.after(ms(1), Event::Ended(ENDED));
    let [Action::Ready, Action::FeedWatchdog, Action::Pass(cause)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert!(cause.hangup);
}

#[test]
fn what_changes_while_a_pass_runs_is_not_lost() {
    let mut life = Life::new();
    life.on(Event::Hangup);
    assert_eq!(life.on(Event::TaskCgroup), []);
    assert_eq!(life.on(Event::Inputs), []);
    let actions = life.after(ms(1), Event::Ended(ENDED));
    let [Action::Ready, Action::FeedWatchdog, Action::Pass(cause)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert!(cause.task_cgroup && !cause.inputs, "{cause:?}");
    life.on(Event::Ended(ENDED));
    let (slept, cause) = life.pass();
    assert_eq!((slept, cause.inputs), (INPUTS_QUIET - ms(1), true));
}

#[test]
fn input_files_are_read_when_they_have_been_left_alone_but_not_late() {
    let mut life = Life::new();
    life.on(Event::Inputs);
    life.after(ms(100), Event::Inputs);
    // Whatever else happens meanwhile changes nothing of it.
    life.after(ms(100), Event::Committed(1));
    assert_eq!(life.schedule.inputs_settle(), Some(life.now + ms(100)));
    let (_, cause) = life.pass();
    assert!(
        cause.changes && !cause.inputs,
        "that comes first: {cause:?}"
    );
    life.on(Event::Ended(ENDED));
    assert!(life.pass().1.inputs);
    life.on(Event::Ended(ENDED));
    let began = life.now;
    let mut actions = life.on(Event::Inputs);
    while actions.is_empty() {
        actions = life.after(ms(50), Event::Inputs);
    }
    assert_eq!(life.now - began, INPUTS_BURST);
}

#[test]
fn ready_follows_the_pass_that_was_asked_for() {
    let mut life = Life::new();
    life.on(Event::TaskCgroup);
    assert_eq!(life.on(Event::Ended(ENDED)), [Action::FeedWatchdog]);
    life.on(Event::Hangup);
    assert_eq!(
        life.on(Event::Ended(ENDED)),
        [Action::Ready, Action::FeedWatchdog]
    );
    assert_eq!(life.on(Event::Ended(ENDED)), [], "none was running");
}

#[test]
fn a_shorter_pause_does_not_replace_a_longer_one_and_its_end_is_a_reason_to_look() {
    let mut life = Life::new();
    let until = life.now + 30 * SECOND;
    life.on(Event::Paused(chain("FORWARD"), until));
    life.on(Event::Paused(chain("FORWARD"), life.now + SECOND));
    life.on(Event::Paused(chain("INPUT"), life.now + 2 * SECOND));
    let (slept, cause) = life.pass();
    assert_eq!(slept, 2 * SECOND);
    assert!(cause.changes);
    assert_eq!(cause.paused, [chain("FORWARD")], "INPUT is repaired again");
    life.on(Event::Ended(ENDED));
    let (_, cause) = life.pass();
    assert_eq!((life.now, cause), (until, changes()));
}

#[test]
fn a_pause_that_ends_during_a_pass_is_followed_by_another() {
    let mut life = Life::new();
    life.on(Event::Paused(chain("FORWARD"), life.now + SECOND));
    life.on(Event::Hangup);
    assert_eq!(life.schedule.deadline(), Some(life.now + SECOND));
    assert_eq!(life.sleep().1, []);
    let actions = life.on(Event::Ended(ENDED));
    assert_eq!(actions.last(), Some(&Action::Pass(changes())));
}

#[test]
fn what_the_kernel_lacked_is_tried_again_once_an_hour() {
    let mut life = Life::new();
    let mut tried = Vec::new();
    while life.now - life.began < Duration::from_secs(3 * 3600) {
        let (_, cause) = life.pass();
        if cause.retry_unsupported {
            assert!(!cause.quiet, "a quiet look would not try");
            tried.push((life.now - life.began).as_secs());
        }
        life.on(Event::Ended(ENDED));
    }
    assert_eq!(tried, [3600, 7200, 10800]);
}

#[test]
fn what_is_held_back_is_summed_up_also_during_a_pass() {
    let mut life = Life::new();
    life.on(Event::Hangup);
    life.on(Event::HeldBack(life.now + SECOND));
    assert_eq!(life.after(SECOND - ms(1), Event::Tick), []);
    assert_eq!(life.sleep(), (ms(1), vec![Action::SumUp]));
    assert_eq!(life.on(Event::Tick), []);
}

#[test]
fn a_pass_that_asks_for_another_gets_it_after_a_rest() {
    let mut life = Life::new();
    life.on(Event::Hangup);
    let again = Ended {
        again: true,
        ..ENDED
    };
    life.after(ms(10), Event::Ended(again));
    assert_eq!(life.pass(), (ms(90), changes()));
}
