//! What is said to systemd (sd_notify(3)), and the descriptors that it keeps for the daemon across
//! a crash or a restart (`FileDescriptorStoreMax=`, systemd.service(5)).
//!
//! Without `NOTIFY_SOCKET` in the environment everything here does nothing and succeeds. A message
//! waits a second where systemd does not read its socket: it is for the slow side, never for the sentinel.

use std::io;
use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use sd_notify::NotifyState;
use sd_notify::NotifyState::{Custom, FdName, FdStore, Ready, Stopping, Watchdog};

use crate::config::sanitize;

/// How long a systemd that does not read may hold up the loop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether systemd, or what stands in for it, hears what is said here.
#[must_use]
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Starting is over.
pub fn ready() -> io::Result<()> {
    say(&[Ready], &[])
}

/// The daemon is about to leave.
pub fn stopping() -> io::Result<()> {
    say(&[Stopping], &[])
}

/// Feeds the watchdog.
pub fn watchdog() -> io::Result<()> {
    say(&[Watchdog], &[])
}

/// How often [`watchdog`] is to be called: half of `WatchdogSec=`, as sd_watchdog_enabled(3) advises.
/// `None` where systemd set no watchdog for this process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|limit| limit / 2)
        .filter(|interval| !interval.is_zero())
}

/// Gives systemd a copy of `fd` to keep. The next start of the service finds it under `name`
/// ([`crate::os::inherited::Inherited`]), 1 to 255 printable ASCII characters without a colon; storing one
/// object twice keeps it once.
pub fn store(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // Without FDPOLL=0 (systemd 246) systemd drops a descriptor that polls as failed, as a netlink
    // socket does after one answer that found no room.
    let message = [FdStore, FdName(name), Custom("FDPOLL=0")];
    say(&message, &[fd.as_raw_fd()])
}

/// Sends a message. sd_notify's own way would wait for ever for a systemd that does not read, and would
/// connect, which the daemon may not.
fn say(message: &[NotifyState<'_>], fds: &[RawFd]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let send = || {
        let to = match path.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            path => UnixAddr::new(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let text = words(message, "\n");
        let text = [IoSlice::new(text.as_bytes())];
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[] } else { &rights[..] };
        let (socket, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        sendmsg(socket, &text, rights, flags, Some(&to)).map_err(io::Error::from)
    };
    send().map(drop).map_err(|error| failed(message, &error))
}

fn words(message: &[NotifyState<'_>], between: &str) -> String {
    let words: Vec<String> = message.iter().map(ToString::to_string).collect();
    words.join(between)
}

fn failed(message: &[NotifyState<'_>], error: &io::Error) -> io::Error {
    let words = sanitize(&words(message, " "));
    io::Error::new(
        error.kind(),
        format!("tell systemd {words} through NOTIFY_SOCKET: {error}"),
    )
}
