//! What was proved: of one claim, of a guarantee, of the host as a whole. Pure.

use serde::{Deserialize, Serialize};

use crate::config::sanitize_line;
use crate::desired::Undecidable;
use crate::guarantee::Guarantee;
use crate::prove::Walk;

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// True of every packet of the class.
    Held,
    /// Not true of some packet: this one.
    Violated {
        /// How it gets where it should not.
        walk: Walk,
    },
    /// Could not be decided.
    Undecided {
        /// What it hangs on.
        why: String,
        /// The way of a packet that the claim may not be true of.
        walk: Walk,
    },
}

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
    /// No input asks for it.
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

    /// What the verdicts of a required guarantee's claims come to; `Held` where it claims nothing.
    pub fn of<'v>(verdicts: impl IntoIterator<Item = &'v Verdict>) -> Self {
        let standing = |verdict: &Verdict| match verdict {
            Verdict::Held => Self::Held,
            Verdict::Undecided { .. } => Self::Undecided,
            Verdict::Violated { .. } => Self::Violated,
        };
        verdicts
            .into_iter()
            .map(standing)
            .fold(Self::Held, Self::worse)
    }

    const fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Violated, _) | (_, Self::Violated) => Self::Violated,
            (Self::Undecided, _) | (_, Self::Undecided) => Self::Undecided,
            (Self::Held, _) | (_, Self::Held) => Self::Held,
            _ => Self::NotRequired,
        }
    }
}

/// How the host stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// `imds-block` is required, and it and every other required guarantee are held.
    Protected,
    /// A required guarantee is violated.
    NotProtected,
    /// No input asks for `imds-block`; what else is required is held.
    ImdsOpen,
    /// Whether all that is required is held is not known, or not any more.
    Undecided,
}

impl Overall {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Protected,
        Self::NotProtected,
        Self::ImdsOpen,
        Self::Undecided,
    ];

    /// The word of the API and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::NotProtected => "not-protected",
            Self::ImdsOpen => "imds-open",
            Self::Undecided => "undecided",
        }
    }

    /// The word for a person: `NOT PROTECTED`.
    #[must_use]
    pub const fn headline(self) -> &'static str {
        match self {
            Self::Protected => "PROTECTED",
            Self::NotProtected => "NOT PROTECTED",
            Self::ImdsOpen => "IMDS OPEN",
            Self::Undecided => "UNDECIDED",
        }
    }

    /// What the standings of the guarantees come to. Of no guarantees at all nothing is known.
    #[must_use]
    pub fn of(standings: impl IntoIterator<Item = (Guarantee, Standing)>) -> Self {
        let (mut worst, mut block) = (None, Standing::NotRequired);
        for (guarantee, standing) in standings {
            if guarantee == Guarantee::ImdsBlock {
                block = standing;
            }
            worst = Some(worst.map_or(standing, |worst| Standing::worse(worst, standing)));
        }
        match worst {
            Some(Standing::Violated) => Self::NotProtected,
            Some(Standing::Undecided) | None => Self::Undecided,
            Some(_) if block == Standing::NotRequired => Self::ImdsOpen,
            Some(_) => Self::Protected,
        }
    }
}

/// A claim and whether it is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The guarantee that makes the claim.
    #[serde(skip)]
    pub guarantee: Guarantee,
    /// The claim as a sentence.
    pub claim: String,
    /// The verdict, with the packet's walk where it is not held.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whether the visible rules alone would do; where not, the seal makes up for it.
    pub visible: bool,
}

impl From<&Undecidable> for Proof {
    fn from(of: &Undecidable) -> Self {
        Self::undecided(of.guarantee, of.claim.clone(), of.why.clone())
    }
}

impl Proof {
    /// A claim in words that cannot be known to be true, and why.
    pub(crate) fn undecided(guarantee: Guarantee, claim: String, why: String) -> Self {
        Self {
            guarantee,
            claim,
            verdict: Verdict::Undecided {
                why,
                walk: Walk::default(),
            },
            visible: false,
        }
    }

    /// What keeps the claim from being held: the cause, to tell equal ones by, and one line that says
    /// what that means, with the packet and the rule that decided.
    pub(crate) fn problem(&self) -> Option<(String, String)> {
        let (claim, broken) = (&self.claim, self.guarantee.broken());
        match &self.verdict {
            Verdict::Held => None,
            Verdict::Violated { walk } => Some(match &walk.example {
                Some(packet) => {
                    let cause = decision(walk);
                    let line = format!("{broken}: {packet} is {cause}");
                    (cause, line)
                }
                // What was seen elsewhere than in rules says itself what it is.
                None => {
                    let seen = walk.decisive().map(|step| step.text.clone());
                    let seen = seen.unwrap_or_else(|| decision(walk));
                    let line = format!("{broken} (not held: {claim}): {seen}");
                    (seen, line)
                }
            }),
            Verdict::Undecided { why, .. } => {
                Some((why.clone(), format!("cannot prove that {claim}: {why}")))
            }
        }
    }
}

/// What keeps claims from being held: a line for each cause, with the first of the claims that it
/// breaks.
#[must_use]
pub fn problems(proofs: &[Proof]) -> Vec<String> {
    let mut causes: Vec<(String, String, usize)> = Vec::new();
    for (cause, problem) in proofs.iter().filter_map(Proof::problem) {
        match causes.iter_mut().find(|(known, ..)| *known == cause) {
            Some((.., more)) => *more += 1,
            None => causes.push((cause, problem, 0)),
        }
    }
    let line = |(_, problem, more): (String, String, usize)| match more {
        0 => problem,
        1 => format!("{problem} (and 1 more such claim)"),
        more => format!("{problem} (and {more} more such claims)"),
    };
    causes.into_iter().map(line).collect()
}

