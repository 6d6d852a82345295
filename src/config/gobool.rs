//! Go's idea of a boolean, and a person's.

/// `strconv.ParseBool`: exactly these twelve spellings, and nothing else (no `yes`, no `tRUE`, no blanks).
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Takes one pair of like quotes off, if the text is wrapped in them.
pub(crate) fn unquote(text: &str) -> Option<&str> {
    ['"', '\'', '`']
        .into_iter()
        .find_map(|q| text.strip_prefix(q)?.strip_suffix(q))
}

/// The part before an inline comment, if the text has one. `true#x` has none: no shell takes that for a
/// comment.
pub(crate) fn before_comment(text: &str) -> Option<&str> {
    let at = text
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|&at| text[..at].ends_with(char::is_whitespace))?;
    Some(text[..at].trim())
}

/// What a person most likely meant by a value that Go cannot parse.
///
/// Only plain negatives mean "off". Everything else, gibberish too, means "on": the writer tried to switch
/// something, and a guard that guesses "off" would fail open.
pub(crate) fn likely(text: &str) -> bool {
    let mut text = text.trim();
    if let Some(before) = before_comment(text) {
        text = before;
    }
    text = text.trim_end_matches([';', ',']).trim_end();
    while let Some(inner) = unquote(text) {
        text = inner.trim();
        if text.is_empty() {
            // "" is how a template writes a variable that was not filled in.
            return false;
        }
    }
    const NEGATIVES: [&str; 14] = [
        "false", "f", "no", "n", "off", "0", "00", "0.0", "disable", "disabled", "none", "nil",
        "null", "never",
    ];
    let lower = text.to_ascii_lowercase();
    !NEGATIVES.contains(&lower.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_knows_twelve_spellings() {
        for yes in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(yes), Some(true), "{yes}");
        }
        for no in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(no), Some(false), "{no}");
        }
        for neither in [
            "", "yes", "no", "tRUE", " true", "true ", "\"true\"", "01", "on", "ｔ",
        ] {
            assert_eq!(parse_bool(neither), None, "{neither}");
        }
    }

    #[test]
    fn what_people_mean() {
        for on in [
            "\"true\"",
            "'1'",
            "yes",
            "on",
            "enabled",
            "y",
            "1.0",
            "tRUE",
            "true # note",
            "true;",
            "\"true",
            "treu",
            "%$!",
            "no idea",
            "true ECS_CLUSTER=x",
            "false\\nECS_X=y",
            "$BLOCK",
        ] {
            assert!(likely(on), "{on}");
        }
        for off in [
            "\"false\"",
            "'0'",
            "no",
            "off",
            "disabled",
            "N",
            "none",
            "fALSE",
            "false # for now",
            "\"no\",",
            "\"\"",
            "\"'false'\"",
            "''",
        ] {
            assert!(!likely(off), "{off}");
        }
    }
}
