//! What the sentinel reports.

use std::time::{Duration, SystemTime};

use super::backoff::Pause;
use crate::events::By;
use crate::os::sched::Scheduling;
use crate::plan::Drift;

/// What the sentinel tells the slow side. It never waits for it: what is not listened to is lost.
#[derive(Debug)]
pub enum Report {
    /// It began, and how it is scheduled; with the thread's number.
    Began(Scheduling, nix::unistd::Pid),
    /// Somebody else committed this generation to nf_tables.
    Changed(u32),
    /// Something of ours was displaced.
    Displaced(Box<Displacement>),
    /// Somebody used iptables-legacy, to read or to write.
    LockUsed,
    /// Interfaces came or went that may carry containers.
    Links,
    /// Something that it cannot do, and what that means.
    Trouble(String),
}

/// A displacement, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Displacement {
    /// When it was noticed.
    pub at: SystemTime,
    /// What differed.
    pub drifts: Vec<Drift>,
    /// Who did it, where the kernel told.
    pub by: Option<By>,
    /// How long it took from waking up until it was put right, or why it was not.
    pub repaired: Result<Duration, String>,
    /// Whether the seal kept packets out all the while.
    pub sealed: bool,
    /// The guard now leaves this chain alone for a while.
    pub pause: Option<Pause>,
}
