//! Packets of a class that a block says are all dropped: many kinds of each protocol, and some
//! that no ordinary program sends.

use std::net::IpAddr;

use ecs_netguard::prove::{Packet, PacketClass};
use ecs_netguard::ruleset::{Family, PortRange, protocol};

use super::claims::imds;
use super::packets::{Flaw, Shot, plain};
use super::random::Random;

const ELSEWHERE4: [&str; 9] = [
    "169.254.170.2",
    "10.0.0.1",
    "8.8.8.8",
    "172.17.0.1",
    "127.0.0.1",
    "169.254.169.253",
    "10.9.9.9",
    "172.18.0.77",
    "10.0.169.254",
];
const ELSEWHERE6: [&str; 6] = [
    "fd00:10::1",
    "fd00:ec2::253",
    "fd00:17::1",
    "2001:db8::1",
    "fd00:18::77",
    "2001:db8::254",
];

/// What to send, to see a block be true.
pub(crate) fn spread(class: &PacketClass, random: &mut Random) -> Vec<Shot> {
    let src = source(class);
    let mut shots = towards(class, src, imds(class.family), class.dport, random);
    if class.turned {
        let elsewhere: &[&str] = match class.family {
            Family::V4 => &ELSEWHERE4,
            Family::V6 => &ELSEWHERE6,
        };
        for dst in elsewhere {
            let dst = dst.parse().expect("an address");
            shots.extend(towards(class, src, dst, None, random));
        }
    }
    for shot in &mut shots {
        vary(shot, random);
    }
    shots
}

/// Gives some packets other headers than programs do.
fn vary(shot: &mut Shot, random: &mut Random) {
    let packet = &mut shot.packet;
    if random.percent(40) {
        packet.ttl = Some(random.pick(&[1, 2, 63, 64, 65, 255]));
    }
    if random.percent(40) {
        packet.tos = Some(random.pick(&[0, 0x10, 0x28, 0x29, 0xb8]));
    }
    if shot.flaw == Flaw::None && random.percent(40) {
        packet.length = Some(random.pick(&[100, 101, 200, 1_200]));
    }
}

/// What answers a first packet that a container sends to itself in the name of the service, to each address that NAT may
/// have given that one as its source.
pub(crate) fn hairpins(class: &PacketClass) -> Vec<Shot> {
    if !class.turned
        || class.from.is_host()
        || class.protocol.is_some_and(|number| number != protocol::UDP)
    {
        return Vec::new();
    }
    let (src, port) = (source(class), class.dport.map_or(80, |range| range.low));
    let first = plain(imds(class.family), src, protocol::UDP, (port, 40_000));
    let own: &[&str] = match class.family {
        Family::V4 => &["172.17.0.1", "172.18.0.1", "169.254.172.1", "10.0.0.10"],
        Family::V6 => &["fd00:17::1", "fd00:18::1", "fd00:19::1", "fd00:10::10"],
    };
    let shot = |own: &&str| {
        let own = own.parse().expect("an address");
        let packet = Packet {
            answers: Some(Box::new(first.clone())),
            ..plain(src, own, protocol::UDP, (40_000, port))
        };
        Shot {
            packet,
            flaw: Flaw::None,
        }
    };
    own.iter().map(shot).collect()
}

/// First packets to the credentials endpoint, from any port and any user.
pub(crate) fn credentials(class: &PacketClass, random: &mut Random) -> Vec<Shot> {
    let endpoint = match &class.dst {
        ecs_netguard::prove::Destination::Net(net) => net.addr(),
        ecs_netguard::prove::Destination::ThisHost => unreachable!("no such claim here"),
    };
    let ports = [40_000, 1, 1023, 65_535, 80, 51_679, random.port().max(1)];
    let users = [0, 1000, 5, 65_534, 0, 10, 11];
    let shot = |(port, user): (u16, u32)| {
        let mut packet = plain(source(class), endpoint, protocol::TCP, (port, 80));
        packet.uid = Some(user);
        packet.gid = Some(user);
        Shot {
            packet,
            flaw: Flaw::None,
        }
    };
    ports.into_iter().zip(users).map(shot).collect()
}

fn source(class: &PacketClass) -> IpAddr {
    class
        .src
        .any_of
        .first()
        .expect("claims have one source")
        .addr()
}

fn towards(
    class: &PacketClass,
    src: IpAddr,
    dst: IpAddr,
    dport: Option<PortRange>,
    random: &mut Random,
) -> Vec<Shot> {
    let v4 = class.family == Family::V4;
    let allowed = |number: u8| class.protocol.is_none_or(|p| p == number);
    let ports: Vec<u16> = [80, 53, 443, 51_679, 22, 8_005, 1, 65_535, random.port()]
        .into_iter()
        .map(|port| match dport {
            Some(PortRange { low, high }) if !(low..=high).contains(&port) => {
                low + random.port() % (high - low).max(1)
            }
            _ => port,
        })
        .collect();
    // A first packet must not look like a later one of the same connection.
    let mut sport = 1 + random.port() % 900;
    let mut next = || {
        sport = if sport < 60_000 {
            sport + 1_013
        } else {
            sport % 900 + 2
        };
        sport
    };
    let mut shots = Vec::new();
    let mut add = |packet, flaw| shots.push(Shot { packet, flaw });
    for number in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        if allowed(number) {
            for port in &ports {
                add(plain(src, dst, number, (next(), *port)), Flaw::None);
            }
            let spoilt = plain(src, dst, number, (next(), ports[0]));
            add(spoilt, Flaw::BadChecksum);
            let malformed = plain(src, dst, number, (next(), ports[0]));
            add(malformed, Flaw::Malformed);
        }
    }
    if allowed(protocol::TCP) {
        // ACK, SYN+ACK, RST, nothing, FIN, all at once
        for flags in [0x10, 0x12, 0x04, 0, 0x01, 0x3f] {
            let mut packet = plain(src, dst, protocol::TCP, (next(), ports[0]));
            packet.flags = Some(flags);
            add(packet, Flaw::None);
        }
    }
    let (icmp, kinds): (u8, &[(u8, u8)]) = if v4 {
        (
            protocol::ICMP,
            &[(8, 0), (0, 0), (13, 0), (3, 1), (11, 0), (200, 7)],
        )
    } else {
        (
            protocol::ICMPV6,
            &[(128, 0), (129, 0), (1, 0), (3, 0), (135, 0), (200, 7)],
        )
    };
    if allowed(icmp) {
        for kind in kinds {
            let mut packet = plain(src, dst, icmp, (0, 0));
            packet.icmp = Some(*kind);
            add(packet, Flaw::None);
        }
        add(plain(src, dst, icmp, (0, 0)), Flaw::BadChecksum);
    }
    if dport.is_some() {
        return shots;
    }
    for number in [253, 47, 4, 2] {
        if allowed(number) {
            add(plain(src, dst, number, (0, 0)), Flaw::None);
        }
    }
    for number in [protocol::UDP, protocol::TCP, 253] {
        if allowed(number) {
            add(plain(src, dst, number, (next(), 80)), Flaw::LaterFragment);
        }
    }
    if !v4 && class.protocol.is_none() {
        add(plain(src, dst, 253, (0, 0)), Flaw::Headless);
    }
    shots
}
