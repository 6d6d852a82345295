//! What the daemon starts, and what starts the worker, again where that has ended: it does nothing else, and
//! reads nothing that anybody else writes.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Instant;

use super::starts::Starts;
use super::worker;
use crate::os::capabilities::{
    self, CAP_NET_ADMIN, CAP_NET_BROADCAST, CAP_SYS_ADMIN, CAP_SYS_PTRACE,
};
use crate::os::channel::Channel;
use crate::os::confine;
use crate::os::memory;
use crate::os::note::Note;

/// The hidden subcommand by which the program is this process.
pub const SUPERVISOR: &str = "keep-tasks";
/// The one by which it is the worker.
const WORKER: &str = "enter-tasks";

/// What the worker needs: to see namespaces, to enter them, to hear of changes there, to change
/// them.
const POWERS: [u32; 4] = [
    CAP_SYS_PTRACE,
    CAP_SYS_ADMIN,
    CAP_NET_BROADCAST,
    CAP_NET_ADMIN,
];

/// Is that process: has a worker serve the daemon at standard input, until the daemon is gone.
pub fn supervise() -> io::Result<()> {
    confine::obey_parent()?;
    capabilities::keep_only(|capability| POWERS.contains(&capability))?;
    let in_hand = Note::new()?;
    let mut starts = Starts::default();
    let mut ended: Option<String> = None;
    loop {
        let mut worker = Command::new("/proc/self/exe");
        worker.arg(WORKER).stdout(in_hand.handed()?);
        worker.args(ended.map(|why| format!("--ended={why}")));
        let aside = starts.aside(Instant::now());
        worker.args(aside.map(|netns| format!("--aside={netns}")));
        let status = worker.status()?;
        if status.success() {
            return Ok(());
        }
        let over = in_hand.take();
        if !starts.ended(over, Instant::now()) {
            return Err(io::Error::other(format!(
                "the worker ends at once: {status}"
            )));
        }
        ended = Some(match over {
            Some(netns) => format!("{status}, while it looked into the network namespace {netns}"),
            None => status.to_string(),
        });
    }
}

/// Is the worker: confines itself and serves the daemon at standard input, until the daemon is gone. It notes at
/// standard output what it has in hand, says why the one before it `ended`, and leaves the namespaces `aside`
/// alone.
pub fn work(ended: Option<String>, aside: BTreeSet<u64>) -> io::Result<()> {
    memory::spare();
    confine::obey_parent()?;
    capabilities::keep_only(|capability| POWERS.contains(&capability))?;
    let channel = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    let in_hand = Note::from_fd(io::stdout().as_fd().try_clone_to_owned()?);
    confine::confine_worker()?;
    worker::run(&channel, ended, (in_hand, aside))
}
