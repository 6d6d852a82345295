//! What the last recorded probe came to. A probe is another process, and the socket takes no orders: it
//! leaves its outcome in a file, at which the daemon looks whenever it has verified.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::events::{Event, Kind};
use crate::probe::record::Record;
use crate::state::PROBE;
use crate::verdict::Standing;

/// The file, and which outcome was seen there last.
#[derive(Debug)]
pub(super) struct Probes {
    state_dir: PathBuf,
    seen: Option<SystemTime>,
    /// A file that could not be read is reported once.
    unreadable: bool,
}

impl Probes {
    /// The probes whose outcome is left in this directory. `told` is the time of the last that was reported
    /// of by an event.
    pub(super) fn of(state_dir: &Path, told: Option<SystemTime>) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            seen: told,
            unreadable: false,
        }
    }

    /// Looks: the last outcome, and the event that tells of it where that is new.
    pub(super) fn look(&mut self) -> (Option<Record>, Option<Event>) {
        match Record::read(&self.state_dir) {
            Ok(record) => {
                self.unreadable = false;
                let new = record
                    .as_ref()
                    .filter(|record| self.seen != Some(record.time));
                let event = new.map(event);
                self.seen = record.as_ref().map(|record| record.time).or(self.seen);
                (record, event)
            }
            Err(error) => {
                let path = self.state_dir.join(PROBE);
                let message = format!(
                    "cannot read the outcome of the last probe, {}: {error}; `ecs-netguard probe --record` \
                     writes it again",
                    path.display()
                );
                let event = (!self.unreadable).then(|| Event::new(Kind::Warning, message));
                self.unreadable = true;
                (None, event)
            }
        }
    }
}

/// What a probe came to, as an event at the time when it ended.
fn event(record: &Record) -> Event {
    let verdict = &record.verdict;
    let kind = match verdict.verdict {
        Standing::Violated => Kind::ProbeViolated,
        Standing::Held | Standing::NotRequired | Standing::Undecided => Kind::Probed,
    };
    let mut message = format!("probe: {}", verdict.summary);
    for disagreement in &verdict.disagreements {
        message.push_str("; ");
        message.push_str(disagreement);
    }
    Event {
        time: record.time,
        held: verdict.verdict == Standing::Held,
        ..Event::new(kind, message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::guarantee::Guarantee;
    use crate::probe::verdict::Verdict;

    fn write(dir: &Path, second: u64, check: Standing) -> SystemTime {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let check = BTreeMap::from([(Guarantee::LoopbackShield, check)]);
        let verdict = Verdict::of(&[], &check);
        let record = Record::new(time, Duration::from_secs(1), verdict);
        record.write(dir).unwrap();
        time
    }

    #[test]
    fn each_outcome_is_reported_once_also_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut probes = Probes::of(dir.path(), None);
        assert_eq!(probes.look(), (None, None));
        let time = write(dir.path(), 7, Standing::Held);
        let (record, event) = probes.look();
        let event = event.unwrap();
        assert_eq!(
            (event.kind, event.time, event.held),
            (Kind::Probed, time, true)
        );
        assert_eq!(record.unwrap().time, time);
        assert_eq!(probes.look().1, None);
        let mut restarted = Probes::of(dir.path(), Some(time));
        let (record, event) = restarted.look();
        assert_eq!((record.is_some(), event), (true, None));
        write(dir.path(), 8, Standing::Violated);
        let event = restarted.look().1.unwrap();
        assert_eq!((event.kind, event.held), (Kind::ProbeViolated, false));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("probe.json"), "{").unwrap();
        let mut probes = Probes::of(dir.path(), None);
        let event = probes.look().1.unwrap();
        assert_eq!(event.kind, Kind::Warning);
        assert_eq!(probes.look().1, None);
        write(dir.path(), 8, Standing::Undecided);
        assert_eq!(probes.look().1.unwrap().kind, Kind::Probed);
    }
}
