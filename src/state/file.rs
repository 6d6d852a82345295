//! `state.json` and its previous copy: one JSON document with a schema version and a checksum,
//! replaced atomically.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::State;
use crate::config::FileText;

/// The version of the file's form. A program reads its own version and the one before.
pub(super) const SCHEMA: u32 = 2;

/// The most that is read: config.toml may have 1 MiB, and more as JSON.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The file.
pub(super) const CURRENT: &str = "state.json";
/// What it was before the last change.
pub(super) const PREVIOUS: &str = "state.json.previous";
/// Where one that cannot be used is kept for a person to look at.
pub(super) const ASIDE: &str = "state.json.aside";
/// The next one, while it is written. The writer holds the guard's lock, so one name is enough,
/// and a killed writer leaves no more than one file.
pub(super) const NEW: &str = "state.json.new";
/// The previous one, while it is put in its place.
const LINK: &str = "state.json.link";

/// All names that the guard gives to files of its state.
pub(super) const NAMES: [&str; 5] = [CURRENT, PREVIOUS, ASIDE, NEW, LINK];

/// Why the state was not written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", .path.display())]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Why a file was not used: a clause that follows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("is not there")]
    Absent,
    #[error("is of another version of ecs-netguard (schema {0}, this one reads {SCHEMA})")]
    OfAnother(u32),
    #[error("{0}")]
    Unreadable(String),
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// The document.
#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    /// Of the state as compact JSON, in this order of keys.
    crc32: u32,
    state: Value,
}

/// Reads one of the files.
pub(super) fn read(path: &Path) -> Result<State, Unusable> {
    let text = match FileText::read_at_most(path, MAX_BYTES) {
        FileText::Text(text) => text,
        FileText::Absent => return Err(Unusable::Absent),
        FileText::Unreadable(why) => return Err(Unusable::Unreadable(why)),
    };
    parse(&text)
}

pub(super) fn parse(text: &str) -> Result<State, Unusable> {
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let document: Document = serde_json::from_str(text).map_err(damaged)?;
    let content = serde_json::to_vec(&document.state).map_err(damaged)?;
    if checksum(document.schema, &content) != document.crc32 {
        return Err(Unusable::Damaged("its checksum does not fit".to_owned()));
    }
    let state = match document.schema {
        SCHEMA => document.state,
        1 => of_schema_1(document.state),
        other => return Err(Unusable::OfAnother(other)),
    };
    serde_json::from_value(state).map_err(damaged)
}

/// A state of schema 1, which remembered ecs.config alone, and that as `asked`.
fn of_schema_1(mut state: Value) -> Value {
    if let Some(fields) = state.as_object_mut() {
        let ecs = match fields.remove("asked") {
            None | Some(Value::Null) => json!("never"),
            Some(asked) => json!({ "known": asked }),
        };
        let inputs = json!({ "ecs": ecs, "settings": "never" });
        fields.insert("inputs".to_owned(), inputs);
    }
    state
}

pub(super) fn print(state: &State, schema: u32) -> serde_json::Result<Vec<u8>> {
    let state = serde_json::to_value(state)?;
    let crc32 = checksum(schema, &serde_json::to_vec(&state)?);
    let mut text = serde_json::to_vec_pretty(&Document {
        schema,
        crc32,
        state,
    })?;
    text.push(b'\n');
    Ok(text)
}

/// Replaces the file and waits until that is on the disk. At every instant the file is there whole:
/// the old one or the new one. The old one is then the previous one.
pub(super) fn write(dir: &Path, state: &State) -> Result<(), Error> {
    let (current, new) = (dir.join(CURRENT), dir.join(NEW));
    let error = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error {
            operation,
            path,
            source,
        }
    };
    let text = print(state, SCHEMA)
        .map_err(io::Error::other)
        .map_err(error("serialise", &current))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(error("create", dir))?;
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(error("write", &new))?;
    keep_previous(dir).map_err(error("keep a copy of", &current))?;
    fs::rename(&new, &current).map_err(error("replace", &current))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(error("sync", dir))
}

/// Gives the current file a second name, which stays when the first becomes the new file's.
fn keep_previous(dir: &Path) -> io::Result<()> {
    let link = dir.join(LINK);
    remove(&link)?;
    match fs::hard_link(dir.join(CURRENT), &link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        linked => linked?,
    }
    fs::rename(&link, dir.join(PREVIOUS))?;
    // Where both names were one file already, renaming did nothing (rename(2)).
    remove(&link)
}

/// Removes a file. Says nothing where there is none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn checksum(schema: u32, content: &[u8]) -> u32 {
    crc32(&[schema.to_le_bytes().as_slice(), content].concat())
}

/// CRC-32 as in ISO 3309 and zlib.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
