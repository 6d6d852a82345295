//! A host of 0.1.0, and what becomes of it.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::{Host, PLACE};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "from-0.1.0",
    about: "0.1.0, with settings of its own, upgraded to this version and downgraded again",
    core: false,
    bare: true,
    on: On::EveryTree,
    needs: &[],
    run,
};

/// Every key that 0.1.0 had and a host can bear without losing what the scenario is about.
const CONFIG: &str = r#"
[imds]
block = "auto"
interfaces = ["docker+", "br-+", "ecs-bridge"]
ipv6 = "always"
awsvpc = "auto"
host_tasks = true
host_tasks_cgroup = "ecstasks.slice"
[credentials]
endpoint = "auto"
route_localnet = "bridges"
open_input = "when-needed"
[iptables]
backend = "nft"
[seal]
enabled = true
[verify]
interval = "30s"
[log]
level = "debug"
target = "journal"
[metrics]
textfile = ""
[fleet]
ssm_inventory = ""
"#;

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.bring("0.1.0.rpm")?;
    host.dnf(&format!("install {PLACE}/base.rpm {PLACE}/0.1.0.rpm"))?;
    host.sh(&format!(
        "cat >/etc/ecs-netguard/config.toml <<'END'\n{CONFIG}\nEND"
    ))?;
    // What 0.1.0 remembers: ecs.config asks for the block, and is gone after the upgrade.
    host.sh("systemctl restart ecs-netguard")?;
    host.wait_protected()?;
    host.wait_tasks()?;
    host.count_from_here()?;
    let (table, rules) = (host.seal()?, rules(host)?);
    let localnet = host.sh("sysctl -n net.ipv4.conf.docker0.route_localnet")?;
    host.sh("mv /etc/ecs/ecs.config /etc/ecs/ecs.config.away")?;

    host.dnf(&format!("upgrade {PLACE}/guard.rpm"))?;
    ensure!(
        host.sh("rpm -q --qf '%{version}' ecs-netguard")? == "1.0.0",
        "the upgrade did not install this version"
    );
    host.none_arrived("during the upgrade from 0.1.0")?;
    host.wait_protected()?;
    host.sh("ecs-netguard status --require imds-block | grep -q ^PROTECTED")?;
    ensure!(
        host.seal()? == table,
        "the seal is another table than before"
    );
    let now = self::rules(host)?;
    ensure!(
        now == rules,
        "the rules were:\n{rules}\nand are after the upgrade:\n{now}"
    );
    settings_are_read(host)?;
    host.sh("mv /etc/ecs/ecs.config.away /etc/ecs/ecs.config")?;
    let mut packets = host.finish()?;

    // As CHANGELOG.md says: 0.1.0 does not know the edge, and proves nothing beside it.
    let config = "/etc/ecs-netguard/config.toml";
    host.sh(&format!(
        "cp {config} /root && printf '[edge]\\nenabled = false\\n' >>{config} && systemctl reload ecs-netguard"
    ))?;
    host.wait_for("the edge is gone", "! nft list tables | grep netdev")?;
    host.dnf(&format!("downgrade {PLACE}/0.1.0.rpm"))?;
    host.sh(&format!("cp /root/config.toml {config}"))?;
    host.none_arrived("during the downgrade to 0.1.0")?;
    packets += host.finish()?;
    host.dnf(&format!("upgrade {PLACE}/guard.rpm"))?;
    packets += host.finish()?;
    ensure!(
        host.sh("sysctl -n net.ipv4.conf.docker0.route_localnet")? == localnet,
        "route_localnet is another than before"
    );
    let said = host.dnf("remove ecs-netguard")?;
    host.is_removed(&said)?;
    Ok(Report {
        packets: Some(packets),
        ..Report::default()
    })
}

/// The guard's rules in iptables, without what counts.
fn rules(host: &Host<'_>) -> Result<String> {
    host.sh("{ iptables-save; ip6tables-save; } | grep ecs-netguard | sort")
}

/// The old file is read without an error, stays, and counts.
fn settings_are_read(host: &Host<'_>) -> Result<()> {
    let after = host.sh("cat /etc/ecs-netguard/config.toml")?;
    ensure!(
        after.trim() == CONFIG.trim(),
        "config.toml was changed:\n{after}"
    );
    let shown = host.run("ecs-netguard config --check")?;
    ensure!(
        shown.code == 0,
        "config --check has code {}:\n{}{}",
        shown.code,
        shown.stdout,
        shown.stderr
    );
    host.sh("ecs-netguard config | grep -q 'route_localnet = \"bridges\"'")?;
    host.sh("ecs-netguard status | grep -q 'host-imds-block *held'")?;
    Ok(())
}
