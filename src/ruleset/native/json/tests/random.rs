//! What must hold of any text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::parse;
use crate::ruleset::Family;

/// What nft 1.0.6 lists of a ruleset with everything in it.
const LISTED: &str = include_str!("listed.json");

/// A value of those that lists of nft consist of.
fn some_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![
            "", "*", "@s", "lo", "tcp", "ip", "10.0.0.1", "::1", "docker*", "new", "drop", "==",
            "in",
        ])
        .prop_map(Value::from),
    ]
}

/// The place within a value that is the `number`th, counted round.
fn place(value: &mut Value, number: usize) -> &mut Value {
    fn walk<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(list) => list.iter_mut().find_map(|one| walk(one, left)),
            Value::Object(object) => object.values_mut().find_map(|one| walk(one, left)),
            _ => None,
        }
    }
    fn size(value: &Value) -> usize {
        1 + match value {
            Value::Array(list) => list.iter().map(size).sum(),
            Value::Object(object) => object.values().map(size).sum(),
            _ => 0,
        }
    }
    let mut left = number % size(value);
    walk(value, &mut left).unwrap()
}

/// Reads it whole.
fn judge(text: &[u8]) -> bool {
    let Ok(saved) = parse(text) else {
        return false;
    };
    for family in [Family::V4, Family::V6] {
        for listed in [false, true] {
            let _any = saved.decode(family, listed);
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_list_with_anything_in_it_is_tables_or_an_error(
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), prop::option::of(some_value())), 1..12)
    ) {
        let mut list: Value = serde_json::from_str(LISTED).unwrap();
        for (to, from, with) in changes {
            let with = with.unwrap_or_else(|| place(&mut list, from).clone());
            *place(&mut list, to) = with;
        }
        let _either = judge(list.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_are_tables_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..LISTED.len()
    ) {
        let _either = judge(&bytes);
        let (before, behind) = LISTED.as_bytes().split_at(at);
        let _either = judge(&[before, &bytes, behind].concat());
    }
}

#[test]
fn a_real_list_is_read() {
    assert!(judge(LISTED.as_bytes()));
}
