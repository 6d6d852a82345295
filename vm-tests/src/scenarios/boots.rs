//! The machine itself: everything else rests on it.

use anyhow::Result;

use super::{Report, Scenario};
use crate::machine::{Machine, wait_for};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "boots",
    about: "systemd and Docker are up, before and after a reboot",
    core: false,
    needs: &[],
    run,
};

fn run(machine: &mut dyn Machine) -> Result<Report> {
    up(machine)?;
    machine.reboot()?;
    up(machine)?;
    Ok(Report::default())
}

fn up(machine: &dyn Machine) -> Result<()> {
    wait_for(
        machine,
        "systemd is up",
        "systemctl is-active -q multi-user.target",
    )?;
    wait_for(machine, "Docker answers", "docker info >/dev/null")?;
    Ok(())
}
