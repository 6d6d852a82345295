//! `ecs-netguard apply`: one pass.

use std::fmt;
use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::check;
use super::common::{Common, Exit, need_net_admin, print_json};
use super::screen;
use crate::config::sanitize_line;
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::os::lock::Lock;
use crate::os::sysctl;
use crate::out;
use crate::plan::DriftKind;
use crate::reconcile::{self, Hands};
use crate::report::{Layer, Report, RuleReport};
use crate::seal::edge::SharedEdge;
use crate::seal::{Around, SealState};
use crate::state::Store;
use crate::tasks;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Print what would be added (+), moved (~) and removed (-), and change nothing. The exit code is that
    /// of `check`: how the host stands now
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    need_net_admin("apply")?;
    if arguments.dry_run {
        return dry_run(common, arguments.json);
    }
    let json = arguments.json;
    let _lock = Lock::take(&common.runtime_dir, "apply")?;
    let (mut store, warning) = Store::open(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), &store.state.inputs)?;
    inputs.require_readable()?;
    let routed = sysctl::routes_localnet();
    let mut report = pass(common, &inputs, &mut store);
    // A shield that only `route_localnet` asked for goes with it, and not a pass earlier.
    if !routed.is_empty() && sysctl::routes_localnet().is_empty() {
        let earlier = std::mem::replace(&mut report, pass(common, &inputs, &mut store));
        report.changes.splice(0..0, earlier.changes);
    }
    store.state.inputs = inputs.remembered();
    // Its owner, this process, is about to end.
    let unowned = "intact; without a daemon any root process can change it";
    if let Some(seal) = report.seal.as_mut().filter(|seal| seal.state.is_owned()) {
        seal.explanation = unowned.to_owned();
    }
    if let Some(edge) = report.edge.as_mut().filter(|edge| edge.state.is_owned()) {
        edge.explanation = unowned.to_owned();
    }
    report
        .warnings
        .extend(warning.into_iter().chain(store.save()));
    screen::print(&report, json)?;
    Ok(report.state.into())
}

/// What a pass would change, object by object.
#[derive(Debug, Default, Serialize)]
struct Difference {
    add: Vec<String>,
    r#move: Vec<String>,
    remove: Vec<String>,
}

fn dry_run(common: &Common, json: bool) -> anyhow::Result<Exit> {
    let (store, _) = Store::peek(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), &store.state.inputs)?;
    inputs.require_readable()?;
    let (_, report) = check::prove(common, &inputs, &store);
    let difference = Difference::of(&report);
    if json {
        print_json(&difference)?;
    } else {
        out::text().write_all(difference.to_string().as_bytes())?;
    }
    for warning in &report.warnings {
        let _nowhere_to_complain = writeln!(out::errors(), "! {}", sanitize_line(warning));
    }
    Ok(report.state.into())
}

impl Difference {
    fn of(report: &Report) -> Self {
        let mut difference = Self::default();
        for drift in &report.drifts {
            let objects = match drift.kind {
                DriftKind::Missing => &mut difference.add,
                DriftKind::Displaced | DriftKind::Doubled => &mut difference.r#move,
                DriftKind::Stray => &mut difference.remove,
            };
            objects.push(drift.object.clone());
        }
        let native = report
            .rules
            .iter()
            .filter(|rule| rule.layer == Layer::Sealed);
        let missing = native.filter(|rule| rule.in_place == Some(false));
        let line = |rule: &RuleReport| format!("{}: {}", rule.place, rule.rule);
        difference.add.extend(missing.map(line));
        let edge = report
            .edge
            .iter()
            .filter(|edge| edge.state == SealState::Missing);
        difference.add.extend(edge.map(|edge| {
            format!(
                "nftables netdev ecs_netguard: {}",
                edge.interfaces.join(", ")
            )
        }));
        difference
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("+", &self.add), ("~", &self.r#move), ("-", &self.remove)];
        let lines = lists.into_iter().flat_map(|(mark, objects)| {
            objects
                .iter()
                .map(move |object| format!("{mark} {}", sanitize_line(object)))
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            return writeln!(f, "Nothing to change.");
        }
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn pass(common: &Common, inputs: &Inputs, store: &mut Store) -> Report {
    let (posture, desired, mut host) = common.resolve(inputs);
    let in_tasks = tasks::once::pass(tasks::wish(&inputs.settings, &posture));
    if posture.requires(Guarantee::AwsvpcImdsBlock) {
        host.tasks = in_tasks.tasks;
    }
    let hands = &mut Hands {
        seal: &mut None,
        edge: &SharedEdge::default(),
        before_change: &|| {},
        around_seal: Around::NOTHING,
        prove_before: false,
        sealed: None,
        paused: &[],
    };
    let mut report = reconcile::apply(&desired, &host, &posture, store, hands).report;
    inputs.describe(&mut report);
    report.changes.extend(in_tasks.released);
    report
}
