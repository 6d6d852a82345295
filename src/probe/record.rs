//! The outcome of a probe: as it is printed, and as it is left for the daemon.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::model::Tried;
use super::verdict::Verdict;
use crate::config::FileText;
use crate::events::rfc3339;
use crate::state::PROBE;

/// The version of its form.
const SCHEMA: u32 = 1;

/// What a probe came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of its form.
    pub schema: u32,
    /// When it ended.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// How long it took.
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    pub elapsed: Duration,
    /// What it came to.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The same with all that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What it came to.
    #[serde(flatten)]
    pub record: Record,
    /// What was tried, from where.
    pub places: Vec<Tried>,
}

impl Record {
    /// The outcome at a time.
    #[must_use]
    pub const fn new(time: SystemTime, elapsed: Duration, verdict: Verdict) -> Self {
        Self {
            schema: SCHEMA,
            time,
            elapsed,
            verdict,
        }
    }

    /// Writes it for the daemon, in place of the one before.
    pub fn write(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = state_dir.join(PROBE);
        let write = || {
            fs::create_dir_all(state_dir)?;
            let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok::<_, io::Error>(())
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Reads the last one; `None` where there is none.
    pub fn read(state_dir: &Path) -> io::Result<Option<Self>> {
        let path = state_dir.join(PROBE);
        let text = match FileText::read(&path) {
            FileText::Absent => return Ok(None),
            FileText::Unreadable(problem) => return Err(io::Error::other(problem)),
            FileText::Text(text) => text,
        };
        let record: Self = serde_json::from_str(&text)?;
        if record.schema == SCHEMA {
            Ok(Some(record))
        } else {
            Err(io::Error::other(format!(
                "of schema {}, known is {SCHEMA}",
                record.schema
            )))
        }
    }
}

/// Durations as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(of: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(of.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let verdict = Verdict::of(&[], &BTreeMap::new());
        let record = Record::new(time, Duration::from_millis(1500), verdict);
        record.write(dir.path()).unwrap();
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"schema": 1}"#] {
            fs::write(dir.path().join(PROBE), text).unwrap();
            assert!(Record::read(dir.path()).is_err(), "{text}");
        }
        fs::write(dir.path().join(PROBE), vec![b' '; 2 << 20]).unwrap();
        let error = Record::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("at most 1 MiB"), "{error}");
    }
}
