//! The edge on a real kernel: whose packets reach the metadata service, and whose do not.

mod daemon;
mod ways;

use std::net::{IpAddr, SocketAddr};

use ecs_netguard::guarantee::EdgeRules;
use ecs_netguard::ruleset::Family;
use ecs_netguard::seal::SealState;
use ecs_netguard::seal::edge::{Edge, EdgeReading};
use lab::Lab;
use lab::frames::{mac, write_frames};
use lab::imds::{IMDS, IMDS6};
use lab::namespace::{Kind, Namespace};
use lab::probe::proto;
use lab::wait::close;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What the edge stops where containers are to be blocked.
fn everything() -> EdgeRules {
    EdgeRules::sockets_only(&FAMILIES)
}

/// Makes the edge in the lab's host. The socket stays open as long as the value lives.
fn edge(lab: &Lab) -> Edge {
    lab.host.run(|| {
        let mut edge = Edge::open(None).unwrap();
        assert!(edge.keep(&everything()).unwrap().changed);
        assert!(!edge.keep(&everything()).unwrap().changed);
        edge
    })
}

fn look(lab: &Lab) -> EdgeReading {
    lab.host.run(|| EdgeReading::take(&everything()))
}

/// Tries everything that an IP stack sends. Nothing of it is answered behind an edge.
fn send_everything(ns: &Namespace) {
    for service in [IMDS, IMDS6] {
        assert!(!ns.tcp_connects(SocketAddr::new(service, 80)));
        // Errors are what a drop looks like from there.
        drop(ns.udp_send(SocketAddr::new(service, 80)));
        drop(ns.icmp_echo(service));
        for protocol in [proto::GRE, proto::SCTP, proto::EXPERIMENT] {
            drop(ns.raw_proto(service, protocol));
        }
    }
}

/// A container that is connected with the host as `script` says, which runs there; `NETNS` is its namespace
/// and `eth0` becomes its interface.
fn container(
    lab: &Lab,
    name: &'static str,
    script: &str,
    address: &str,
    gateway: &str,
) -> Namespace {
    let ns = Namespace::new(name, Kind::Network).unwrap();
    let netns = ns.netns();
    lab.host
        .sh(&script.replace("NETNS", netns.to_str().unwrap()));
    ns.sh(&format!(
        "ip link set lo up; ip addr add {address} dev eth0; ip link set eth0 up; \
         ip addr add fd00:31::2/64 dev eth0 nodad; \
         ip route add default via {gateway} dev eth0 onlink; \
         ip route add default via fd00:31::1 dev eth0 onlink"
    ));
    ns
}

/// A container on a bridge that no pattern names.
fn unnamed(lab: &Lab) -> Namespace {
    container(
        lab,
        "unnamed",
        "ip link add lxc0 type bridge forward_delay 0; ip addr add 172.31.0.1/24 dev lxc0; \
         ip addr add fd00:31::1/64 dev lxc0 nodad; ip link set lxc0 up; \
         ip link add vethx type veth peer name eth0 netns NETNS; ip link set vethx master lxc0 up",
        "172.31.0.2/24",
        "172.31.0.1",
    )
}

#[test]
fn what_containers_send_does_not_leave_whatever_their_interfaces_are_called() {
    let lab = Lab::new();
    let unnamed = unnamed(&lab);
    lab.imds
        .sh("ip route add 172.31.0.0/24 via 10.0.0.10; ip route add fd00:31::/64 via fd00:10::10");
    lab.host.sh("ip link set docker0 name harbour");
    let routed = container(
        &lab,
        "routed",
        "ip link add cali0 type veth peer name eth0 netns NETNS; ip link set cali0 up; \
         ip addr add 172.30.0.1/32 dev cali0; ip route add 172.30.0.2/32 dev cali0",
        "172.30.0.2/32",
        "172.30.0.1",
    );
    let senders = [&lab.docker, &lab.user, &lab.awsvpc, &unnamed, &routed];
    for ns in senders {
        drop(ns.udp_send(SocketAddr::new(IMDS, 80)));
    }
    assert!(lab.counter().arrived().total() >= 5, "all of them get out");
    lab.counter().reset();

    let _edge = edge(&lab);
    for ns in senders {
        send_everything(ns);
    }
    assert_eq!(lab.counter().arrived().total(), 0);
    let stopped = look(&lab).stopped;
    assert!(
        stopped.iter().all(|(_, packets)| *packets > 0),
        "{stopped:?}"
    );
}

#[test]
fn raw_frames_do_not_leave_whatever_their_protocol_is_said_to_be() {
    let lab = Lab::new();
    let uplink = mac(&lab.imds, "lan");
    assert_ne!(write_frames(&lab.host, "ens5", &uplink).0, 0);
    assert!(
        lab.counter().arrived().total() > 100,
        "without an edge they arrive"
    );
    lab.counter().reset();

    let _edge = edge(&lab);
    let (taken, refused) = write_frames(&lab.host, "ens5", &uplink);
    assert_eq!(taken, 0, "{refused} were refused");
    assert_eq!(lab.counter().arrived().total(), 0);
}

