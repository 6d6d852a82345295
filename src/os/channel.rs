//! Messages between two processes over a pair of sockets that keeps their bounds: one JSON text a
//! message.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than any message: whoever sends bounds what is said. The kernel takes up to about 200 KiB at once
/// (net.core.wmem_default).
pub const LONGEST: usize = 64 * 1024;

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// The end that was handed to this process.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The end, to be handed to another process.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends a message; waits while the other side has not read what was sent before. One that is too long
    /// is not sent: [`io::ErrorKind::InvalidData`].
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > LONGEST {
            return Err(bad(format!("a message of {} bytes", text.len())));
        }
        loop {
            match send(self.0.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// Waits for a message; `None` where the other side is gone. One that is too long or malformed is lost,
    /// and those after it are not: [`io::ErrorKind::InvalidData`].
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut buffer = vec![0; LONGEST];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Ok(length) => {
                    let text = buffer.get(..length);
                    let text = text.ok_or_else(|| bad(format!("a message of {length} bytes")))?;
                    return serde_json::from_slice(text)
                        .map(Some)
                        .map_err(|error| bad(error.to_string()));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_message_is_an_error_and_not_the_end() {
        let (one, other) = Channel::pair().unwrap();
        let kind = |result: io::Result<Option<String>>| result.map_err(|error| error.kind());
        let raw = |bytes: &[u8]| {
            send(one.0.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
        };
        let too_long = one.send(&"x".repeat(LONGEST)).map_err(|error| error.kind());
        assert_eq!(too_long, Err(io::ErrorKind::InvalidData));
        for bad in [&b"{"[..], b"\xff", b"7", &vec![b'"'; LONGEST + 1]] {
            raw(bad);
            one.send(&"good").unwrap();
            assert_eq!(kind(other.receive()), Err(io::ErrorKind::InvalidData));
            assert_eq!(kind(other.receive()), Ok(Some("good".to_owned())));
        }
        drop(one);
        assert_eq!(kind(other.receive()), Ok(None));
    }
}
