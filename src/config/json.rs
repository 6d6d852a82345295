//! `ecs.config.json` as the agent reads it: Go's `encoding/json` into its `Config` (agent/config/config.go,
//! `fileConfig`).
//!
//! The agent judges the raw text of each value (`true`, `1` and `null` are fine, `"true"` is an error), and
//! people need the line; so the text is checked as a whole first and then cut into its top-level entries.

use serde::de::IgnoredAny;

use super::gobool;

/// One top-level entry, its value as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) raw: String,
    pub(crate) line: usize,
}

/// Why the agent cannot take the file at all. It then refuses to start (agent/app/agent.go, `newAgent`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// What the agent makes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Value(bool),
    /// `null`: as if the key were not there.
    Null,
    /// Of a type the agent does not take for this key.
    Refused,
}

/// The top-level entries, in order. A blank file has none, and that is no error.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>, Invalid> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    if let Err(e) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(Invalid {
            line: e.line().max(1),
            reason: e.to_string(),
        });
    }
    let start = text.len() - text.trim_start_matches(blank).len();
    match text[start..].chars().next() {
        Some('{') => Ok(Cutter {
            text,
            at: start + 1,
            counted: (0, 1),
        }
        .cut()),
        // Go decodes null into any structure without touching it.
        Some('n') => Ok(Vec::new()),
        _ => Err(Invalid {
            line: 1,
            reason: "expected an object {…} at the top".to_owned(),
        }),
    }
}

/// The entries for `key`, in order.
pub(crate) fn named<'a>(entries: &'a [Entry], key: &str) -> impl Iterator<Item = &'a Entry> {
    entries.iter().filter(move |entry| is_same(&entry.key, key))
}

/// Go matches names without regard to case, and folds more than ASCII: `ſ` is an s, and the Kelvin sign a k
/// (encoding/json, `foldName`).
pub(crate) fn is_same(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

/// How the agent's `BooleanDefaultFalse` and `BooleanDefaultTrue` take a value: `ParseBool` of the raw text
/// (agent/config/conditional.go), so that `1` is true, and `"true"`, with its quotes, an error.
pub(crate) fn read_conditional(raw: &str) -> Reading {
    match gobool::parse_bool(raw) {
        Some(value) => Reading::Value(value),
        None if raw == "null" => Reading::Null,
        None => Reading::Refused,
    }
}

/// How a plain Go `bool` takes a value.
pub(crate) fn read_bool(raw: &str) -> Reading {
    match raw {
        "true" => Reading::Value(true),
        "false" => Reading::Value(false),
        "null" => Reading::Null,
        _ => Reading::Refused,
    }
}

/// Cuts an object into entries. The text is known to be valid JSON, which is what allows this to be so short;
/// were it not, the cutter would stop early, never panic.
struct Cutter<'a> {
    text: &'a str,
    at: usize,
    /// Up to where lines have been counted, and the line there: counted once, however many entries there are.
    counted: (usize, usize),
}

impl Cutter<'_> {
    fn cut(mut self) -> Vec<Entry> {
        let mut out = Vec::new();
        loop {
            self.skip(|c| blank(c) || c == ',');
            let from = self.at;
            if self.peek() != Some('"') {
                return out;
            }
            self.value();
            let raw_key = &self.text[from..self.at];
            let (counted, line) = self.counted;
            let line = line + self.text[counted..from].matches('\n').count();
            self.counted = (from, line);
            self.skip(|c| blank(c) || c == ':');
            let from = self.at;
            self.value();
            out.push(Entry {
                key: serde_json::from_str(raw_key).unwrap_or_else(|_| raw_key.to_owned()),
                raw: self.text[from..self.at].to_owned(),
                line,
            });
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(what).len();
    }

    /// Moves past one value: a string, a nest of brackets, or a bare word or number.
    fn value(&mut self) {
        let mut depth = 0usize;
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.string();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                '{' | '[' => depth += 1,
                '}' | ']' if depth == 0 => return,
                '}' | ']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += c.len_utf8();
                        return;
                    }
                }
                ',' if depth == 0 => return,
                _ if blank(c) && depth == 0 => return,
                _ => {}
            }
            self.at += c.len_utf8();
        }
    }

    fn string(&mut self) {
        let mut escaped = false;
        for (n, c) in self.text[self.at..].char_indices() {
            match c {
                '"' if n > 0 && !escaped => {
                    self.at += n + 1;
                    return;
                }
                _ => escaped = c == '\\' && !escaped,
            }
        }
        self.at = self.text.len();
    }
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str) -> Vec<(String, String, usize)> {
        entries(text)
            .unwrap()
            .into_iter()
            .map(|e| (e.key, e.raw, e.line))
            .collect()
    }

    #[test]
    fn entries_keep_their_raw_text_and_line() {
        let got = cut(
            "{\n \"A\": true,\n \"B\" : {\"x\": [1, \"}\"]} ,\n \"C\\u0041\":\"q\\\"\",\"D\":1}\n",
        );
        let expected = [
            ("A", "true", 2),
            ("B", "{\"x\": [1, \"}\"]}", 3),
            ("CA", "\"q\\\"\"", 4),
            ("D", "1", 4),
        ];
        assert_eq!(
            got,
            expected.map(|(k, v, n)| (k.to_owned(), v.to_owned(), n))
        );
    }

    #[test]
    fn nothing_is_not_an_error_and_anything_else_is() {
        for none in ["", " \n", "{}", "null", " { } "] {
            assert_eq!(cut(none), [], "{none}");
        }
        for bad in [
            "[]",
            "1",
            "{",
            "{\"a\":}",
            "{} x",
            "\u{feff}{}",
            "{'a':1}",
            "// c\n{}",
        ] {
            assert!(entries(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_two_spellings_the_later_counts() {
        let all = entries("{\"External\":true,\"EXTERNAL\":false}").unwrap();
        assert_eq!(named(&all, "External").last().unwrap().raw, "false");
    }

    #[test]
    fn values_as_go_takes_them() {
        assert_eq!(read_conditional("1"), Reading::Value(true));
        assert_eq!(read_conditional("null"), Reading::Null);
        assert_eq!(read_conditional("\"true\""), Reading::Refused);
        assert_eq!(read_conditional("1.0"), Reading::Refused);
        assert_eq!(read_bool("1"), Reading::Refused);
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn takes_any_text(text in "(?s).{0,100}", json in "[\\{\\}\\[\\]\",:\\\\ a1\n]{0,40}") {
            let _ = entries(&text);
            let _ = entries(&json);
        }

        #[test]
        fn agrees_with_a_whole_parser(
            map in proptest::collection::btree_map(".{0,6}", values(), 0..6), pretty in any::<bool>()
        ) {
            let object = serde_json::Value::Object(map.into_iter().collect());
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let again: serde_json::Map<_, _> = entries(&text).unwrap().into_iter()
                .map(|e| (e.key, serde_json::from_str(&e.raw).unwrap())).collect();
            prop_assert_eq!(serde_json::Value::Object(again), object);
        }
    }
}
