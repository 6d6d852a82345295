//! Claims and their verdicts. Pure.

use serde::Serialize;

use crate::desired::{Desired, Undecidable};
use crate::guarantee::{Guarantee, task_credentials};
use crate::plan::applied;
use crate::prove::{Claim, HostView, Prover, Verdict, Walk};
use crate::ruleset::{Family, Ruleset};

/// A claim and whether it is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Whose claim it is.
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

    /// What keeps the claim from being held: the cause, to tell equal ones by, and one line with
    /// the claim, the packet, and the rule that decided.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let claim = &self.claim;
        match &self.verdict {
            Verdict::Held => None,
            Verdict::Violated { walk } => {
                let (cause, what) = match &walk.example {
                    Some(packet) => {
                        let cause = decision(walk);
                        let what = format!("{packet} is {cause}");
                        (cause, what)
                    }
                    // What was seen elsewhere than in rules says itself what it is.
                    None => {
                        let seen = walk.decisive().map(|step| step.text.clone());
                        let seen = seen.unwrap_or_else(|| decision(walk));
                        (seen.clone(), seen)
                    }
                };
                Some((cause, format!("not true that {claim}: {what}")))
            }
            Verdict::Undecided { why, .. } => {
                Some((why.clone(), format!("cannot decide whether {claim}: {why}")))
            }
        }
    }
}

impl From<&Undecidable> for Proof {
    fn from(of: &Undecidable) -> Self {
        Self::undecided(of.guarantee, of.claim.clone(), of.why.clone())
    }
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
        "{ends} by {} {}{number}, `{}`",
        step.table, step.chain, step.text
    )
}

/// Proves each claim about the rulesets of its family: the visible ones, and those with the seal in
/// front, which are asked where the visible ones alone do not do.
pub(crate) fn prove<'r>(
    claims: &[(Guarantee, Claim)],
    rulesets: impl Fn(Family) -> (Vec<&'r Ruleset>, Vec<&'r Ruleset>),
    host: &HostView,
) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut claims = claims
            .iter()
            .filter(|(_, c)| c.packets.family == family)
            .peekable();
        if claims.peek().is_none() {
            continue;
        }
        let (visible, sealed) = rulesets(family);
        let alone = Prover::new(&visible, host);
        let both = (sealed.len() > visible.len()).then(|| Prover::new(&sealed, host));
        proofs.extend(claims.map(|(guarantee, claim)| {
            let verdict = alone.prove(claim);
            let visible = verdict == Verdict::Held;
            let verdict = match &both {
                Some(both) if !visible => both.prove(claim),
                _ => verdict,
            };
            Proof {
                guarantee: *guarantee,
                claim: claim.to_string(),
                verdict,
                visible,
            }
        }));
    }
    proofs
}

/// Whether INPUT would drop what goes to the agent although every other wanted rule is in place, and
/// the one ACCEPT mends it.
///
/// The question is put to the rulesets as they will be, not as they are: so the answer is the same
/// before the rules are in, with the ACCEPT in place, and after somebody took it away.
pub(super) fn open_input_is_needed(desired: &Desired, ipv4: &[&Ruleset], host: &HostView) -> bool {
    let claims: Vec<_> = desired
        .claims_of(Family::V4)
        .filter(|(guarantee, _)| *guarantee == Guarantee::TaskCredentials)
        .cloned()
        .collect();
    let Some((own, other)) = ipv4.split_first() else {
        return false;
    };
    if claims.is_empty() {
        return false;
    }
    let mut host = host.clone();
    for wish in &desired.rules.sysctls {
        host.route_localnet |= wish.interface == "all";
        for (name, interface) in &mut host.interfaces {
            interface.route_localnet |= wish.interface == "all" || wish.interface == *name;
        }
    }
    let held = |rules| {
        let own = applied(rules, own);
        let layers: Vec<&Ruleset> = [&own].into_iter().chain(other.iter().copied()).collect();
        let proofs = prove(&claims, |_| (layers.clone(), Vec::new()), &host);
        proofs
            .iter()
            .filter(|proof| proof.verdict == Verdict::Held)
            .count()
    };
    let without = held(&desired.rules);
    if without == claims.len() {
        return false;
    }
    let mut opened = desired.rules.clone();
    opened
        .iptables
        .extend(task_credentials::open_input().iptables);
    held(&opened) > without
}
