//! What is reported of the seal.

use serde::Serialize;

use super::Target;
use crate::guarantee::{Guarantee, NativeRule};
use crate::ruleset::Family;
use crate::seal::{SealReading, SealState};

/// Packets that were stopped, by where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Whose drops.
    pub guarantee: Guarantee,
    /// The interface or pattern, as iptables writes it; `host tasks` for tasks on the host's network.
    pub interface: String,
    /// The family.
    pub family: Family,
    /// How many since the seal was made.
    pub packets: u64,
}

/// What there is to say of the seal at the end of a turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SealReport {
    /// Its state.
    pub state: SealState,
    /// Why it is no better, where there is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether nothing would stay of it if the daemon ended now.
    #[serde(skip)]
    pub twinless: bool,
    /// What it has stopped.
    pub stopped: Vec<Stopped>,
}

impl SealReport {
    /// What a reading and the target come to, with the `problem` that a change met.
    pub(super) fn new(reading: &SealReading, target: &Target, problem: Option<String>) -> Self {
        let state = match reading.state {
            _ if !target.sealed => SealState::Off,
            _ if target.wanted.native.is_empty() => SealState::NotNeeded,
            state => state,
        };
        Self {
            state,
            why: problem.or_else(|| reading.why.clone()),
            twinless: reading.twinless,
            stopped: stopped(&reading.stopped),
        }
    }
}

/// What stands in the place of an interface for tasks that have none of their own.
pub(crate) const HOST_TASKS: &str = "host tasks";

/// What the seal has stopped, by interface, family and guarantee.
#[must_use]
pub fn stopped(counted: &[(NativeRule, u64)]) -> Vec<Stopped> {
    let mut stopped: Vec<Stopped> = Vec::new();
    for (rule, packets) in counted {
        let interface = match (&rule.iif, &rule.cgroup) {
            (Some(interface), _) => interface.to_string(),
            (None, Some(_)) => HOST_TASKS.to_owned(),
            (None, None) => "+".to_owned(),
        };
        let same = stopped.iter_mut().find(|known| {
            known.interface == interface
                && known.family == rule.family
                && known.guarantee == rule.guarantee
        });
        match same {
            Some(known) => known.packets += packets,
            None => stopped.push(Stopped {
                guarantee: rule.guarantee,
                interface,
                family: rule.family,
                packets: *packets,
            }),
        }
    }
    stopped
}
