//! What is claimed of a ruleset: claims that packets can answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ecs_netguard::prove::{
    Addrs, Claim, Destination, Expect, HostView, Iface, Ifaces, Moment, Origin, PacketClass,
};
use ecs_netguard::ruleset::{Family, IfacePattern, Net, PortRange, protocol};

use super::random::Random;
use lab::HOST;
use lab::imds::{CREDENTIALS, CREDENTIALS_PORT, IMDS, IMDS6};

/// The host's bridges, in the order of [`Lab::containers`].
pub(crate) const BRIDGES: [&str; 3] = ["docker0", "br-0123456789ab", "ecs-bridge"];

const CONTAINERS: [(&str, &str); 3] = [
    ("172.17.0.2", "fd00:17::2"),
    ("172.18.0.2", "fd00:18::2"),
    ("169.254.172.2", "fd00:19::2"),
];

/// Which `route_localnet` are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Localnet {
    All,
    Docker0,
    Off,
}

/// The address of a container, by its bridge.
pub(crate) fn container(index: usize, family: Family) -> IpAddr {
    let (v4, v6) = CONTAINERS[index];
    let text = if family == Family::V4 { v4 } else { v6 };
    text.parse().expect("an address")
}

pub(crate) fn imds(family: Family) -> IpAddr {
    if family == Family::V4 { IMDS } else { IMDS6 }
}

pub(crate) fn host_view(localnet: Localnet) -> HostView {
    let addrs = [
        ("lo", ["127.0.0.1", "::1"]),
        ("docker0", ["172.17.0.1", "fd00:17::1"]),
        ("br-0123456789ab", ["172.18.0.1", "fd00:18::1"]),
        ("ecs-bridge", ["169.254.172.1", "fd00:19::1"]),
        ("ens5", ["10.0.0.10", "fd00:10::10"]),
    ];
    let interfaces: BTreeMap<String, Iface> = addrs
        .into_iter()
        .map(|(name, addrs)| {
            let iface = Iface {
                addrs: addrs
                    .iter()
                    .map(|a| a.parse().expect("an address"))
                    .collect(),
                route_localnet: localnet == Localnet::All
                    || (localnet == Localnet::Docker0 && name == "docker0"),
            };
            (name.to_owned(), iface)
        })
        .collect();
    HostView {
        interfaces,
        route_localnet: localnet == Localnet::All,
        ..HostView::default()
    }
}

/// The claims about one ruleset: those of the guarantees, and two narrower ones.
pub(crate) fn claims(random: &mut Random, family: Family) -> Vec<Claim> {
    let mut claims: Vec<Claim> = (0..BRIDGES.len()).map(|b| block(family, b, None)).collect();
    for claim in &mut claims {
        claim.packets.turned = random.percent(60);
    }
    for _ in 0..2 {
        claims.push(narrow(random, family));
    }
    if family == Family::V4 {
        claims.push(delivery(Some(0)));
        claims.push(delivery(None));
    }
    claims
}

/// The claims that every kept ruleset is judged by.
pub(crate) fn standard(family: Family) -> Vec<Claim> {
    let mut claims = Vec::new();
    let icmp = if family == Family::V4 {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    for bridge in 0..BRIDGES.len() {
        for protocol in [None, Some(protocol::TCP), Some(protocol::UDP), Some(icmp)] {
            claims.push(block(family, bridge, protocol));
            let mut straight = block(family, bridge, protocol);
            straight.packets.turned = false;
            claims.push(straight);
        }
    }
    if family == Family::V4 {
        claims.extend((0..BRIDGES.len()).map(|bridge| delivery(Some(bridge))));
        claims.push(delivery(None));
    }
    claims
}

fn narrow(random: &mut Random, family: Family) -> Claim {
    let icmp = if family == Family::V4 {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    let number = random.pick(&[
        protocol::TCP,
        protocol::TCP,
        protocol::UDP,
        protocol::SCTP,
        icmp,
        253,
    ]);
    let mut claim = block(family, random.below(BRIDGES.len()), Some(number));
    claim.packets.turned = random.percent(50);
    if protocol::WITH_PORTS.contains(&number) && random.percent(60) {
        let (low, high) =
            random.pick(&[(80, 80), (53, 80), (1, 1023), (1000, 65535), (51679, 51679)]);
        claim.packets.dport = Some(PortRange { low, high });
    }
    claim
}

fn iface(name: &str) -> Ifaces {
    IfacePattern::Exact(name.to_owned()).into()
}

pub(crate) fn block(family: Family, bridge: usize, protocol: Option<u8>) -> Claim {
    Claim {
        guarantee: "imds-block".to_owned(),
        packets: PacketClass {
            family,
            from: Origin::Interface(iface(BRIDGES[bridge])),
            out: Some(iface("ens5")),
            src: Addrs::from(Net::host(container(bridge, family))),
            dst: Destination::Net(Net::host(imds(family))),
            protocol,
            sport: None,
            dport: None,
            moment: Moment::Any,
            turned: true,
        },
        expect: Expect::Dropped,
    }
}

/// Of a bridge, or of the host.
fn delivery(bridge: Option<usize>) -> Claim {
    let (from, src) = match bridge {
        Some(bridge) => (
            Origin::Interface(iface(BRIDGES[bridge])),
            container(bridge, Family::V4),
        ),
        None => (Origin::Host, HOST),
    };
    Claim {
        guarantee: "task-credentials".to_owned(),
        packets: PacketClass {
            from,
            out: bridge.is_none().then(|| iface("ens5")),
            moment: Moment::First,
            src: Addrs::from(Net::host(src)),
            dst: Destination::Net(Net::host(CREDENTIALS)),
            protocol: Some(protocol::TCP),
            dport: Some(PortRange { low: 80, high: 80 }),
            ..block(Family::V4, 0, None).packets
        },
        expect: Expect::Delivered {
            addr: Ipv4Addr::LOCALHOST.into(),
            port: CREDENTIALS_PORT,
        },
    }
}
