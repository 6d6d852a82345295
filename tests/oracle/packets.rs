//! Packets to the last byte, as a container with a raw socket can send them: with right checksums
//! (conntrack looks), and a number inside by which they are known again after all NAT.

use std::net::IpAddr;

use ecs_netguard::prove::Packet;
use ecs_netguard::ruleset::protocol;

const MAGIC: [u8; 4] = [0xec, 0x5e, 0x4b, 0x21];

/// What can be wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Conntrack calls such a packet INVALID.
    BadChecksum,
    /// A header of TCP or UDP that says it is shorter than one is, an INIT of SCTP with a tag: INVALID, too, whatever
    /// looks at checksums.
    Malformed,
    /// No first part of it ever comes.
    LaterFragment,
    /// A destination options header, then no protocol at all. IPv6 only.
    Headless,
    /// It belongs to a connection that was there before the rules.
    Established,
    /// It answers the first of a connection.
    Answer,
}

/// A packet to send.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) packet: Packet,
    pub(crate) flaw: Flaw,
}

/// A packet of a protocol, with nothing special.
pub(crate) fn plain(src: IpAddr, dst: IpAddr, number: u8, ports: (u16, u16)) -> Packet {
    let has_ports = protocol::WITH_PORTS.contains(&number);
    let icmp = match number {
        protocol::ICMP if src.is_ipv4() => Some((8, 0)),
        protocol::ICMPV6 if src.is_ipv6() => Some((128, 0)),
        _ => None,
    };
    Packet {
        iif: None,
        oif: None,
        src,
        dst,
        protocol: number,
        sport: has_ports.then_some(ports.0),
        dport: has_ports.then_some(ports.1),
        icmp,
        flags: (number == protocol::TCP).then_some(2),
        length: None,
        ttl: None,
        tos: None,
        mac: None,
        uid: None,
        gid: None,
        cgroup: None,
        odd: None,
        reply: false,
        answers: None,
    }
}

/// The answer to a packet.
pub(crate) fn answer(to: &Packet) -> Packet {
    Packet {
        src: to.dst,
        dst: to.src,
        sport: to.dport,
        dport: to.sport,
        ..to.clone()
    }
}

/// The first packet of the connection that a packet belongs to: an ICMP error is about one of UDP.
pub(crate) fn beginning(of: &Packet) -> Packet {
    match of.icmp {
        Some(_) => Packet {
            iif: of.iif.clone(),
            uid: of.uid,
            gid: of.gid,
            ..plain(of.src, of.dst, protocol::UDP, (40_000, 80))
        },
        None => of.clone(),
    }
}

