//! Everything that takes rules away, while containers send.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flush",
    about: "iptables -F, -X, -t nat -F, nft flush ruleset, a stale snapshot restored, firewalld",
    core: true,
    bare: true,
    on: On::OldestKernel,
    needs: &[],
    run,
};

/// Everything of iptables', and the policy that Docker leaves at DROP: nothing is in the way then.
const FLUSH: &str = "for i in iptables ip6tables; do \
     $i -P FORWARD ACCEPT; $i -F; $i -X; $i -t nat -F; $i -t nat -X; done";

/// What is done how often.
const ATTACKS: &[(&str, u32, &str)] = &[
    ("iptables -F, -X, -t nat -F", 10, FLUSH),
    (
        "iptables -F FORWARD",
        20,
        "iptables -P FORWARD ACCEPT; iptables -F FORWARD; ip6tables -F FORWARD",
    ),
    ("nft flush ruleset", 10, "nft flush ruleset"),
    (
        "iptables-restore of a snapshot from before the guard",
        10,
        "iptables-restore </var/lib/ecs-test/stale; ip6tables-restore </var/lib/ecs-test/stale6",
    ),
    ("firewalld's start", 1, "systemctl start firewalld"),
    ("firewalld's reload", 2, "firewall-cmd -q --reload"),
    ("firewalld's stop", 1, "systemctl stop firewalld"),
    (
        "firewalld's second start and stop",
        1,
        "systemctl start firewalld; systemctl stop firewalld",
    ),
];

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.sh("iptables-save >/var/lib/ecs-test/stale; ip6tables-save >/var/lib/ecs-test/stale6")?;
    host.install()?;
    host.wait_tasks()?;
    for (what, times, script) in ATTACKS {
        let before = host.sent()?;
        for _ in 0..*times {
            host.sh(script)?;
        }
        host.none_arrived(&format!("after {what}"))?;
        host.wait_for(
            &format!("both layers hold after {what}"),
            "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"imds-block\") | \
             .standing == \"held\" and .layers.visible == \"held\" and .layers.sealed == \"held\"'",
        )?;
        ensure!(host.sent()? > before, "nothing was sent during {what}");
    }
    // Docker's own rules are gone too; it brings them at its start.
    host.restart_docker()?;
    Report::finished(host)
}
