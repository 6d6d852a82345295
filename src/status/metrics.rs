//! Figures for Prometheus, counted where things happen and written down when they are asked for.
//!
//! Every set of labels is bounded: guarantees, states and kinds are the program's own; of command
//! names, which anybody can choose, only the first [`names::MAX_COMMANDS`] are distinguished.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::events::{Event, Kind};
use crate::guarantee::Guarantee;
use crate::log;
use crate::os::self_usage::SelfUsage;
use crate::probe::record::Record;
use crate::report::Report;
use crate::verdict::{Overall, Standing};

/// Repairs take from tens of microseconds to the seconds of a safety net; in seconds.
const REPAIR_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0,
    5.0,
];
/// A verification reads and proves everything: milliseconds to seconds.
const VERIFICATION_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];

mod figures;
mod history;
mod layers;
mod names;
mod probe;
mod tasks;

use self::figures::{Labels, OnePerGuarantee, put, seconds};
use self::history::HistoryMetrics;
use self::layers::LayerMetrics;
use self::names::Names;
use self::probe::ProbeMetrics;
use self::tasks::TaskMetrics;

type Seconds = Counter<f64, AtomicU64>;

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    state: Family<Labels, Gauge>,
    imds_open: Gauge,
    guarantee: Family<Labels, Gauge>,
    posture: OnePerGuarantee<Gauge>,
    stopped: Family<Labels, Counter>,
    traps: Gauge,
    events: Family<Labels, Counter>,
    drift: Family<Labels, Counter>,
    repairs: Family<Labels, Counter>,
    /// Of all guarantees together: its buckets would be half of all series, and a fleet's quantiles take all.
    repair_duration: Histogram,
    window: Family<Labels, Seconds>,
    fights: Family<Labels, Counter>,
    verifications: Counter,
    verification_duration: Histogram,
    last_proof: Gauge<f64, AtomicU64>,
    cpu: Seconds,
    memory: Gauge,
    log_dropped: Counter,
    commands: Names,
    history: HistoryMetrics,
    layers: LayerMetrics,
    tasks: TaskMetrics,
    probe: ProbeMetrics,
}

