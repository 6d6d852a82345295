//! What is reported of the seal.

use std::collections::BTreeMap;

use crate::desired::Desired;
use crate::guarantee::{Guarantee, NativeRule};
use crate::report::{Layer, PacketCount, SealReport};
use crate::seal::{SealReading, SealState};

/// How the seal stands at the end of a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SealLook {
    pub(super) state: SealState,
    /// Why it is no better, where there is a reason.
    why: Option<String>,
    /// Whether nothing would remain of it if the daemon ended now.
    pub(super) twinless: bool,
}

impl SealLook {
    /// What a reading comes to, with the `problem` that a change met.
    pub(super) fn new(reading: &SealReading, desired: &Desired, problem: Option<String>) -> Self {
        let state = match reading.state {
            _ if !desired.sealed => SealState::Off,
            _ if desired.rules.native.is_empty() => SealState::NotNeeded,
            state => state,
        };
        Self {
            state,
            why: problem.or_else(|| reading.why.clone()),
            twinless: reading.twinless,
        }
    }

    /// What the report says of it; nothing where it is off or has no part in what is required.
    pub(super) fn report(&self) -> Option<SealReport> {
        let there = !matches!(self.state, SealState::Off | SealState::NotNeeded);
        there.then(|| SealReport {
            state: self.state,
            stored: false,
            explanation: match &self.why {
                Some(why) => format!("{}: {why}", self.state),
                None => self.state.to_string(),
            },
        })
    }

    /// What is wrong with it, as a warning.
    pub(super) fn problem(&self) -> Option<String> {
        let why = self.why.as_deref();
        let why = why.unwrap_or("it was never made, or does not hold what it should");
        (self.state == SealState::Missing)
            .then(|| format!("the seal is missing, the visible rules stand alone: {why}"))
    }

    /// Whether there is nothing to try again soon.
    pub(super) const fn is_settled(&self) -> bool {
        !matches!(self.state, SealState::Missing | SealState::Twin) && !self.twinless
    }
}

/// What stands in the place of an interface for tasks that have none of their own.
pub(crate) const HOST_TASKS: &str = "host tasks";

/// What the seal has stopped since it was made, by guarantee, interface and family.
#[must_use]
pub fn stopped(counted: &[(NativeRule, u64)]) -> BTreeMap<Guarantee, Vec<PacketCount>> {
    let mut stopped: BTreeMap<Guarantee, Vec<PacketCount>> = BTreeMap::new();
    for (rule, packets) in counted {
        let interface = match (&rule.iif, &rule.cgroup) {
            (Some(interface), _) => interface.to_string(),
            (None, Some(_)) => HOST_TASKS.to_owned(),
            (None, None) => "+".to_owned(),
        };
        let counts = stopped.entry(rule.guarantee).or_default();
        let same =
            |known: &&mut PacketCount| known.interface == interface && known.family == rule.family;
        match counts.iter_mut().find(same) {
            Some(known) => known.packets += packets,
            None => counts.push(PacketCount {
                family: rule.family,
                interface,
                layer: Layer::Sealed,
                packets: *packets,
            }),
        }
    }
    stopped
}
