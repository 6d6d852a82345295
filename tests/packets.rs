//! What the guarantees promise, shown with packets: on both backends, from every kind of bridge,
//! in both families.

use std::net::{IpAddr, SocketAddr};

use lab::imds::{IMDS, IMDS6};
use lab::namespace::Namespace;
use lab::probe::proto;
use lab::tamper::Backend;
use lab::{AWSVPC, DOCKER, HOST, Lab, USER};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\n";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reaches_imds(from: &Namespace) -> bool {
    from.tcp_connects(SocketAddr::new(IMDS, 80))
}

fn apply(lab: &Lab, backend: Backend, ecs_config: &str) -> String {
    lab.write("ecs.config", ecs_config);
    let name = if backend == Backend::Nft {
        "nft"
    } else {
        "legacy"
    };
    lab.netguard(["apply", "--backend", name]).run()
}

#[test]
fn imds_block_stops_every_protocol_from_every_bridge_in_both_families() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        for container in lab.containers() {
            assert!(
                reaches_imds(container),
                "the lab itself: {} gets no answer",
                container.name()
            );
            assert!(
                container.tcp_connects(SocketAddr::new(IMDS6, 80)),
                "the lab itself, IPv6"
            );
        }
        apply(&lab, backend, BLOCK);
        lab.counter().reset();
        for container in lab.containers() {
            for address in [IMDS, IMDS6] {
                let name = container.name();
                assert!(
                    !container.tcp_connects(SocketAddr::new(address, 80)),
                    "{backend:?} {name}"
                );
                assert!(
                    !container.icmp_echo(address).unwrap(),
                    "{backend:?} {name} {address}"
                );
                container.udp_send(SocketAddr::new(address, 53)).unwrap();
                container.raw_proto(address, proto::SCTP).unwrap();
                container.raw_proto(address, proto::EXPERIMENT).unwrap();
            }
        }
        let arrived = lab.counter().arrived();
        assert_eq!(arrived.total(), 0, "{backend:?}: {arrived:?}");
        assert!(
            reaches_imds(&lab.host),
            "the host itself still reaches IMDS"
        );
        assert!(
            lab.docker.http_get("10.0.0.1", 80, "/").is_ok()
                || lab.docker.icmp_echo(ip("10.0.0.1")).unwrap(),
            "the rest of the network is still reached"
        );
    }
}

#[test]
fn without_the_wish_containers_reach_imds() {
    let lab = Lab::new();
    apply(&lab, Backend::Nft, "ECS_AWSVPC_BLOCK_IMDS=false\n");
    for (container, source) in lab.containers().into_iter().zip([DOCKER, USER, AWSVPC]) {
        assert!(reaches_imds(container), "{source}");
    }
}

#[test]
fn task_credentials_are_reached_from_containers_and_from_the_host() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        assert!(
            lab.docker.task_credentials().is_err(),
            "without the rules there is no answer"
        );
        apply(&lab, backend, "ECS_ENABLE_TASK_IAM_ROLE=true\n");
        for from in [&lab.docker, &lab.user, &lab.awsvpc, &lab.host] {
            let answer = from
                .task_credentials()
                .unwrap_or_else(|e| panic!("{backend:?} {}: {e}", from.name()));
            assert!(answer.json()["AccessKeyId"].is_string(), "{answer:?}");
        }
    }
}

#[test]
fn route_localnet_on_bridges_alone_serves_containers_and_not_the_uplink() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[credentials]\nroute_localnet = \"bridges\"\n",
    );
    apply(&lab, Backend::Nft, "ECS_ENABLE_TASK_IAM_ROLE=true\n");
    assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "0");
    assert_eq!(lab.host.sysctl("net/ipv4/conf/docker0/route_localnet"), "1");
    assert_eq!(lab.host.sysctl("net/ipv4/conf/ens5/route_localnet"), "0");
    for from in [&lab.docker, &lab.user, &lab.awsvpc, &lab.host] {
        assert!(from.task_credentials().is_ok());
    }
}

#[test]
fn the_shield_stands_as_long_as_route_localnet_is_on() {
    let secret = SocketAddr::new(ip("127.0.0.1"), 8500);
    let lab = Lab::new();
    let off = "ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n";
    // As ecs-init does it, whatever the variables say.
    lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
    apply(
        &lab,
        Backend::Nft,
        &format!("{off}ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n"),
    );
    assert!(
        lab.neighbour.tcp_connects(secret),
        "the filter is to be skipped"
    );
    apply(&lab, Backend::Nft, off);
    assert!(!lab.neighbour.tcp_connects(secret));
    let found = lab.netguard(["check"]).run();
    assert!(
        found.contains("net.ipv4.conf.all.route_localnet is 1"),
        "{found}"
    );
    lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "0");
    apply(&lab, Backend::Nft, off);
    assert!(
        !lab.host
            .sh("iptables-nft -S INPUT")
            .contains("loopback-shield")
    );
}

