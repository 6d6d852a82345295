//! Waiting for several things at once, for a thread that has no runtime: epoll and an eventfd.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A set of descriptors of which some will become readable.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
}

impl Waiter {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Adds a descriptor. It leaves the set when it is closed.
    pub fn add(&self, fd: impl AsFd) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        Ok(self.epoll.add(fd, event)?)
    }

    /// Waits until one is readable, or the time is over; without a limit, for ever.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        // Rounded up: waking too early would only mean to wait again.
        let milliseconds = limit.map(|limit| limit.as_micros().div_ceil(1000));
        let timeout = milliseconds.map_or(EpollTimeout::NONE, |milliseconds| {
            EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX)
        });
        match self.epoll.wait(&mut [EpollEvent::empty(); 1], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Wakes a waiting thread from another one.
#[derive(Debug, Clone)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// An unused one.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        // It can only be full, and is readable then.
        let _readable = self.0.write(1);
    }

    /// Makes it not readable again.
    pub fn clear(&self) {
        // It can only be empty, and is not readable then.
        let _empty = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
