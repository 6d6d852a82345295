//! Waiting for a change in the directories of the input files.
//!
//! The directories are watched, not the files: editors and `sed -i` replace a file by rename, and
//! user data may create it late. Where a directory does not exist yet its nearest existing ancestor
//! is watched. A notification only says that it is worth reading the inputs again.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

/// How long the directories must be quiet before the inputs are read: an editor truncates and then
/// writes, and nobody meant the empty file in between.
const QUIET: Duration = Duration::from_millis(200);

/// nix's inotify instance, in the form that tokio waits for.
#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Notifications about a set of files.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<Queue>,
    files: Vec<PathBuf>,
}

impl Watch {
    /// Watches the directories of `files`.
    pub fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        let queue = Queue(Inotify::init(
            InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK,
        )?);
        // SAFETY: the queue owns its descriptor, gives out no other, and closes it only when it is
        // dropped, which the AsyncFd that owns it does last.
        let inotify = unsafe { AsyncFd::register(queue) }.map_err(io::Error::from)?;
        let watch = Self { inotify, files };
        watch.add_all();
        Ok(watch)
    }

    /// Waits until something happened in one of the directories and they have been quiet since.
    pub async fn changed(&self) {
        self.drained().await;
        while tokio::time::timeout(QUIET, self.drained()).await.is_ok() {}
        // Directories may have come or gone; adding a watch again is harmless (inotify(7)).
        self.add_all();
    }

    /// Waits for at least one notification and reads all there are.
    async fn drained(&self) {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // The reactor is shutting down; nothing will come any more.
                return std::future::pending().await;
            };
            match self.inotify.get_ref().0.read_events() {
                Ok(_) => return,
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => {
                    tracing::warn!(
                        "reading notifications about the input files: {errno}; \
                         changes will be seen at the next verification"
                    );
                    return std::future::pending().await;
                }
            }
        }
    }

    fn add_all(&self) {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for directory in self.files.iter().filter_map(|file| existing_ancestor(file)) {
            if let Err(errno) = self.inotify.get_ref().0.add_watch(directory, events) {
                tracing::warn!(
                    "watch {}: {errno}; changes there will be seen at the next verification",
                    directory.display()
                );
            }
        }
    }
}

fn existing_ancestor(file: &Path) -> Option<&Path> {
    file.ancestors().skip(1).find(|ancestor| ancestor.is_dir())
}
