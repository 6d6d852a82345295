//! The guard's own rule in native chains of others that would drop what the agent is sent.

use std::collections::BTreeSet;

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

/// How a chain differs from what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Differs {
    /// The rule is not there, or says something else.
    Missing,
    /// It is not the first one.
    Displaced,
    /// It is there more than once.
    Doubled,
    /// It is there and not wanted.
    Stray,
}

/// The chains that differ: in each that is to be open the rule stands on top, once.
pub(super) fn differences(
    wanted: &BTreeSet<ChainPlace>,
    actual: &[Opening],
) -> Vec<(ChainPlace, Differs)> {
    let there = actual.iter().map(|opening| &opening.place);
    let places: BTreeSet<&ChainPlace> = there.chain(wanted).collect();
    let differs = |place: &ChainPlace| {
        let here = actual.iter().filter(|opening| opening.place == *place);
        let here: Vec<&Opening> = here.collect();
        match (wanted.contains(place), here.as_slice()) {
            (true, [one]) if one.first && one.intact => None,
            (true, [one]) if one.intact => Some(Differs::Displaced),
            (true, [] | [_]) => Some(Differs::Missing),
            (true, _) => Some(Differs::Doubled),
            (false, _) => Some(Differs::Stray),
        }
    };
    let found = places
        .into_iter()
        .map(|place| Some((place.clone(), differs(place)?)));
    found.flatten().collect()
}

/// What such a rule is, for a person.
pub(crate) fn object(place: &ChainPlace) -> String {
    format!("nftables {place}: {}", native_opening_text())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Snapshot, Step, plan};
    use super::*;
    use crate::guarantee::Rules;
    use crate::ruleset::Family;
    use crate::ruleset::native::json::parse;

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
    fn a_chain_is_opened_where_it_is_wanted_and_closed_where_it_is_not() {
        let wanted = Rules {
            openings: BTreeSet::from([place("wanted")]),
            ..Rules::default()
        };
        let actual = Snapshot {
            openings: vec![opening(5, true, true)],
            ..Snapshot::default()
        };
        let steps = [("input", true), ("wanted", false)].map(|(chain, undo)| Step::Opening {
            place: place(chain),
            undo,
        });
        assert_eq!(plan(&wanted, &actual, &[]).steps, steps);
    }

    #[test]
    fn the_guards_rule_is_known_by_its_tag_and_by_what_it_says() {
        let meets =
            |op: &str, left, right| json!({"match": {"op": op, "left": left, "right": right}});
        let field = |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
        // As `native_opening_text` has it.
        let opening = |port: u16| {
            json!([
                meets("==", field("ip", "daddr"), json!("127.0.0.1")),
                meets("==", field("tcp", "dport"), json!(port)),
                meets("in", json!({"ct": {"key": "status"}}), json!("dnat")),
                {"accept": null},
            ])
        };
        let mut items = vec![
            json!({"table": {"family": "ip", "name": "filter", "handle": 1}}),
            json!({"chain": {"family": "ip", "table": "filter", "name": "input", "handle": 1,
                "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}),
        ];
        let tag = "ecs-netguard: task-credentials";
        for (handle, comment, port) in [
            (5, "of somebody else", 51679),
            (6, tag, 51679),
            (7, "ecs-netguard: imds-block", 51679),
            (8, tag, 51678),
        ] {
            items.push(
                json!({"rule": {"family": "ip", "table": "filter", "chain": "input",
                "handle": handle, "comment": comment, "expr": opening(port)}}),
            );
        }
        let found = |items: &[Value]| {
            let saved = parse(json!({"nftables": items}).to_string().as_bytes()).unwrap();
            let found = openings(&saved.decode(Family::V4, false));
            let at = |of: Opening| (of.place.to_string(), of.handle, of.first, of.intact);
            found.into_iter().map(at).collect::<Vec<_>>()
        };
        let at = |handle, first, intact| ("ip filter input".to_owned(), handle, first, intact);
        assert_eq!(found(&items), [at(6, false, true), at(8, false, false)]);
        items.remove(2);
        assert_eq!(found(&items)[0], at(6, true, true));
    }

    #[test]
    fn the_rule_stands_on_top_of_its_chain_once() {
        use Differs::{Displaced, Doubled, Missing, Stray};
        let wanted = BTreeSet::from([place("input")]);
        let none = BTreeSet::new();
        for (wanted, there, differs) in [
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
            let found = differences(wanted, &there);
            let differs = differs.map(|differs| (place("input"), differs));
            assert_eq!(found, Vec::from_iter(differs), "{there:?}");
        }
        assert_eq!(
            object(&place("input")),
            "nftables inet filter input: ip daddr 127.0.0.1 tcp dport 51679 ct status dnat accept"
        );
    }
}
