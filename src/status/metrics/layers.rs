//! Figures of the native layers, and of what can undo them.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figures::{Labels, put};
use crate::report::{Layer, Report};
use crate::seal::SealState;

/// All of them.
#[derive(Debug)]
pub(super) struct LayerMetrics {
    state: Family<Labels, Gauge>,
    uncovered: Family<Labels, Gauge>,
    privileged: Gauge,
}

impl LayerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            state: put(
                registry,
                "layer_state",
                "1 for how the native layer stands, 0 for how it does not",
                Family::default(),
            ),
            uncovered: put(
                registry,
                "uncovered_interfaces",
                "Interfaces at which the layer should stand and does not: bridges that no rule names while the edge does \
                 not hold, interfaces by which packets leave without a chain of the edge",
                Family::default(),
            ),
            privileged: put(
                registry,
                "privileged_containers",
                "Containers that can undo what stands on the host: CAP_NET_ADMIN or CAP_SYS_ADMIN in its user \
                 namespace",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn note(&self, report: &Report) {
        let seal = report.seal.as_ref().map(|seal| seal.state);
        let edge = report.edge.as_ref().map(|edge| edge.state);
        for (layer, found) in [(Layer::Sealed, seal), (Layer::Edge, edge)] {
            let found = found.unwrap_or(SealState::NotNeeded);
            for state in SealState::ALL {
                let labels = vec![
                    ("layer", layer.name().to_owned()),
                    ("state", state.name().to_owned()),
                ];
                let value = i64::from(state == found);
                self.state.get_or_create_owned(&labels).set(value);
            }
        }
        let at_the_edge = report.edge.as_ref().map_or(0, |edge| edge.uncovered.len());
        for (layer, count) in [
            (Layer::Visible, report.uncovered.len()),
            (Layer::Edge, at_the_edge),
        ] {
            let labels = vec![("layer", layer.name().to_owned())];
            self.uncovered
                .get_or_create_owned(&labels)
                .set(count as i64);
        }
        self.privileged.set(report.privileged.len() as i64);
    }
}
