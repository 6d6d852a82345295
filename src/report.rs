//! What there is to say of a host: the one model that `check`, `apply`, the status socket, metrics and
//! the screen share. A pass over the host or over saved rulesets builds it once; the daemon adds what
//! only it knows. Pure.
//!
//! `docs/api.md` explains every field to writers of programs, `docs/status.schema.json` says the
//! same to machines, and a test holds real answers against it. Fields are added; none changes its
//! meaning without a new [`SCHEMA`].

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::{Event, rfc3339, rfc3339_maybe};
use crate::facts::PrivilegedContainer;
use crate::guarantee::Guarantee;
use crate::plan::Drift;
use crate::posture::{Decision, Posture};
use crate::ruleset::Family;
use crate::seal::SealState;
use crate::tasks::Task;
use crate::verdict::{Overall, Proof, Standing, problems};

/// The version of the answers.
pub const SCHEMA: u32 = 2;

/// How a host stands, and what a pass found and did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// The host's name; absent where a saved ruleset was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The kernel's release, as `uname -r` says it; absent where a saved ruleset was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// When this was answered.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// How the host stands as a whole.
    pub state: Overall,
    /// Why `imds-block` is not required, and what to write to require it; absent where it is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imds_open: Option<String>,
    /// Why nothing current is known, where that is so: no pass has ended yet, or the last is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// The guarantees; none before the first pass.
    pub guarantees: Vec<GuaranteeReport>,
    /// The tasks that run, and how they stand; empty where none is looked at.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Why there may be other tasks, or why nothing is known of them: a network namespace that cannot be
    /// looked into, or is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks_unknown: Vec<String>,
    /// The iptables programs in use.
    pub backends: Vec<Backend>,
    /// The sealed layer; absent where it is off or has no part in what is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealReport>,
    /// The edge; absent where it is off or nothing that is required needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeReport>,
    /// The bridges that no name or pattern in `[imds] interfaces` fits, where the edge does not hold:
    /// containers on them reach the service. Empty where the block is not required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<String>,
    /// The containers that can undo what stands on the host; empty where the block is not required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileged: Vec<PrivilegedContainer>,
    /// What differed from what is wanted when the last pass began.
    pub drifts: Vec<Drift>,
    /// What the last pass changed.
    pub changes: Vec<String>,
    /// What it could not change, and why.
    pub failures: Vec<Failure>,
    /// Lines of the inputs that mean something else than their writer is likely to think.
    pub traps: Vec<Trap>,
    /// Inputs that could not be read, and what holds instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_warnings: Vec<String>,
    /// What else an operator should know: tables that could not be read, limits of this kernel.
    pub warnings: Vec<String>,
    /// What the guard keeps in the kernel: `/v1/rules`.
    #[serde(skip)]
    pub rules: Vec<RuleReport>,
    /// The passes.
    pub verification: Verification,
    /// The last events of kind drift, not-repaired and fight, newest last; the daemon's alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_drifts: Vec<Event>,
    /// The number of the last event; 0 before the first, and without a daemon.
    pub last_event: u64,
    /// The daemon itself; absent where another command answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Daemon>,
}

impl Report {
    /// A report of these guarantees, with nothing else to say.
    #[must_use]
    pub fn new(time: SystemTime, guarantees: Vec<GuaranteeReport>) -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: None,
            kernel: None,
            time,
            state: Overall::of(guarantees.iter().map(|of| (of.name, of.standing))),
            imds_open: None,
            stale: None,
            guarantees,
            tasks: Vec::new(),
            tasks_unknown: Vec::new(),
            backends: Vec::new(),
            seal: None,
            edge: None,
            uncovered: Vec::new(),
            privileged: Vec::new(),
            drifts: Vec::new(),
            changes: Vec::new(),
            failures: Vec::new(),
            traps: Vec::new(),
            input_warnings: Vec::new(),
            warnings: Vec::new(),
            rules: Vec::new(),
            verification: Verification::default(),
            recent_drifts: Vec::new(),
            last_event: 0,
            daemon: None,
        }
    }

    /// How a guarantee stands.
    #[must_use]
    pub fn guarantee(&self, name: Guarantee) -> Option<&GuaranteeReport> {
        self.guarantees.iter().find(|report| report.name == name)
    }

    /// The word for a person that says how the host stands, and what it cannot say.
    #[must_use]
    pub fn headline(&self) -> String {
        let word = self.state.headline();
        match self.privileged.len() {
            0 => word.to_owned(),
            _ if self.state != Overall::Protected => word.to_owned(),
            1 => format!("{word}, except from 1 privileged container"),
            count => format!("{word}, except from {count} privileged containers"),
        }
    }

    /// One line on what keeps the host from being protected, if anything does.
    #[must_use]
    pub fn first_problem(&self) -> Option<String> {
        let guarantees = self.guarantees.iter();
        let mut problems = guarantees.filter_map(|of| Some((of.name, of.problems.first()?)));
        let (name, problem) = problems.next()?;
        Some(format!("{name}: {problem}"))
    }
}

