//! How the guarantees stand.

use serde::Serialize;

use super::{Failure, Reading, Target};
use crate::guarantee::Guarantee;
use crate::plan::DriftKind;
use crate::posture::Posture;
use crate::ruleset::Family;

/// Whether a guarantee holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Everything it needs is there.
    Held,
    /// Something it needs is not there.
    Violated,
    /// It could not be found out.
    Undecided,
    /// Nobody asked for it.
    NotRequired,
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
    /// What keeps it from being held.
    pub problems: Vec<String>,
}

pub(super) fn outcomes(
    posture: &Posture,
    target: &Target,
    reading: &Reading,
    failures: &[Failure],
) -> Vec<Outcome> {
    let outcome = |decision: &crate::posture::Decision| {
        let guarantee = decision.guarantee;
        let (standing, problems) = if decision.required {
            standing(guarantee, target, reading, failures)
        } else {
            (Standing::NotRequired, Vec::new())
        };
        Outcome {
            guarantee,
            standing,
            reason: decision.reason.clone(),
            problems,
        }
    };
    posture.decisions().iter().map(outcome).collect()
}

fn standing(
    guarantee: Guarantee,
    target: &Target,
    reading: &Reading,
    failures: &[Failure],
) -> (Standing, Vec<String>) {
    let concerns = |family: Family, object: &str| {
        let wants = |rule: &crate::guarantee::WantedRule| {
            rule.guarantee == guarantee && rule.family == family && rule.table == object
        };
        target.wanted.iptables.iter().any(wants)
            || (object == "route_localnet" && guarantee == Guarantee::TaskCredentials)
    };
    let unread: Vec<String> = reading
        .unread
        .iter()
        .filter(|((family, object), _)| concerns(*family, object))
        .map(|(_, why)| why.clone())
        .collect();
    let mut problems: Vec<String> = reading
        .plan
        .drifts
        .iter()
        .filter(|drift| drift.guarantee == guarantee && drift.kind != DriftKind::Stray)
        .map(|drift| format!("{}: {}", drift.kind, drift.object))
        .collect();
    if !problems.is_empty() {
        let related = failures
            .iter()
            .filter(|failure| concerns(failure.family, &failure.object));
        problems.extend(related.map(|failure| failure.message.clone()));
        problems.extend(unread);
        (Standing::Violated, problems)
    } else if unread.is_empty() {
        (Standing::Held, problems)
    } else {
        (Standing::Undecided, unread)
    }
}
