//! A task's network namespace, as a survey knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::model::{Mode, Task};
use super::news::News;
use super::place::open;
use super::seen::Seen;
use super::task_netns::Look;
use crate::os::netns::Netns;
use crate::os::procfs;
use crate::verdict::Standing;

/// A task's network namespace.
#[derive(Debug)]
pub(super) struct Space {
    /// What tells it from a later one with the same inode, where the kernel has such a thing.
    pub(super) cookie: Option<u64>,
    pub(super) nsid: Option<i32>,
    /// By which it can be opened.
    pub(super) handles: Vec<PathBuf>,
    /// Its processes, each with its capabilities.
    pub(super) processes: BTreeMap<u32, u64>,
    pub(super) id: Option<String>,
    /// Whether a look was taken.
    pub(super) looked: bool,
    /// Whether it was made right once: what is missing afterwards was removed.
    pub(super) kept: bool,
    /// What the last look found, where another one would find the same as long as this is so.
    pub(super) found: Option<(Seen, Look)>,
    pub(super) task: Task,
}

impl Space {
    /// One into which nobody has looked yet.
    pub(super) fn unseen(
        inode: u64,
        nsid: Option<i32>,
        handles: Vec<PathBuf>,
        id: Option<String>,
    ) -> Self {
        Self {
            cookie: None,
            nsid,
            handles,
            processes: BTreeMap::new(),
            id,
            looked: false,
            kept: false,
            found: None,
            task: Task {
                id: String::new(),
                mode: Mode::Awsvpc,
                netns: Some(inode),
                standing: Standing::Undecided,
                problems: Vec::new(),
                notes: Vec::new(),
                frames_stopped: false,
                powers: Vec::new(),
            },
        }
    }

    /// Takes note of the processes that are there now; true where some are new.
    pub(super) fn count(&mut self, home: &Netns, inode: u64, pids: &[u32]) -> bool {
        let now: BTreeSet<u32> = pids.iter().copied().collect();
        self.processes.retain(|pid, _| now.contains(pid));
        let new: Vec<u32> = (now.into_iter())
            .filter(|pid| !self.processes.contains_key(pid))
            .collect();
        if new.is_empty() {
            return false;
        }
        // Capabilities count in the user namespace that owns this one, or in the host's above it.
        let owner = open(&self.handles, inode).and_then(|ns| ns.owner()).ok();
        let host = home.owner().ok();
        for pid in new {
            let within = procfs::user_namespace(pid);
            let counts = within.is_none() || within == owner || within == host;
            let mask = procfs::capabilities(pid).filter(|_| counts);
            self.processes.insert(pid, mask.unwrap_or(0));
        }
        true
    }

    pub(super) fn learn(&mut self, task: Task, news: &mut News) {
        if self.task != task {
            self.task = task;
            news.changed.push(self.task.clone());
        }
    }
}
