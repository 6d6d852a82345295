//! What happened, as it goes to the journal, to the status socket and to programs: values only.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::{sanitize, sanitize_line};
use crate::guarantee::Guarantee;

/// How many rules an event names; more than the guard ever keeps.
const MAX_OBJECTS: usize = 100;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one with every event, also across restarts of the daemon.
    pub seq: u64,
    /// When it was noticed.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The guarantee that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<Guarantee>,
    /// A sentence for a person.
    pub message: String,
    /// The rules, sysctls or files concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// The program that did it; absent where that cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// How long it took from noticing a change until it was repaired.
    #[serde(
        default,
        rename = "repair_seconds",
        with = "seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub repair: Option<Duration>,
    /// Whether the seal kept packets out all the while; absent where that is not what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Whether the guarantee was proved to hold meanwhile, so that this is no alarm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl Event {
    /// An event about no guarantee. The hub gives it its number, and the time where it has none.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            seq: 0,
            time: SystemTime::UNIX_EPOCH,
            kind,
            guarantee: None,
            message: message.into(),
            objects: Vec::new(),
            by: None,
            repair: None,
            sealed: None,
            held: false,
        }
    }

    /// The same event, about a guarantee.
    #[must_use]
    pub fn about(self, guarantee: Guarantee) -> Self {
        Self {
            guarantee: Some(guarantee),
            ..self
        }
    }

    /// The same event with all text made safe to print, and bounded.
    #[must_use]
    pub fn sanitize(mut self) -> Self {
        self.message = sanitize_line(&self.message);
        self.objects.truncate(MAX_OBJECTS);
        for object in &mut self.objects {
            *object = sanitize_line(object);
        }
        if let Some(by) = &mut self.by {
            by.comm = sanitize(&by.comm);
            let others = [&mut by.exe, &mut by.user, &mut by.parent, &mut by.unit];
            for text in others.into_iter().flatten() {
                *text = sanitize(text);
            }
        }
        self
    }

    /// The sentence with the program, where that is known: what the journal and `events` show.
    #[must_use]
    pub fn sentence(&self) -> String {
        match &self.by {
            Some(by) => format!("{}; by {by}", self.message),
            None => self.message.clone(),
        }
    }
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The daemon began.
    Started,
    /// The daemon ended in order; the rules stay.
    Stopped,
    /// What is required changed, or is known for the first time.
    Posture,
    /// The configuration was read again; what changed in it.
    Reloaded,
    /// Rules were installed or removed because something else is required than before.
    Installed,
    /// Another program changed what the guard keeps, and it was repaired.
    Drift,
    /// Another program changed what the guard keeps, and it could not be repaired.
    NotRepaired,
    /// Two programs undo each other's work; the guard holds back on the visible layer.
    Fight,
    /// A guarantee is held again.
    Held,
    /// A guarantee is not held.
    Violated,
    /// Whether a guarantee holds could not be found out.
    Undecided,
    /// A line of an input means something else than its writer is likely to think.
    Trap,
    /// A probe was made; no packet of it got where it must not.
    Probed,
    /// A probe was made, and a packet got where it must not, or did not get where it must.
    ProbeViolated,
    /// Anything else that an operator should know.
    Warning,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Started,
        Self::Stopped,
        Self::Posture,
        Self::Reloaded,
        Self::Installed,
        Self::Drift,
        Self::NotRepaired,
        Self::Fight,
        Self::Held,
        Self::Violated,
        Self::Undecided,
        Self::Trap,
        Self::Probed,
        Self::ProbeViolated,
        Self::Warning,
    ];

    /// The word of the API, of metrics and of the journal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Posture => "posture",
            Self::Reloaded => "reloaded",
            Self::Installed => "installed",
            Self::Drift => "drift",
            Self::NotRepaired => "not-repaired",
            Self::Fight => "fight",
            Self::Held => "held",
            Self::Violated => "violated",
            Self::Undecided => "undecided",
            Self::Trap => "trap",
            Self::Probed => "probed",
            Self::ProbeViolated => "probe-violated",
            Self::Warning => "warning",
        }
    }
}

/// The program that made a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Its process id, as the kernel reports it.
    pub pid: u32,
    /// Its name (`comm`, at most 15 bytes), as the kernel reports it.
    pub comm: String,
    /// Its executable; absent where that needs a privilege that the daemon does not have, or where it
    /// was gone before it could be asked, like all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The user that it ran as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The program that started it: `dockerd (pid 812)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it started.
    #[serde(
        default,
        with = "rfc3339_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub started: Option<SystemTime>,
    /// The systemd unit that it belongs to: `docker.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether nothing more can be known of it: the daemon runs in a PID namespace, and the kernel
    /// numbers processes as they are outside of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

