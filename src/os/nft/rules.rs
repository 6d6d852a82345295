//! Rules read back from the kernel, to be compared and sent again as they were.

use netlink_packet_core::{DecodeError, NLM_F_CREATE};

use super::batch::Batch;
use super::chains::{ChainName, absent};
use super::message::{Attributes, Verb, each, expressions, long, packets, rule, text, value};
use super::socket::Socket;
use crate::os::netlink::Error;

/// The attribute holds attributes (`NLA_F_NESTED`, linux/netlink.h).
const NESTED: u16 = 0x8000;

/// A rule as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRule {
    /// The kernel's number for it within its table; 0 for one that is not there yet.
    pub handle: u64,
    /// What it consists of, without what changes by itself: rules that the kernel made of the same
    /// message have equal bytes.
    pub content: Vec<u8>,
    /// What makes the same rule again.
    pub(super) expressions: Vec<u8>,
    userdata: Option<Vec<u8>>,
}

impl RawRule {
    pub(super) fn read(attributes: &[u8]) -> Result<Self, DecodeError> {
        let expressions = value(attributes, rule::EXPRESSIONS).unwrap_or_default();
        let userdata = value(attributes, rule::USERDATA);
        Ok(Self {
            handle: long(attributes, rule::HANDLE).unwrap_or_default(),
            content: content(expressions, userdata)?,
            expressions: expressions.to_vec(),
            userdata: userdata.map(<[u8]>::to_vec),
        })
    }

    /// A rule that is made of these expressions.
    pub(super) fn made_of(expressions: Attributes) -> Self {
        Self {
            handle: 0,
            content: content(&expressions.0, None).unwrap_or_default(),
            expressions: expressions.0,
            userdata: None,
        }
    }

    /// How many packets it has counted.
    #[must_use]
    pub fn packets(&self) -> u64 {
        packets(&self.expressions).unwrap_or_default()
    }

    /// The same rule, its counters beginning at `packets`.
    #[must_use]
    pub fn counting(&self, packets: u64) -> Self {
        let mut list = Attributes::default();
        let parts = each(&self.expressions).zip(expressions(&self.expressions));
        for ((kind, bytes), expression) in parts {
            list = match (kind, expression) {
                (_, Ok((b"counter", _))) => list.counter(packets),
                (Ok(kind), Ok(_)) => list.put(kind | NESTED, bytes),
                _ => return self.clone(),
            };
        }
        Self {
            expressions: list.0,
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
        let mut list = Attributes::default();
        let mut comment = None;
        let parts = each(&self.expressions).zip(expressions(&self.expressions));
        for ((kind, bytes), expression) in parts {
            match expression.ok()? {
                (b"match", data) if text(data, NAME) == Some(b"comment") => {
                    comment = value(data, INFO)?.split(|&byte| byte == 0).next();
                }
                (b"match" | b"target", _) => return None,
                _ => list = list.put(kind.ok()? | NESTED, bytes),
            }
        }
        let comment = comment.filter(|_| self.userdata.is_none())?;
        let userdata = commenting(comment)?;
        Some(Self {
            handle: 0,
            content: content(&list.0, Some(&userdata)).ok()?,
            expressions: list.0,
            userdata: Some(userdata),
        })
    }

    /// The same rule with a comment of the kernel's own kind.
    #[must_use]
    pub(super) fn with_comment(mut self, comment: &str) -> Self {
        self.userdata = commenting(comment.as_bytes());
        self
    }

    /// Whether its bytes hold this text somewhere: a comment. iptables 1.8 keeps it in an xt match,
    /// later versions may keep it in the rule's user data.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        within(&self.expressions) || self.userdata.as_deref().is_some_and(within)
    }
}

/// User data with a comment: NFTNL_UDATA_RULE_COMMENT is type 0 (libnftnl/udata.h); the length counts
/// the NUL.
fn commenting(comment: &[u8]) -> Option<Vec<u8>> {
    let mut userdata = vec![0, u8::try_from(comment.len() + 1).ok()?];
    userdata.extend(comment);
    userdata.push(0);
    Some(userdata)
}

