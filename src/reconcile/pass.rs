//! What a pass found and did, put together once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use super::changes::Changes;
use super::host::Host;
use super::proof::Opened;
use super::reading::Reading;
use crate::desired::Desired;
use crate::guarantee::{Guarantee, NativeRule, WantedRule, route_object};
use crate::os::iptables::Tool;
use crate::os::nft::Moment;
use crate::os::self_usage;
use crate::plan::Drift;
use crate::posture::Posture;
use crate::prove::HostView;
use crate::report::{Backend, GuaranteeReport, Layer, Report, RuleReport, Verification};
use crate::ruleset::Family;
use crate::seal::edge::Problem;
use crate::seal::{self, SealState};
use crate::tasks::Task;
use crate::verdict::{Proof, Verdict};

/// What a pass found and did.
#[derive(Debug)]
pub struct Pass {
    /// What there is to say of it.
    pub report: Report,
    /// What is still missing of the visible layer at its end.
    pub left: Vec<Drift>,
    /// The guarantees that held before anything was changed; where nothing was, those that hold.
    pub held_before: BTreeSet<Guarantee>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
    /// The moment of nf_tables that was read last; `None` where nf_tables is unavailable.
    pub moment: Option<Moment>,
    /// The host, as it was read last.
    pub host: HostView,
    /// Whether the ACCEPT in INPUT of iptables is needed, and wanted with the rest.
    pub open_input: bool,
    /// Whether the seal and the edge are all that they can be.
    native_is_right: bool,
}

impl Pass {
    /// The generation of nf_tables that was read last; `None` where nf_tables is unavailable.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.moment.as_ref().map(|moment| moment.generation)
    }

    /// Whether nothing is left to be done, so that the same rules mean the same result.
    #[must_use]
    pub fn settled(&self) -> bool {
        let failed = !self.report.failures.is_empty();
        self.left.is_empty() && self.unread.is_empty() && !failed && self.native_is_right
    }
}

/// What a report is made of.
pub(super) struct Conclusion<'a> {
    pub(super) desired: &'a Desired,
    pub(super) host: &'a Host,
    pub(super) posture: &'a Posture,
    pub(super) reading: Reading,
    pub(super) proofs: Vec<Proof>,
    pub(super) opened: Opened,
    /// The guarantees that held when it began; `None` where nothing was changed.
    pub(super) held_before: Option<BTreeSet<Guarantee>>,
    pub(super) changes: Changes,
    pub(super) seal_problem: Option<String>,
    pub(super) edge_problem: Option<Problem>,
    pub(super) repaired: Duration,
    pub(super) started: Instant,
}

pub(super) fn conclude(of: Conclusion<'_>) -> Pass {
    let Conclusion {
        desired,
        host,
        reading,
        changes,
        ..
    } = of;
    let sealed = |guarantee| reading.sealed(desired, guarantee);
    let guarantees = GuaranteeReport::all(of.posture, &of.proofs, sealed);
    let left = reading.plan(desired, &of.opened, &[]).drifts;
    let seal = reading.seal(desired, of.seal_problem);
    let edge = reading.edge(desired, of.edge_problem);
    let uncovered = if edge.holds() {
        Vec::new()
    } else {
        desired.uncovered.clone()
    };
    let warnings = (reading.unread.iter().cloned())
        .chain(desired.notes.iter().cloned())
        .chain(changes.notes)
        .chain(reading.beside(host))
        .chain(seal.problem())
        .chain(edge.problem())
        .chain(not_covered(&uncovered));
    let now = SystemTime::now();
    let report = Report {
        host: Some(self_usage::host_name()),
        kernel: Some(self_usage::kernel()),
        tasks: tasks(host, &guarantees, edge.holds()),
        backends: host.tools.iter().map(backend).collect(),
        seal: seal.report(),
        edge: edge.report(),
        tasks_unknown: host.tasks.unknown.clone(),
        uncovered,
        privileged: if of.posture.requires(Guarantee::ImdsBlock) {
            host.facts.privileged.clone()
        } else {
            Vec::new()
        },
        drifts: changes.drifts,
        changes: changes.done,
        failures: changes.failures,
        warnings: warnings.collect(),
        rules: rules(desired, &left, seal.state, reading.unread.is_empty())
            .into_iter()
            .chain(edge.rules(&desired.rules.edge))
            .collect(),
        verification: Verification {
            count: 1,
            last: Some(now),
            duration: of.started.elapsed().as_secs_f64(),
            repaired: of.repaired.as_secs_f64(),
            interval: None,
        },
        ..Report::new(now, guarantees)
    };
    Pass {
        held_before: of.held_before.unwrap_or_else(|| held(&of.proofs)),
        left,
        moment: reading.moment(),
        host: reading.host(),
        open_input: of.opened.iptables,
        native_is_right: seal.is_settled() && edge.is_settled(),
        unread: reading.unread,
        report,
    }
}

