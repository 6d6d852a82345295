//! ecs.config, edited in every way in which people edit it.

use anyhow::Result;

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ecs-config",
    about: "ecs.config edited by append, by sed -i, by rename; unreadable; gone; in quotes",
    core: false,
    bare: false,
    on: On::OneMachine,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let mut packets = 0;

    for (off, on) in [
        (
            "echo ECS_AWSVPC_BLOCK_IMDS=false >>/etc/ecs/ecs.config",
            "echo ECS_AWSVPC_BLOCK_IMDS=true >>/etc/ecs/ecs.config",
        ),
        (
            "sed -i s/BLOCK_IMDS=true/BLOCK_IMDS=false/ /etc/ecs/ecs.config",
            "sed -i s/BLOCK_IMDS=false/BLOCK_IMDS=true/ /etc/ecs/ecs.config",
        ),
        (
            "echo ECS_AWSVPC_BLOCK_IMDS=false >/etc/ecs/new; mv /etc/ecs/new /etc/ecs/ecs.config",
            "echo ECS_AWSVPC_BLOCK_IMDS=true >/etc/ecs/new; mv /etc/ecs/new /etc/ecs/ecs.config",
        ),
    ] {
        packets += host.arrived()?;
        host.sh(off)?;
        host.wait_for(
            "what is not to be blocked arrives",
            "docker exec two timeout 5 wget -q -O - http://169.254.169.254/ | grep -q answered",
        )?;
        host.sh(on)?;
        host.wait_for("the guard follows", BLOCKED)?;
        host.count_from_here()?;
    }

    // None of these says that it changed its mind.
    for (script, says) in [
        ("chmod 000 /etc/ecs/ecs.config", ""),
        ("rm /etc/ecs/ecs.config && mkdir /etc/ecs/ecs.config", ""),
        ("rmdir /etc/ecs/ecs.config", "is gone"),
        (
            "echo 'ECS_AWSVPC_BLOCK_IMDS=\"true\"' >/etc/ecs/ecs.config",
            "quoted:",
        ),
    ] {
        host.sh(script)?;
        host.wait_for(
            &format!("the guard blocks after {script}"),
            &format!("ecs-netguard status | grep '{says}' && {BLOCKED}"),
        )?;
        // A daemon that starts now remembers it.
        host.sh("systemctl restart ecs-netguard")?;
        host.wait_for("a new daemon blocks", BLOCKED)?;
        host.none_arrived(&format!("after {script}"))?;
    }
    host.sh("echo ECS_AWSVPC_BLOCK_IMDS=true >/etc/ecs/ecs.config")?;
    Ok(Report {
        packets: Some(packets + host.finish()?),
        ..Report::default()
    })
}

const BLOCKED: &str = "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"imds-block\") | .standing == \"held\"'";
