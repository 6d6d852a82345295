//! A stopped daemon: systemd gives its socket back, and with it goes a seal that this kernel cannot keep.
//! What is left must be enough.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stop",
    about: "the guard stopped, the visible rules flushed meanwhile, and started again",
    core: true,
    bare: false,
    on: On::OldestKernel,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    for round in 0..3 {
        host.sh("systemctl stop ecs-netguard")?;
        ensure!(
            host.run("systemctl is-active -q ecs-netguard")?.code != 0,
            "the guard still runs"
        );
        host.sh("iptables -P FORWARD ACCEPT; iptables -F FORWARD; ip6tables -F FORWARD")?;
        host.wait_sent(100)?;
        host.none_arrived(&format!("while the guard was stopped (round {round})"))?;
        host.sh("systemctl start ecs-netguard")?;
        host.none_arrived(&format!("at its start (round {round})"))?;
        host.wait_protected()?;
    }
    host.restart_docker()?;
    Report::finished(host)
}
