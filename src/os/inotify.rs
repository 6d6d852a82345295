//! Noticing that a program wrote to a file, opened and closed it, or put one into a directory, without a
//! runtime: inotify.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A set of watched files and directories.
#[derive(Debug)]
pub struct Watches(Inotify);

impl Watches {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        Ok(Self(Inotify::init(flags)?))
    }

    /// Watches a file for writes. Watching it again is harmless, and revives a watch that went silent.
    pub fn written(&self, path: &Path) -> io::Result<()> {
        self.add(path, AddWatchFlags::IN_MODIFY)
    }

    /// Watches a file for being opened and closed, and for being replaced.
    pub fn used(&self, path: &Path) -> io::Result<()> {
        let events = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE | AddWatchFlags::IN_ATTRIB;
        self.add(path, events | AddWatchFlags::IN_DELETE_SELF)
    }

    /// Watches a directory for what comes into it.
    pub fn entered(&self, directory: &Path) -> io::Result<()> {
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        self.add(directory, events | AddWatchFlags::IN_ONLYDIR)
    }

    fn add(&self, path: &Path, events: AddWatchFlags) -> io::Result<()> {
        self.0.add_watch(path, events)?;
        Ok(())
    }

    /// Whether something happened since the last time.
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        loop {
            match self.0.read_events() {
                Ok(_) => any = true,
                Err(Errno::EAGAIN) => return Ok(any),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
