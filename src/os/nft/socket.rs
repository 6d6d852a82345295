//! A netlink socket to nf_tables: requests, dumps, batches, the generation id.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable as _, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::sys::socket::{SockFlag, SockProtocol};

use super::attributes::number;
use super::message::{NFGENMSG, Verb, append};
use crate::os::netlink::{self, Message};

/// A socket to the nf_tables of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket(netlink::Socket);

/// A netlink socket for netfilter; `groups` is a mask of the multicast groups it hears.
pub(super) fn netfilter(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    netlink::open(SockProtocol::NetlinkNetFilter, flags, groups)
}

impl Socket {
    /// Opens one in this network namespace.
    pub fn open() -> io::Result<Self> {
        Self::from_fd(netfilter(SockFlag::empty(), 0)?)
    }

    /// Goes on with a socket that was opened before, by an earlier run of this program.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        netlink::Socket::from_fd(fd).map(Self)
    }

    /// The number by which the kernel knows the socket: a table's owner, the author of a commit.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.0.port()
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
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.0.next();
        let payload = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let mut answers = Vec::new();
        self.0
            .converse(&bytes, &mut |message| answers.push(Answer::of(message)))?;
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
        let mut bytes = Vec::with_capacity(128);
        let message = (verb.kind(), NLM_F_REQUEST | flags, self.0.next());
        append(&mut bytes, message, (family, 0), attributes);
        self.0.converse(&bytes, &mut each)
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
        let mut bytes = Vec::with_capacity(128);
        let message = (verb.kind(), NLM_F_REQUEST | NLM_F_DUMP, self.0.next());
        append(&mut bytes, message, (family, 0), attributes);
        self.0.send(&bytes)?;
        if self.0.receive(&mut each)? {
            return Ok(true);
        }
        // The end of a dump that fitted into one datagram comes as one of its own.
        match self.0.receive(&mut |_| {}) {
            Ok(true) => Ok(true),
            _ => {
                *self = Self::open()?;
                Ok(false)
            }
        }
    }

    /// Sends a batch whose last message, the one that asks for an acknowledgement, is number `last`.
    pub(super) fn carry_out(&mut self, bytes: &[u8], last: u32) -> io::Result<()> {
        self.0.send(bytes)?;
        let mut result = None;
        // By now every answer is there: a batch is carried out within `send`.
        self.0.drain(&mut |message| match message.end() {
            Some(Err(error)) => result = Some(Err(error)),
            Some(Ok(())) if message.sequence == last && result.is_none() => result = Some(Ok(())),
            _ => {}
        })?;
        result.unwrap_or_else(|| Err(io::Error::other("nf_tables did not answer a batch")))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What messages of netfilter have in common.
impl Message<'_> {
    /// The attributes behind `struct nfgenmsg`.
    pub(super) fn attributes(&self) -> &[u8] {
        self.payload.get(NFGENMSG..).unwrap_or_default()
    }

    /// The family in `struct nfgenmsg`.
    pub(super) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
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
