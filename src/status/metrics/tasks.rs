//! Figures of the tasks, and of the process that looks into their namespaces.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figures::{Labels, put};
use crate::report::Report;
use crate::tasks::{Mode, Task};
use crate::verdict::Standing;

/// All of them.
#[derive(Debug)]
pub(super) struct TaskMetrics {
    tasks: Family<Labels, Gauge>,
    unknown: Gauge,
    restarts: Counter,
}

impl TaskMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            tasks: put(
                registry,
                "tasks",
                "Tasks that run, by network mode and by how they stand",
                Family::default(),
            ),
            unknown: put(
                registry,
                "tasks_unknown",
                "Reasons for which there may be tasks that are not known: network namespaces that cannot be looked \
                 into, or are left alone",
                Gauge::default(),
            ),
            restarts: put(
                registry,
                "worker_restarts",
                "Times that the process that enters tasks' network namespaces ended and was started again",
                Counter::default(),
            ),
        }
    }

    pub(super) fn note(&self, report: &Report) {
        for mode in Mode::ALL {
            for standing in Standing::ALL {
                let of = |task: &&Task| task.mode == mode && task.standing == standing;
                let labels = vec![
                    ("mode", mode.name().to_owned()),
                    ("state", standing.name().to_owned()),
                ];
                let count = report.tasks.iter().filter(of).count();
                self.tasks.get_or_create_owned(&labels).set(count as i64);
            }
        }
        self.unknown.set(report.tasks_unknown.len() as i64);
    }

    pub(super) fn restarted(&self) {
        self.restarts.inc();
    }
}
