//! Figures of the last probe that was recorded.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figures::{Labels, put, seconds};
use crate::probe::record::Record;
use crate::verdict::Standing;

/// All of them; the families are empty until a probe was recorded.
#[derive(Debug)]
pub(super) struct ProbeMetrics {
    state: Family<Labels, Gauge>,
    guarantee: Family<Labels, Gauge>,
    disagreements: Gauge,
    at: Gauge<f64, AtomicU64>,
}

/// What a probe can come to.
const STATES: [Standing; 3] = [Standing::Held, Standing::Violated, Standing::Undecided];

impl ProbeMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            state: put(
                registry,
                "probe_state",
                "1 for what the last recorded probe came to, 0 for what it did not",
                Family::default(),
            ),
            guarantee: put(
                registry,
                "probe_guarantee_state",
                "1 for what the packets of the last recorded probe showed of the guarantee",
                Family::default(),
            ),
            disagreements: put(
                registry,
                "probe_disagreements",
                "Guarantees of which the last recorded probe and its proof contradict each other",
                Gauge::default(),
            ),
            at: put(
                registry,
                "probe_last_timestamp_seconds",
                "When the last recorded probe ended, in seconds since 1970; 0 before the first",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn note(&self, record: &Record) {
        let verdict = &record.verdict;
        let word = |state: Standing| ("state", state.name().to_owned());
        for state in STATES {
            let is = self.state.get_or_create_owned(&vec![word(state)]);
            is.set(i64::from(state == verdict.verdict));
        }
        // A guarantee that packets no longer speak of has no figure any more.
        self.guarantee.clear();
        for compared in &verdict.guarantees {
            let Some(packets) = compared.packets else {
                continue;
            };
            for state in STATES {
                let name = ("guarantee", compared.name.name().to_owned());
                let labels = vec![name, word(state)];
                let is = self.guarantee.get_or_create_owned(&labels);
                is.set(i64::from(state == packets));
            }
        }
        let disagreements = verdict.disagreements.len();
        self.disagreements.set(disagreements as i64);
        self.at.set(seconds(record.time));
    }
}
