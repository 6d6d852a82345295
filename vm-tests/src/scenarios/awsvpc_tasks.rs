//! Tasks with a network interface of their own: real containers, in the cgroups and namespaces that ECS
//! would use.

use anyhow::Result;

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "awsvpc-tasks",
    about: "a task that ran before the guard came; a task that takes its own block away",
    core: false,
    bare: true,
    on: On::EveryKernel,
    needs: &[],
    run,
};

/// The ids of the two tasks, as the ECS agent makes them.
const EARLY: &str = "0000000000000000000000000000ea51";
const LATE: &str = "000000000000000000000000000001a7";

fn run(host: &mut Host<'_>) -> Result<Report> {
    // The agent was started before the block was asked for.
    host.sh("/usr/lib/ecs-test/awsvpc-task.sh 0000000000000000000000000000ea51 21")?;
    host.wait_for(
        "without the guard the task is answered",
        "docker exec task-0000000000000000000000000000ea51 timeout 5 wget -q -O - http://169.254.169.254/ | grep -q answered",
    )?;
    host.install()?;
    held(host, EARLY)?;
    host.count_from_here()?;

    host.sh("/usr/lib/ecs-test/awsvpc-task.sh 000000000000000000000000000001a7 22 blackhole")?;
    held(host, LATE)?;
    for script in [
        "ip route del blackhole 169.254.169.254",
        "ip -6 route del blackhole fd00:ec2::254",
    ] {
        // A route that is away for good would fail the second time.
        for _ in 0..3 {
            host.wait_for(
                "the route is there to be deleted",
                &format!("docker exec task-000000000000000000000000000001a7 {script}"),
            )?;
        }
    }
    host.none_arrived("from a task that deletes its routes")?;
    // As root of the host, since the container has no nft.
    host.sh("nsenter -t $(docker inspect -f '{{.State.Pid}}' task-000000000000000000000000000001a7) -n nft flush ruleset; :")?;
    held(host, EARLY)?;
    held(host, LATE)?;
    host.wait_for(
        "the task gets its credentials",
        "docker exec task-000000000000000000000000000001a7 timeout 5 wget -q -O - http://169.254.170.2/v2/credentials/1 | grep -q of-the-task",
    )?;
    // The task reaches the rest of its network.
    host.wait_for(
        "the task reaches the network",
        "docker exec task-000000000000000000000000000001a7 timeout 5 wget -q -O - http://10.0.22.1/ | grep -q answered",
    )?;
    Report::finished(host)
}

fn held(host: &Host<'_>, task: &str) -> Result<()> {
    host.wait_for(
        "the task's block is held",
        &format!("ecs-netguard status | grep '{task} (awsvpc) *held'"),
    )?;
    Ok(())
}
