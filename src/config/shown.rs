//! Foreign text in our own sentences: a config file must not be able to move the cursor of the terminal that
//! prints it, or to fill the journal.

use std::path::Path;

use serde::Serializer;

/// Enough to recognise a value by; a message stays one line.
const SHOWN_CHARS: usize = 60;

/// Text from outside, safe to print: control and invisible characters escaped, length bounded.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN_CHARS {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Blanks that look like a plain blank, and characters that reorder or hide text.
fn is_invisible(c: char) -> bool {
    (c != ' ' && c.is_whitespace())
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Paths need not be UTF-8; a report about one must still be printable as JSON.
pub(crate) fn lossy_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn terminal_escapes_are_escaped() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn invisible_text_becomes_visible() {
        assert_eq!(
            shown("\u{feff}x\u{a0}\u{202e}y"),
            "\\u{feff}x\\u{a0}\\u{202e}y"
        );
    }

    #[test]
    fn long_text_is_cut() {
        let cut = shown(&"ä".repeat(10_000));
        assert_eq!(cut.chars().count(), 61);
        assert!(cut.ends_with('…'));
    }
}
