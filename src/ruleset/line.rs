//! Lines of a text, and what is wrong where.

use std::borrow::Cow;

use thiserror::Error;

use super::words::{self, Word};

/// Why a text is not a ruleset, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) text: Cow<'a, str>,
}

impl Line<'_> {
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        let column = 1 + self
            .text
            .get(..at)
            .map_or(0, |before| before.chars().count());
        ParseError {
            line: self.number,
            column,
            message: message.into(),
        }
    }

    pub(super) fn words(&self) -> Result<Vec<Word<'_>>, ParseError> {
        words::split(&self.text).map_err(|bad| self.error(bad.at, bad.message))
    }
}

/// The lines of a text, each with the lines over which a comment of it goes. Bytes that are not UTF-8 can
/// stand in comments; no condition that counts as understood can contain the character that takes their
/// place.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = Some(text);
    let mut number = 1;
    std::iter::from_fn(move || {
        let text = rest?;
        let (bytes, after) = text.split_at_checked(end(text))?;
        rest = after.get(1..);
        let line = Line {
            number,
            text: String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)),
        };
        number += 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
        Some(line)
    })
}

/// What stands before a comment. No interface has so long a name, so none that begins with a quote can
/// swallow the rules behind it.
const BEFORE_COMMENT: &[u8] = b"-m comment --comment ";

/// The most bytes of a comment, each of which can have a backslash before it.
const COMMENT: usize = 2 * 255;

/// Where the first line ends. iptables-save prints a newline in a comment as it is.
fn end(text: &[u8]) -> usize {
    let mut at = 0;
    let mut before = b' ';
    while let Some(&byte) = text.get(at) {
        if byte == b'\n' {
            break;
        }
        let opens = byte == b'"' && matches!(before, b' ' | b'\t');
        before = byte;
        at += 1;
        if opens {
            let over_lines = text
                .get(..at - 1)
                .is_some_and(|t| t.ends_with(BEFORE_COMMENT));
            at += quoted(text.get(at..).unwrap_or_default(), over_lines);
        }
    }
    at
}

/// How long what is quoted is with its closing quote; nothing, where no quote closes it.
fn quoted(inside: &[u8], over_lines: bool) -> usize {
    let most = if over_lines { COMMENT + 1 } else { usize::MAX };
    let mut escaped = false;
    for (at, byte) in inside.iter().take(most).enumerate() {
        match byte {
            b'\n' if !over_lines => break,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    0
}
