//! Places where a config file does not say what its writer thinks it says.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::sanitize::{readable_path, sanitize};

/// What sort of misunderstanding it is, for programs that read the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TrapKind {
    /// A quoted boolean: the agent does not strip quotes.
    QuotedBoolean,
    /// A value that is none of Go's boolean spellings.
    NotABoolean,
    /// `KEY=true # note`: the note is part of the value.
    InlineComment,
    /// `KEY=` switches off what ecs-init would have switched on.
    EmptyValue,
    /// An unknown name close to a known one.
    Misspelt,
    /// A known name in small letters.
    LowercaseKey,
    /// `#KEY=…`: not set.
    CommentedKey,
    /// `export KEY=…`: sets a variable named "export KEY".
    ExportPrefix,
    /// `KEY =…`: sets a variable named "KEY " for the agent.
    BlankBeforeEquals,
    /// `"KEY=…"`: the quote is part of the name.
    QuotedName,
    /// `=…`: no name at all, with which the agent does not start.
    NoName,
    /// A known name without `=` (`KEY: true`, `KEY true`): the line is skipped.
    NoEquals,
    /// A second assignment inside the value of the first (two on one line, a literal `\n`).
    BuriedKey,
    /// The same name twice, with different values; the last wins.
    DuplicateKey,
    /// A variable that no code reads any more.
    DeadVariable,
    /// A byte order mark, which becomes part of the first name.
    ByteOrderMark,
    /// Bytes that are no UTF-8; because of them systemd ignores the whole file.
    NotUtf8,
    /// A line that systemd does not see, because a quote or a backslash above it is still open.
    SwallowedLine,
    /// The agent and ecs-init read the same line differently.
    ReadersDisagree,
    /// Set in a file that the program that needs it does not read.
    NotReadThere,
    /// ecs.config overrides what ecs.config.json says.
    JsonShadowed,
    /// ecs.config.json overrides what ecs.config says.
    JsonWins,
    /// ecs.config.json cannot be read by the agent, which then does not start.
    JsonInvalid,
    /// The agent reads its JSON from another file than ecs.config.json, or from one that is not seen here.
    JsonElsewhere,
}

/// One such place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trap {
    /// Its sort.
    pub kind: TrapKind,
    /// The file.
    #[serde(serialize_with = "readable_path")]
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The variable it is about (for a misspelt name: the one that was meant); empty where it is about the file.
    pub variable: String,
    /// For a person: what is there, what the ECS software makes of it, what to write instead. Foreign text in it
    /// is escaped and bounded.
    pub message: String,
}

impl Trap {
    pub(crate) fn new(
        kind: TrapKind,
        path: &Path,
        line: usize,
        variable: &str,
        message: String,
    ) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            line,
            variable: sanitize(variable),
            message,
        }
    }
}
