//! Strict mode and the gate of the snippets: Docker, or the ECS agent, does not start where the guard cannot
//! prove.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "strict",
    about: "with ecs-netguard-strict Docker stays down while a guarantee is not proved",
    core: false,
    bare: false,
    on: On::EveryTree,
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
    Report::finished(host)
}

/// As on an image with the package: nothing has to be fetched.
const USER_DATA: &str = include_str!("../../../packaging/snippets/user-data.sh");

pub(super) const GATE: Scenario = Scenario {
    name: "gate",
    about: "after the user data of packaging/snippets no ECS agent starts without a proof; later it does by itself",
    core: false,
    bare: false,
    on: On::OneMachine,
    needs: &[],
    run: gate,
};

fn gate(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let before = host.sh("cat /etc/ecs/ecs.config")?;
    let settings = "CLUSTER=production VERSION=$(rpm -q --queryformat '%{VERSION}' ecs-netguard)";
    host.sh(&format!(
        "export {settings}; bash -s <<'USER-DATA'\n{USER_DATA}\nUSER-DATA"
    ))?;
    let after = host.sh("cat /etc/ecs/ecs.config")?;
    ensure!(
        after == before,
        "lines that were there have become: {after}"
    );
    host.sh("systemctl restart ecs && systemctl is-active ecs")?;

    // What a package that could not be installed is like; the daemon goes on.
    host.sh("mv /usr/sbin/ecs-netguard /usr/sbin/ecs-netguard.aside")?;
    let restarted = host.run("systemctl restart ecs")?;
    ensure!(restarted.code != 0, "the agent started without a proof");
    host.wait_for(
        "systemd tries again",
        "[ $(systemctl show --property NRestarts --value ecs) -ge 2 ]",
    )?;
    let active = host.run("systemctl is-active ecs")?;
    ensure!(active.code != 0, "the agent runs without a proof");
    host.sh("mv /usr/sbin/ecs-netguard.aside /usr/sbin/ecs-netguard")?;
    host.wait_for("the agent starts by itself", "systemctl is-active ecs")?;
    Report::finished(host)
}