/// Where the packet of a walk ends, and by which rule.
fn decision(walk: &Walk) -> String {
    let ends: Vec<String> = walk.ends.iter().map(ToString::to_string).collect();
    let ends = ends.join(", or ");
    let Some(step) = walk.decisive() else {
        return ends;
    };
    let number = step
        .rule
        .map(|number| format!(" rule {number}"))
        .unwrap_or_default();
    format!(
        "{ends} by {} {}{number} (`{}`)",
        step.table,
        step.chain,
        sanitize_line(&step.text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::{End, Hook, Outcome, Step};

    fn walk(text: &str) -> Walk {
        Walk {
            steps: vec![Step {
                hook: Hook::Forward,
                table: "filter".to_owned(),
                chain: "FORWARD".to_owned(),
                rule: Some(5),
                text: text.to_owned(),
                outcome: Outcome::Matched,
                note: String::new(),
            }],
            ends: vec![End::LetThrough],
            ..Walk::default()
        }
    }

    fn violated(claim: &str, text: &str) -> Proof {
        Proof {
            guarantee: Guarantee::ImdsBlock,
            claim: claim.to_owned(),
            verdict: Verdict::Violated { walk: walk(text) },
            visible: false,
        }
    }

    fn undecided(why: &str) -> Proof {
        Proof::undecided(Guarantee::ImdsBlock, "all is dropped".into(), why.into())
    }

    #[test]
    fn a_guarantee_stands_as_its_worst_claim() {
        let (violated, undecided) = (violated("", "").verdict, undecided("").verdict);
        let held = Verdict::Held;
        for (verdicts, standing) in [
            (vec![], Standing::Held),
            (vec![&held, &held], Standing::Held),
            (vec![&held, &undecided], Standing::Undecided),
            (vec![&undecided, &held], Standing::Undecided),
            (vec![&undecided, &violated, &held], Standing::Violated),
            (vec![&violated, &undecided], Standing::Violated),
        ] {
            assert_eq!(Standing::of(verdicts.clone()), standing, "{verdicts:?}");
        }
    }

    #[test]
    fn a_host_stands_as_its_worst_required_guarantee() {
        use Standing::{Held, NotRequired, Undecided, Violated};
        let of = |block, others: &[Standing]| {
            let others = others.iter().map(|of| (Guarantee::LoopbackShield, *of));
            Overall::of(std::iter::once((Guarantee::ImdsBlock, block)).chain(others))
        };
        for (block, others, overall) in [
            (NotRequired, &[][..], Overall::ImdsOpen),
            (NotRequired, &[Held], Overall::ImdsOpen),
            (NotRequired, &[Violated], Overall::NotProtected),
            (NotRequired, &[Undecided, Held], Overall::Undecided),
            (Held, &[NotRequired], Overall::Protected),
            (Held, &[Held, NotRequired], Overall::Protected),
            (Held, &[Undecided, NotRequired], Overall::Undecided),
            (Undecided, &[Violated, Held], Overall::NotProtected),
        ] {
            assert_eq!(of(block, others), overall, "{block:?} {others:?}");
        }
        assert_eq!(Overall::of([]), Overall::Undecided);
    }

    #[test]
    fn the_words_are_those_of_the_api() {
        for standing in Standing::ALL {
            assert_eq!(serde_json::to_value(standing).unwrap(), standing.name());
        }
        for overall in Overall::ALL {
            assert_eq!(serde_json::to_value(overall).unwrap(), overall.name());
            let words = overall.name().replace('-', " ").to_uppercase();
            assert_eq!(overall.headline(), words);
        }
    }

    #[test]
    fn equal_causes_are_one_line() {
        let proofs = [
            violated("a is dropped", "-j ACCEPT"),
            violated("b is dropped", "-j ACCEPT"),
            violated("c is dropped", "-j RETURN"),
            undecided("a set"),
            undecided("a set"),
            undecided("a set"),
        ];
        insta::assert_snapshot!(problems(&proofs).join("\n"), @r"
        Containers can reach the instance metadata service (not held: a is dropped): -j ACCEPT (and 1 more such claim)
        Containers can reach the instance metadata service (not held: c is dropped): -j RETURN
        cannot prove that all is dropped: a set (and 2 more such claims)
        ");
        let held = Proof {
            verdict: Verdict::Held,
            ..undecided("")
        };
        assert_eq!(problems(&[held]), Vec::<String>::new());
    }

    #[test]
    fn an_example_packet_is_named_with_the_rule_that_decided() {
        let mut proof = violated("a is dropped", "-j ACCEPT");
        let empty = Walk {
            ends: vec![End::Dropped, End::Elsewhere],
            ..Walk::default()
        };
        for (walk, expected) in [
            (
                walk("-j ACCEPT"),
                "accepted by filter FORWARD rule 5 (`-j ACCEPT`)",
            ),
            (empty, "dropped, or sent somewhere else"),
        ] {
            assert_eq!(decision(&walk), expected);
        }
        proof.verdict = Verdict::Violated {
            walk: Walk {
                steps: Vec::new(),
                ..walk("")
            },
        };
        assert_eq!(
            problems(&[proof]),
            [
                "Containers can reach the instance metadata service (not held: a is dropped): accepted"
            ]
        );
    }
}