/// The number in a packet, wherever it lies.
pub(crate) fn number_in(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(MAGIC.len()).rposition(|w| w == MAGIC)?;
    let number = bytes.get(at + 4..at + 8)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// The whole packet, IP header included.
pub(crate) fn bytes(shot: &Shot, number: u32) -> Vec<u8> {
    let missing = shot.packet.length.map_or(0, |length| {
        let shortest = padded(shot, number, 0).len();
        usize::from(length).saturating_sub(shortest)
    });
    padded(shot, number, missing)
}

fn padded(shot: &Shot, number: u32, padding: usize) -> Vec<u8> {
    let packet = &shot.packet;
    let mark = [MAGIC, number.to_be_bytes()].concat();
    let end = [vec![0; padding], mark.clone()].concat();
    let mut content = match (shot.flaw, packet.icmp) {
        (Flaw::Established, Some(error)) => quoting(packet, error, &end),
        _ => transport(packet, &mark, &end, shot.flaw == Flaw::Answer),
    };
    let (ttl, tos) = (packet.ttl.unwrap_or(64), packet.tos.unwrap_or(0));
    match shot.flaw {
        Flaw::BadChecksum => spoil(packet, &mut content),
        Flaw::Malformed => malform(packet, &mut content),
        Flaw::Headless => content = [&[59, 0, 1, 4, 0, 0, 0, 0][..], &mark].concat(),
        Flaw::None | Flaw::LaterFragment | Flaw::Established | Flaw::Answer => {}
    }
    let fragment = shot.flaw == Flaw::LaterFragment;
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = (20 + content.len()) as u16;
            let offset: u16 = if fragment { 185 } else { 0 };
            let mut out = vec![0x45, tos];
            out.extend(length.to_be_bytes());
            out.extend((number as u16 | 1).to_be_bytes());
            out.extend(offset.to_be_bytes());
            out.extend([ttl, packet.protocol, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            out.extend(content);
            out
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut next = packet.protocol;
            if fragment {
                let mut header = vec![next, 0];
                header.extend((185_u16 << 3).to_be_bytes());
                header.extend(number.to_be_bytes());
                content = [header, content].concat();
                next = 44;
            } else if shot.flaw == Flaw::Headless {
                next = 60;
            }
            let mut out = vec![0x60 | tos >> 4, tos << 4, 0, 0];
            out.extend((content.len() as u16).to_be_bytes());
            out.extend([next, ttl]);
            out.extend(src.octets());
            out.extend(dst.octets());
            out.extend(content);
            out
        }
        _ => unreachable!("an example keeps its family"),
    }
}

/// Ends with the mark, behind padding where there is to be some.
fn transport(packet: &Packet, mark: &[u8], end: &[u8], answer: bool) -> Vec<u8> {
    let ports = [packet.sport.unwrap_or(0), packet.dport.unwrap_or(0)]
        .iter()
        .flat_map(|port| port.to_be_bytes())
        .collect::<Vec<u8>>();
    match packet.protocol {
        protocol::TCP => {
            let mut out = ports;
            out.extend(
                [
                    mark,
                    &[0x50, packet.flags.unwrap_or(2), 0xff, 0xff, 0, 0, 0, 0],
                ]
                .concat(),
            );
            out.extend(end);
            summed(packet, out, 16)
        }
        protocol::UDP | protocol::UDPLITE => {
            let mut out = ports;
            // UDP-Lite: zero, the whole packet is covered.
            let length = if packet.protocol == protocol::UDP {
                8 + end.len() as u16
            } else {
                0
            };
            out.extend(length.to_be_bytes());
            out.extend([0, 0]);
            out.extend(end);
            summed(packet, out, 6)
        }
        protocol::SCTP => {
            let mut out = ports;
            // INIT, or INIT ACK with the tag that INIT asks for; with a parameter to be skipped that has the mark.
            let (tag, chunk) = if answer { (1, 2) } else { (0, 1) };
            out.extend([0, 0, 0, tag, 0, 0, 0, 0]);
            let parameter = 4 + end.len() as u16;
            out.extend([chunk, 0]);
            out.extend((20 + parameter).to_be_bytes());
            out.extend([0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
            out.extend([0x80, 0xff]);
            out.extend(parameter.to_be_bytes());
            out.extend(end);
            sum_sctp(&mut out);
            out
        }
        _ => match packet.icmp {
            Some((kind, code)) => {
                let mut out = vec![kind, code, 0, 0];
                out.extend(&mark[6..8]); // the id
                out.extend([0, 1]);
                out.extend(end);
                summed(packet, out, 2)
            }
            None => {
                let mut out = ports;
                out.extend([0; 12]);
                out.extend(end);
                out
            }
        },
    }
}

fn spoil(packet: &Packet, content: &mut [u8]) {
    let at = match packet.protocol {
        protocol::TCP => 16,
        protocol::SCTP => 8,
        protocol::UDP => 6,
        _ => 2,
    };
    if let Some(byte) = content.get_mut(at) {
        *byte ^= 0x55;
    }
}

/// An ICMP error about the answer to a connection's first packet.
fn quoting(packet: &Packet, (kind, code): (u8, u8), mark: &[u8]) -> Vec<u8> {
    let quoted = Shot {
        packet: answer(&beginning(packet)),
        flaw: Flaw::Answer,
    };
    let content = [
        &[kind, code, 0, 0, 0, 0, 0, 0],
        bytes(&quoted, 0).as_slice(),
        mark,
    ]
    .concat();
    summed(packet, content, 2)
}

/// Lets the header say a length that it cannot have: TCP's in words of four bytes, UDP's in bytes. SCTP's INIT gets a
/// verification tag (RFC 9260, 8.5.1 A).
fn malform(packet: &Packet, content: &mut [u8]) {
    let at = match packet.protocol {
        protocol::TCP => 12,
        protocol::SCTP => 7,
        _ => 5,
    };
    content[at] = 4;
    if packet.protocol == protocol::SCTP {
        sum_sctp(content);
    }
}

/// Puts the Internet checksum at `at`; it covers the addresses too, but for ICMP in IPv4.
fn summed(packet: &Packet, mut content: Vec<u8>, at: usize) -> Vec<u8> {
    let mut covered = Vec::new();
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) if packet.protocol != protocol::ICMP => {
            covered.extend([src.octets(), dst.octets()].concat());
            covered.extend([0, packet.protocol]);
            covered.extend((content.len() as u16).to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            covered.extend([src.octets(), dst.octets()].concat());
            covered.extend((content.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, packet.protocol]);
        }
        _ => {}
    }
    covered.extend(&content);
    let mut sum: u32 = covered
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    };
    content[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    content
}

fn sum_sctp(content: &mut [u8]) {
    content[8..12].fill(0);
    let sum = crc32c(content).to_le_bytes();
    content[8..12].copy_from_slice(&sum);
}

/// SCTP's checksum (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}
