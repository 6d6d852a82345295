//! What is said to systemd (sd_notify(3)), and the descriptors that it keeps for the daemon across
//! a crash or a restart (`FileDescriptorStoreMax=`, systemd.service(5)).
//!
//! Without `NOTIFY_SOCKET` in the environment everything here does nothing and succeeds. A message
//! waits where systemd does not read its socket: it is for the slow side, never for the sentinel.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sd_notify::NotifyState::{
    Custom, FdName, FdStore, FdStoreRemove, Ready, Reloading, Status, Stopping, Watchdog,
};
use sd_notify::{NotifyState, notify, notify_with_fds};

use crate::config::{sanitize, sanitize_message};

/// The longest name of a stored descriptor (FDNAME_MAX, systemd's src/basic/fd-util.h).
const NAME_BYTES: usize = 255;

/// Whether systemd, or what stands in for it, hears what is said here.
#[must_use]
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Starting is over.
pub fn ready() -> io::Result<()> {
    say(&[Ready])
}

/// The inputs are read again; [`ready`] says when that is done.
pub fn reloading() -> io::Result<()> {
    // systemd 253 and newer take the message only with the time at which it was sent.
    say(&[Reloading, NotifyState::monotonic_usec_now()?])
}

/// The daemon is about to leave.
pub fn stopping() -> io::Result<()> {
    say(&[Stopping])
}

/// The line that `systemctl status` shows.
pub fn status(text: &str) -> io::Result<()> {
    say(&[Status(&sanitize_message(text))])
}

/// Feeds the watchdog.
pub fn watchdog() -> io::Result<()> {
    say(&[Watchdog])
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
/// ([`crate::os::inherited::Inherited`]); storing one object twice keeps it once.
pub fn store(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = checked(name)?;
    // Without FDPOLL=0 (systemd 246) systemd drops a descriptor that polls as failed, as a netlink
    // socket does after one answer that found no room.
    let message = [FdStore, FdName(name), Custom("FDPOLL=0")];
    notify_with_fds(&message, &[fd]).map_err(|error| failed(&message, &error))
}

/// Makes systemd close its copies under `name`.
pub fn forget(name: &str) -> io::Result<()> {
    say(&[FdStoreRemove, FdName(checked(name)?)])
}

fn say(message: &[NotifyState<'_>]) -> io::Result<()> {
    notify(message).map_err(|error| failed(message, &error))
}

fn failed(message: &[NotifyState<'_>], error: &io::Error) -> io::Error {
    let words: Vec<String> = message.iter().map(ToString::to_string).collect();
    let words = sanitize(&words.join(" "));
    io::Error::new(
        error.kind(),
        format!("tell systemd {words} through NOTIFY_SOCKET: {error}"),
    )
}

/// systemd would keep a descriptor with a bad name under the name `stored`
/// (fdname_is_valid(), src/basic/fd-util.c).
fn checked(name: &str) -> io::Result<&str> {
    let fits = (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b':');
    if fits {
        return Ok(name);
    }
    let message = format!(
        "`{}` is no name for a stored descriptor: 1 to {NAME_BYTES} printable ASCII characters \
         without a colon",
        sanitize(name)
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_systemd_would_not_keep_are_refused() {
        for name in ["", "a:b", "a\nFDSTOREREMOVE=1", "ä", &"x".repeat(256)] {
            let error = forget(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        for name in ["seal", "seal socket", &"x".repeat(255)] {
            assert_eq!(checked(name).unwrap(), name);
        }
    }
}