impl By {
    /// The name alone of the program that started it, not of those that started that one.
    #[must_use]
    pub fn parent_comm(&self) -> Option<&str> {
        let (name, _pid) = self.parent.as_deref()?.split_once(" (pid ")?;
        Some(name)
    }
}

impl std::fmt::Display for By {
    /// `iptables (pid 4711, started by dockerd (pid 812), docker.service)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}", sanitize(&self.comm), self.pid)?;
        if let Some(parent) = &self.parent {
            write!(f, ", started by {}", sanitize(parent))?;
        }
        if let Some(unit) = &self.unit {
            write!(f, ", {}", sanitize(unit))?;
        }
        if self.hidden {
            write!(f, ", not visible from this PID namespace")?;
        } else if self.started.is_none() {
            write!(f, ", gone")?;
        }
        write!(f, ")")
    }
}

/// Times as RFC 3339 in UTC, to the microsecond.
pub(crate) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::timestamp;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&timestamp::micros(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

pub(crate) mod rfc3339_maybe {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::rfc3339;

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => rfc3339::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        #[derive(Deserialize)]
        struct Time(#[serde(with = "super::rfc3339")] SystemTime);
        Ok(Option::<Time>::deserialize(from)?.map(|Time(time)| time))
    }
}

/// Durations as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration
            .map(|duration| duration.as_secs_f64())
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_json() {
        let event = Event {
            seq: 7,
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            kind: Kind::NotRepaired,
            guarantee: Some(Guarantee::ImdsBlock),
            message: "gone".into(),
            objects: vec!["IPv4 filter FORWARD".into()],
            by: Some(By {
                pid: 1,
                comm: "nft".into(),
                started: Some(SystemTime::UNIX_EPOCH),
                ..By::default()
            }),
            repair: Some(Duration::from_micros(81)),
            sealed: Some(true),
            held: false,
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["kind"], "not-repaired");
        assert_eq!(value["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(value["repair_seconds"], 0.000_081);
    }

    #[test]
    fn an_event_of_any_time_is_written() {
        let century = Duration::from_secs(36_525 * 86_400);
        for time in [
            SystemTime::UNIX_EPOCH - century,
            SystemTime::UNIX_EPOCH + century * 100,
        ] {
            let event = Event {
                time,
                ..Event::new(Kind::Started, "")
            };
            let json = serde_json::to_string(&event).unwrap();
            assert!(serde_json::from_str::<Event>(&json).is_ok(), "{json}");
        }
    }

    #[test]
    fn foreign_text_is_made_safe() {
        let event = Event {
            objects: vec!["a\u{1b}[2J".into(); 500],
            by: Some(By {
                unit: Some("x\r".into()),
                ..By::default()
            }),
            ..Event::new(Kind::Drift, "x\ny".repeat(10_000))
        };
        let event = event.sanitize();
        assert!(event.message.starts_with("x\\nyx"), "{}", event.message);
        assert!(event.message.len() < 5_000);
        assert_eq!(event.objects, vec!["a\\u{1b}[2J"; MAX_OBJECTS]);
        assert_eq!(event.by.unwrap().unit.unwrap(), "x\\r");
    }

    #[test]
    fn a_program_in_words() {
        let mut by = By {
            pid: 4711,
            comm: "ipt\nables".into(),
            ..By::default()
        };
        assert_eq!(by.to_string(), "ipt\\nables (pid 4711, gone)");
        by.hidden = true;
        assert_eq!(
            by.to_string(),
            "ipt\\nables (pid 4711, not visible from this PID namespace)"
        );
        by.hidden = false;
        by.started = Some(SystemTime::UNIX_EPOCH);
        by.parent = Some("dockerd (pid 812)".into());
        by.unit = Some("docker.service".into());
        assert_eq!(
            by.to_string(),
            "ipt\\nables (pid 4711, started by dockerd (pid 812), docker.service)"
        );
        assert_eq!(by.parent_comm(), Some("dockerd"));
        let sentence = format!("put back; by {by}");
        let mut event = Event::new(Kind::Drift, "put back");
        assert_eq!(event.sentence(), "put back");
        event.by = Some(by);
        assert_eq!(event.sentence(), sentence);
    }
}
