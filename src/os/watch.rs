//! Waiting for a change in the directories of the input files.
//!
//! The directories are watched, not the files: editors and `sed -i` replace a file by rename, and
//! user data may create it late. Where a directory does not exist yet its nearest existing ancestor
//! is watched. A notification only says that it is worth reading the inputs again.
//!
//! A cgroup is waited for in the same way, but it comes and goes at one stroke, so nothing is waited
//! for once it did.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// nix's inotify instance, in the form that tokio waits for.
#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Notifications about a set of files, or about a directory.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<Queue>,
    files: Vec<PathBuf>,
    events: AddWatchFlags,
}

/// That something by some name comes or goes.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// And that something is written.
const CONTENTS: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_ATTRIB);

impl Watch {
    /// Watches the directories of `files`.
    pub fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        Self::start(files, NAMES.union(CONTENTS))
    }

    /// Waits for one directory to come or go.
    pub fn of_directory(directory: PathBuf) -> io::Result<Self> {
        Self::start(vec![directory], NAMES)
    }

    /// The files or the directory that are watched.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn start(files: Vec<PathBuf>, events: AddWatchFlags) -> io::Result<Self> {
        let queue = Queue(Inotify::init(
            InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK,
        )?);
        // SAFETY: the queue owns its descriptor, gives out no other, and closes it only when it is
        // dropped, which the AsyncFd that owns it does last.
        let inotify = unsafe { AsyncFd::register(queue) }.map_err(io::Error::from)?;
        let watch = Self {
            inotify,
            files,
            events,
        };
        watch.add_all();
        Ok(watch)
    }

    /// Waits until something happened in one of the directories. Nothing is lost where the future is
    /// dropped: a notification is read only where it is answered too.
    pub async fn changed(&self) {
        self.drained().await;
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
        let directories = self
            .files
            .iter()
            .filter_map(|file| existing(file.parent()?));
        for directory in directories {
            if let Err(errno) = self.inotify.get_ref().0.add_watch(directory, self.events) {
                tracing::warn!(
                    "watch {}: {errno}; changes there will be seen at the next verification",
                    directory.display()
                );
            }
        }
    }
}

/// The directory itself, or the nearest above it that is there.
#[must_use]
pub fn existing(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|path| path.is_dir())
}
