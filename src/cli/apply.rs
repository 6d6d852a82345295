//! `ecs-netguard apply`: one turn.

use super::{Common, Exit, need_net_admin, print_json, show};
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::os::lock::Lock;
use crate::reconcile::{self, Hands, Target};
use crate::seal::Around;
use crate::state::Store;
use crate::tasks;

pub(super) fn run(common: &Common, json: bool) -> anyhow::Result<Exit> {
    need_net_admin("apply")?;
    let _lock = Lock::take(&common.runtime_dir, "apply")?;
    let (mut store, warning) = Store::open(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), store.state.asked.as_ref())?;
    inputs.require_readable()?;
    let posture = inputs.posture();
    let mut target = Target::resolve(&inputs.settings, common.backend, &posture);
    let pass = tasks::once::pass(tasks::wish(&inputs.settings, &posture));
    if posture.requires(Guarantee::AwsvpcImdsBlock) {
        target.tasks = pass.tasks;
    }
    let hands = &mut Hands {
        seal: &mut None,
        before_change: &|| {},
        around_seal: Around::NOTHING,
        prove_found: true,
        sealed: None,
    };
    let mut turn = reconcile::apply(&target, &posture, &mut store, hands);
    turn.done.extend(pass.released);
    store.state.asked = inputs.asked();
    turn.notes.extend(
        warning
            .into_iter()
            .chain(store.save())
            .chain(inputs.warnings),
    );
    turn.notes.dedup();
    if json {
        print_json(&turn)?;
    } else {
        show::turn(&turn)?;
    }
    Ok(turn.overall().into())
}
