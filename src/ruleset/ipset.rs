//! What sets of ipset hold, and which of them rules ask for and change.

use super::Ruleset;
use super::matches::{Match, PortRange};
use super::target::Target;
use super::value::Net;

/// What a set holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipset {
    /// Entries of its own.
    Entries(Vec<Entry>),
    /// The names of other sets: what is in one of them is in it (`list:set`).
    List(Vec<String>),
}

impl Ipset {
    /// Its entries; `None` of a list.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match self {
            Self::Entries(entries) => Some(entries),
            Self::List(_) => None,
        }
    }
}

/// An entry of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What a packet must have, a part for each side that is looked at.
    pub parts: Vec<Part>,
    /// Whether it takes out of the set what a wider entry puts in (`nomatch`; sets of one network alone).
    pub except: bool,
}

impl Entry {
    /// The networks that entries are, each with whether it is an exception; `None` where one of them is more than that.
    #[must_use]
    pub fn networks(entries: &[Self]) -> Option<Vec<(Net, bool)>> {
        let network = |entry: &Self| match entry.parts.as_slice() {
            [Part::Net(net)] => Some((*net, entry.except)),
            _ => None,
        };
        entries.iter().map(network).collect()
    }
}

/// A part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An address in a network.
    Net(Net),
    /// A protocol and what it has where others have a port: type and code of ICMP; nothing, where a protocol has
    /// neither.
    Port {
        /// The protocol; `None` for TCP and UDP, whichever it is.
        protocol: Option<u8>,
        /// The port.
        port: PortRange,
    },
}

impl Ruleset {
    /// The names of the sets that rules look packets up in.
    pub fn ipsets(&self) -> impl Iterator<Item = &str> {
        let matches = self.listed().flat_map(|listed| &listed.rule.matches);
        matches.filter_map(|m| match m {
            Match::Set(test) => Some(test.value.name.as_str()),
            _ => None,
        })
    }

    /// Whether a rule may put packets into a set of that name, or take them out (`-j SET`).
    #[must_use]
    pub fn may_change(&self, ipset: &str) -> bool {
        self.listed().any(|listed| match &listed.rule.target {
            Target::Unknown(text) => text.contains(ipset),
            _ => false,
        })
    }
}
