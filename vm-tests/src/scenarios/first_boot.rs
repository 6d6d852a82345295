//! The first boot of an instance: ecs.config is empty, user data writes it late, and containers start as
//! soon as Docker does.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "first-boot",
    about: "no ecs.config; user data writes it when containers have long been running",
    core: true,
    bare: true,
    on: On::OldestKernel,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    let installed = host.install()?;
    // As on a fresh instance: nothing is remembered, nothing is configured.
    host.sh(
        "systemctl stop ecs-netguard && ecs-netguard release --image && \
         rm -f /etc/ecs/ecs.config && : >/etc/ecs/ecs.config",
    )?;
    // Later than any container's first packets.
    host.user_data(
        "for task in one two three; do\n\
           until [ \"$(docker exec $task cat /sys/class/net/eth0/statistics/tx_packets)\" -gt 50 ]; do sleep 0.1; done\n\
         done\n\
         ecs-netguard config >/var/lib/ecs-test/before\n\
         cat /etc/ecs/ecs.config >>/var/lib/ecs-test/before\n\
         printf 'ECS_CLUSTER=test\\nECS_AWSVPC_BLOCK_IMDS=true\\n' >>/etc/ecs/ecs.config",
    )?;
    host.reboot()?;
    host.count_this_boot();
    host.wait_for("cloud-init is done", "test -e /run/cloud-init/result.json")?;
    host.none_arrived("while the user data had not spoken")?;
    host.wait_for(
        "the guard has read what the user data wrote",
        "ecs-netguard status | grep 'imds-block .*ECS_AWSVPC_BLOCK_IMDS=true'",
    )?;
    let packets = host.finish()?;
    let boot = host.boot_times()?;
    ensure!(
        boot.ready < boot.docker,
        "Docker started {} ms after boot, and the guard's first proof was done {} ms after boot",
        boot.docker.as_millis(),
        boot.ready.as_millis()
    );
    Ok(Report {
        packets: Some(packets),
        measured: vec![
            (
                "install to PROTECTED".to_owned(),
                format!("{:.1} s", installed.as_secs_f64()),
            ),
            (
                "boot to the first proof".to_owned(),
                format!("{:.2} s", boot.ready.as_secs_f64()),
            ),
            (
                "the first proof before Docker's start".to_owned(),
                format!("{:.2} s", (boot.docker - boot.ready).as_secs_f64()),
            ),
        ],
    })
}
