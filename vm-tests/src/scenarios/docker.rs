//! Docker restarts, which puts its own rules on top; a new network appears; and Docker's own work goes on.

use anyhow::Result;

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "docker",
    about: "Docker restarted, stopped and started; a new network, published ports, the rest of the network",
    core: true,
    bare: false,
    on: On::EveryTree,
    needs: &[],
    run,
};

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    host.restart_docker()?;
    host.none_arrived("at Docker's restart")?;
    // Docker's stop stops ecs-init with it, and only a restart brings that back.
    host.wait_credentials()?;
    host.sh("systemctl stop docker.socket docker")?;
    host.sh("systemctl start docker ecs")?;
    host.none_arrived("at Docker's stop and start")?;
    host.wait_tasks()?;
    host.wait_protected()?;
    network_works(host)?;

    // Its bridge is br-<id>, which no documented rule covers.
    host.sh("docker network create later >/dev/null && \
         docker run -d --name four --network later --stop-timeout 1 probe /probe.sh >/dev/null")?;
    host.wait_for(
        "the container on the new network sends",
        "test \"$(docker exec four cat /sys/class/net/eth0/statistics/tx_packets)\" -gt 100",
    )?;
    host.none_arrived("from a network made later")?;
    host.sh("docker rm -f four >/dev/null && docker network rm later >/dev/null")?;

    let packets = host.finish()?;
    network_works(host)?;
    Ok(Report {
        packets: Some(packets),
        ..Report::default()
    })
}

/// What containers are there for still works.
fn network_works(host: &Host<'_>) -> Result<()> {
    host.wait_for(
        "a published port answers",
        "ip netns exec up curl -sf -m 5 http://10.0.0.10:8080/ | grep -q published",
    )?;
    host.wait_for(
        "containers of a network reach each other by name",
        "docker exec two timeout 5 wget -q -O - http://three/ | grep -q published",
    )?;
    for task in ["one", "two"] {
        host.wait_for(
            "containers reach the rest of the network",
            &format!(
                "docker exec {task} timeout 5 wget -q -O - http://10.0.0.1/ | grep -q answered"
            ),
        )?;
    }
    Ok(())
}
