//! The package's whole life, by dnf, while containers send.

use anyhow::{Result, ensure};

use super::{Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "upgrade",
    about: "the package upgraded, downgraded, reinstalled, removed and installed again",
    core: true,
    bare: false,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    let table = host.seal()?;
    for (command, version) in [
        ("install /var/lib/ecs-test/newer.rpm", "1.1.0"),
        ("downgrade /var/lib/ecs-test/guard.rpm", "1.0.0"),
        ("reinstall /var/lib/ecs-test/guard.rpm", "1.0.0"),
    ] {
        let pid = host.sh("systemctl show -P MainPID ecs-netguard")?;
        host.dnf(command)?;
        let now = host.sh("rpm -q --qf '%{version}' ecs-netguard")?;
        ensure!(now == version, "dnf {command}: {now} is installed");
        host.none_arrived(&format!("during dnf {command}"))?;
        host.wait_protected()?;
        ensure!(
            host.sh("systemctl show -P MainPID ecs-netguard")? != pid,
            "dnf {command}: the old daemon still runs"
        );
        ensure!(
            host.seal()? == table,
            "dnf {command}: the seal is another table than before"
        );
    }
    let packets = host.finish()?;

    let said = host.dnf("remove ecs-netguard")?;
    let left = host.run(
        "iptables-save | grep ecs-netguard; ip6tables-save | grep ecs-netguard; \
         nft list tables | grep ecs_netguard; \
         ls -d /var/lib/ecs-netguard /run/ecs-netguard /usr/sbin/ecs-netguard 2>/dev/null; \
         systemctl list-unit-files 'ecs-netguard*' --no-legend",
    )?;
    ensure!(
        left.stdout.is_empty(),
        "dnf remove said {said:?} and left:\n{}",
        left.stdout
    );
    // Also what is counted above would have been seen.
    host.wait_for(
        "without the guard packets arrive again",
        "docker exec two timeout 5 wget -q -O - http://169.254.169.254/ | grep -q answered",
    )?;

    host.install()?;
    Ok(Report {
        packets: Some(packets + host.finish()?),
        ..Report::default()
    })
}