#[test]
fn a_macvlan_on_the_uplink_reaches_nothing() {
    let lab = Lab::new();
    let neighbour = container(
        &lab,
        "macvlan",
        "ip link add link ens5 name eth0 netns NETNS type macvlan mode bridge",
        "10.0.0.31/24",
        "10.0.0.1",
    );
    drop(neighbour.udp_send(SocketAddr::new(IMDS, 80)));
    assert!(lab.counter().arrived().total() > 0, "it gets out");
    lab.counter().reset();

    let _edge = edge(&lab);
    send_everything(&neighbour);
    let (taken, _) = write_frames(&neighbour, "eth0", &mac(&lab.imds, "lan"));
    assert_eq!(
        lab.counter().arrived().total(),
        0,
        "{taken} frames left the container"
    );
}

/// The kernel checks CAP_NET_ADMIN in the user namespace that owns the host's network namespace, which is the
/// container's own.
#[test]
fn what_a_container_makes_in_the_hosts_namespace_by_rtnetlink_leads_nowhere() {
    let lab = Lab::new();
    let container = container(
        &lab,
        "admin",
        "ip link add vethx type veth peer name eth0 netns NETNS; ip link set vethx master docker0 up",
        "172.17.0.99/16",
        "172.17.0.1",
    );
    let may = "setpriv --bounding-set=-all,+net_admin,+net_raw --inh-caps=-all";
    let index = lab.host.sh("cat /sys/class/net/ens5/ifindex");
    let script = include_str!("lab/veth_into_host.py");
    container.sh(&format!(
        "{may} ip link add link if{} name mv0 link-netnsid 0 type macvlan mode bridge
         {may} python3 - outer0 inner0 <<'END'\n{script}\nEND
         ip addr flush dev eth0; ip link set mv0 up; ip link set inner0 up; ip addr add 10.0.0.77/24 dev mv0",
        index.trim()
    ));
    let outer = mac(&lab.host, "outer0");
    let by_the_macvlan = "ip route replace default via 10.0.0.1 dev mv0
         ip -6 addr replace fd00:10::77/64 dev mv0 nodad
         ip -6 route replace default via fd00:10::1 dev mv0";
    // The host's end needs no address to forward.
    let by_the_cable = format!(
        "ip addr replace 172.30.7.2/32 dev inner0; ip -6 addr replace fd00:77::2/64 dev inner0 nodad
         ip neigh replace 172.30.7.1 lladdr {outer} dev inner0
         ip -6 neigh replace fd00:77::1 lladdr {outer} dev inner0
         ip route replace default via 172.30.7.1 dev inner0 onlink
         ip -6 route replace default via fd00:77::1 dev inner0 onlink"
    );
    let uplink = mac(&lab.imds, "lan");
    let send = |way: &str, to: &str, interface| {
        container.sh(way);
        for service in [IMDS, IMDS6] {
            drop(container.udp_send(SocketAddr::new(service, 80)));
        }
        write_frames(&container, interface, to);
        let arrived = lab.counter().arrived().total();
        lab.counter().reset();
        arrived
    };
    let both = || {
        [
            send(by_the_macvlan, &uplink, "mv0"),
            send(&by_the_cable, &outer, "inner0"),
        ]
    };
    assert!(both().iter().all(|arrived| *arrived > 0), "they get out");
    let _edge = edge(&lab);
    assert_eq!(both(), [0, 0]);
}

#[test]
fn the_host_itself_loses_nothing() {
    let lab = Lab::new();
    let before = look(&lab);
    assert_eq!(before.state, SealState::Missing);
    let _edge = edge(&lab);
    for service in [IMDS, IMDS6] {
        assert!(lab.host.role_credentials_v1(service).is_ok());
        assert!(lab.host.role_credentials_v2(service).is_ok());
        assert!(lab.host.icmp_echo(service).unwrap());
    }
    let refused: u32 = lab.host.run(|| connections(500));
    assert_eq!(refused, 0);
    // Those that were killed.
    for _ in 0..5 {
        lab.host.sh(
            "python3 -c 'import os, socket; s = socket.create_connection((\"169.254.169.254\", 80)); \
             s.send(b\"GET\"); os.kill(os.getpid(), 9)' || true",
        );
    }
    // Since 6.13 the kernel gives what a socket in TIME_WAIT answers to that socket, of which no rule can tell
    // whose it is (ip_send_unicast_reply() in net/ipv4/ip_output.c). Its connection is over.
    let stopped = look(&lab).stopped;
    for (family, packets) in &stopped {
        assert!(*packets < 100, "packets of the host, {family}: {stopped:?}");
    }
}

