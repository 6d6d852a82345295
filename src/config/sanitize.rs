//! Foreign text in our own sentences: a config file must not be able to move the cursor of the terminal that
//! prints it, or to fill the journal.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serializer;

/// Enough to recognise a value by; a message stays one line.
const VALUE_CHARS: usize = 60;
/// Enough for what a failing tool says of itself.
const MESSAGE_CHARS: usize = 400;

/// Enough for a sentence with several problems in it.
const LINE_CHARS: usize = 2000;

/// A value from outside, safe to print: control and invisible characters escaped, length bounded.
pub(crate) fn sanitize(text: &str) -> String {
    bounded(text, VALUE_CHARS)
}

/// A tool's own words as one line, safe to print.
pub(crate) fn sanitize_message(text: &str) -> String {
    let line: Vec<&str> = text
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    bounded(&line.join("; "), MESSAGE_CHARS)
}

/// A whole line with foreign text in it, safe to print.
pub(crate) fn sanitize_line(text: &str) -> String {
    bounded(text, LINE_CHARS)
}

/// The same, bounded in bytes as it comes out.
pub(crate) fn sanitize_to(text: &str, bytes: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let length = out.len();
        push(&mut out, c);
        if out.len() > bytes {
            out.truncate(length);
            out.push('…');
            break;
        }
    }
    out
}

fn bounded(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == limit {
            out.push('…');
            break;
        }
        push(&mut out, c);
    }
    out
}

/// Appends a character, escaped where it does something else than to be seen.
fn push(out: &mut String, c: char) {
    if is_shown(c) {
        out.push(c);
    } else {
        out.extend(c.escape_default());
    }
}

/// Whether a character is there to be seen, and does nothing else.
pub(crate) fn is_shown(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

/// Blanks that look like a plain blank, characters that reorder or hide text, and what is no character.
fn is_invisible(c: char) -> bool {
    (c != ' ' && c.is_whitespace())
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fdd0}'..='\u{fdef}')
        || (c as u32) & 0xfffe == 0xfffe
}

/// A name that need not be UTF-8, as text: the bytes that are not are escaped (`\xff`).
pub(crate) fn readable(name: &[u8]) -> String {
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Paths need not be UTF-8; a report about one must still be printable as JSON.
pub(crate) fn readable_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&readable(path.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{readable, sanitize, sanitize_message};

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(readable("br-ä".as_bytes()), "br-ä");
        assert_eq!(readable(b"a\xff\xc3b"), "a\\xff\\xc3b");
    }

    #[test]
    fn a_tools_words_become_one_line() {
        assert_eq!(sanitize_message("first\n\n  second\n"), "first; second");
    }

    #[test]
    fn terminal_escapes_are_escaped() {
        assert_eq!(sanitize("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn invisible_text_becomes_visible() {
        assert_eq!(
            sanitize("\u{feff}x\u{a0}\u{202e}y"),
            "\\u{feff}x\\u{a0}\\u{202e}y"
        );
    }

    #[test]
    fn long_text_is_cut() {
        let cut = sanitize(&"ä".repeat(10_000));
        assert_eq!(cut.chars().count(), 61);
        assert!(cut.ends_with('…'));
    }
}
