//! Splits a line into words as iptables-save quotes them.

use std::borrow::Cow;

/// One word of a line.
#[derive(Clone, Debug)]
pub(super) struct Word<'a> {
    /// What it says, quotes and escapes removed.
    pub(super) text: Cow<'a, str>,
    /// Where it begins in the line, in bytes, the opening quote included.
    pub(super) start: usize,
    /// As printed, quotes and all.
    pub(super) raw: &'a str,
}

impl Word<'_> {
    /// Whether it may be an option, `!` or another word of the syntax: what is quoted never is.
    pub(super) fn is(&self, text: &str) -> bool {
        self.raw == text
    }
}

/// A line that cannot be split, and where, in bytes.
#[derive(Debug)]
pub(super) struct Unsplittable {
    pub(super) at: usize,
    pub(super) message: &'static str,
}

/// Splits a line into words.
///
/// A quote opens only at the beginning of a word and closes only at its end, with `\` before a quote
/// or a backslash inside: that is how libxtables prints (`xtables_save_string`). A quote within a
/// word is a plain character, because interface and chain names are printed as they are. Text where
/// these disagree is refused.
pub(super) fn split(line: &str) -> Result<Vec<Word<'_>>, Unsplittable> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Ok(words);
        }
        let start = line.len() - rest.len();
        let (text, raw, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find([' ', '\t']).unwrap_or(rest.len());
                let (raw, after) = rest.split_at(end);
                (Cow::Borrowed(raw), raw, after)
            }
            Some(inside) => {
                let (text, length) = unquote(inside).ok_or(Unsplittable {
                    at: start,
                    message: "this quote is never closed",
                })?;
                let (raw, after) = rest.split_at(1 + length);
                (text, raw, after)
            }
        };
        if !after.is_empty() && !after.starts_with([' ', '\t']) {
            let at = line.len() - after.len();
            return Err(Unsplittable {
                at,
                message: "a closing quote must end the word",
            });
        }
        words.push(Word { text, start, raw });
        rest = after;
    }
}

/// The text up to the closing quote, and how many bytes that took with the quote.
fn unquote(inside: &str) -> Option<(Cow<'_, str>, usize)> {
    let mut text = String::new();
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => {
                text.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((Cow::Owned(text), at + 1)),
            _ => text.push(c),
        }
    }
    None
}

/// The words as printed, with single blanks between.
pub(super) fn join(words: &[Word<'_>]) -> String {
    words
        .iter()
        .map(|word| word.raw)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Options that every rule can have, with no module named.
const COMMON: &[&str] = &["-s", "-d", "-i", "-o", "-p", "-f"];

/// Whether a word begins the next part of a rule for certain.
pub(super) fn begins_part(word: &Word<'_>) -> bool {
    word.is("-m") || word.is("-j") || word.is("-g")
}

/// Whether a word, or the one after its `!`, is a common option.
pub(super) fn begins_common(words: &[Word<'_>]) -> bool {
    let option = match words {
        [not, option, ..] if not.is("!") => option,
        [option, ..] => option,
        [] => return false,
    };
    COMMON.iter().any(|common| option.is(common))
}
