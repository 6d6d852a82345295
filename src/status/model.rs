//! What the status socket answers, as values: the daemon writes them, its client reads them.
//!
//! `docs/api.md` explains every field to those who write programs, `docs/status.schema.json` says the
//! same to machines, and a test holds real answers against it. Fields are added; none changes its
//! meaning without a new [`SCHEMA`].

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::{Event, rfc3339, rfc3339_maybe};
use crate::guarantee::Guarantee;
use crate::posture::Decision;
use crate::reconcile::Standing;
use crate::ruleset::Family;
use crate::seal::SealState;
use crate::tasks::Task;

/// The version of the answers.
pub const SCHEMA: u32 = 1;

/// How the host stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Every required guarantee is held.
    Protected,
    /// A required guarantee is violated.
    NotProtected,
    /// Nothing is required on this host.
    NotRequired,
    /// Whether all that is required is held is not known, or not any more.
    Undecided,
}

impl Overall {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Protected,
        Self::NotProtected,
        Self::NotRequired,
        Self::Undecided,
    ];

    /// The word of the API and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::NotProtected => "not-protected",
            Self::NotRequired => "not-required",
            Self::Undecided => "undecided",
        }
    }

    /// The word for a person: `NOT PROTECTED`.
    #[must_use]
    pub const fn headline(self) -> &'static str {
        match self {
            Self::Protected => "PROTECTED",
            Self::NotProtected => "NOT PROTECTED",
            Self::NotRequired => "NOT REQUIRED",
            Self::Undecided => "UNDECIDED",
        }
    }

    /// What the standings of the guarantees come to. Of no guarantees at all nothing is known.
    #[must_use]
    pub fn of(standings: impl IntoIterator<Item = Standing>) -> Self {
        let standings: Vec<Standing> = standings.into_iter().collect();
        let any = |standing| standings.contains(&standing);
        if any(Standing::Violated) {
            Self::NotProtected
        } else if any(Standing::Undecided) || standings.is_empty() {
            Self::Undecided
        } else if any(Standing::Held) {
            Self::Protected
        } else {
            Self::NotRequired
        }
    }
}

/// `/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The daemon's version.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// When this was answered.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// How the host stands as a whole.
    pub state: Overall,
    /// Why nothing current is known, where that is so: no turn has ended yet, or the last is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// The guarantees; none before the first turn.
    pub guarantees: Vec<GuaranteeStatus>,
    /// The tasks that run, and how they stand; empty where none is looked at.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// The iptables programs in use.
    pub backends: Vec<Backend>,
    /// The sealed layer; absent where this daemon has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The last changes of what the guard keeps, and fights over it, newest last.
    pub drifts: Vec<Event>,
    /// Lines of the inputs that mean something else than their writer is likely to think.
    pub traps: Vec<Trap>,
    /// What an operator should know besides: inputs and tables that could not be read, steps that
    /// failed.
    pub warnings: Vec<String>,
    /// The verifications since the daemon began.
    pub verification: Verification,
    /// The daemon itself.
    pub daemon: Daemon,
    /// The number of the last event; 0 before the first.
    pub last_event: u64,
}

/// `/v1/guarantees`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guarantees {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How the host stands as a whole.
    pub state: Overall,
    /// One a guarantee.
    pub guarantees: Vec<GuaranteeStatus>,
}

/// How one guarantee stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuaranteeStatus {
    /// Its name.
    pub name: Guarantee,
    /// Whether it holds: the verdict of the last proof over all layers together.
    pub standing: Standing,
    /// Whether it is required on this host.
    pub required: bool,
    /// Why or why not: which input, which line.
    pub reason: String,
    /// Since when it has stood so, as far as this daemon knows.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
    /// What keeps it from being held.
    pub problems: Vec<String>,
    /// How each layer stands by itself.
    pub layers: Layers,
    /// The packets that its rules stopped since the daemon began; empty where nobody counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<Stopped>,
}

/// The two layers of a guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// The iptables rules where people look for them.
    pub visible: Standing,
    /// The native table; absent where the guarantee has no part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Standing>,
}

/// How many packets were stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Of which family.
    pub family: Family,
    /// By rules for these interfaces, as iptables writes them: `docker+`.
    pub interface: String,
    /// By which layer.
    pub layer: Layer,
    /// How many.
    pub packets: u64,
}

/// One of the two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The iptables rules.
    Visible,
    /// The native table.
    Sealed,
}

impl Layer {
    /// The word of the API and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Sealed => "sealed",
        }
    }
}

/// An iptables program in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// For which family.
    pub family: Family,
    /// `iptables-nft` or `iptables-legacy`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its absolute path.
    pub path: String,
}

/// The sealed layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Its state.
    pub state: SealState,
    /// Whether systemd keeps a copy of the socket (its file-descriptor store).
    pub stored: bool,
    /// What that means, in a sentence.
    pub explanation: String,
}

/// A line of an input that misleads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What it says and what to write instead.
    pub message: String,
}

/// The verifications since the daemon began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// How many there were.
    pub count: u64,
    /// When the last one ended; absent before the first.
    #[serde(
        default,
        with = "rfc3339_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub last: Option<SystemTime>,
    /// How long that took.
    #[serde(rename = "duration_seconds")]
    pub duration: f64,
    /// How often the guard looks even where nothing seems to have changed.
    #[serde(rename = "interval_seconds")]
    pub interval: f64,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its process id.
    pub pid: u32,
    /// When it began.
    #[serde(with = "rfc3339")]
    pub started: SystemTime,
    /// For how long it has run.
    pub uptime_seconds: f64,
    /// Its resident memory; absent where /proc does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The processor time that it used; absent where /proc does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
}

/// `/v1/posture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Posture {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is required and why; none before the first turn.
    pub decisions: Vec<Decision>,
    /// Lines of the inputs that mislead.
    pub traps: Vec<Trap>,
    /// Inputs that could not be read, and what holds instead.
    pub warnings: Vec<String>,
}

/// `/v1/rules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the guard keeps in the kernel.
    pub rules: Vec<Rule>,
}

/// Something that the guard keeps in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// For which guarantee.
    pub guarantee: Guarantee,
    /// In which layer.
    pub layer: Layer,
    /// Of which family.
    pub family: Family,
    /// Where it stands: `filter FORWARD`, `net.ipv4.conf.all.route_localnet`.
    pub place: String,
    /// The rule in iptables' words, or the sysctl's value.
    pub rule: String,
    /// Whether it stood there at the end of the last turn; absent where that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<bool>,
}