/// How one guarantee stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuaranteeReport {
    /// Its name.
    pub name: Guarantee,
    /// Whether it holds: the verdict over all layers together.
    pub standing: Standing,
    /// Whether it is required on this host.
    pub required: bool,
    /// Why or why not: which input, which line.
    pub reason: String,
    /// Why it cannot be brought about, where another input says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
    /// Since when it has stood so, as far as this daemon knows.
    #[serde(
        default,
        with = "rfc3339_maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<SystemTime>,
    /// What keeps it from being held.
    pub problems: Vec<String>,
    /// How each layer stands by itself.
    pub layers: Layers,
    /// Its claims and their verdicts; for programs.
    #[serde(skip_deserializing)]
    pub claims: Vec<Proof>,
    /// The packets that its rules stopped; empty where nothing counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<PacketCount>,
}

impl GuaranteeReport {
    /// The guarantees in the order of the posture, each with those of the `proofs` that are its own.
    /// `sealed` says whether the seal keeps its part of one; `None` where it has no part in it.
    #[must_use]
    pub fn all(
        posture: &Posture,
        proofs: &[Proof],
        sealed: impl Fn(Guarantee) -> Option<bool>,
    ) -> Vec<Self> {
        let decisions = posture.decisions().iter();
        let report = |decision: &Decision| Self::of(decision, proofs, sealed(decision.guarantee));
        decisions.map(report).collect()
    }

    fn of(decision: &Decision, proofs: &[Proof], sealed: Option<bool>) -> Self {
        let own = |proof: &&Proof| decision.required && proof.guarantee == decision.guarantee;
        let claims: Vec<Proof> = proofs.iter().filter(own).cloned().collect();
        let word = |holds| {
            if holds {
                Standing::Held
            } else {
                Standing::Violated
            }
        };
        let standing = if decision.required {
            Standing::of(claims.iter().map(|proof| &proof.verdict))
        } else {
            Standing::NotRequired
        };
        let visible = match standing {
            Standing::NotRequired => Standing::NotRequired,
            _ if claims.iter().all(|proof| proof.visible) => Standing::Held,
            Standing::Undecided => Standing::Undecided,
            Standing::Held | Standing::Violated => Standing::Violated,
        };
        Self {
            name: decision.guarantee,
            standing,
            required: decision.required,
            reason: decision.reason.clone(),
            impossible: decision.impossible.clone(),
            since: None,
            problems: problems(&claims),
            layers: Layers {
                visible,
                sealed: sealed.filter(|_| decision.required).map(word),
            },
            claims,
            stopped: Vec::new(),
        }
    }
}

/// The layers of a guarantee, each by itself.
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
pub struct PacketCount {
    /// Of which family.
    pub family: Family,
    /// By rules for these interfaces, as iptables writes them: `docker+`.
    pub interface: String,
    /// By which layer.
    pub layer: Layer,
    /// How many.
    pub packets: u64,
}

/// One of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The iptables rules.
    Visible,
    /// The native table.
    Sealed,
    /// The native chains at the host's own interfaces.
    Edge,
}

impl Layer {
    /// The word of the API and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Sealed => "sealed",
            Self::Edge => "edge",
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
pub struct SealReport {
    /// What stands.
    pub state: SealState,
    /// Whether systemd keeps a copy of the socket that owns it (its file-descriptor store).
    pub stored: bool,
    /// What that means, in a sentence, and why it is no better where there is a reason.
    pub explanation: String,
}

/// The edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// What stands.
    pub state: SealState,
    /// Whether systemd keeps a copy of the socket that owns it.
    pub stored: bool,
    /// What that means, in a sentence, and why it is no better where there is a reason.
    pub explanation: String,
    /// The interfaces by which packets leave, at which it should stand.
    pub interfaces: Vec<String>,
    /// Those of them at which it does not stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<String>,
}

/// A step that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The family that it concerns.
    pub family: Family,
    /// The table, or `route_localnet`.
    pub object: String,
    /// Which step, why not, and what to do.
    pub message: String,
}

/// A line of an input that misleads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trap {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What it says and what to write instead.
    pub message: String,
}

/// Something that the guard keeps in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleReport {
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
    /// Whether it stood there at the end of the last pass; absent where that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_place: Option<bool>,
}

/// The passes since the daemon began, or the one of this command.
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
    /// How long the last full pass took.
    #[serde(rename = "duration_seconds")]
    pub duration: f64,
    /// How long of that it took until what was missing was in place and read again.
    #[serde(rename = "repaired_seconds")]
    pub repaired: f64,
    /// How often the daemon looks even where nothing seems to have changed; absent without a daemon.
    #[serde(
        default,
        rename = "interval_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub interval: Option<f64>,
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
    /// How many log messages were dropped, because their reader was stuck or gone.
    #[serde(default)]
    pub log_dropped: u64,
}

#[cfg(test)]
mod tests;
