//! What the outside wants of the daemon.

use std::io;

use nix::libc::SIGXCPU;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM, SIGINT.
    Leave,
    /// SIGHUP.
    ReadAgain,
    /// SIGXCPU: the kernel says that a realtime thread ran for too long.
    SlowDown,
}

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

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wish::Leave,
            _ = self.interrupt.recv() => Wish::Leave,
            _ = self.hangup.recv() => Wish::ReadAgain,
            _ = self.overrun.recv() => Wish::SlowDown,
        }
    }
}
