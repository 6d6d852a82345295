//! Rules read back from the kernel, to be compared and sent again as they were.

use std::io;

use netlink_packet_core::{DecodeError, NLM_F_CREATE};

use super::attributes::{named, text, value};
use super::batch::Batch;
use super::message::{Attributes, Proto, Verb};
use super::socket::Socket;
use crate::os::attributes::each;

// NFTA_RULE_…
const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const COMPAT: u16 = 5;
const USERDATA: u16 = 7;

/// Where a chain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    /// The table's family.
    pub proto: Proto,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

/// How a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseHook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_…` of linux/netfilter.h: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub number: u32,
    /// Lower comes first.
    pub priority: i32,
}

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRule {
    /// The kernel's number for it within its table.
    pub handle: u64,
    /// What it consists of, without what changes by itself: equal rules have equal bytes.
    pub content: Vec<u8>,
    /// What makes the same rule again.
    expressions: Vec<u8>,
    userdata: Option<Vec<u8>>,
}

impl RawRule {
    pub(super) fn read(attributes: &[u8]) -> Result<Self, DecodeError> {
        let handle = value(attributes, HANDLE).and_then(|bytes| bytes.try_into().ok());
        let expressions = value(attributes, EXPRESSIONS).unwrap_or_default();
        let userdata = value(attributes, USERDATA);
        Ok(Self {
            handle: handle.map_or(0, u64::from_be_bytes),
            content: content(expressions, userdata)?,
            expressions: expressions.to_vec(),
            userdata: userdata.map(<[u8]>::to_vec),
        })
    }

    /// The same rule, counting from nought.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let mut expressions = Attributes::default();
        for (kind, expression) in each(&self.expressions) {
            let Ok(kind) = kind else {
                return self.clone();
            };
            expressions = match named(expression) {
                // NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS.
                Ok((b"counter", _)) => {
                    let nought = 0_u64.to_be_bytes();
                    let data = Attributes::default().put(1, &nought).put(2, &nought);
                    expressions.expression("counter", &data)
                }
                _ => expressions.put(kind | 0x8000, expression),
            };
        }
        Self {
            expressions: expressions.0,
            ..self.clone()
        }
    }

    /// The same rule with its comment as the kernel's own kind of comment instead of as a match of
    /// iptables; `None` where that is not its only part that comes from xtables.
    ///
    /// iptables-nft lists, finds and deletes both alike. But before it takes a rule with anything
    /// from xtables the kernel waits until all such rules that were deleted are destroyed, which
    /// takes an RCU grace period (nft_compat_wait_for_destructors() in net/netfilter/nft_compat.c):
    /// 10 ms and more after a flush, instead of microseconds.
    #[must_use]
    pub fn lightened(&self) -> Option<Self> {
        // NFTA_MATCH_NAME, NFTA_MATCH_INFO: the text of struct xt_comment_info.
        const NAME: u16 = 1;
        const INFO: u16 = 3;
        let mut expressions = Attributes::default();
        let mut comment = None;
        for (kind, expression) in each(&self.expressions) {
            let kind = kind.ok()?;
            match named(expression).ok()? {
                (b"match", data) if text(data, NAME) == Some(b"comment") => {
                    comment = value(data, INFO)?.split(|&byte| byte == 0).next();
                }
                (b"match" | b"target", _) => return None,
                _ => expressions = expressions.put(kind | 0x8000, expression),
            }
        }
        let comment = comment.filter(|_| self.userdata.is_none())?;
        // NFTNL_UDATA_RULE_COMMENT is type 0 (libnftnl/udata.h); the length counts the NUL.
        let mut userdata = vec![0, u8::try_from(comment.len() + 1).ok()?];
        userdata.extend(comment);
        userdata.push(0);
        Some(Self {
            handle: 0,
            content: content(&expressions.0, Some(&userdata)).ok()?,
            expressions: expressions.0,
            userdata: Some(userdata),
        })
    }

    /// The expressions, one after the other as the kernel told them.
    pub(super) fn expressions(&self) -> &[u8] {
        &self.expressions
    }

    /// Whether its bytes hold this text somewhere: a comment.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        within(&self.expressions) || self.userdata.as_deref().is_some_and(within)
    }
}

/// Everything that a rule says, without what changes by itself.
fn content(expressions: &[u8], userdata: Option<&[u8]>) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::with_capacity(expressions.len());
    for (kind, expression) in each(expressions) {
        kind?;
        match named(expression)? {
            // The packets that it has seen.
            (b"counter", _) => content.extend(b"counter"),
            _ => content.extend(expression),
        }
    }
    content.extend(userdata.unwrap_or_default());
    Ok(content)
}

