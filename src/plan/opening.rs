//! The guard's own rule in native chains of others that would drop what the agent is sent.

use std::collections::BTreeSet;

use super::{Drift, DriftKind, Step};
use crate::guarantee::Guarantee;
use crate::guarantee::task_credentials::{native_opening, native_opening_text};
use crate::ruleset::native::{ChainPlace, NativeTable};

/// A rule with the guard's tag in a native chain of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Where it stands.
    pub place: ChainPlace,
    /// The kernel's number for it.
    pub handle: u64,
    /// Whether it is the first rule there.
    pub first: bool,
    /// Whether it says what it should.
    pub intact: bool,
}

/// The guard's rules in native tables.
#[must_use]
pub fn openings<'a>(tables: impl IntoIterator<Item = &'a NativeTable>) -> Vec<Opening> {
    let mut found = Vec::new();
    for table in tables {
        for (chain, content) in &table.chains {
            for (index, rule) in content.rules.iter().enumerate() {
                let tag = rule.comment.as_deref().and_then(Guarantee::from_tag);
                if tag != Some(Guarantee::TaskCredentials) {
                    continue;
                }
                found.push(Opening {
                    place: ChainPlace {
                        table: table.name.clone(),
                        chain: chain.clone(),
                    },
                    handle: rule.handle,
                    first: index == 0,
                    intact: rule.statements == native_opening(),
                });
            }
        }
    }
    found
}

/// What differs, and how to close it: in each chain that is to be open the rule stands on top, once.
pub(super) fn steps(wanted: &BTreeSet<ChainPlace>, actual: &[Opening]) -> (Vec<Step>, Vec<Drift>) {
    let (mut steps, mut drifts) = (Vec::new(), Vec::new());
    let places: BTreeSet<&ChainPlace> = actual
        .iter()
        .map(|opening| &opening.place)
        .chain(wanted)
        .collect();
    for place in places {
        let there: Vec<&Opening> = actual
            .iter()
            .filter(|opening| opening.place == *place)
            .collect();
        let kind = match (wanted.contains(place), there.as_slice()) {
            (true, [one]) if one.first && one.intact => continue,
            (true, []) => DriftKind::Missing,
            (true, [one]) if one.intact => DriftKind::Displaced,
            (true, [_]) => DriftKind::Missing,
            (true, _) => DriftKind::Doubled,
            (false, _) => DriftKind::Stray,
        };
        drifts.push(Drift {
            guarantee: Guarantee::TaskCredentials,
            kind,
            object: object(place),
        });
        steps.push(Step::Opening {
            place: place.clone(),
            undo: !wanted.contains(place),
        });
    }
    (steps, drifts)
}

/// What such a rule is, for a person.
pub(crate) fn object(place: &ChainPlace) -> String {
    format!("nftables {place}: {}", native_opening_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(chain: &str) -> ChainPlace {
        ChainPlace {
            table: "inet filter".to_owned(),
            chain: chain.to_owned(),
        }
    }

    fn opening(handle: u64, first: bool, intact: bool) -> Opening {
        Opening {
            place: place("input"),
            handle,
            first,
            intact,
        }
    }

    #[test]
    fn the_rule_stands_on_top_of_its_chain_once() {
        use DriftKind::{Displaced, Doubled, Missing, Stray};
        let wanted = BTreeSet::from([place("input")]);
        let none = BTreeSet::new();
        for (wanted, there, kind) in [
            (&wanted, vec![], Some(Missing)),
            (&wanted, vec![opening(5, true, true)], None),
            (&wanted, vec![opening(5, false, true)], Some(Displaced)),
            (&wanted, vec![opening(5, true, false)], Some(Missing)),
            (
                &wanted,
                vec![opening(5, true, true), opening(9, false, true)],
                Some(Doubled),
            ),
            (&none, vec![opening(5, true, true)], Some(Stray)),
            (&none, vec![], None),
        ] {
            let (steps, drifts) = steps(wanted, &there);
            assert_eq!(
                drifts.iter().map(|drift| drift.kind).collect::<Vec<_>>(),
                Vec::from_iter(kind)
            );
            let step = kind.map(|_| Step::Opening {
                place: place("input"),
                undo: wanted.is_empty(),
            });
            assert_eq!(steps, Vec::from_iter(step), "{there:?}");
        }
        let (_, drifts) = steps(&wanted, &[]);
        assert_eq!(
            drifts[0].object,
            "nftables inet filter input: ip daddr 127.0.0.1 tcp dport 51679 ct status dnat accept"
        );
    }
}
