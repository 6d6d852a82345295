//! A netlink socket to nf_tables: requests, dumps, batches, the generation id.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{DecodeError, NLM_F_DUMP, NLM_F_REQUEST};
use nix::sys::socket::{SockFlag, SockProtocol};

use super::message::{Verb, append, number};
use crate::os::netlink::{self, Error, Message};

/// How often something is read again because of a commit meanwhile.
const ATTEMPTS: usize = 50;

/// A socket to the nf_tables of the network namespace in which it was opened.
///
/// To close one takes the lock for commits and, where another program deleted something just before, waits until the
/// kernel has destroyed that: an RCU grace period, 10 ms and more (`nft_rcv_nl_event()` in
/// net/netfilter/nf_tables_api.c). So none is closed before what has to be repaired is.
#[derive(Debug)]
pub struct Socket(netlink::Socket);

/// A netlink socket for netfilter; `groups` is a mask of the multicast groups it hears.
pub(super) fn netfilter(flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    netlink::open(SockProtocol::NetlinkNetFilter, flags, groups)
}

impl Socket {
    /// Opens one in this network namespace.
    pub fn open() -> io::Result<Self> {
        netlink::Socket::open(SockProtocol::NetlinkNetFilter).map(Self)
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
    /// the generation that comes with it. [`Error::Stale`] where commits do not cease.
    pub fn steady<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<(u32, T), Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            match read(self) {
                Err(Error::Stale) => {}
                result => {
                    let result = result?;
                    if self.generation()? == before {
                        return Ok((before, result));
                    }
                }
            }
        }
        Err(Error::Stale)
    }

    /// The number of the last commit in this namespace.
    pub fn generation(&mut self) -> Result<u32, Error> {
        const ID: u16 = 1;
        let mut found = None;
        self.ask(Verb::GetGen, 0, &[], |message| {
            found = found.or(number(message.attributes(), ID));
            Ok(())
        })?;
        let missing = || io::Error::other("nf_tables gave no generation id");
        Ok(found.ok_or_else(missing)?)
    }

    /// Asks for one thing, and hands the answer to `each`.
    pub(super) fn ask(
        &mut self,
        verb: Verb,
        family: u8,
        attributes: &[u8],
        each: impl FnMut(&Message<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.request(verb, NLM_F_REQUEST, family, attributes, each)
    }

    /// Asks for all there is of a kind, and hands every message of the answer to `each`.
    pub(super) fn dump(
        &mut self,
        verb: Verb,
        family: u8,
        attributes: &[u8],
        each: impl FnMut(&Message<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        self.request(verb, NLM_F_REQUEST | NLM_F_DUMP, family, attributes, each)
    }

    fn request(
        &mut self,
        verb: Verb,
        flags: u16,
        family: u8,
        attributes: &[u8],
        each: impl FnMut(&Message<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), Error> {
        let bytes = self.message(verb, flags, family, attributes);
        let (mut bad, mut each) = (None, each);
        self.0.converse(&bytes, &mut |message| {
            bad = bad.take().or(each(message).err())
        })?;
        well_formed(bad)
    }

    fn message(&mut self, verb: Verb, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        let message = (verb.kind(), flags, self.0.next());
        append(&mut bytes, message, (family, 0), attributes);
        bytes
    }

    /// Asks for a dump and reads its first datagram only, which holds at least the first message.
    /// Nothing where that was all of it; where not, the socket is replaced by a new one, since the
    /// kernel goes on with a dump only as it is read, and the old one is the answer.
    pub(super) fn peek(
        &mut self,
        verb: Verb,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(&Message<'_>) -> Result<(), DecodeError>,
    ) -> Result<Option<Self>, Error> {
        let bytes = self.message(verb, NLM_F_REQUEST | NLM_F_DUMP, family, attributes);
        self.0.send(&bytes)?;
        // The end of a dump that fitted into one datagram comes as one of its own.
        let mut bad = None;
        let mut each = |message: &Message<'_>| bad = bad.take().or(each(message).err());
        let complete =
            self.0.receive(&mut each)? || matches!(self.0.receive(&mut |_| {}), Ok(true));
        let changed = self.0.changed;
        let rest = match complete {
            true => None,
            false => Some(std::mem::replace(self, Self::open()?)),
        };
        well_formed(bad)?;
        if changed { Err(Error::Stale) } else { Ok(rest) }
    }

    /// Sends a batch whose last message, the one that asks for an acknowledgement, is number `last`.
    /// With an error comes the number of the message that the kernel refused first; 0 stands for the
    /// batch as a whole.
    pub(super) fn carry_out(&mut self, bytes: &[u8], last: u32) -> Result<(), (u32, io::Error)> {
        let mut done = None;
        let whole = |error| (0, error);
        self.0.send(bytes).map_err(whole)?;
        // By now every answer is there: a batch is carried out within `send`.
        let drained = self.0.drain(&mut |message| match message.end() {
            _ if matches!(done, Some(Err(_))) => {}
            Some(Err(error)) => done = Some(Err((message.sequence, error))),
            Some(Ok(())) if message.sequence == last => done = Some(Ok(())),
            _ => {}
        });
        drained.map_err(whole)?;
        done.unwrap_or_else(|| {
            let error = io::Error::other("nf_tables did not answer a batch");
            Err(whole(error))
        })
    }
}

fn well_formed(bad: Option<DecodeError>) -> Result<(), Error> {
    let invalid =
        |error: DecodeError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    bad.map_or(Ok(()), |error| Err(invalid(error).into()))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
