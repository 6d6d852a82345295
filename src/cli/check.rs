//! `ecs-netguard check`: reads only.

use super::{Common, Exit, need_net_admin, print_json, show};
use crate::inputs::Inputs;
use crate::posture::Posture;
use crate::state::State;
use crate::turn::{self, Target};

pub(super) fn run(common: &Common, json: bool) -> anyhow::Result<Exit> {
    let inputs = Inputs::read(&common.inputs())?;
    need_net_admin("check")?;
    let posture = Posture::resolve(&inputs.settings, &inputs.ecs);
    let target = Target::resolve(&inputs.settings, common.backend, &posture);
    let (state, warning) = State::peek(&common.state_dir);
    let mut turn = turn::check(&target, &posture, &state);
    turn.notes.extend(warning);
    if json {
        print_json(&turn)?;
    } else {
        show::turn(&turn)?;
    }
    Ok(turn.overall().into())
}
