//! What all figures have in common.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

use crate::guarantee::Guarantee;

/// The labels of a figure.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Registers a figure, and keeps it.
pub(super) fn put<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// A figure that each guarantee has once, whatever its other labels: those it had before go.
#[derive(Debug)]
pub(super) struct OnePerGuarantee<G> {
    family: Family<Labels, G>,
    last: Mutex<BTreeMap<Guarantee, Labels>>,
}

impl<G> OnePerGuarantee<G>
where
    G: Clone + Default,
    Family<Labels, G>: Metric + Clone,
{
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        Self {
            family: put(registry, name, help, Family::default()),
            last: Mutex::default(),
        }
    }

    /// The guarantee's figure, with these other labels from now on.
    pub(super) fn of(&self, guarantee: Guarantee, others: Labels) -> G {
        let mut labels = vec![("guarantee", guarantee.name().to_owned())];
        labels.extend(others);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = last.insert(guarantee, labels.clone())
            && before != labels
        {
            self.family.remove(&before);
        }
        self.family.get_or_create_owned(&labels)
    }
}

/// A time in seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}