/// The bridges that nothing covers, as a warning.
fn not_covered(bridges: &[String]) -> Option<String> {
    let some = !bridges.is_empty();
    some.then(|| {
        format!(
            "not covered by imds-block, since no name or pattern in [imds] interfaces fits: {}; if \
             containers are on it, add it there",
            bridges.join(", ")
        )
    })
}

/// The tasks with their verdicts.
fn tasks(host: &Host, guarantees: &[GuaranteeReport], edge: bool) -> Vec<Task> {
    let mut tasks = host.tasks.running.clone();
    let mut guarantees = guarantees.iter();
    if let Some(block) = guarantees.find(|of| of.name == Guarantee::HostImdsBlock) {
        let found = host.facts.host_tasks.iter();
        tasks.extend(
            found.map(|task| Task::on_host(&task.id, task.capabilities, block.standing, edge)),
        );
    }
    tasks
}

fn backend(tool: &Tool) -> Backend {
    Backend {
        family: tool.family,
        name: tool.backend.to_string(),
        version: tool.version.clone(),
        path: tool.path.to_owned(),
    }
}

/// What is wanted, rule by rule, and whether it stands: not known where something could not be read.
fn rules(desired: &Desired, left: &[Drift], seal: SealState, complete: bool) -> Vec<RuleReport> {
    let in_place = |object: &str| complete.then(|| left.iter().all(|drift| drift.object != object));
    let visible = |rule: &WantedRule| RuleReport {
        guarantee: rule.guarantee,
        layer: Layer::Visible,
        family: rule.family,
        place: format!("{} {}", rule.table, rule.chain),
        rule: rule.listed.text.clone(),
        in_place: in_place(&rule.object()),
    };
    let sysctls = desired.rules.sysctls.iter().map(|sysctl| RuleReport {
        guarantee: sysctl.guarantee,
        layer: Layer::Visible,
        family: Family::V4,
        place: format!("net.ipv4.conf.{}.route_localnet", sysctl.interface),
        rule: "1".to_owned(),
        in_place: in_place(&sysctl.object()),
    });
    let routes = desired.rules.routes.iter().map(|route| RuleReport {
        guarantee: route.guarantee,
        layer: Layer::Visible,
        family: Family::V4,
        place: "route main".to_owned(),
        rule: format!("{}/32 dev lo", route.to),
        in_place: in_place(&route_object(route.to)),
    });
    let native = |rule: &NativeRule| RuleReport {
        guarantee: rule.guarantee,
        layer: Layer::Sealed,
        family: rule.family,
        place: format!("nftables {}", seal::place(rule)),
        rule: rule.to_string(),
        in_place: Some(seal.is_intact()),
    };
    let iptables = desired.rules.iptables.iter().map(visible);
    let native = desired.rules.native.iter().map(native);
    iptables
        .chain(sysctls)
        .chain(routes)
        .chain(native)
        .collect()
}

/// The guarantees whose every claim is proved.
pub(super) fn held(proofs: &[Proof]) -> BTreeSet<Guarantee> {
    let broken = |proof: &&Proof| proof.verdict != Verdict::Held;
    let broken: BTreeSet<Guarantee> = proofs.iter().filter(broken).map(|p| p.guarantee).collect();
    let all = proofs.iter().map(|proof| proof.guarantee);
    all.filter(|guarantee| !broken.contains(guarantee))
        .collect()
}
