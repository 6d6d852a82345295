//! The two readers of ecs.config.
//!
//! ecs-init copies the file line by line into the agent's environment, without any shell syntax ([`agent`]).
//! ecs-init itself sees the file through `EnvironmentFile=` of its systemd unit, which does know quotes,
//! comments and continuation lines ([`systemd`]). The same line can therefore mean two things.

/// One `KEY=value` as a reader understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) value: String,
    /// The line on which the key begins, counted from 1 by line feeds, as editors do.
    pub(crate) line: usize,
}

/// The file as the agent gets it (ecs-init/docker/docker.go, `getEnvVars`): each line trimmed of Unicode
/// blanks and cut at its first `=`. No quotes, comments, `export` or continuation; the caller lets the last win.
pub(crate) fn agent(text: &str) -> Vec<Assignment> {
    // ecs-init trims the whole file first; the lines this removes are blank and would be skipped anyhow.
    text.split('\n')
        .zip(1..)
        .filter_map(|(line, number)| {
            let (key, value) = line.trim().split_once('=')?;
            Some(Assignment {
                key: key.to_owned(),
                value: value.to_owned(),
                line: number,
            })
        })
        .collect()
}

/// The last assignment to `key`: in both readers the last one wins.
pub(crate) fn last<'a>(all: &'a [Assignment], key: &str) -> Option<&'a Assignment> {
    all.iter().rev().find(|a| a.key == key)
}

#[derive(Clone, Copy)]
enum State {
    PreKey,
    Key,
    PreValue,
    Value,
    ValueEscape,
    SingleQuote,
    DoubleQuote,
    DoubleQuoteEscape,
    Comment,
    CommentEscape,
}

/// The file as systemd's `EnvironmentFile=` reads it (systemd.exec(5); the states are those of its env-file.c).
///
/// Where versions differ this follows 252 and older (Amazon Linux 2 and 2023): a backslash at the end of a
/// comment continues the comment, which swallows the next line. Newer versions don't; to read less is the safe
/// side, because what is read this way only ever loosens a guarantee.
pub(crate) fn systemd(text: &str) -> Vec<Assignment> {
    let mut reader = Systemd::default();
    for c in text.chars() {
        reader.step(c);
        if c == '\n' {
            reader.line += 1;
        }
    }
    // A file that ends inside a value still assigns it, an open quote included; one that ends in a key doesn't.
    if !matches!(
        reader.state,
        State::PreKey | State::Key | State::Comment | State::CommentEscape
    ) {
        reader.push();
    }
    reader.out
}

struct Systemd {
    state: State,
    key: String,
    value: String,
    /// Length of the value without the unquoted blanks at its end.
    kept: usize,
    line: usize,
    key_line: usize,
    out: Vec<Assignment>,
}

impl Default for Systemd {
    fn default() -> Self {
        Self {
            state: State::PreKey,
            key: String::new(),
            value: String::new(),
            kept: 0,
            line: 1,
            key_line: 1,
            out: Vec::new(),
        }
    }
}

impl Systemd {
    fn step(&mut self, c: char) {
        match self.state {
            State::PreKey => {
                if matches!(c, '#' | ';') {
                    self.state = State::Comment;
                } else if !blank(c) {
                    self.key = String::from(c);
                    self.key_line = self.line;
                    self.state = State::Key;
                }
            }
            State::Key => {
                if newline(c) {
                    self.state = State::PreKey;
                } else if c == '=' {
                    self.state = State::PreValue;
                } else {
                    self.key.push(c);
                }
            }
            State::PreValue => match c {
                _ if newline(c) => self.push(),
                '\'' => self.state = State::SingleQuote,
                '"' => self.state = State::DoubleQuote,
                '\\' => self.state = State::ValueEscape,
                _ if blank(c) => {}
                _ => {
                    self.keep(c);
                    self.state = State::Value;
                }
            },
            State::Value => {
                if newline(c) {
                    self.push();
                } else if c == '\\' {
                    // Blanks before a backslash are part of the value.
                    self.kept = self.value.len();
                    self.state = State::ValueEscape;
                } else if blank(c) {
                    self.value.push(c);
                } else {
                    self.keep(c);
                }
            }
            State::ValueEscape => {
                if !newline(c) {
                    self.keep(c);
                }
                self.state = State::Value;
            }
            // After a closing quote more may follow: "tr"'ue' and "tr"ue are both true.
            State::SingleQuote => match c {
                '\'' => self.state = State::PreValue,
                _ => self.keep(c),
            },
            State::DoubleQuote => match c {
                '"' => self.state = State::PreValue,
                '\\' => self.state = State::DoubleQuoteEscape,
                _ => self.keep(c),
            },
            State::DoubleQuoteEscape => {
                match c {
                    '"' | '\\' | '`' | '$' => self.keep(c),
                    '\n' => {}
                    _ => {
                        self.keep('\\');
                        self.keep(c);
                    }
                }
                self.state = State::DoubleQuote;
            }
            State::Comment => {
                if c == '\\' {
                    self.state = State::CommentEscape;
                } else if newline(c) {
                    self.state = State::PreKey;
                }
            }
            State::CommentEscape => self.state = State::Comment,
        }
    }

    fn keep(&mut self, c: char) {
        self.value.push(c);
        self.kept = self.value.len();
    }

    fn push(&mut self) {
        if matches!(self.state, State::Value) {
            self.value.truncate(self.kept);
        }
        let mut key = std::mem::take(&mut self.key);
        key.truncate(key.trim_end_matches(blank).len());
        self.out.push(Assignment {
            key,
            value: std::mem::take(&mut self.value),
            line: self.key_line,
        });
        self.kept = 0;
        self.state = State::PreKey;
    }
}

fn newline(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// systemd's blanks are these four, unlike Go's, which are Unicode's.
fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
#[path = "tests/envfile.rs"]
mod tests;
