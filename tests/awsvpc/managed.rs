//! Managed instances: the agent's bridge has another name there and carries the agent's daemons too, and the
//! agent makes namespaces by itself, without Docker.

use super::*;
use lab::imds::{IMDS, IMDS6};
use lab::task::{Eni, Plan};

/// Gives the lab's bridge of tasks the name that it has on managed instances, and what is behind it the addresses
/// of the daemons' namespace (aws/amazon-ecs-agent, ecs-agent/netlib/platform/cniconf.go).
fn managed() -> Lab {
    let lab = Lab::new();
    lab.host.sh(
        "ip link set ecs-bridge down; ip link set ecs-bridge name fargate-bridge; ip link set fargate-bridge up
         ip addr add fd00:ec2::172:1/112 dev fargate-bridge nodad",
    );
    lab.awsvpc
        .sh("ip addr add fd00:ec2::172:2/112 dev ecs-eth0 nodad
         ip -6 route replace default via fd00:ec2::172:1");
    lab.imds
        .sh("ip -6 route add fd00:ec2::172:0/112 via fd00:10::10");
    lab
}

#[test]
fn a_daemon_behind_the_bridge_of_a_managed_instance_is_kept_out_and_has_its_credentials() {
    let lab = managed();
    for address in [IMDS, IMDS6] {
        eventually(LONG, "the daemon reaches the service", || {
            lab.awsvpc.icmp_echo(address).unwrap()
        });
    }
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    lab.counter().reset();
    for address in [IMDS, IMDS6] {
        assert!(lab.awsvpc.role_credentials_v1(address).is_err());
        assert!(!lab.awsvpc.icmp_echo(address).unwrap());
    }
    assert_eq!(lab.counter().arrived().total(), 0);
    assert!(lab.awsvpc.task_credentials().is_ok());
    assert_eq!(json(&lab, "check").1, 0);
}

#[test]
fn a_task_behind_the_bridge_of_a_managed_instance_is_found_and_named_by_its_handle() {
    let lab = managed();
    let _daemon = daemon(&lab);
    let mut task = lab.task(Plan {
        bridge: "fargate-bridge",
        blackholes: false,
        ..Plan::default()
    });
    task.bind_managed_handle(&lab.host);
    wait_until_held(&lab, &task);
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    let named = eventually(LONG, "the task has a name", || {
        listed(&json(&lab, "status").0, &task).filter(|found| found["id"] == task.id)
    });
    assert_eq!(named["standing"], "held", "{named}");
}

#[test]
fn a_namespace_that_only_its_handle_tells_is_a_task_of_a_managed_instance() {
    let lab = Lab::new();
    let _daemon = daemon(&lab);
    let mut task = lab.task(Plan {
        bridged: false,
        eni: Eni::Macvlan,
        blackholes: false,
        ..Plan::default()
    });
    assert!(listed(&json(&lab, "status").0, &task).is_none());
    task.bind_managed_handle(&lab.host);
    let found = wait_until_held(&lab, &task);
    assert_eq!(found["id"], task.id, "{found}");
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
}