#[test]
fn loopback_shield_keeps_the_neighbour_from_the_hosts_loopback_services() {
    let secret = SocketAddr::new(ip("127.0.0.1"), 8500);
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
        assert!(
            lab.neighbour.tcp_connects(secret),
            "the attack works without the shield"
        );
        lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "0");
        apply(&lab, backend, "ECS_ENABLE_TASK_IAM_ROLE=true\n");
        assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "1");
        assert!(!lab.neighbour.tcp_connects(secret), "{backend:?}");
        assert!(
            lab.host.tcp_connects(secret),
            "the host itself still reaches it"
        );
    }
}

#[test]
fn introspection_answers_the_host_and_the_default_bridge_only() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let agent = SocketAddr::new(HOST, 51678);
        assert!(lab.neighbour.tcp_connects(agent), "the lab itself");
        apply(&lab, backend, "");
        assert!(
            !lab.neighbour.tcp_connects(agent),
            "{backend:?}: the neighbour"
        );
        assert!(
            !lab.user.tcp_connects(agent),
            "{backend:?}: a user-defined network"
        );
        assert!(
            lab.docker
                .tcp_connects(SocketAddr::new(ip("172.17.0.1"), 51678)),
            "{backend:?}"
        );
        assert!(
            lab.host
                .tcp_connects(SocketAddr::new(ip("127.0.0.1"), 51678)),
            "{backend:?}"
        );
        apply(
            &lab,
            backend,
            "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=true\n",
        );
        assert!(lab.neighbour.tcp_connects(agent), "{backend:?}: allowed");
    }
}

#[test]
fn a_default_bridge_of_another_name_is_covered() {
    let lab = Lab::new();
    lab.host.sh("mkdir -p /run/docker && ip link set docker0 down && ip link set docker0 name apps0 && ip link set apps0 up && ip route replace 172.17.0.0/16 dev apps0");
    lab.daemon_json(&serde_json::json!({"bridge": "apps0"}));
    assert!(reaches_imds(&lab.docker), "the lab itself");
    apply(&lab, Backend::Nft, BLOCK);
    assert!(!reaches_imds(&lab.docker));
    assert!(
        lab.docker
            .tcp_connects(SocketAddr::new(ip("172.17.0.1"), 51678))
    );
}

#[test]
fn a_bridge_that_no_pattern_fits_is_named_and_covered_when_configured() {
    let lab = Lab::new();
    lab.host.sh("ip link set docker0 down && ip link set docker0 name apps0 && ip link set apps0 up && ip route replace 172.17.0.0/16 dev apps0");
    // With the edge it is covered whatever its name is.
    lab.write("config.toml", "[edge]\nenabled = false\n");
    apply(&lab, Backend::Nft, BLOCK);
    let told = || {
        let output = lab.netguard(["check"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let words = told();
    assert!(
        words.contains("not covered by imds-block") && words.contains("fits: apps0;"),
        "{words}"
    );
    assert!(
        reaches_imds(&lab.docker),
        "it is not configured as a container bridge"
    );
    lab.write(
        "config.toml",
        "[imds]\ninterfaces = [\"docker+\", \"br-+\", \"ecs-bridge\", \"apps0\"]\n[edge]\nenabled = false\n",
    );
    apply(&lab, Backend::Nft, BLOCK);
    assert!(!reaches_imds(&lab.docker));
    let words = told();
    assert!(!words.contains("not covered"), "{words}");
}

#[test]
fn a_wish_whose_name_is_nearly_right_is_a_block() {
    let lab = Lab::new();
    for (line, blocked) in [
        ("ECS_AWSVPC_BLOCK_IMDS = true", true),
        ("ECS_AWSVPC_BLOCK_IMDS:true", true),
        ("export ECS_AWSVPC_BLOCK_IMDS=true", true),
        ("ecs_awsvpc_block_imds=true", true),
        ("ECS_AWSVPC_BLOCK_IMD=true", true),
        ("#ECS_AWSVPC_BLOCK_IMDS=true", false),
    ] {
        apply(&lab, Backend::Nft, &format!("{line}\n"));
        lab.counter().reset();
        for address in [IMDS, IMDS6] {
            drop(lab.docker.udp_send(SocketAddr::new(address, 80)));
        }
        assert_eq!(reaches_imds(&lab.docker), !blocked, "{line}");
        let arrived = lab.counter().arrived();
        assert_eq!(arrived.total() == 0, blocked, "{line}: {arrived:?}");
        lab.netguard(["release"]).run();
    }
}
