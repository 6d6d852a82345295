//! Whatever comes over the channel between the daemon and the process that enters tasks' namespaces is a
//! message or an error, and what is told fits into the longest message.
#![no_main]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use ecs_netguard::os::channel::{Channel, LONGEST};
use ecs_netguard::tasks::protocol::{Happened, Order, Told};
use libfuzzer_sys::fuzz_target;
use nix::sys::socket::{MsgFlags, send};
use serde::de::DeserializeOwned;

thread_local! {
    static ENDS: (Channel, Channel) = Channel::pair().expect("a pair of sockets");
}

fuzz_target!(|bytes: &[u8]| {
    // Nothing is what the end of the other side looks like.
    if bytes.is_empty() {
        return;
    }
    ENDS.with(|ends| {
        let order = heard::<Order>(ends, bytes);
        if let Some(order) = order {
            assert_eq!(echo(ends, &order), order);
        }
        if let Some(told) = heard::<Told>(ends, bytes) {
            let grown = grown(told.clone());
            for told in [told.bounded(), grown.bounded()] {
                assert_eq!(echo(ends, &told), told);
            }
        }
    });
});

/// What one side takes these bytes for.
fn heard<T: DeserializeOwned>((one, other): &(Channel, Channel), bytes: &[u8]) -> Option<T> {
    send(one.as_fd().as_raw_fd(), bytes, MsgFlags::empty()).expect("room");
    match other.receive() {
        Ok(told) => Some(told.expect("the other side is there")),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            None
        }
    }
}

/// What arrives of a message.
fn echo<T: DeserializeOwned + serde::Serialize>((one, other): &(Channel, Channel), told: &T) -> T {
    let text = serde_json::to_vec(told).expect("JSON");
    assert!(text.len() <= LONGEST, "{} bytes", text.len());
    one.send(told).expect("a message that is short enough");
    other.receive().expect("a message").expect("the other side")
}

/// The same with far more and far longer texts than a message that was received can have.
fn grown(told: Told) -> Told {
    let long = |text: String| text.repeat(1 + 2000 / text.len().max(1));
    let many = |texts: Vec<String>| -> Vec<String> {
        let texts: Vec<String> = texts.into_iter().map(long).collect();
        texts.iter().cycle().take(40).cloned().collect()
    };
    match told {
        Told::Task(mut task) => {
            task.id = long(task.id);
            task.problems = many(task.problems);
            task.notes = many(task.notes);
            task.powers = task.powers.repeat(5000);
            Told::Task(task)
        }
        Told::Complete { number, troubles } => Told::Complete {
            number,
            troubles: many(troubles),
        },
        Told::Happened(Happened::Repaired(mut repaired)) => {
            repaired.objects = many(repaired.objects);
            repaired.by = repaired.by.map(|(pid, name)| (pid, long(name)));
            Told::Happened(Happened::Repaired(repaired))
        }
        Told::Happened(Happened::Released(text)) => Told::Happened(Happened::Released(long(text))),
        Told::Happened(Happened::Trouble(text)) => Told::Happened(Happened::Trouble(long(text))),
        Told::Restarted(why) => Told::Restarted(long(why)),
        short @ (Told::Gone(_) | Told::Happened(Happened::Fight(_))) => short,
    }
}
