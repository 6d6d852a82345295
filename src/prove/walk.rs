//! The way of packets through the rules, as people read it.

use std::fmt;

use serde::Serialize;

use super::hook::Hook;
use super::packet::Packet;

/// What one rule had to say to the packets that came to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It applies to all of them.
    Matched,
    /// It applies to none of them.
    NotMatched,
    /// It applies to some, or at some moments.
    Partly,
    /// It has a part that is not understood, or has hands that are not: this one.
    Unknown(String),
}

/// One rule that packets came to, or the end of a base chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The hook the chain was entered from.
    pub hook: Hook,
    /// The table.
    pub table: String,
    /// The chain, which need not be a base chain.
    pub chain: String,
    /// The rule's number in its chain, counted from 1 as `iptables -L --line-numbers` does; `None`
    /// for the policy and for what is no rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// The rule as iptables prints it, without `-A CHAIN`, or as nft does; for a policy, `policy DROP`.
    pub text: String,
    /// What it had to say.
    pub outcome: Outcome,
    /// Why, or what follows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.hook, self.table, self.chain)?;
        if let Some(number) = self.rule {
            write!(f, " {number}")?;
        }
        let outcome = match &self.outcome {
            Outcome::Matched => "matches",
            Outcome::NotMatched => "no",
            Outcome::Partly => "partly",
            Outcome::Unknown(_) => "unknown",
        };
        write!(f, ": {}: {outcome}", self.text)?;
        if self.note.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.note)
        }
    }
}

/// Where the way of packets ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// A rule or a policy dropped or rejected it.
    Dropped,
    /// Routing refuses it: 127.0.0.0/8 from outside without `route_localnet`.
    Martian,
    /// It goes on to where it is addressed, or was turned to.
    LetThrough,
    /// It reaches the address and port it should.
    Delivered,
    /// It reaches another address or port of this host.
    Misdelivered,
    /// It goes somewhere else.
    Elsewhere,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped",
            Self::Martian => "refused by routing: 127.0.0.0/8 without route_localnet",
            Self::LetThrough => "accepted",
            Self::Delivered => "delivered",
            Self::Misdelivered => "delivered to another address or port of this host",
            Self::Elsewhere => "sent somewhere else",
        })
    }
}

/// A walk through the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The packet that walked, if it was one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Packet>,
    /// What it met, in order.
    pub steps: Vec<Step>,
    /// How many steps that did not apply were left out, so that a walk past thousands of rules can
    /// still be read.
    pub omitted: usize,
    /// The ends that are possible.
    pub ends: Vec<End>,
}

impl Walk {
    /// How many steps are kept that did not apply, and how many of the others.
    const KEPT: (usize, usize) = (200, 2_000);

    pub(super) fn push(&mut self, step: Step) {
        let quiet = step.outcome == Outcome::NotMatched;
        let limit = if quiet { Self::KEPT.0 } else { Self::KEPT.1 };
        let alike = self
            .steps
            .iter()
            .filter(|s| (s.outcome == Outcome::NotMatched) == quiet)
            .count();
        if alike < limit {
            self.steps.push(step)
        } else {
            self.omitted += 1
        }
    }

    /// The step that decided: the last one that applied.
    pub fn decisive(&self) -> Option<&Step> {
        self.steps
            .iter()
            .rev()
            .find(|step| step.outcome != Outcome::NotMatched)
    }

    /// The first step that was not understood.
    pub fn unknown(&self) -> Option<&Step> {
        self.steps
            .iter()
            .find(|step| matches!(step.outcome, Outcome::Unknown(_)))
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packet) = &self.example {
            writeln!(f, "{packet}")?;
        }
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "  … {} more that do not apply", self.omitted)?;
        }
        let ends: Vec<String> = self.ends.iter().map(End::to_string).collect();
        write!(f, "  = {}", ends.join(", or "))
    }
}
