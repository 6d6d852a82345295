//! How a chain differs from what is wanted of it.

use std::collections::BTreeSet;

use super::DriftKind;
use crate::guarantee::{Guarantee, WantedRule};
use crate::ruleset::{Chain, Listed};

/// A rule that is not where it should be, or not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'r> {
    /// Whose rule it is.
    pub guarantee: Guarantee,
    /// What is wrong with it.
    pub kind: DriftKind,
    /// The rule: as it is wanted, or as the chain holds it where it is stray.
    pub listed: &'r Listed,
}

/// How a chain differs from one where the `wanted` rules stand on top, in order, once, and no other rule
/// of the guard's anywhere.
pub fn diff<'r>(chain: &'r Chain, wanted: &[&'r WantedRule]) -> Vec<Difference<'r>> {
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, wish) in wanted.iter().enumerate() {
        let same =
            |(at, held): (usize, &Listed)| held.rule.same_as(&wish.listed.rule).then_some(at);
        let found: Vec<usize> = chain.rules.iter().enumerate().filter_map(same).collect();
        let kind = match found.as_slice() {
            [] => Some(DriftKind::Missing),
            [only] => (*only != place).then_some(DriftKind::Displaced),
            _ => Some(DriftKind::Doubled),
        };
        differences.extend(kind.map(|kind| Difference {
            guarantee: wish.guarantee,
            kind,
            listed: &wish.listed,
        }));
        seen.extend(found);
    }
    for (at, listed) in chain.rules.iter().enumerate() {
        if let Some(guarantee) = Guarantee::owning(&listed.rule)
            && !seen.contains(&at)
        {
            differences.push(Difference {
                guarantee,
                kind: DriftKind::Stray,
                listed,
            });
        }
    }
    differences
}

#[cfg(test)]
mod tests;
