//! What all of netlink has in common: opening a socket, asking, and taking datagrams apart.
//!
//! Numbers are those of linux/netlink.h.

#[cfg(not(fuzzing))]
mod kernel;
#[cfg(fuzzing)]
pub mod script;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    Emitable as _, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

#[cfg(not(fuzzing))]
use self::kernel::{receive_from, recv, send};
#[cfg(fuzzing)]
use self::script::{receive_from, recv, send};

/// The length of `struct nlmsghdr`, which begins every message.
pub(super) const HEADER: usize = 16;

/// The length of `struct nfgenmsg`, which begins those of netfilter behind it (linux/netfilter/nfnetlink.h).
pub(super) const NFGENMSG: usize = 4;

/// The kernel sends dumps in pieces of at most 32 KiB (NLMSG_GOODSIZE and netlink_dump()).
pub(super) const BUFFER: usize = 64 * 1024;

/// The kernel answers a request before `send` returns; an answer that is missing for this long never
/// comes.
const PATIENCE_SECONDS: i64 = 5;

/// How often something is read again because it changed meanwhile, or did not fit into the buffer.
const ATTEMPTS: usize = 5;

/// More messages of the same answer follow, and: the dump may be inconsistent because something
/// changed.
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Opens a socket in the calling thread's network namespace; `groups` is a mask of the multicast
/// groups that it hears.
pub(super) fn open(protocol: SockProtocol, flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        protocol,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It changed while it was being read: read it again.
    #[error("it changed in the meantime")]
    Stale,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] io::Error),
}

