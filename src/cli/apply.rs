//! `ecs-netguard apply`: one turn.

use super::common::{Common, Exit, need_net_admin};
use super::screen;
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::os::facts;
use crate::os::lock::Lock;
use crate::os::sysctl;
use crate::reconcile::{self, Hands};
use crate::report::Report;
use crate::seal::Around;
use crate::seal::edge::SharedEdge;
use crate::state::Store;
use crate::tasks;

pub(super) fn run(common: &Common, json: bool) -> anyhow::Result<Exit> {
    need_net_admin("apply")?;
    let _lock = Lock::take(&common.runtime_dir, "apply")?;
    let (mut store, warning) = Store::open(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), store.state.asked.as_ref())?;
    inputs.require_readable()?;
    let routed = sysctl::routes_localnet();
    let mut report = pass(common, &inputs, &mut store);
    // A shield that only `route_localnet` asked for goes with it, and not a pass earlier.
    if !routed.is_empty() && sysctl::routes_localnet().is_empty() {
        let earlier = std::mem::replace(&mut report, pass(common, &inputs, &mut store));
        report.changes.splice(0..0, earlier.changes);
    }
    store.state.asked = inputs.asked();
    report
        .warnings
        .extend(warning.into_iter().chain(store.save()));
    screen::print(&report, json)?;
    Ok(report.state.into())
}

fn pass(common: &Common, inputs: &Inputs, store: &mut Store) -> Report {
    let facts = facts::read(&inputs.settings);
    let posture = inputs.posture(&facts);
    let (desired, mut host) = reconcile::resolve(&inputs.settings, common.backend, &posture, facts);
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
