//! A netlink socket to nf_tables: requests, dumps, batches, the generation id.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkDeserializable as _,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::attributes::number;
use super::message::{NFGENMSG, Verb, append};

/// The kernel sends dumps in pieces of at most 32 KiB (NLMSG_GOODSIZE and netlink_dump()).
const BUFFER: usize = 64 * 1024;

/// The kernel answers a request before `send` returns; an answer that is missing for this long never
/// comes.
const PATIENCE_SECONDS: i64 = 5;

/// A socket to the nf_tables of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A netlink socket for netfilter; `groups` is a mask of the multicast groups it hears.
pub(super) fn netfilter(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

impl Socket {
    /// Opens one in this network namespace.
    pub fn open() -> io::Result<Self> {
        Self::from_fd(netfilter(SockFlag::empty(), 0)?)
    }

    /// Goes on with a socket that was opened before, by an earlier run of this program.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE_SECONDS, 0),
        )?;
        let address: NetlinkAddr = getsockname(fd.as_raw_fd())?;
        Ok(Self {
            fd,
            port: address.pid(),
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// The number by which the kernel knows the socket: a table's owner, the author of a commit.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Repeats `read` until no commit happened meanwhile: what was read then stood there at once, at
    /// the generation that comes with it.
    pub(super) fn steady<T>(
        &mut self,
        attempts: usize,
        mut read: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<(u32, T)> {
        for _ in 0..attempts {
            let before = self.generation()?;
            let result = match read(self) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if self.generation()? == before {
                return Ok((before, result));
            }
        }
        let message = format!("nf_tables changed during each of {attempts} readings");
        Err(io::Error::other(message))
    }

    /// The number of the last commit in this namespace.
    pub fn generation(&mut self) -> io::Result<u32> {
        const ID: u16 = 1;
        let mut found = None;
        self.ask(Verb::GetGen, NLM_F_REQUEST, 0, &[], |message| {
            found = found.or(number(message.attributes(), ID));
        })?;
        found.ok_or_else(|| io::Error::other("nf_tables gave no generation id"))
    }

    /// Everything that answers a dump request.
    pub(super) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
    ) -> io::Result<Vec<Answer>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let payload = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let mut answers = Vec::new();
        self.converse(&bytes, &mut |message| answers.push(Answer::of(message)))?;
        Ok(answers)
    }

    /// Asks, and hands every message of the answer to `each`. With `NLM_F_DUMP` in `flags` that is
    /// all there is of a kind.
    pub(super) fn ask(
        &mut self,
        verb: Verb,
        flags: u16,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(128);
        let message = (verb.kind(), NLM_F_REQUEST | flags, self.sequence);
        append(&mut bytes, message, (family, 0), attributes);
        self.converse(&bytes, &mut each)
    }

    /// Sends the request whose sequence number is the current one and reads until its answer is
    /// complete.
    fn converse(&mut self, bytes: &[u8], each: &mut dyn FnMut(&Message<'_>)) -> io::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        while !self.receive(each)? {}
        Ok(())
    }

    /// Reads one datagram; true when the answer is complete.
    fn receive(&mut self, each: &mut dyn FnMut(&Message<'_>)) -> io::Result<bool> {
        let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let mut complete = false;
        for message in split(self.buffer.get(..length).unwrap_or_default()) {
            let message = message?;
            if message.sequence != self.sequence {
                continue;
            }
            if message.flags & NLM_F_DUMP_INTR != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Some(end) = message.end() {
                return end.map(|()| true);
            }
            each(&message);
            // What is no part of a dump is the whole answer.
            complete |= message.flags & NLM_F_MULTI == 0;
        }
        Ok(complete)
    }

    /// Asks for a dump and reads its first datagram only, which holds at least the first message.
    /// True where that was all of it; where not, the socket is replaced by a new one, since the
    /// kernel goes on with a dump only as it is read.
    pub(super) fn peek(
        &mut self,
        verb: Verb,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(128);
        let message = (verb.kind(), NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        append(&mut bytes, message, (family, 0), attributes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        if self.receive(&mut each)? {
            return Ok(true);
        }
        // The end of a dump that fitted into one datagram comes as one of its own.
        match self.receive(&mut |_| {}) {
            Ok(true) => Ok(true),
            _ => {
                *self = Self::open()?;
                Ok(false)
            }
        }
    }

    /// Sends a batch whose last message, the one that asks for an acknowledgement, is number `last`.
    pub(super) fn carry_out(&mut self, bytes: &[u8], last: u32) -> io::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        let mut result = None;
        // By now every answer is there: a batch is carried out within `send`.
        loop {
            match recv(
                self.fd.as_raw_fd(),
                &mut self.buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(length) => {
                    for message in split(self.buffer.get(..length).unwrap_or_default()) {
                        let message = message?;
                        match message.end() {
                            Some(Err(error)) => result = Some(Err(error)),
                            Some(Ok(())) if message.sequence == last && result.is_none() => {
                                result = Some(Ok(()));
                            }
                            _ => {}
                        }
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        result.unwrap_or_else(|| Err(io::Error::other("nf_tables did not answer a batch")))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// More messages of the same answer follow, and: the dump may be inconsistent because something
/// changed (linux/netlink.h).
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A message of the kernel, as it came.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// The port of the socket that brought it about.
    pub(super) port: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// The attributes behind `struct nfgenmsg`.
    pub(super) fn attributes(&self) -> &[u8] {
        self.payload.get(NFGENMSG..).unwrap_or_default()
    }

    /// The family in `struct nfgenmsg`.
    pub(super) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }

    /// Whether this ends an answer: by a result, or by an error.
    fn end(&self) -> Option<io::Result<()>> {
        match self.kind {
            NLMSG_DONE => Some(Ok(())),
            NLMSG_ERROR => {
                let code = self.payload.first_chunk().copied().map(i32::from_ne_bytes);
                Some(match code {
                    Some(0) => Ok(()),
                    Some(code) => Err(io::Error::from_raw_os_error(-code)),
                    None => Err(io::ErrorKind::InvalidData.into()),
                })
            }
            _ => None,
        }
    }
}

/// The messages in a datagram.
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
            payload: rest.get(super::message::HEADER..length).unwrap_or_default(),
        };
        // Messages are padded to four bytes (NLMSG_ALIGN).
        rest = rest
            .get(length.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
        Some(Ok(message))
    })
}

/// A message of the kernel that is kept, decoded only as far as somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    header: NetlinkHeader,
    payload: Vec<u8>,
}

impl Answer {
    fn of(message: &Message<'_>) -> Self {
        let mut header = NetlinkHeader::default();
        header.message_type = message.kind;
        header.flags = message.flags;
        Self {
            header,
            payload: message.payload.to_vec(),
        }
    }

    /// The family that it names, and the decoded message.
    pub(super) fn decode(&self) -> io::Result<(NetfilterProtoFamily, NfTablesMessage)> {
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let message = NetfilterMessage::deserialize(&self.header, &self.payload)
            .map_err(|error| invalid(error.to_string()))?;
        match message.inner {
            NetfilterMessageInner::NfTables(inner) => Ok((message.header.family, inner)),
            other => Err(invalid(format!("nf_tables answered with {other:?}"))),
        }
    }

    /// Its attributes, as they came.
    pub(super) fn attributes(&self) -> &[u8] {
        self.payload.get(NFGENMSG..).unwrap_or_default()
    }
}
