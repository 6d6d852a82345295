//! What is not understood, in words.

use serde_json::Value;

/// The most that is shown, in characters.
const MOST: usize = 120;

/// Words whose value says enough.
const SILENT: [&str; 9] = [
    "key", "protocol", "field", "name", "left", "right", "op", "data", "val",
];

/// A part of a rule in words, nearly as nft writes it.
pub(super) fn text(value: &Value) -> String {
    let mut words = Vec::new();
    say(value, &mut words);
    let whole = words.join(" ");
    match whole.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", whole.get(..end).unwrap_or_default()),
        None => whole,
    }
}

fn say(value: &Value, words: &mut Vec<String>) {
    // More would not be shown.
    if words.len() > MOST {
        return;
    }
    match value {
        Value::Null => {}
        Value::Bool(is) => words.push(if *is { "exists" } else { "missing" }.to_owned()),
        Value::Number(number) => words.push(number.to_string()),
        Value::String(text) => words.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| say(one, words)),
        Value::Object(object) => {
            for (key, value) in object {
                if matches!(key.as_str(), "match" | "payload" | "mangle") {
                    // As in nft's language: the operator stands between, and is left out where it is usual.
                    say_parts(value, words);
                } else {
                    if !SILENT.contains(&key.as_str()) {
                        words.push(key.clone());
                    }
                    say(value, words);
                }
            }
        }
    }
}

fn say_parts(value: &Value, words: &mut Vec<String>) {
    for key in [
        "protocol", "field", "base", "offset", "len", "left", "op", "right", "key",
    ] {
        match value.get(key) {
            Some(Value::String(usual)) if key == "op" && (usual == "==" || usual == "in") => {}
            Some(part) => say(part, words),
            None => {}
        }
    }
    if let Some(set) = value.get("value") {
        words.push("set".to_owned());
        say(set, words);
    }
}
