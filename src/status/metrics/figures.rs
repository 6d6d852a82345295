//! What all figures have in common.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::registry::{Metric, Registry};

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

/// A time in seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}
