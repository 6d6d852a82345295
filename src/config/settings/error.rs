//! What can be wrong with config.toml.

use std::path::PathBuf;

use thiserror::Error;

/// Why config.toml cannot be used. Each message is complete: the file, what is wrong, what to do.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The file is there and cannot be read.
    #[error("{} {reason}; correct that; a file with nothing but a comment stands for the defaults", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, as a clause.
        reason: String,
    },
    /// It is not TOML.
    #[error("{}:{line}: this is not TOML: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// There is no such key.
    #[error("{}:{line}: unknown key {key}; {advice}", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key with its table, such as `imds.blok`.
        key: String,
        /// The nearest known key, or all there are.
        advice: String,
    },
    /// A value is of the wrong type, or one that makes no sense.
    #[error("{}:{line}: {key} {problem}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key with its table.
        key: String,
        /// What is wrong and what is expected, as a clause that follows the key.
        problem: String,
    },
}

impl SettingsError {
    /// The line, counted from 1; 0 where the file as a whole is meant.
    #[must_use]
    pub const fn line(&self) -> usize {
        match self {
            Self::Unreadable { .. } => 0,
            Self::Syntax { line, .. }
            | Self::UnknownKey { line, .. }
            | Self::Value { line, .. } => *line,
        }
    }

    /// The key with its table, where it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Unreadable { .. } | Self::Syntax { .. } => None,
            Self::UnknownKey { key, .. } | Self::Value { key, .. } => Some(key),
        }
    }
}
