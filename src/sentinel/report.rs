//! What the sentinel reports.

use crate::events::Displacement;
use crate::os::sched::Scheduling;

/// What the sentinel reports. It never waits for the reader: a report that finds no room is lost.
#[derive(Debug)]
pub enum Report {
    /// It began, and how it is scheduled; with the thread's number.
    Began(Scheduling, nix::unistd::Pid),
    /// Another program committed this generation to nf_tables.
    Changed(u32),
    /// Something of ours was displaced.
    Displaced(Box<Displacement>),
    /// A program opened or closed the lock of iptables-legacy.
    LockUsed,
    /// Interfaces came or went that may carry containers.
    Links,
    /// Something that it cannot do, and what that means.
    Trouble(String),
}
