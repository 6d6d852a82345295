//! The last events on disk, so that a restart of the daemon or of the host forgets none.
//!
//! One JSON document a line in `STATE_DIR/events.jsonl`. A line is appended without waiting for the
//! disk: the history is shown, never trusted, and must not slow anything. A line that cannot be read
//! is left out. The first line names the machine: an image that was baked from a running host does
//! not take its history along.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::open_regular;
use crate::events::Event;
use crate::state::{HISTORY, machine_id};

/// How many events are kept, in memory and on disk.
pub const RING: usize = 1000;

/// When the file has grown to this it is written again with the last [`RING`] events.
const MAX_BYTES: u64 = 1024 * 1024;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    /// The first line: whose events follow.
    Head {
        machine_id: String,
    },
    Event(Box<Event>),
}

/// The file that holds the last events.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    /// The number of the last event in it.
    pub(super) written: u64,
    /// Whether the last write failed: said once, not with every event.
    failed: bool,
}

impl History {
    /// Opens the history in `dir`, and reads what it holds, oldest first.
    #[must_use]
    pub fn open(dir: &Path) -> (Self, Vec<Event>) {
        let path = dir.join(HISTORY);
        let events = open_regular(&path).and_then(read).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("read {}: {error}; going on without it", path.display());
            }
            Some(Vec::new())
        });
        if events.is_none() {
            // Written on another machine: this one was made from its image.
            let _written_anew_all_the_same = std::fs::remove_file(&path);
        }
        let events = events.unwrap_or_default();
        let history = Self {
            path,
            file: None,
            bytes: 0,
            written: events.last().map_or(0, |event| event.seq),
            failed: false,
        };
        (history, events)
    }

    /// What the history in `dir` holds, oldest first; changes nothing.
    pub fn peek(dir: &Path) -> io::Result<Vec<Event>> {
        Ok(open_regular(&dir.join(HISTORY))
            .and_then(read)?
            .unwrap_or_default())
    }

    /// Adds events, oldest first; `all` are the events to keep where the file has to be written again. What
    /// cannot be written is to be added again.
    pub fn add(&mut self, events: &[Arc<Event>], all: impl FnOnce() -> Vec<Arc<Event>>) {
        let result = self.write(events, all);
        if let Err(error) = &result
            && !self.failed
        {
            tracing::warn!(
                "write {}: {error}; events are kept in memory only: make the directory writable",
                self.path.display()
            );
        }
        self.failed = result.is_err();
    }

    fn write(
        &mut self,
        events: &[Arc<Event>],
        all: impl FnOnce() -> Vec<Arc<Event>>,
    ) -> io::Result<()> {
        for event in events {
            if self.bytes >= MAX_BYTES {
                let all = all();
                self.rewrite(&all)?;
                self.written = all.last().map_or(self.written, |last| last.seq);
                return Ok(());
            }
            self.append(event)?;
            self.written = event.seq;
        }
        Ok(())
    }

    fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.file.is_none() {
            let mut file = open(&self.path)?;
            // A line that was cut off by a crash must not swallow the next one.
            if !ends_a_line(&mut file)? {
                line.insert(0, b'\n');
            }
            self.bytes = file.metadata()?.len();
            if self.bytes == 0 {
                line.splice(0..0, head()?);
            }
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&line).inspect_err(|_| self.file = None)?;
            self.bytes += line.len() as u64;
        }
        Ok(())
    }

    fn rewrite(&mut self, events: &[Arc<Event>]) -> io::Result<()> {
        let mut text = head()?;
        for event in events {
            serde_json::to_writer(&mut text, event.as_ref())?;
            text.push(b'\n');
        }
        self.file = None;
        self.bytes = 0;
        super::files::replace(&self.path, &text, 0o600)
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(path)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The last events of the file; none at all (`None`) where it is another machine's.
fn read(file: File) -> io::Result<Option<Vec<Event>>> {
    let mut lines = BufReader::new(file.take(MAX_BYTES * 2));
    let mut line = Vec::new();
    let mut events = BTreeMap::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        match serde_json::from_slice(&line) {
            Ok(Line::Event(event)) => drop(events.insert(event.seq, *event)),
            Ok(Line::Head { machine_id: id }) if id != machine_id() => return Ok(None),
            // Damage, or nothing but a new beginning.
            Ok(Line::Head { .. }) | Err(_) => {}
        }
        if events.len() > RING {
            events.pop_first();
        }
        line.clear();
    }
    Ok(Some(events.into_values().collect()))
}

fn head() -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line::Head {
        machine_id: machine_id(),
    })?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::events::Kind;

    fn event(seq: u64) -> Event {
        Event {
            seq,
            ..Event::new(Kind::Started, format!("number {seq}"))
        }
    }

    fn written(dir: &Path, seqs: std::ops::RangeInclusive<u64>) {
        let (mut history, _) = History::open(dir);
        for seq in seqs {
            history.add(&[Arc::new(event(seq))], || unreachable!("it is small"));
        }
    }

    fn seqs(dir: &Path) -> Vec<u64> {
        History::open(dir).1.iter().map(|e| e.seq).collect()
    }

    #[test]
    fn what_was_written_is_read_again_but_for_damage() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/when/missing");
        written(&dir, 1..=2);
        let path = dir.join("events.jsonl");
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"\0\xff{\n{\"seq\":9}\n{\"seq\": 3, \"ti");
        std::fs::write(&path, text).unwrap();
        written(&dir, 4..=4);
        assert_eq!(seqs(&dir), [1, 2, 4]);
        let time = History::open(&dir).1[0].time;
        assert!(time <= SystemTime::now());
    }

    #[test]
    fn only_the_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 1..=RING as u64 + 5);
        let seqs = seqs(dir.path());
        assert_eq!((seqs.len(), seqs[0]), (RING, 6));
    }

    #[test]
    fn a_file_that_has_grown_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let (mut history, _) = History::open(dir.path());
        let long = |seq| Event {
            message: "x".repeat(MAX_BYTES as usize),
            ..event(seq)
        };
        history.add(&[Arc::new(long(1))], || unreachable!("it is small"));
        history.add(&[Arc::new(event(2))], || vec![Arc::new(event(2))]);
        history.add(&[Arc::new(event(3))], || unreachable!("it is small again"));
        assert_eq!(seqs(dir.path()), [2, 3]);
    }

    #[test]
    fn the_history_of_another_machine_is_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut text = b"{\"machine_id\":\"another\"}\n".to_vec();
        serde_json::to_writer(&mut text, &event(7)).unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(seqs(dir.path()), [0; 0]);
        written(dir.path(), 1..=1);
        assert_eq!(seqs(dir.path()), [1]);
    }
}