/// Makes connections over both families: some are closed with data unread, some reset. How many came
/// to nothing.
fn connections(each: u32) -> u32 {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;
    let connect = |to: IpAddr| TcpStream::connect_timeout(&(to, 80).into(), Duration::from_secs(5));
    let mut refused = 0;
    for number in 0..each {
        for to in [IMDS, IMDS6] {
            let Ok(mut stream) = connect(to) else {
                refused += 1;
                continue;
            };
            match number % 4 {
                0 => drop(stream.write_all(b"GET / HTTP/1.0\r\n\r\n")),
                1 => {
                    use nix::sys::socket::{setsockopt, sockopt};
                    let now = nix::libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    setsockopt(&stream, sockopt::Linger, &now).unwrap();
                }
                2 => drop(stream.write_all(&[b'x'; 60_000])),
                _ => {
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                    let mut answer = Vec::new();
                    drop(stream.read_to_end(&mut answer));
                }
            }
        }
    }
    refused
}

#[test]
fn it_follows_the_interfaces() {
    let lab = Lab::new();
    let mut edge = edge(&lab);
    let away = Namespace::new("away", Kind::Network).unwrap();
    for step in [
        "ip link add dummy0 type veth peer name dummy1",
        "ip link set dummy0 name new-name",
        "ip link add br9 type bridge; ip link set new-name master br9",
        "ip link add cable type veth peer name end netns AWAY",
        "ip link set cable master br9",
        "ip link set cable nomaster",
        "ip link set new-name netns AWAY",
        "ip link del dummy1",
        "ip link del cable",
    ] {
        let step = step.replace("AWAY", away.netns().to_str().unwrap());
        lab.host.sh(&step);
        edge = lab.host.run(move || {
            edge.keep(&everything()).unwrap();
            edge
        });
        let reading = look(&lab);
        assert!(
            reading.state.is_owned(),
            "{step}: {reading:?}\n{}",
            lab.host.sh("nft list ruleset")
        );
    }
    assert_eq!(look(&lab).interfaces, ["ens5"]);
}

#[test]
fn no_other_process_can_change_it() {
    let lab = Lab::new();
    let edge = edge(&lab);
    for tampering in [
        "nft delete table netdev ecs_netguard",
        "nft flush chain netdev ecs_netguard raw",
        "nft insert rule netdev ecs_netguard routed accept",
    ] {
        let error = lab.host.try_run(tampering).unwrap_err();
        assert!(
            error.contains("Operation not permitted"),
            "{tampering}: {error}"
        );
    }
    lab.host.sh("nft flush ruleset");
    assert!(look(&lab).state.is_owned());
    // With its socket closed the drops stay.
    close(edge, || look(&lab).state.is_owned());
    let reading = look(&lab);
    assert!(reading.holds(), "{reading:?}");
    drop(lab.docker.udp_send(SocketAddr::new(IMDS, 80)));
    assert_eq!(lab.counter().arrived().total(), 0);
}

#[test]
fn without_persist_a_twin_stays_and_is_repaired() {
    use ecs_netguard::seal::Lacking;
    let lab = Lab::new();
    let edge = lab.host.run(|| {
        let mut edge = Edge::open(None).unwrap().lacking(Some(Lacking::Persist));
        assert!(edge.keep(&everything()).unwrap().changed);
        assert!(edge.is_open());
        edge
    });
    assert_eq!(look(&lab).state, SealState::Owned);
    assert!(!look(&lab).twinless);
    lab.host.sh("nft delete table netdev ecs_netguard_twin");
    assert!(look(&lab).twinless);
    let edge = lab.host.run(move || {
        let mut edge = edge;
        assert_eq!(
            edge.keep(&everything()).unwrap().altered,
            ["ecs_netguard_twin"]
        );
        edge
    });
    assert!(!look(&lab).twinless);
    close(edge, || look(&lab).state.is_owned());
    assert_eq!(look(&lab).state, SealState::Twin);
    drop(lab.docker.udp_send(SocketAddr::new(IMDS, 80)));
    assert_eq!(lab.counter().arrived().total(), 0);
}

#[test]
fn an_interface_at_which_it_does_not_stand_is_named() {
    let lab = Lab::new();
    let at = |reading: EdgeReading| (reading.interfaces, reading.uncovered);
    let ens5 = vec!["ens5".to_owned()];
    assert_eq!(at(look(&lab)), (ens5.clone(), ens5.clone()));
    let edge = edge(&lab);
    assert_eq!(at(look(&lab)), (ens5, Vec::new()));
    lab.host.sh("ip link add way1 type veth peer name way2");
    let found = look(&lab);
    assert_eq!(found.state, SealState::Missing);
    assert_eq!(found.interfaces.len(), 3, "{:?}", found.interfaces);
    let mut uncovered = found.uncovered;
    uncovered.sort();
    assert_eq!(uncovered, ["way1", "way2"]);
    drop(edge);
}
