//! A golden image: what is baked knows nothing of its builder, and each machine started from it is itself.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "golden-image",
    about: "an image baked in order, and one baked carelessly: their first boots",
    core: false,
    bare: false,
    on: On::EveryTree,
    needs: &[],
    run,
};

/// What amazon-ecs-ami's cleanup.sh does that matters here: the next boot is another machine's. On the
/// disk, since an image is made of that.
const NEW_MACHINE: &str = ": >/etc/machine-id; rm -rf /var/log/journal/* /tmp/*; rm -f /etc/ecs/ecs.config; : >/etc/ecs/ecs.config; sync";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    let builder = host.sh("cat /etc/machine-id")?;
    host.sh("systemctl stop ecs-netguard && ecs-netguard release --image")?;
    nothing_left(host)?;
    host.sh(NEW_MACHINE)?;
    host.user_data(
        "printf 'ECS_CLUSTER=first\\nECS_AWSVPC_BLOCK_IMDS=true\\n' >>/etc/ecs/ecs.config",
    )?;
    host.reboot()?;
    host.count_this_boot();
    let first = started_as_itself(host)?;
    ensure!(
        first != builder,
        "the machine has the builder's machine-id {builder}"
    );
    let mut packets = host.finish()?;

    // Baked from a running host without `release`: its state and its events come along.
    host.sh("echo ECS_AWSVPC_BLOCK_IMDS=1 >>/etc/ecs/ecs.config")?;
    host.wait_for(
        "the state remembers it",
        "ecs-netguard status | grep 'ECS_AWSVPC_BLOCK_IMDS=1 ' && test -s /var/lib/ecs-netguard/events.jsonl",
    )?;
    let event = host.sh("ecs-netguard events | head -n 1")?;
    // At this moment the image is made; the machine itself does not matter any more.
    host.user_data(":")?;
    host.sh(NEW_MACHINE)?;
    host.power_cut()?;
    host.count_this_boot();
    let second = started_as_itself(host)?;
    ensure!(
        second != first,
        "the machine has the machine-id of the one that it was made of: {first}"
    );
    let events = host.sh("ecs-netguard events")?;
    ensure!(
        !events.contains(event.trim()),
        "the machine tells of what another one saw: {event}"
    );
    // Its own ecs.config asks for nothing, and what another asked for does not count.
    host.wait_for(
        "only this machine's own configuration counts",
        "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"imds-block\") | .required == false'",
    )?;
    host.sh("echo ECS_AWSVPC_BLOCK_IMDS=true >>/etc/ecs/ecs.config")?;
    host.wait_protected()?;
    host.wait_for(
        "the guard blocks",
        "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"imds-block\") | .standing == \"held\"'",
    )?;
    host.count_from_here()?;
    packets += host.finish()?;
    Ok(Report {
        packets: Some(packets),
        ..Report::default()
    })
}

/// The image has the package and the configuration, and nothing that the builder was.
fn nothing_left(host: &Host<'_>) -> Result<()> {
    let left = host.run(
        "iptables-save | grep ecs-netguard; ip6tables-save | grep ecs-netguard; \
         nft list tables | grep ecs_netguard; ls -A /var/lib/ecs-netguard",
    )?;
    ensure!(
        left.stdout.is_empty(),
        "release --image left:\n{}",
        left.stdout
    );
    host.sh("systemctl is-enabled -q ecs-netguard && test -f /etc/ecs-netguard/config.toml")?;
    Ok(())
}

/// Waits for the end of a first boot; the machine's id.
fn started_as_itself(host: &Host<'_>) -> Result<String> {
    host.wait_for("cloud-init is done", "test -e /run/cloud-init/result.json")?;
    host.wait_for("the machine has an id", "test -s /etc/machine-id")?;
    host.wait_for("the guard runs", "systemctl is-active -q ecs-netguard")?;
    host.sh("cat /etc/machine-id")
}