/// Everything that a rule says, without what changes by itself.
fn content(list: &[u8], userdata: Option<&[u8]>) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::with_capacity(list.len());
    for ((_, bytes), expression) in each(list).zip(expressions(list)) {
        match expression? {
            // The packets that it has seen.
            (b"counter", _) => content.extend(b"counter"),
            _ => content.extend(bytes),
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
    /// Where these are not all of them, the socket of which the others could be read. To close it may take time, as
    /// that of any [`Socket`].
    pub rest: Option<Socket>,
}

impl Held {
    /// Whether these are all of them.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.rest.is_none()
    }
}

/// Reads the first rules of a chain: at least one where there is any, and as many as fit into one
/// datagram (32 KiB). A chain that does not exist holds none.
pub fn first_of(socket: &mut Socket, chain: &ChainName) -> Result<Held, Error> {
    let (get, mut rules) = (place(chain), Vec::new());
    let rest = socket.peek(Verb::GetRule, chain.proto as u8, &get.0, |message| {
        take(&mut rules, chain, message.attributes())
    })?;
    Ok(Held { rules, rest })
}

/// Reads every rule of a chain. One that does not exist holds none.
pub(super) fn all_of(socket: &mut Socket, chain: &ChainName) -> Result<Vec<RawRule>, Error> {
    let (get, mut rules) = (place(chain), Vec::new());
    let asked = socket.dump(Verb::GetRule, chain.proto as u8, &get.0, |message| {
        take(&mut rules, chain, message.attributes())
    });
    if !absent(&asked) {
        asked?;
    }
    Ok(rules)
}

/// The packets that those rules of a chain of iptables-nft have met that mention `tag`, in their
/// order; `None` for one without a counter. Nothing where there is no such chain.
pub fn packets_of(
    socket: &mut Socket,
    chain: &ChainName,
    tag: &str,
) -> Result<Vec<Option<u64>>, Error> {
    let (_, rules) = socket.steady(|socket| all_of(socket, chain))?;
    let tagged = rules.iter().filter(|rule| rule.mentions(tag));
    Ok(tagged.map(|rule| packets(&rule.expressions)).collect())
}

/// Kernels before 5.? answer with every chain of the table where they do not know the one that is
/// asked for.
fn take(rules: &mut Vec<RawRule>, of: &ChainName, attributes: &[u8]) -> Result<(), DecodeError> {
    if text(attributes, rule::CHAIN) == Some(of.chain.as_bytes()) {
        rules.push(RawRule::read(attributes)?);
    }
    Ok(())
}

fn place(chain: &ChainName) -> Attributes {
    Attributes::default()
        .text(rule::TABLE, &chain.table)
        .text(rule::CHAIN, &chain.chain)
}

impl Batch {
    /// Deletes one rule.
    pub fn delete(&mut self, chain: &ChainName, handle: u64) {
        let rule = place(chain).put(rule::HANDLE, &handle.to_be_bytes());
        self.push(Verb::DelRule, 0, chain.proto, &rule.0);
    }

    /// Deletes every rule of a chain.
    pub fn flush(&mut self, chain: &ChainName) {
        self.push(Verb::DelRule, 0, chain.proto, &place(chain).0);
    }

    /// Puts a rule that was read before on top of its chain. `protocol` is the one that its compat
    /// matches are tied to: the kernel requires it again and does not report it.
    pub fn replay(&mut self, chain: &ChainName, rule: &RawRule, protocol: Option<u8>) {
        self.rule(NLM_F_CREATE, chain, rule, protocol);
    }

    /// Adds a rule at the end of a chain.
    pub fn add(&mut self, chain: &ChainName, rule: &RawRule) {
        // At the end instead of on top (linux/netlink.h).
        const NLM_F_APPEND: u16 = 0x800;
        self.rule(NLM_F_CREATE | NLM_F_APPEND, chain, rule, None);
    }

    fn rule(&mut self, flags: u16, chain: &ChainName, rule: &RawRule, protocol: Option<u8>) {
        let mut attributes = place(chain).put(rule::EXPRESSIONS | NESTED, &rule.expressions);
        if let Some(protocol) = protocol {
            let compat = Attributes::default()
                .number(rule::COMPAT_PROTOCOL, u32::from(protocol))
                .number(rule::COMPAT_FLAGS, 0);
            attributes = attributes.nest(rule::COMPAT, &compat);
        }
        if let Some(userdata) = &rule.userdata {
            attributes = attributes.put(rule::USERDATA, userdata);
        }
        self.push(Verb::NewRule, flags, chain.proto, &attributes.0);
    }
}
