//! The model of what the kernel holds: tables, chains, rules, and a strict parser of the text that
//! `iptables-save` and `iptables -S` print, and `iptables-restore` reads.
//!
//! The text is the only description of the kernel's rules that every host offers, on both backends,
//! so a reader of it decides whether a proof is worth anything. Two rules keep it honest:
//!
//! * **Understood to its last word, or unknown.** A match counts as understood only if its module,
//!   every option and every operand are known. Anything else is kept as [`Match::Unknown`] or
//!   [`Target::Unknown`] with its text: never dropped, never guessed. A match that silently vanished
//!   would make a DROP look wider than it is.
//! * **A broken text is an error, not half a ruleset.** An unterminated quote, a rule of a user chain
//!   that was not declared or a table without `COMMIT` (a truncated file) has a line and a column.
//!
//! What the text itself does not say, the model cannot know. All of the following were seen with
//! iptables 1.8.9, and all need root to be installed:
//!
//! * iptables-nft leaves out native nft statements in its own tables: `ip saddr @s accept` prints as
//!   `-j ACCEPT`. A reader of the kernel tells the model with [`Ruleset::distrust`].
//! * iptables-legacy prints two conditions that are never met as none: `! -i +` as nothing and
//!   `-p tcp ! --dport 0:65535` as `-p tcp -m tcp`.
//! * An interface name with blanks, which no interface can have, prints without quotes: `-i "d+ -p 6"`
//!   reads as `-i d+ -p 6`.

mod chance;
mod command;
mod connection;
mod extension;
mod family;
mod file;
mod ipset;
mod line;
mod matches;
mod names;
pub mod native;
mod option;
mod parse;
mod print;
mod show;
mod spec;
mod target;
mod value;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use family::Family;
pub use file::{File, FileError, parse_file};
pub use ipset::{Entry, Ipset, Part};
pub use line::ParseError;
pub use matches::{
    AddrType, Chance, Connection, CtPart, CtStates, CtStatus, Header, IcmpType, Mac, Masked, Match,
    PortRange, SetLookup, Side, TcpFlags, Test, Way, protocol,
};
pub use names::protocol_name;
pub use parse::{parse_listing, parse_save};
pub use print::Unprintable;
pub use target::{Reach, Rewrite, Target};
pub(crate) use value::{IFNAME_MAX, bits};
pub use value::{IfacePattern, Net};

/// A snapshot of one family's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Which family the tables belong to.
    pub family: Family,
    /// The tables by name. One that is absent is not registered in the kernel and decides nothing.
    pub tables: BTreeMap<String, Table>,
    /// Where its tables stand.
    pub place: Place,
}

/// Where the tables of a ruleset stand among the hooks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Where iptables' are.
    #[default]
    Iptables,
    /// Where the seal's chains are: each just before the table whose name it has here.
    Seal,
}

impl Ruleset {
    /// A ruleset without tables, to be filled table by table.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            tables: BTreeMap::new(),
            place: Place::default(),
        }
    }

    /// Whether a rule asks for a packet's length, TTL, class of service or MAC.
    #[must_use]
    pub fn asks_for_headers(&self) -> bool {
        let mut matches = self.listed().flat_map(|listed| &listed.rule.matches);
        matches.any(|m| m.header().is_some())
    }

    /// Every rule of every chain.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Listed> {
        let chains = self.tables.values().flat_map(|table| table.chains.values());
        chains.flat_map(|chain| &chain.rules)
    }

    /// Marks a rule as not what its text says, because the kernel holds something else than was
    /// printed (iptables-nft 1.8.9 omits native set look-ups without a word).
    ///
    /// `index` counts from 0 in the chain's order. The conditions of the rule become unknown; its effect
    /// is what it `does`, or unknown too. Answers whether the rule was found.
    pub fn distrust(
        &mut self,
        (table, chain, index): (&str, &str, usize),
        why: String,
        does: Option<Target>,
    ) -> bool {
        let rule = self
            .tables
            .get_mut(table)
            .and_then(|table| table.chains.get_mut(chain))
            .and_then(|chain| chain.rules.get_mut(index));
        let Some(Listed { rule, .. }) = rule else {
            return false;
        };
        // Nothing of what was printed counts: iptables-nft 1.8.9 prints `ip daddr A-B accept` as
        // `-d B/32 -j ACCEPT`.
        rule.matches = vec![Match::Unknown(why.clone())];
        rule.target = does.unwrap_or(Target::Unknown(why));
        true
    }
}

/// How much of a table the text shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Everything that iptables can hold.
    #[default]
    Whole,
    /// The table also has base chains that iptables cannot show (``# Table `filter' contains
    /// incompatible base-chains``). They can drop a packet, never un-drop it.
    Partly(String),
    /// Nothing (``# Table `nat' is incompatible, use 'nft' tool.``, printed with exit code 0).
    Unreadable(String),
}

/// One table: its chains, and how far they can be trusted to be all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The chains by name, base chains and user chains alike.
    pub chains: BTreeMap<String, Chain>,
    /// How much of the table the text shows.
    pub shown: Shown,
}

/// What a base chain does with a packet that no rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Policy {
    /// The packet goes on.
    Accept,
    /// The packet is dropped.
    Drop,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "ACCEPT",
            Self::Drop => "DROP",
        })
    }
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The policy of a base chain; `None` for a user chain, which returns to its caller instead.
    pub policy: Option<Policy>,
    /// The rules in the kernel's order.
    pub rules: Vec<Listed>,
}

/// A rule as a chain holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it means.
    pub rule: Rule,
    /// The words after `-A CHAIN`, exactly as printed, so that `-D CHAIN <text>` deletes the rule; for
    /// a native rule, as nft prints it.
    pub text: String,
}

/// What a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Every condition; the rule applies to a packet that meets all of them.
    pub matches: Vec<Match>,
    /// What it does.
    pub target: Target,
}

impl Rule {
    /// The text of its `-m comment`, which is how the guard knows its own rules.
    pub fn comment(&self) -> Option<&str> {
        self.matches.iter().find_map(|m| match m {
            Match::Comment(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The cgroup that the rule was made for, where its comment notes one.
    pub fn cgroup_noted(&self) -> Option<u64> {
        self.comment().and_then(cgroup_noted)
    }

    /// Whether two rules mean the same, however a tool ordered or spelled them: `/32` or bare,
    /// matches in any order, `-m tcp` spelled out or implied by `-p tcp`.
    ///
    /// The comment is part of the meaning here: `iptables -D` and `-C` treat it so too.
    pub fn same_as(&self, other: &Self) -> bool {
        self.target == other.target && self.meaning() == other.meaning()
    }

    /// The same rule without its comment.
    #[must_use]
    pub fn without_comment(&self) -> Self {
        let mut matches = self.matches.clone();
        matches.retain(|m| !matches!(m, Match::Comment(_)));
        Self {
            matches,
            target: self.target.clone(),
        }
    }

    fn meaning(&self) -> Vec<&Match> {
        let mut all: Vec<&Match> = self
            .matches
            .iter()
            .filter(|m| **m != Match::Header)
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The number of the cgroup that a comment notes at its end: `… (cgroup 4711)`.
pub(crate) fn cgroup_noted(comment: &str) -> Option<u64> {
    let (_, noted) = comment.rsplit_once(" (cgroup ")?;
    noted.strip_suffix(')')?.parse().ok()
}
