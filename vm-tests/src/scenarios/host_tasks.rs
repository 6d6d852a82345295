//! A task on the host's own network: a real container, in the cgroup in which the ECS agent would put it.

use anyhow::{Context as _, Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host-tasks",
    about: "containers on the host's network, started, ended, and started again, with host_tasks = true",
    core: false,
    bare: false,
    on: On::OldestKernel,
    needs: &[],
    run,
};

const IMDS: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    host.sh(&format!(
        "docker run --rm --network host --cgroup-parent ecstasks-before.slice probe timeout 20 wget -q -O - {IMDS}"
    ))
    .context("a task that is not kept away is answered")?;
    host.sh("sed -i 's/^#host_tasks = .*/host_tasks = true/' /etc/ecs-netguard/config.toml")?;
    host.wait_for("the guard is asked for it", HELD)?;
    // The cgroup of all tasks goes with the last and comes with the next, under the same name.
    for task in ["0123", "4567", "89ab"] {
        // Docker makes the cgroup, and the container starts in it some hundred milliseconds later; what
        // asks does so from when the guard has seen the cgroup.
        host.sh(&format!(
            "docker run -d --name task-{task} --network host --cgroup-parent ecstasks-{task}.slice \
             --stop-timeout 1 probe sleep 3600 >/dev/null"
        ))?;
        host.wait_for(
            "the task is in the cgroup of an ECS task",
            &format!(
                "grep -q '/ecstasks.slice/ecstasks-{task}.slice/' /proc/$(docker inspect -f '{{{{.State.Pid}}}}' task-{task})/cgroup"
            ),
        )?;
        host.wait_for(
            "the rules are for this cgroup",
            "id=$(stat -c %i /sys/fs/cgroup/ecstasks.slice); \
             iptables -S OUTPUT | grep -q \"(cgroup $id)\" && ip6tables -S OUTPUT | grep -q \"(cgroup $id)\"",
        )?;
        host.wait_for("it is held", HELD)?;

        let before = host.arrived_from_host()?;
        for ask in [
            format!("wget -q -O - {IMDS}"),
            "wget -q -O - 'http://[fd00:ec2::254]/latest/'".to_owned(),
            "ping -c 2 -W 1 169.254.169.254".to_owned(),
            "nslookup role.invalid 169.254.169.254".to_owned(),
        ] {
            let asked = host.run(&format!("docker exec task-{task} timeout 2 {ask}"))?;
            ensure!(asked.code != 0, "the task got an answer: {}", asked.stdout);
        }
        let arrived = host.arrived_from_host()? - before;
        ensure!(
            arrived == 0,
            "{arrived} packets of a task on the host's network arrived"
        );
        // Its own role's credentials and the rest of the network are its own business.
        for (from, what) in [
            ("http://169.254.170.2/v2/credentials/1", "of-the-task"),
            ("http://10.0.0.1/", "answered"),
        ] {
            host.wait_for(
                "the task reaches what it may",
                &format!("docker exec task-{task} timeout 5 wget -q -O - {from} | grep -q {what}"),
            )?;
        }
        // The host's own programs are outside of that cgroup.
        host.sh(&format!("curl -sf -m 20 {IMDS}"))?;
        host.sh(&format!("docker rm -f task-{task} >/dev/null"))?;
    }
    Report::finished(host)
}

const HELD: &str = "ecs-netguard status --json | jq -e '.guarantees[] | select(.name == \"host-imds-block\") | .standing == \"held\"'";
