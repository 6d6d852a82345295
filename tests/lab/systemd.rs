//! A stand-in for systemd: hears what a service says (sd_notify(3)), keeps the descriptors that it
//! stores, and gives them to the next start.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Lab;
use super::namespace::NsCommand;
use super::wait::uninterrupted;

/// The socket's name among the lab's files.
const SOCKET: &str = "notify";

/// Descriptors in one message; a service sends one at a time.
const FDS: usize = 8;

#[derive(Debug, Default)]
struct Kept {
    said: Vec<String>,
    fds: Vec<(String, OwnedFd)>,
}

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    heard: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// systemd's side of one service in the lab's host. What it keeps is closed with the value.
#[derive(Debug)]
pub struct FdStore {
    socket: UnixDatagram,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl FdStore {
    /// Listens on a socket among the lab's files.
    #[track_caller]
    pub fn listen(lab: &Lab) -> Self {
        let socket =
            UnixDatagram::bind(lab.dir().join(SOCKET)).expect("a socket in the lab's /run");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let (socket, shared) = (socket.try_clone(), Arc::clone(&shared));
            move || {
                if let Ok(socket) = socket {
                    while let Ok(true) = hear(&socket, &shared) {}
                }
            }
        });
        Self {
            socket,
            shared,
            thread: Some(thread),
        }
    }

    /// The command with the place to report to and given copies of all that is kept, as systemd does:
    /// descriptors from 3 on, and `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`.
    #[track_caller]
    pub fn give<'a>(&self, lab: &Lab, command: NsCommand<'a>) -> NsCommand<'a> {
        let copy = |(name, fd): &(String, OwnedFd)| Ok((name.clone(), fd.try_clone()?));
        let fds: io::Result<Vec<_>> = self.shared.lock().fds.iter().map(copy).collect();
        command
            .env("NOTIFY_SOCKET", lab.inside(SOCKET))
            .listen_fds(fds.expect("a stored descriptor can be copied"))
    }

    /// All assignments heard so far (`READY=1`), in order.
    pub fn said(&self) -> Vec<String> {
        self.shared.lock().said.clone()
    }

    /// Waits until some assignment begins with `text`, and returns the last such one whole.
    #[track_caller]
    pub fn wait_for(&self, text: &str, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        let mut kept = self.shared.lock();
        loop {
            if let Some(said) = kept.said.iter().rfind(|said| said.starts_with(text)) {
                return said.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let said = &kept.said;
            assert!(!left.is_zero(), "waited in vain for {text:?}: {said:?}");
            kept = self
                .shared
                .heard
                .wait_timeout(kept, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The names of what is kept.
    pub fn names(&self) -> Vec<String> {
        let kept = self.shared.lock();
        kept.fds.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Closes all that is kept, as `systemctl stop` does, and forgets what was said.
    pub fn empty(&self) {
        *self.shared.lock() = Kept::default();
    }
}

impl Drop for FdStore {
    fn drop(&mut self) {
        // Ends the thread's waiting.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes one message; false at the end.
fn hear(socket: &UnixDatagram, shared: &Shared) -> io::Result<bool> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut text)];
    let take = || recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = uninterrupted(take)?.bytes;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
    let name = name.unwrap_or("stored");
    let mut kept = shared.lock();
    if lines.contains(&"FDSTORE=1") {
        for fd in fds {
            // One object is kept once (fd_store_add_fd(), systemd's src/core/service.c).
            let object = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
            if !kept
                .fds
                .iter()
                .any(|(_, known)| object(known) == object(&fd))
            {
                kept.fds.push((name.to_owned(), fd));
            }
        }
    }
    kept.said.extend(lines.into_iter().map(str::to_owned));
    shared.heard.notify_all();
    Ok(length > 0)
}
