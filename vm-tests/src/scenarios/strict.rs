//! Strict mode: Docker does not start where the guard cannot prove.

use anyhow::{Result, ensure};

use super::{Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "strict",
    about: "with ecs-netguard-strict Docker stays down while a guarantee is not proved",
    core: false,
    bare: false,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    host.sh("systemctl enable -q ecs-netguard-strict")?;
    host.restart_docker()?;
    host.wait_tasks()?;

    // Credentials cannot be delivered, and the guard may not repair it.
    host.sh(
        "sed -i 's/^#open_input = .*/open_input = \"never\"/' /etc/ecs-netguard/config.toml && \
         systemctl reload ecs-netguard && iptables -P INPUT DROP",
    )?;
    host.wait_for(
        "the guard sees it",
        "ecs-netguard status | grep '^NOT PROTECTED'",
    )?;
    let restarted = host.run("systemctl restart docker")?;
    ensure!(
        restarted.code != 0,
        "Docker started though nothing was proved"
    );
    let active = host.run("systemctl is-active docker ecs")?;
    ensure!(
        !active.stdout.lines().any(|line| line == "active"),
        "running though nothing was proved: {}",
        active.stdout
    );

    host.sh("iptables -P INPUT ACCEPT")?;
    host.wait_protected()?;
    host.sh("systemctl start docker ecs")?;
    Ok(Report {
        packets: Some(host.finish()?),
        ..Report::default()
    })
}