impl Metrics {
    /// All of them, at nought.
    #[must_use]
    pub fn new(started: SystemTime) -> Self {
        let mut registry = Registry::with_prefix("ecs_netguard");
        let build = Family::<Labels, Gauge>::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&vec![("version", version)]).set(1);
        let start = Gauge::<f64, AtomicU64>::default();
        start.set(seconds(started));
        let r = &mut registry;
        put(r, "build_info", "The version of the daemon", build);
        put(
            r,
            "process_start_time_seconds",
            "When the daemon began, in seconds since 1970",
            start,
        );
        let this = Self {
            state: put(
                r,
                "state",
                "1 for how the host stands as a whole, 0 for how it does not",
                Family::default(),
            ),
            imds_open: put(
                r,
                "imds_open",
                "1 where no input asks for imds-block, 0 where it is required",
                Gauge::default(),
            ),
            guarantee: put(
                r,
                "guarantee_state",
                "1 for how the guarantee stands, 0 for how it does not",
                Family::default(),
            ),
            posture: OnePerGuarantee::register(
                r,
                "guarantee_required",
                "Whether the guarantee is required, and which line of which input says so",
            ),
            stopped: put(
                r,
                "packets_stopped",
                "Packets that the guarantee's rules stopped",
                Family::default(),
            ),
            traps: put(
                r,
                "config_traps",
                "Lines of the inputs that mean something else than their writer is likely to think",
                Gauge::default(),
            ),
            events: put(r, "events", "Events, by kind", Family::default()),
            drift: put(
                r,
                "drift",
                "Changes of what the guard keeps, by the command that made them",
                Family::default(),
            ),
            repairs: put(
                r,
                "repairs",
                "Attempts to repair such a change, by how they ended",
                Family::default(),
            ),
            repair_duration: put(
                r,
                "repair_duration_seconds",
                "From noticing a change until it was repaired",
                Histogram::new(REPAIR_BUCKETS),
            ),
            window: put(
                r,
                "window_seconds",
                "Time from noticing a change until it was repaired, where no seal kept packets out",
                Family::default(),
            ),
            fights: put(
                r,
                "fights",
                "Times that another program and the guard undid each other's work",
                Family::default(),
            ),
            verifications: put(
                r,
                "verifications",
                "Verifications that ended with a proof or a counterexample",
                Counter::default(),
            ),
            verification_duration: put(
                r,
                "verification_duration_seconds",
                "How long a verification took",
                Histogram::new(VERIFICATION_BUCKETS),
            ),
            last_proof: put(
                r,
                "last_verification_timestamp_seconds",
                "When the last verification ended, in seconds since 1970",
                Gauge::default(),
            ),
            cpu: put(
                r,
                "process_cpu_seconds",
                "Processor time that the daemon used",
                Seconds::default(),
            ),
            memory: put(
                r,
                "process_resident_memory_bytes",
                "Memory that the daemon holds",
                Gauge::default(),
            ),
            log_dropped: put(
                r,
                "log_messages_dropped",
                "Log messages that were dropped, because their reader was stuck or gone",
                Counter::default(),
            ),
            commands: Names::default(),
            history: HistoryMetrics::register(r),
            layers: LayerMetrics::register(r),
            tasks: TaskMetrics::register(r),
            probe: ProbeMetrics::register(r),
            registry,
        };
        this.set_overall(Overall::Undecided);
        this.begin();
        this
    }

    /// What can be counted of a guarantee is there from the beginning: Prometheus cannot tell that a
    /// counter grew which was not there before.
    fn begin(&self) {
        for guarantee in Guarantee::ALL {
            let of = || ("guarantee", guarantee.name().to_owned());
            for result in ["repaired", "failed"] {
                let labels = vec![of(), ("result", result.to_owned())];
                drop(self.repairs.get_or_create(&labels));
            }
            drop(self.fights.get_or_create(&vec![of()]));
            drop(self.window.get_or_create(&vec![of()]));
        }
    }

    /// Counts what happened.
    pub(super) fn count(&self, event: &Event) {
        let one = |labels: Labels, family: &Family<Labels, Counter>| {
            family.get_or_create(&labels).inc();
        };
        one(vec![("kind", event.kind.name().to_owned())], &self.events);
        let guarantee = event.guarantee.map_or("none", |guarantee| guarantee.name());
        let of = || ("guarantee", guarantee.to_owned());
        match event.kind {
            Kind::Drift | Kind::NotRepaired => {
                // What is tried again was changed by the program that was named at first.
                if event.kind == Kind::Drift || event.by.is_some() {
                    let command = event.by.as_ref().map(|by| by.comm.as_str());
                    let command = self.commands.label(command);
                    self.history.drifted(event, &command);
                    one(vec![of(), ("command", command)], &self.drift);
                }
                let result = match event.kind {
                    Kind::Drift => "repaired",
                    _ => "failed",
                };
                one(vec![of(), ("result", result.to_owned())], &self.repairs);
                if let Some(repair) = event.repair {
                    let open = if event.sealed == Some(true) {
                        0.0
                    } else {
                        repair.as_secs_f64()
                    };
                    self.repair_duration.observe(repair.as_secs_f64());
                    self.window.get_or_create(&vec![of()]).inc_by(open);
                }
            }
            Kind::Fight => one(vec![of()], &self.fights),
            _ => {}
        }
    }

    /// Notes what a pass found.
    pub(super) fn note(&self, report: &Report) {
        self.set_overall(report.state);
        self.imds_open.set(i64::from(report.imds_open.is_some()));
        for of in &report.guarantees {
            let name = of.name.name();
            for standing in Standing::ALL {
                let labels = vec![
                    ("guarantee", name.to_owned()),
                    ("state", standing.name().to_owned()),
                ];
                let value = i64::from(standing == of.standing);
                self.guarantee.get_or_create(&labels).set(value);
            }
            let source = ("source", of.reason.clone());
            let required = self.posture.of(of.name, vec![source]);
            required.set(i64::from(of.required));
        }
        self.history.note(&report.guarantees);
        self.note_stopped(report);
        self.traps.set(report.traps.len() as i64);
        self.note_tasks(report);
        self.layers.note(report);
        self.verification_duration
            .observe(report.verification.duration);
        self.verified_again(report.time);
    }

    /// Notes that a quiet look found nothing that can have changed.
    pub(super) fn verified_again(&self, at: SystemTime) {
        self.verifications.inc();
        self.last_proof.set(seconds(at));
    }

    /// Notes which tasks there are.
    pub(super) fn note_tasks(&self, report: &Report) {
        self.tasks.note(report);
    }

    /// Counts that the process that enters tasks' namespaces was started again.
    pub(super) fn worker_restarted(&self) {
        self.tasks.restarted();
    }

    /// Notes how many packets were stopped.
    pub(super) fn note_stopped(&self, report: &Report) {
        for status in &report.guarantees {
            for stopped in &status.stopped {
                let labels = vec![
                    ("guarantee", status.name.name().to_owned()),
                    ("family", stopped.family.to_string().to_lowercase()),
                    ("interface", stopped.interface.clone()),
                    ("layer", stopped.layer.name().to_owned()),
                ];
                let counter = self.stopped.get_or_create_owned(&labels);
                counter.inner().store(stopped.packets, Ordering::Relaxed);
            }
        }
    }

    /// Notes what the last probe came to.
    pub(super) fn note_probe(&self, record: &Record) {
        self.probe.note(record);
    }

    /// Notes how the host stands as a whole.
    fn set_overall(&self, now: Overall) {
        for state in Overall::ALL {
            let labels = vec![("state", state.name().to_owned())];
            self.state
                .get_or_create(&labels)
                .set(i64::from(state == now));
        }
    }

    /// All of them as OpenMetrics text; `overall` as it is now, which may be that nothing is known
    /// any more.
    #[must_use]
    pub(super) fn text(&self, overall: Overall) -> String {
        self.set_overall(overall);
        if let Some(own) = SelfUsage::read() {
            self.cpu.inner().store(own.cpu.to_bits(), Ordering::Relaxed);
            self.memory.set(own.memory.try_into().unwrap_or(i64::MAX));
        }
        self.log_dropped
            .inner()
            .store(log::dropped(), Ordering::Relaxed);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _infallible = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests;