/// A socket for requests and their answers.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    /// Whether the answer to the last request is incomplete, or of more than one moment.
    pub(super) changed: bool,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens one in the calling thread's network namespace.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        Self::unused(open(protocol, SockFlag::empty(), 0)?)
    }

    /// Goes on with a socket that was opened before. What was asked on it by then and not read is
    /// read to its end: the process that asked may have been killed in the middle.
    pub(super) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let mut socket = Self::unused(fd)?;
        while !matches!(hear(socket.fd.as_fd(), &mut socket.buffer)?, Next::Nothing) {}
        Ok(socket)
    }

    fn unused(fd: OwnedFd) -> io::Result<Self> {
        let patience = TimeVal::new(PATIENCE_SECONDS, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        let address: NetlinkAddr = getsockname(fd.as_raw_fd())?;
        Ok(Self {
            fd,
            port: address.pid(),
            sequence: 0,
            changed: false,
            buffer: vec![0; BUFFER],
        })
    }

    /// The number by which the kernel knows the socket.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// The number for the next request: [`Socket::converse`] takes only answers to the last one.
    pub(super) const fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Asks for something: a request of this kind with these flags, the structure that begins it, and
    /// its attributes. Every message of the answer goes to `each`. Asks again where the answer did not
    /// fit into the buffer: an acknowledgement always does, so that nothing is changed twice.
    pub(super) fn ask(
        &mut self,
        (kind, flags): (u16, u16),
        fixed: &[u8],
        attributes: &[u8],
        each: &mut dyn FnMut(&Message<'_>),
    ) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            let mut request = Vec::with_capacity(64);
            let message = (kind, NLM_F_REQUEST | flags, self.next());
            append(&mut request, message, fixed, attributes);
            match self.converse(&request, each) {
                Ok(()) => return Ok(()),
                Err(Error::Stale) => {}
                Err(Error::Kernel(error)) => return Err(error),
            }
        }
        Err(io::Error::other("the kernel's answer grows and grows"))
    }

    /// Reads a whole list, such as that of `what`, all interfaces: what `read` makes of each of its
    /// messages. Starts over where the list changed meanwhile, and gives up where it does so again and
    /// again.
    pub(super) fn list<T>(
        &mut self,
        (what, kind): (&str, u16),
        fixed: &[u8],
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let mut list = Vec::new();
            let mut request = Vec::with_capacity(64);
            let message = (kind, NLM_F_REQUEST | NLM_F_DUMP, self.next());
            append(&mut request, message, fixed, &[]);
            match self.converse(&request, &mut |message| list.extend(read(message))) {
                Ok(()) => return Ok(list),
                Err(Error::Stale) => {}
                Err(Error::Kernel(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "{what} changed during each of {ATTEMPTS} readings"
        )))
    }

    /// Sends the request whose number is the last one given out and reads until its answer is
    /// complete.
    pub(super) fn converse(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), Error> {
        self.send(bytes)?;
        while !self.receive(each)? {}
        // Not sooner: as long as a list is not read to its end the kernel begins no other (EBUSY).
        if self.changed {
            Err(Error::Stale)
        } else {
            Ok(())
        }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.changed = false;
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Reads one datagram; true when the answer is complete. One that is larger than the buffer is
    /// lost: the buffer grows, so that the next request's answer fits.
    pub(super) fn receive(&mut self, each: &mut dyn FnMut(&Message<'_>)) -> io::Result<bool> {
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        if length > self.buffer.len() {
            self.changed = true;
            let part_of_a_list = NetlinkBuffer::new(&self.buffer).flags() & NLM_F_MULTI != 0;
            self.buffer.resize(length, 0);
            return Ok(!part_of_a_list);
        }
        let mut complete = false;
        for message in split(self.buffer.get(..length).unwrap_or_default()) {
            let message = message?;
            if message.sequence != self.sequence {
                continue;
            }
            self.changed |= message.flags & NLM_F_DUMP_INTR != 0;
            if let Some(end) = message.end() {
                return end.map(|()| true);
            }
            each(&message);
            // What is no part of a dump is the whole answer.
            complete |= message.flags & NLM_F_MULTI == 0;
        }
        Ok(complete)
    }

    /// Hands every message that is waiting to `each`; waits for none.
    pub(super) fn drain(&mut self, each: &mut dyn FnMut(&Message<'_>)) -> io::Result<()> {
        loop {
            match hear(self.fd.as_fd(), &mut self.buffer)? {
                Next::Datagram(bytes) => {
                    for message in split(bytes) {
                        each(&message?);
                    }
                }
                Next::Lost => {}
                Next::Nothing => return Ok(()),
            }
        }
    }
}

/// What a look for a notification finds.
pub(super) enum Next<'a> {
    /// A datagram.
    Datagram(&'a [u8]),
    /// Some did not fit into the socket's buffer, or one did not fit into the reader's.
    Lost,
    /// There is none.
    Nothing,
}

/// Reads one datagram where one is waiting.
pub(super) fn hear<'a>(fd: BorrowedFd<'_>, buffer: &'a mut [u8]) -> io::Result<Next<'a>> {
    hear_from(fd, buffer).map(|(next, _)| next)
}

/// Lets a socket hear the groups that it joined in every network namespace for which its own has a
/// number. Needs CAP_NET_BROADCAST.
pub(super) fn listen_everywhere(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_LISTEN_ALL_NSID,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// As [`hear`], with the number (nsid) of the namespace that it came from; `None` is the socket's
/// own.
pub(super) fn hear_from<'a>(
    fd: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> io::Result<(Next<'a>, Option<i32>)> {
    match receive_from(fd, buffer) {
        Ok((length, from)) => {
            let bytes = length.and_then(|length| buffer.get(..length));
            Ok((bytes.map_or(Next::Lost, Next::Datagram), from))
        }
        Err(Errno::EAGAIN) => Ok((Next::Nothing, None)),
        Err(Errno::ENOBUFS) => Ok((Next::Lost, None)),
        Err(errno) => Err(errno.into()),
    }
}

/// A message of the kernel, as it came.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// The port of the socket that brought it about.
    pub(super) port: u32,
    /// What stands behind `struct nlmsghdr`.
    pub(super) payload: &'a [u8],
}

impl Message<'_> {
    /// Whether this ends an answer: by a result, or by an error. A list that breaks off says so in
    /// its end (netlink_dump_done() in net/netlink/af_netlink.c).
    pub(super) fn end(&self) -> Option<io::Result<()>> {
        if self.kind != NLMSG_DONE && self.kind != NLMSG_ERROR {
            return None;
        }
        let code = self.payload.first_chunk().copied().map(i32::from_ne_bytes);
        Some(match code {
            Some(code) if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            None if self.kind == NLMSG_ERROR => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        })
    }
}

/// The messages in a datagram. A malformed one gives an error and is the last.
pub(super) fn split(datagram: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let header = match NetlinkBuffer::new_checked(rest) {
            Ok(header) => header,
            Err(error) => {
                rest = &[];
                let error = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                return Some(Err(error));
            }
        };
        let length = header.length() as usize;
        let message = Message {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            port: header.port_number(),
            payload: rest.get(HEADER..length).unwrap_or_default(),
        };
        // Messages are padded to four bytes (NLMSG_ALIGN).
        rest = rest
            .get(length.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
        Some(Ok(message))
    })
}

/// Appends a whole message to `bytes`: `fixed` is the structure that begins messages of its kind.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    fixed: &[u8],
    attributes: &[u8],
) {
    let length = HEADER + fixed.len() + attributes.len();
    let mut header = NetlinkHeader::default();
    header.length = length as u32;
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let start = bytes.len();
    bytes.resize(start + HEADER, 0);
    if let Some(place) = bytes.get_mut(start..) {
        header.emit(place);
    }
    bytes.extend(fixed);
    bytes.extend(attributes);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
