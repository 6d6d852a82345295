//! Rules of native nftables.
//!
//! Two models. The first is what the kernel holds ([`Tables`]): expressions that load pieces of a packet
//! into registers, compare and act. The second is what they mean for packets of one family
//! ([`NativeTable`]): conditions and what is done, as the prover walks them. `decode` makes the second of
//! the first. What it does not understand to its last attribute is kept as unknown, with its text. The
//! first comes from the kernel itself, or from what nft lists of it (`json`).

mod change;
mod compare;
mod decode;
mod expression;
pub mod json;
mod kinds;
mod load;
mod names;
mod reader;
mod registers;
mod sets;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use decode::decode_rule;
pub use expression::{
    Data, Element, Expression, RawBase, RawChain, RawRule, RawTable, Register, Set, Tables, Verdict,
};

use super::matches::{CtStates, Header, Masked, PortRange, Side};
use super::target::{Reach, Rewrite, Target};
use super::value::IfacePattern;
use super::{Family, Policy};

/// Where a base chain is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// Frames that come in by an interface, before everything else.
    Ingress,
    /// Every packet that comes in, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets passing through.
    Forward,
    /// Packets of this host's processes.
    Output,
    /// Every packet about to leave.
    Postrouting,
    /// Frames that leave by an interface, after everything else.
    Egress,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `filter`, and `route`, which only looks up the route again.
    Filter,
    /// `nat`: asked for the first packet of a connection.
    Nat,
}

/// How a base chain is hooked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub at: At,
    /// Lower comes first.
    pub priority: i32,
    /// The type.
    pub kind: Kind,
    /// What becomes of packets that no rule decides about.
    pub policy: Policy,
    /// The interfaces, at ingress and egress.
    pub devices: Vec<String>,
}

/// A table as packets of one family meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeTable {
    /// The packets' family.
    pub family: Family,
    /// How to call it: `inet filter`.
    pub name: String,
    /// Whether its chains are hooked into bridges.
    pub bridge: bool,
    /// Its chains.
    pub chains: BTreeMap<String, NativeChain>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeChain {
    /// Where it is hooked in; `None` for one that rules jump to, and for one that is walked elsewhere.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<NativeRule>,
}

/// Where a chain is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainPlace {
    /// The table with its family: `inet filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl fmt::Display for ChainPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.chain)
    }
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeRule {
    /// What it asks and does, in order.
    pub statements: Vec<Statement>,
    /// As nft prints it, nearly.
    pub text: String,
    /// Whether it makes connection tracking work.
    pub tracks: bool,
    /// What it asks of headers.
    pub headers: Vec<Header>,
    /// Its comment.
    pub comment: Option<String>,
    /// The kernel's number for it within its table.
    pub handle: u64,
}

/// A part of a rule. Packets that do not meet a condition leave the rule there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Goes on with the packets that meet it.
    Test(Condition),
    /// The verdict of the first condition that is met; the rule ends where none is.
    Map(Vec<(Condition, Verdict)>),
    /// The same verdict for all.
    Verdict(Verdict),
    /// Gives the packet a mark.
    Mark(Marking),
    /// Gives the connection a mark.
    Connmark(Marking),
    /// Changes what a header says to something that is not computed.
    Header(Header),
    /// Exempts from connection tracking.
    Notrack,
    /// Turns the destination elsewhere.
    Dnat(Rewrite),
    /// Turns it where the first condition that is met says; the rule ends where none is.
    DnatByMap(Vec<(Condition, Rewrite)>),
    /// Gives another source.
    Snat(Rewrite),
    /// Turns the destination to this host.
    Redirect(Option<PortRange>),
    /// Gives the address of the interface it leaves by as source.
    Masquerade(Option<PortRange>),
    /// Does something that is not understood, or not computed.
    Effect(String, Reach),
}

/// What a mark becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// `(old & !mask) ^ value`.
    Set(Masked),
    /// The other mark's value: the packet's from the connection, or the other way round.
    Copy,
    /// A value that is not computed.
    Unknown,
}

/// A number of a packet that conditions compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// An address.
    Addr(Side),
    /// A port.
    Port(Side),
    /// What stands where a port would, whatever the protocol.
    AnyPort(Side),
    /// The protocol.
    Protocol,
    /// The flags of TCP, 6 bits.
    TcpFlags,
    /// The type of ICMP.
    IcmpType,
    /// The code of ICMP.
    IcmpCode,
    /// The packet's mark.
    Mark,
    /// The connection's mark.
    Connmark,
    /// The user of the sending process.
    Uid,
    /// The group of the sending process.
    Gid,
    /// What a header says.
    Header(Header),
}

/// What a packet must have for a rule to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A readable protocol.
    Protocol,
    /// The header of its protocol, as later fragments have none.
    Header,
    /// A connection.
    Connection,
    /// A sending process.
    Owner,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Met by all or none.
    Always(bool),
    /// The bits of a mask have these values.
    Bits {
        /// Of which number.
        key: Key,
        /// Which bits.
        mask: u128,
        /// Their values.
        value: u128,
    },
    /// Some bits of a number, taken as one, are within a range.
    Between {
        /// Of which number.
        key: Key,
        /// The lowest of the bits.
        shift: u32,
        /// How many.
        width: u32,
        /// The least value.
        low: u128,
        /// The greatest value.
        high: u128,
    },
    /// The interface that the packet came in by.
    In(IfacePattern),
    /// The interface that it leaves by.
    Out(IfacePattern),
    /// Whether there is an interface to ask for: in, or out.
    NoInterface(Side),
    /// One of these states.
    State(CtStates),
    /// Of a connection, and going the other way than its first packet.
    Reply,
    /// An address of this host.
    Local(Side),
    /// A later fragment.
    LaterFragment,
    /// Has what there is to look at.
    Has(Presence),
    /// Depends on the moment: both answers do come.
    Either(String),
    /// Not understood.
    Unknown(String),
    /// All of them.
    All(Vec<Condition>),
    /// Any of them.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// One that several rules have: a look-up in a set. Every packet answers it for itself.
    Shared(Arc<Condition>),
}

