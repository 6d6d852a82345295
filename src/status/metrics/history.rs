//! Since when each guarantee stands as it does, and which program changed its rules last.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figures::{OnePerGuarantee, seconds};
use super::names::Names;
use crate::events::{By, Event};
use crate::report::GuaranteeReport;

type Time = Gauge<f64, AtomicU64>;

/// Both.
#[derive(Debug)]
pub(super) struct HistoryMetrics {
    since: OnePerGuarantee<Time>,
    drift: OnePerGuarantee<Time>,
    parents: Names,
}

impl HistoryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            since: OnePerGuarantee::register(
                registry,
                "guarantee_since_timestamp_seconds",
                "Since when the guarantee stands as it does, as far as this daemon knows, in seconds since 1970",
            ),
            drift: OnePerGuarantee::register(
                registry,
                "last_drift_timestamp_seconds",
                "When a program last changed what the guard keeps, in seconds since 1970; by which command, and the \
                 program that started it",
            ),
            parents: Names::default(),
        }
    }

    pub(super) fn note(&self, guarantees: &[GuaranteeReport]) {
        for of in guarantees {
            if let Some(since) = of.since {
                let state = ("state", of.standing.name().to_owned());
                self.since.of(of.name, vec![state]).set(seconds(since));
            }
        }
    }

    /// Notes a drift by the command with this label.
    pub(super) fn drifted(&self, event: &Event, command: &str) {
        let Some(guarantee) = event.guarantee else {
            return;
        };
        let mut labels = vec![("command", command.to_owned())];
        if let Some(parent) = event.by.as_ref().and_then(By::parent_comm) {
            labels.push(("parent", self.parents.label(Some(parent))));
        }
        self.drift.of(guarantee, labels).set(seconds(event.time));
    }
}
