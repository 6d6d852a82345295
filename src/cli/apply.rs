//! `ecs-netguard apply`: one turn.

use super::{Common, Exit, need_net_admin, print_json, show};
use crate::inputs::Inputs;
use crate::kernel::lock::Lock;
use crate::posture::Posture;
use crate::state::State;
use crate::turn::{self, Hands, Memory, Target};

pub(super) fn run(common: &Common, json: bool) -> anyhow::Result<Exit> {
    let inputs = Inputs::read(&common.inputs())?;
    inputs.require_readable()?;
    need_net_admin("apply")?;
    let _lock = Lock::take(&common.runtime_dir, "apply")?;
    let posture = Posture::resolve(&inputs.settings, &inputs.ecs);
    let target = Target::resolve(&inputs.settings, common.backend, &posture);
    let (mut state, warning) = State::load(&common.state_dir);
    let memory = &mut Memory {
        state: &mut state,
        dir: &common.state_dir,
    };
    let hands = &mut Hands {
        seal: &mut None,
        before_change: &|| {},
        prove_found: true,
    };
    let mut turn = turn::apply(&target, &posture, memory, hands);
    turn.notes.extend(warning);
    if json {
        print_json(&turn)?;
    } else {
        show::turn(&turn)?;
    }
    Ok(turn.overall().into())
}
