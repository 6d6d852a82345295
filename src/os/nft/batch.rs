//! Changes to nf_tables that happen all at once or not at all.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use nix::errno::Errno;

use super::message::{Attributes, HEADER, NFGENMSG, Proto, SUBSYSTEM, Verb, append};
use super::socket::Socket;
use crate::os::netlink::Error;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, `NFNL_BATCH_GENID` of linux/netfilter/nfnetlink.h.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const GENERATION: u16 = 1;

/// Why a batch was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another commit came after the generation that the batch was made for: look again.
    #[error("nf_tables changed in the meantime")]
    Stale,
    /// The kernel refused.
    #[error("{source}")]
    Kernel {
        /// Which message of the batch, counted from 1; 0 for the batch as a whole.
        message: u32,
        /// Its answer.
        source: io::Error,
    },
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Stale => Self::Stale,
            CommitError::Kernel { source, .. } => Self::Kernel(source),
        }
    }
}

/// Messages that are sent in one go. Nothing of it happens until [`Batch::commit`].
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u32,
    /// Where the last message begins.
    last_at: usize,
}

impl Default for Batch {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(4096);
        let generation = Attributes::default().number(GENERATION, 0);
        append(
            &mut bytes,
            (BEGIN, NLM_F_REQUEST, 0),
            (0, SUBSYSTEM),
            &generation.0,
        );
        Self {
            bytes,
            messages: 0,
            last_at: 0,
        }
    }
}

impl Batch {
    /// Whether it would do nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The number of its last message.
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.messages
    }

    pub(super) fn push(&mut self, verb: Verb, flags: u16, family: Proto, attributes: &[u8]) {
        self.messages += 1;
        self.last_at = self.bytes.len();
        let flags = NLM_F_REQUEST | flags;
        let message = (verb.kind(), flags, self.messages);
        append(&mut self.bytes, message, (family as u8, 0), attributes);
    }

    /// Sends it. With a `generation` it is refused as [`CommitError::Stale`] where that is no longer
    /// the last commit's (0 stands for none: nf_tables never gives that number).
    pub fn commit(&self, socket: &mut Socket, generation: Option<u32>) -> Result<(), CommitError> {
        let mut bytes = self.bytes.clone();
        let place = HEADER + NFGENMSG + 4;
        if let Some(place) = bytes.get_mut(place..place + 4) {
            place.copy_from_slice(&generation.unwrap_or(0).to_be_bytes());
        }
        // The kernel always reports an error; success only for a message that asks for it.
        if let Some(flags) = bytes.get_mut(self.last_at + 6..self.last_at + 8) {
            let asked = flags.first_chunk().copied().map_or(0, u16::from_ne_bytes) | NLM_F_ACK;
            flags.copy_from_slice(&asked.to_ne_bytes());
        }
        append(
            &mut bytes,
            (END, NLM_F_REQUEST, self.messages + 1),
            (0, SUBSYSTEM),
            &[],
        );
        socket
            .carry_out(&bytes, self.messages)
            .map_err(|(message, source)| match source.raw_os_error() {
                Some(errno) if errno == Errno::ERESTART as i32 => CommitError::Stale,
                _ => CommitError::Kernel { message, source },
            })
    }
}