/// What a chain holds.
#[derive(Debug, Default)]
pub struct Held {
    /// Its rules in order, or the first of them.
    pub rules: Vec<RawRule>,
    /// Whether that is all of them.
    pub complete: bool,
}

/// Reads the first rules of a chain: at least one where there is any, and as many as fit into one
/// datagram (32 KiB). A chain that does not exist holds none.
pub fn first_of(socket: &mut Socket, chain: &ChainName) -> io::Result<Held> {
    let get = place(chain);
    let mut rules = Vec::new();
    let mut bad = None;
    let complete = socket.peek(Verb::GetRule, chain.proto as u8, &get.0, |message| {
        // Kernels before 5.? answer with every chain of the table where they do not know the one
        // that is asked for.
        if text(message.attributes(), CHAIN) != Some(chain.chain.as_bytes()) {
            return;
        }
        match RawRule::read(message.attributes()) {
            Ok(rule) => rules.push(rule),
            Err(error) => bad = Some(error),
        }
    })?;
    match bad {
        Some(error) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        )),
        None => Ok(Held { rules, complete }),
    }
}

/// Whether there is such a chain.
pub fn exists(socket: &mut Socket, chain: &ChainName) -> io::Result<bool> {
    // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME.
    let get = Attributes::default()
        .text(1, &chain.table)
        .text(3, &chain.chain);
    match socket.ask(Verb::GetChain, 0, chain.proto as u8, &get.0, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn place(chain: &ChainName) -> Attributes {
    Attributes::default()
        .text(TABLE, &chain.table)
        .text(CHAIN, &chain.chain)
}

impl Batch {
    /// Makes the table and its base chain where they are not there. Where they are, nothing changes.
    pub fn chain(&mut self, chain: &ChainName, hook: BaseHook) {
        // NFTA_TABLE_NAME.
        let table = Attributes::default().text(1, &chain.table);
        self.push(Verb::NewTable, NLM_F_CREATE, chain.proto, &table.0);
        self.base_chain(chain, hook);
    }

    /// Makes a base chain in a table that is there.
    pub(super) fn base_chain(&mut self, chain: &ChainName, hook: BaseHook) {
        // NFTA_CHAIN_TABLE, _NAME, _HOOK (NFTA_HOOK_HOOKNUM, _PRIORITY), _TYPE.
        let hooked = Attributes::default()
            .number(1, hook.number)
            .number(2, hook.priority.cast_unsigned());
        let base = Attributes::default()
            .text(1, &chain.table)
            .text(3, &chain.chain)
            .nest(4, &hooked)
            .text(7, hook.kind);
        self.push(Verb::NewChain, NLM_F_CREATE, chain.proto, &base.0);
    }

    /// Lets a table's chains be asked again.
    pub(super) fn wake(&mut self, proto: Proto, table: &str) {
        // NFTA_TABLE_NAME, NFTA_TABLE_FLAGS.
        let table = Attributes::default().text(1, table).number(2, 0);
        self.push(Verb::NewTable, 0, proto, &table.0);
    }

    /// Deletes one rule.
    pub fn delete(&mut self, chain: &ChainName, handle: u64) {
        let rule = place(chain).put(HANDLE, &handle.to_be_bytes());
        self.push(Verb::DelRule, 0, chain.proto, &rule.0);
    }

    /// Deletes every rule of a chain.
    pub fn flush(&mut self, chain: &ChainName) {
        self.push(Verb::DelRule, 0, chain.proto, &place(chain).0);
    }

    /// Puts a rule that was read before on top of its chain. `protocol` is the one that its compat
    /// matches are tied to: the kernel wants to be told again and does not tell it itself.
    pub fn replay(&mut self, chain: &ChainName, rule: &RawRule, protocol: Option<u8>) {
        let mut attributes = place(chain).put(EXPRESSIONS | 0x8000, &rule.expressions);
        if let Some(protocol) = protocol {
            // NFTA_RULE_COMPAT_PROTO, NFTA_RULE_COMPAT_FLAGS.
            let compat = Attributes::default()
                .number(1, u32::from(protocol))
                .number(2, 0);
            attributes = attributes.nest(COMPAT, &compat);
        }
        if let Some(userdata) = &rule.userdata {
            attributes = attributes.put(USERDATA, userdata);
        }
        self.push(Verb::NewRule, NLM_F_CREATE, chain.proto, &attributes.0);
    }

    /// Adds a rule made of these expressions at the end of a chain.
    pub(super) fn add(&mut self, chain: &ChainName, expressions: &Attributes) {
        let rule = place(chain).nest(EXPRESSIONS, expressions);
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.push(Verb::NewRule, flags, chain.proto, &rule.0);
    }
}

/// At the end instead of on top (linux/netlink.h).
const NLM_F_APPEND: u16 = 0x800;