impl Condition {
    /// The opposite.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Always(met) => Self::Always(!met),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// All of some conditions.
    #[must_use]
    pub fn all(mut conditions: Vec<Self>) -> Self {
        if conditions.contains(&Self::Always(false)) {
            return Self::Always(false);
        }
        conditions.retain(|condition| *condition != Self::Always(true));
        match conditions.len() {
            0 => Self::Always(true),
            1 => conditions.remove(0),
            _ => Self::All(conditions),
        }
    }

    /// Any of some conditions.
    #[must_use]
    pub fn any(mut conditions: Vec<Self>) -> Self {
        if conditions.contains(&Self::Always(true)) {
            return Self::Always(true);
        }
        conditions.retain(|condition| *condition != Self::Always(false));
        match conditions.len() {
            0 => Self::Always(false),
            1 => conditions.remove(0),
            _ => Self::Any(conditions),
        }
    }

    /// Whether every packet answers it for itself, whatever its protocol is and wherever it is asked.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Either(_) | Self::Unknown(_) => false,
            Self::Bits { key, .. } | Self::Between { key, .. } => {
                !matches!(key, Key::AnyPort(_) | Key::Header(Header::Ttl))
            }
            Self::All(list) | Self::Any(list) => list.iter().all(Self::is_plain),
            Self::Not(inner) => inner.is_plain(),
            _ => true,
        }
    }

    /// What of it is not understood, or depends on the moment.
    #[must_use]
    pub fn open(&self) -> Option<&Self> {
        match self {
            Self::Either(_) | Self::Unknown(_) => Some(self),
            Self::All(list) | Self::Any(list) => list.iter().find_map(Self::open),
            Self::Not(inner) => inner.open(),
            Self::Shared(inner) => inner.open(),
            _ => None,
        }
    }
}

impl NativeTable {
    /// What stands for tables that could not be read: anything may become of a packet anywhere.
    #[must_use]
    pub fn unreadable(family: Family, why: &str) -> Self {
        let rule = NativeRule {
            statements: vec![Statement::Effect(why.to_owned(), Reach::Anywhere)],
            text: why.to_owned(),
            ..NativeRule::default()
        };
        let hooks = [
            At::Prerouting,
            At::Input,
            At::Forward,
            At::Output,
            At::Postrouting,
        ];
        let chain = |at: At| {
            let base = Base {
                at,
                priority: i32::MIN,
                kind: Kind::Filter,
                policy: Policy::Accept,
                devices: Vec::new(),
            };
            let chain = NativeChain {
                base: Some(base),
                rules: vec![rule.clone()],
            };
            (format!("{at:?}"), chain)
        };
        Self {
            family,
            name: "unknown".to_owned(),
            bridge: false,
            chains: hooks.into_iter().map(chain).collect(),
        }
    }

    /// All rules of all its chains.
    pub fn rules(&self) -> impl Iterator<Item = &NativeRule> {
        self.chains.values().flat_map(|chain| &chain.rules)
    }
}

impl NativeRule {
    /// The target that does the same with packets that meet its conditions, where all it does is decide.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let asks = |statement: &&Statement| matches!(statement, Statement::Test(_));
        let mut rest = self.statements.iter().skip_while(asks);
        let target = match rest.next() {
            None | Some(Statement::Verdict(Verdict::Continue)) => Target::None,
            Some(Statement::Verdict(Verdict::Accept)) => Target::Accept,
            Some(Statement::Verdict(Verdict::Drop)) => Target::Drop,
            Some(Statement::Verdict(Verdict::Return)) => Target::Return,
            Some(Statement::Verdict(Verdict::Jump(chain))) => Target::Jump(chain.clone()),
            Some(Statement::Verdict(Verdict::Goto(chain))) => Target::Goto(chain.clone()),
            Some(_) => return None,
        };
        rest.next().is_none().then_some(target)
    }

    /// Whether it changes what other rules may ask for.
    #[must_use]
    pub fn changes(&self) -> bool {
        let asks = |statement: &Statement| {
            matches!(
                statement,
                Statement::Test(_) | Statement::Map(_) | Statement::Verdict(_)
            )
        };
        !self.statements.iter().all(asks)
    }

    /// Whether it decides that packets end.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.statements.iter().any(|statement| match statement {
            Statement::Verdict(verdict) => *verdict == Verdict::Drop,
            Statement::Map(entries) => entries.iter().any(|(_, verdict)| *verdict == Verdict::Drop),
            _ => false,
        })
    }
}

impl Condition {
    /// The interfaces that it asks for.
    pub fn interfaces<'a>(&'a self, found: &mut Vec<&'a IfacePattern>) {
        match self {
            Self::In(pattern) | Self::Out(pattern) => found.push(pattern),
            Self::All(list) | Self::Any(list) => list.iter().for_each(|one| one.interfaces(found)),
            Self::Not(inner) => inner.interfaces(found),
            Self::Shared(inner) => inner.interfaces(found),
            _ => {}
        }
    }
}

impl NativeChain {
    /// Whether a base chain changes nothing whatever comes by.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let accepts = self
            .base
            .as_ref()
            .is_none_or(|base| base.policy == Policy::Accept);
        accepts && self.rules.is_empty()
    }
}
