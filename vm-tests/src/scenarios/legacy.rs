//! iptables-legacy as the system's iptables.

use anyhow::Result;

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "legacy",
    about: "iptables-legacy is the system's alternative; Docker and ecs-init use it too",
    core: false,
    bare: true,
    on: On::OldestKernel,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.sh(
        "systemctl stop ecs docker.socket docker && nft flush ruleset && \
         update-alternatives --set iptables /usr/sbin/iptables-legacy && \
         update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy && \
         systemctl start docker ecs",
    )?;
    host.install()?;
    host.wait_tasks()?;
    host.sh("iptables-legacy-save | grep -q 'ecs-netguard: imds-block'")?;
    for script in [
        crate::host::RESTART_DOCKER,
        "iptables -P FORWARD ACCEPT; iptables -F; iptables -t nat -F; ip6tables -F",
        "nft flush ruleset",
        "kill -9 $(systemctl show -P MainPID ecs-netguard); iptables -F FORWARD",
    ] {
        host.sh(script)?;
        host.wait_for(
            &format!("both layers hold after {script}"),
            "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"imds-block\") | \
             .standing == \"held\" and .layers.visible == \"held\" and .layers.sealed == \"held\"'",
        )?;
        host.none_arrived(&format!("after {script}"))?;
    }
    host.restart_docker()?;
    Report::finished(host)
}
