//! The package's whole life, by dnf, while containers send.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "upgrade",
    about: "the package upgraded, downgraded, reinstalled, removed and installed again",
    core: true,
    bare: false,
    on: On::OldestKernel,
    needs: &[],
    run,
};

/// Whether the exporter answers what the daemon does, and by which process.
fn exporter(host: &Host<'_>) -> Result<String> {
    host.wait_for(
        "the exporter serves metrics",
        "curl -sf http://127.0.0.1:9877/metrics | grep -q '^ecs_netguard_state{state=\"protected\"} 1$'",
    )?;
    host.sh("systemctl show -P MainPID ecs-netguard-exporter")
}

/// Shows that on whatever address the exporter listens, none connects but the host and what a drop-in allows.
fn none_connects_unasked(host: &Host<'_>) -> Result<()> {
    let listen = |more: &str| {
        host.sh(&format!(
            "d=/run/systemd/system/ecs-netguard-exporter.service.d; mkdir -p $d; \
             printf '[Service]\\nEnvironment=ECS_NETGUARD_LISTEN=0.0.0.0:9877\\n{more}' >$d/test.conf; \
             systemctl daemon-reload && systemctl restart ecs-netguard-exporter"
        ))
    };
    let from_a_container =
        "docker exec two timeout 5 wget -q -O /dev/null http://172.17.0.1:9877/metrics";
    listen("")?;
    exporter(host)?;
    host.sh(&format!("! {from_a_container}"))?;
    listen("IPAddressAllow=172.16.0.0/12\\n")?;
    host.sh(from_a_container)?;
    host.sh(
        "rm -r /run/systemd/system/ecs-netguard-exporter.service.d; systemctl daemon-reload; \
         systemctl restart ecs-netguard-exporter",
    )?;
    Ok(())
}

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    host.sh("! systemctl is-enabled -q ecs-netguard-exporter && systemctl enable -q --now ecs-netguard-exporter")?;
    none_connects_unasked(host)?;
    for (command, version) in [
        ("install /var/lib/ecs-test/newer.rpm", "1.1.0"),
        ("downgrade /var/lib/ecs-test/guard.rpm", "1.0.0"),
        ("reinstall /var/lib/ecs-test/guard.rpm", "1.0.0"),
    ] {
        let exporter_before = exporter(host)?;
        host.changes_package(command, |command| host.dnf(command))?;
        let now = host.sh("rpm -q --qf '%{version}' ecs-netguard")?;
        ensure!(now == version, "dnf {command}: {now} is installed");
        ensure!(
            exporter(host)? != exporter_before,
            "dnf {command}: the old exporter still runs"
        );
    }
    let packets = host.finish()?;

    let said = host.dnf("remove ecs-netguard")?;
    host.is_removed(&said)?;

    host.install()?;
    Ok(Report {
        packets: Some(packets + host.finish()?),
        ..Report::default()
    })
}
