//! Where everything goes that the program prints: on the screen, to standard error, into the log.
//!
//! Names of interfaces, labels, paths and rules come from elsewhere. Whatever is in them, what is printed
//! moves no cursor and clears no screen: this is the one place that sees to it.

use std::io::{self, Stderr, StdoutLock, Write};

use crate::config::{is_shown, readable};

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Text with colours of this program's own.
    Coloured,
    Json,
}

/// Writes line by line, with all characters escaped that do something else than to be seen.
#[derive(Debug)]
pub struct Out<W: Write> {
    to: W,
    /// The beginning of a line.
    begun: Vec<u8>,
    kind: Kind,
}

/// Standard output, for text.
#[must_use]
pub fn text() -> Out<StdoutLock<'static>> {
    Out::new(io::stdout().lock(), Kind::Text)
}

/// Standard output, for text with colours; what is foreign in it has been made safe already.
#[must_use]
pub fn coloured() -> Out<StdoutLock<'static>> {
    Out::new(io::stdout().lock(), Kind::Coloured)
}

/// Standard output, for JSON, which stays JSON.
#[must_use]
pub fn json() -> Out<StdoutLock<'static>> {
    Out::new(io::stdout().lock(), Kind::Json)
}

/// Standard error.
#[must_use]
pub fn errors() -> Out<Stderr> {
    Out::new(io::stderr(), Kind::Text)
}

/// Standard error, for a log with colours.
#[must_use]
pub fn log() -> Out<Stderr> {
    Out::new(io::stderr(), Kind::Coloured)
}

/// Standard error, for a log of JSON.
#[must_use]
pub fn json_log() -> Out<Stderr> {
    Out::new(io::stderr(), Kind::Json)
}

/// Text for a file that is read on a terminal.
#[must_use]
pub fn safe(text: &str) -> String {
    escaped(text, Kind::Text)
}

/// JSON for a program that may print it on a terminal.
#[must_use]
pub fn safe_json(json: &[u8]) -> String {
    escaped(&readable(json), Kind::Json)
}

impl<W: Write> Out<W> {
    const fn new(to: W, kind: Kind) -> Self {
        Self {
            to,
            begun: Vec::new(),
            kind,
        }
    }

    /// Writes the first bytes of what was begun.
    fn write_first(&mut self, length: usize) -> io::Result<()> {
        let rest = self.begun.split_off(length);
        let lines = std::mem::replace(&mut self.begun, rest);
        self.to
            .write_all(escaped(&readable(&lines), self.kind).as_bytes())
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.extend(bytes);
        if let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') {
            self.write_first(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_first(self.begun.len())?;
        self.to.flush()
    }
}

impl<W: Write> Drop for Out<W> {
    fn drop(&mut self) {
        let _nowhere_to_complain = self.flush();
    }
}

fn escaped(text: &str, kind: Kind) -> String {
    // Nearly always there is nothing to escape.
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
    {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\n' | '\t' => out.push(c),
            _ if is_shown(c) => out.push(c),
            '\u{1b}' if kind == Kind::Coloured && begins_a_colour(text.get(at..)) => out.push(c),
            _ if kind == Kind::Json => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
            _ => out.extend(c.escape_default()),
        }
    }
    out
}

/// `ESC [ 1 ; 31 m`.
fn begins_a_colour(text: Option<&str>) -> bool {
    let parameters = text.and_then(|text| text.strip_prefix("\u{1b}["));
    let end = parameters.map(|of| of.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    end.is_some_and(|end| end.starts_with('m'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "a\u{1b}[2Jb\u{9b}31m\u{7f}\u{202e}\r";

    fn printed(kind: Kind, pieces: &[&[u8]]) -> String {
        let mut to = Vec::new();
        let mut out = Out::new(&mut to, kind);
        for piece in pieces {
            out.write_all(piece).unwrap();
        }
        drop(out);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn what_is_printed_moves_no_cursor() {
        let expected = "a\\u{1b}[2Jb\\u{9b}31m\\u{7f}\\u{202e}\\r";
        for kind in [Kind::Text, Kind::Coloured] {
            assert_eq!(printed(kind, &[FOREIGN.as_bytes()]), expected);
        }
        assert_eq!(safe(FOREIGN), expected);
    }

    #[test]
    fn json_stays_json_and_says_the_same() {
        let json = serde_json::to_vec(&[FOREIGN, "\u{fffff}"]).unwrap();
        let printed = printed(Kind::Json, &[&json]);
        assert!(printed.chars().all(is_shown), "{printed:?}");
        assert_eq!(safe_json(&json), printed);
        let read: [String; 2] = serde_json::from_str(&printed).unwrap();
        assert_eq!(read, [FOREIGN, "\u{fffff}"]);
    }

    #[test]
    fn own_colours_are_shown_where_there_are_any() {
        let text = "\u{1b}[1;31mNOT PROTECTED\u{1b}[0m";
        assert_eq!(printed(Kind::Coloured, &[text.as_bytes()]), text);
        assert!(!printed(Kind::Text, &[text.as_bytes()]).contains('\u{1b}'));
    }

    #[test]
    fn a_character_that_comes_in_two_pieces_is_one() {
        let [first, second] = [&"ä".as_bytes()[..1], &"ä\n".as_bytes()[1..]];
        assert_eq!(printed(Kind::Text, &[first, second]), "ä\n");
        assert_eq!(printed(Kind::Text, &[b"\xff\n"]), "\\xff\n");
    }
}
