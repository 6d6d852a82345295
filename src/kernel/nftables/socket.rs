//! A netlink socket to nf_tables: requests, dumps, the generation id.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The kernel sends dumps in pieces of at most 32 KiB (NLMSG_GOODSIZE and netlink_dump()).
const BUFFER: usize = 64 * 1024;

/// The kernel answers a request before `send` returns; an answer that is missing for this long never
/// comes.
const PATIENCE_SECONDS: i64 = 5;

pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(
            &fd,
            sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE_SECONDS, 0),
        )?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
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
    pub(super) fn generation(&mut self) -> io::Result<u32> {
        let get = NfTablesMessage::GetGen(GenMessage {
            attributes: Vec::new(),
        });
        let answers = self.request(NetfilterProtoFamily::Unspec, get, NLM_F_REQUEST)?;
        let id = |attribute: &GenAttribute| match attribute {
            GenAttribute::Id(id) => Some(*id),
            _ => None,
        };
        for answer in answers {
            if let (_, NfTablesMessage::NewGen(generation)) = answer.decode()?
                && let Some(id) = generation.attributes.iter().find_map(id)
            {
                return Ok(id);
            }
        }
        Err(io::Error::other("nf_tables gave no generation id"))
    }

    /// Everything that answers a dump request.
    pub(super) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
    ) -> io::Result<Vec<Answer>> {
        self.request(family, message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn request(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
        flags: u16,
    ) -> io::Result<Vec<Answer>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let payload = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answers = Vec::new();
        while !self.receive(flags & NLM_F_DUMP == NLM_F_DUMP, &mut answers)? {}
        Ok(answers)
    }

    /// Reads one datagram into `answers`; true when the answer is complete.
    fn receive(&mut self, dump: bool, answers: &mut Vec<Answer>) -> io::Result<bool> {
        let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let mut rest = self.buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Answer>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are padded to four bytes (NLMSG_ALIGN).
            let step = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(step..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => match error.code {
                    None => return Ok(true),
                    Some(code) => return Err(io::Error::from_raw_os_error(-code.get())),
                },
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        Ok(!dump && !answers.is_empty())
    }
}

/// The dump may be inconsistent because something changed (linux/netlink.h); the crate has no name
/// for it.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A message of the kernel, decoded only as far as somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    header: NetlinkHeader,
    payload: Vec<u8>,
}

/// The length of `struct nfgenmsg`, which begins every message of nf_tables: family, version, id.
const NFGENMSG: usize = 4;

impl Answer {
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

impl NetlinkDeserializable for Answer {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self {
            header: *header,
            payload: payload.to_vec(),
        })
    }
}
