//! How the guarantees stand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Proof;
use crate::guarantee::Guarantee;
use crate::posture::{Decision, Posture};
use crate::prove::Verdict;

/// Whether a guarantee holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Each of its claims is proved.
    Held,
    /// One of its claims is not true.
    Violated,
    /// One of its claims could not be decided, and none is known to be wrong.
    Undecided,
    /// Nobody asked for it.
    NotRequired,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Held,
        Self::Violated,
        Self::Undecided,
        Self::NotRequired,
    ];

    /// The word of the API, of metrics and of the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Violated => "violated",
            Self::Undecided => "undecided",
            Self::NotRequired => "not-required",
        }
    }
}

/// What came of a guarantee in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The guarantee.
    pub guarantee: Guarantee,
    /// Whether it holds now.
    pub standing: Standing,
    /// Why it is required or not.
    pub reason: String,
    /// Whether the visible rules alone would keep it.
    pub visible: bool,
    /// Whether the seal alone would; absent where it has no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Its claims and their verdicts.
    pub claims: Vec<Proof>,
}

impl Outcome {
    /// What keeps it from being held: a line for each cause, with the first of the claims that it
    /// breaks.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut causes: Vec<(String, String, usize)> = Vec::new();
        for (cause, problem) in self.claims.iter().filter_map(Proof::problem) {
            match causes.iter_mut().find(|(known, ..)| *known == cause) {
                Some((.., more)) => *more += 1,
                None => causes.push((cause, problem, 0)),
            }
        }
        let line = |(_, problem, more): (String, String, usize)| match more {
            0 => problem,
            1 => format!("{problem} (and one more such claim)"),
            more => format!("{problem} (and {more} more such claims)"),
        };
        causes.into_iter().map(line).collect()
    }
}

/// `sealed` says of which guarantees the seal keeps its part.
pub(crate) fn outcomes(
    posture: &Posture,
    proofs: &[Proof],
    sealed: &BTreeMap<Guarantee, bool>,
) -> Vec<Outcome> {
    let outcome = |Decision {
                       guarantee,
                       required,
                       reason,
                       ..
                   }: &Decision| {
        let of_it = |proof: &&Proof| *required && proof.guarantee == *guarantee;
        let claims: Vec<Proof> = proofs.iter().filter(of_it).cloned().collect();
        let any = |wanted: fn(&Verdict) -> bool| claims.iter().any(|c| wanted(&c.verdict));
        let standing = if !required {
            Standing::NotRequired
        } else if any(|verdict| matches!(verdict, Verdict::Violated { .. })) {
            Standing::Violated
        } else if any(|verdict| matches!(verdict, Verdict::Undecided { .. })) {
            Standing::Undecided
        } else {
            Standing::Held
        };
        Outcome {
            guarantee: *guarantee,
            standing,
            reason: reason.clone(),
            visible: *required && claims.iter().all(|proof| proof.visible),
            sealed: sealed.get(guarantee).copied(),
            claims,
        }
    };
    posture.decisions().iter().map(outcome).collect()
}
