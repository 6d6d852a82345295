//! Power that goes while the guard writes its state.

use anyhow::Result;

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "power",
    about: "ten hard power-offs in the middle of a state write",
    core: false,
    bare: false,
    on: On::Disk,
    needs: &[],
    run,
};

/// How often the power goes.
const ROUNDS: u32 = 10;

/// What else there is on the host, and takes most of a boot.
const REST: &str = "docker.socket docker containerd ecs";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.user_data(":")?;
    // What is remembered of ecs.config changes with every round, so the state is written all the time. What does it has to
    // be on the disk before the first cut.
    host.sh("cat >/var/lib/ecs-test/writes.sh <<'END'\n\
         while :; do for word in 1 t true TRUE; do\n\
         printf 'ECS_AWSVPC_BLOCK_IMDS=%s\\n' $word >/etc/ecs/.new\n\
         mv /etc/ecs/.new /etc/ecs/ecs.config\n\
         done; done\n\
         END\n\
         sync")?;
    // Most cuts meet a host on which little more than the guard starts, since they are about its state; the last one all
    // of it.
    host.sh(&format!("systemctl disable -q --now {REST}; sync"))?;
    for round in 0..ROUNDS {
        if round + 1 == ROUNDS {
            host.sh(&format!("systemctl enable -q --now {REST}; sync"))?;
            host.wait_tasks()?;
        }
        let before = host.sh("stat -c %i /var/lib/ecs-netguard/state.json")?;
        host.sh("systemd-run -q sh /var/lib/ecs-test/writes.sh")?;
        host.wait_for(
            "the state is written",
            &format!(
                "test \"$(stat -c %i /var/lib/ecs-netguard/state.json)\" != {}",
                before.trim()
            ),
        )?;
        // At another point of the writing each time.
        host.sh(&format!("sleep 0.{:03}", (round * 137) % 500))?;
        host.none_arrived("before the power went")?;
        host.power_cut()?;
        state_is_whole(host)?;
        host.wait_for(
            "the network around the host is there",
            "systemctl is-active -q test-network",
        )?;
    }
    containers_run(host)?;
    host.wait_tasks()?;
    host.none_arrived("in the last boot")?;
    state_is_whole(host)?;
    Report::finished(host)
}

/// After a cut Docker may fail to start a container with a published port, since it takes the port back before
/// it clears away what is left of that container (moby/libnetwork#1790, #2448): its next start repairs that.
fn containers_run(host: &Host<'_>) -> Result<()> {
    host.wait_for("Docker runs", "systemctl is-active -q docker")?;
    let any_down = "docker inspect -f '{{.State.Running}}' $(docker ps -aq) | grep -q false";
    host.sh(&format!("if {any_down}; then systemctl restart docker; fi"))?;
    Ok(())
}

/// The guard holds, with the state that it wrote before or with the one that it was writing.
fn state_is_whole(host: &Host<'_>) -> Result<()> {
    host.wait_protected()?;
    host.sh("test ! -e /var/lib/ecs-netguard/state.json.aside && jq -e . /var/lib/ecs-netguard/state.json >/dev/null")?;
    Ok(())
}
