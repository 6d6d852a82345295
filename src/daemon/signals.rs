//! The signals that the daemon answers.

use std::io;

use nix::libc::SIGXCPU;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::schedule::Event;

/// The signals, heard from now on.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    overrun: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            overrun: signal(SignalKind::from_raw(SIGXCPU))?,
        })
    }

    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::Terminate,
            _ = self.interrupt.recv() => Event::Terminate,
            _ = self.hangup.recv() => Event::Hangup,
            _ = self.overrun.recv() => Event::Overrun,
        }
    }
}
