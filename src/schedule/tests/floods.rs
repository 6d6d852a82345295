//! An hour of life under floods of events.

use super::*;

#[test]
fn no_number_of_events_puts_off_verification_or_the_watchdog() {
    let mut life = Life::unborn(Some(20 * SECOND));
    life.on(Event::Tick);
    life.on(Event::Ended(ENDED));
    let (mut verified, mut fed) = (life.now, 0);
    // Events that lead to no pass, or to one that finds nothing to look at, 100 times a second.
    while life.now - life.began < Duration::from_secs(3600) {
        let mut actions = life.after(ms(10), Event::Inputs);
        actions.extend(life.on(Event::TaskCgroup));
        actions.extend(life.on(Event::HeldBack(life.now + MINUTE)));
        while let Some(action) = actions.pop() {
            match action {
                Action::Pass(cause) => {
                    let found_nothing = cause.inputs || cause.task_cgroup;
                    actions.extend(life.on(Event::Ended(Ended {
                        verified: !found_nothing,
                        ..ENDED
                    })));
                }
                Action::FeedWatchdog => (verified, fed) = (life.now, fed + 1),
                _ => {}
            }
        }
        assert!(life.now - verified <= 20 * SECOND + ms(10));
    }
    assert!((175..=180).contains(&fed), "{fed}");
}

/// An hour with a flood of every kind of event, at random times, with passes of random lengths: one
/// pass at a time, verification in time, signals answered at once.
#[test]
fn an_hour_under_a_flood_of_events() {
    let mut life = Life::unborn(Some(30 * SECOND));
    let mut random = 1u64;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let mut running: Option<Instant> = None;
    let (mut verified, mut passes, mut sums) = (life.now, 0, 0);
    let mut actions = life.on(Event::Tick);
    while life.now - life.began < Duration::from_secs(3600) {
        for action in actions.drain(..) {
            match action {
                Action::Pass(_) => {
                    assert_eq!(running, None, "one at a time");
                    passes += 1;
                    running = Some(life.now + ms(next(2000)));
                }
                Action::SumUp => sums += 1,
                Action::FeedWatchdog => verified = life.now,
                Action::Ready | Action::Demote => {}
                Action::Leave => panic!("nothing asked for that"),
            }
        }
        assert!(
            life.now - verified <= 33 * SECOND,
            "{:?}",
            life.now - life.began
        );
        let event = match next(10) {
            0 => Event::Inputs,
            1 => Event::TaskCgroup,
            2 => Event::Changed,
            3 => Event::LockUsed,
            4 => Event::Paused(chain("FORWARD"), life.now + ms(next(5000))),
            5 => Event::HeldBack(life.now + ms(next(5000))),
            6 => Event::Overrun,
            _ => Event::Committed(next(1000) as u32),
        };
        let deadline = life.schedule.deadline().into_iter().chain(running).min();
        let step = ms(next(100));
        let at = deadline.map_or(life.now + step, |at| at.min(life.now + step));
        life.now = life.now.max(at);
        actions = if running.is_some_and(|end| end <= life.now) {
            running = None;
            let ended = Ended {
                verified: next(4) > 0,
                settled: next(2) > 0,
                ..ENDED
            };
            life.on(Event::Ended(ended))
        } else {
            life.on(event)
        };
    }
    assert!(passes > 500 && sums > 100, "{passes} {sums}");
}
