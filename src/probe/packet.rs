//! The packets of a probe and what answers them, as bytes. Pure.
//!
//! Each packet carries a token of its own. Network address translation changes addresses and ports and
//! leaves it alone: so a packet is known again wherever it is seen.

use std::net::{IpAddr, Ipv4Addr};

/// The port of the instance metadata service and of the credentials endpoint.
pub const PORT: u16 = 80;

/// What stands before the token where the protocol has no place for one.
const MAGIC: [u8; 8] = *b"netguard";

/// A number kept for experiments (RFC 3692).
pub const EXPERIMENT: u8 = 253;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What an IP packet of a probe contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The first packet of a connection to port 80.
    Syn,
    /// A datagram to port 80.
    Datagram,
    /// An echo request.
    Echo,
    /// A packet of protocol 253.
    Other,
}

/// Where a packet comes from, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Its source, of the same family as the destination.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Its source port, where the protocol has ports.
    pub port: u16,
}

/// A whole IP packet, header included.
#[must_use]
pub fn build(content: Content, way: Way, token: u32) -> Vec<u8> {
    let mut marked = MAGIC.to_vec();
    marked.extend(token.to_be_bytes());
    let (protocol, payload, sum_at) = match content {
        Content::Syn => (TCP, syn(way.port, token), Some(16)),
        Content::Datagram => (UDP, datagram(way.port, &marked), Some(6)),
        Content::Echo if way.to.is_ipv4() => (ICMP, echo(8, token, &marked), Some(2)),
        Content::Echo => (ICMPV6, echo(128, token, &marked), Some(2)),
        Content::Other => (EXPERIMENT, marked, None),
    };
    let mut payload = payload;
    if let Some(place) = sum_at.and_then(|at| payload.get_mut(at..at + 2)) {
        place.fill(0);
    }
    let mut packet = header(way, protocol, payload.len());
    if let Some(at) = sum_at {
        let mut summed = if protocol == ICMP {
            Vec::new()
        } else {
            pseudo(way, protocol, payload.len())
        };
        summed.extend(&payload);
        let sum = checksum(&summed);
        if let Some(place) = payload.get_mut(at..at + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
    packet.extend(payload);
    packet
}

/// The token of a packet that a probe sent.
#[must_use]
pub fn token_of(packet: &[u8]) -> Option<u32> {
    let (protocol, payload) = split(packet)?;
    token_in(protocol, payload)
}

/// The token of the packet that this one answers: a handshake or its refusal, an echo, or an error that
/// quotes it.
#[must_use]
pub fn answered_by(packet: &[u8]) -> Option<u32> {
    let (protocol, payload) = split(packet)?;
    match (protocol, payload.first()?) {
        (TCP, _) => {
            let flags = *payload.get(13)?;
            let acknowledged = word(payload, 8)?;
            (flags & ACK != 0 && flags & (SYN | RST) != 0).then(|| acknowledged.wrapping_sub(1))
        }
        (ICMP, 0) | (ICMPV6, 129) => marked(payload.get(8..)?),
        // Destination unreachable, and whatever else quotes the packet that it is about.
        (ICMP, 3 | 11 | 12) | (ICMPV6, 1..=4) => {
            let (protocol, payload) = split(payload.get(8..)?)?;
            token_in(protocol, payload)
        }
        _ => None,
    }
}

fn token_in(protocol: u8, payload: &[u8]) -> Option<u32> {
    match protocol {
        // An ICMP error quotes no more than the ports and the sequence number for certain.
        TCP if payload.get(2..4)? == PORT.to_be_bytes() => {
            let first = payload.get(13).is_none_or(|flags| *flags == SYN);
            word(payload, 4).filter(|_| first)
        }
        UDP | ICMP | ICMPV6 => marked(payload.get(8..)?),
        EXPERIMENT => marked(payload),
        _ => None,
    }
}

fn marked(payload: &[u8]) -> Option<u32> {
    let token = payload.strip_prefix(&MAGIC)?;
    word(token, 0)
}

/// The protocol and what is behind the IP header.
fn split(packet: &[u8]) -> Option<(u8, &[u8])> {
    let first = *packet.first()?;
    match first >> 4 {
        4 => {
            let length = usize::from(first & 15) * 4;
            Some((*packet.get(9)?, packet.get(length..)?))
        }
        6 => Some((*packet.get(6)?, packet.get(40..)?)),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

fn header(way: Way, protocol: u8, length: usize) -> Vec<u8> {
    match (way.from, way.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = ((20 + length) as u16).to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_be_bytes();
            header.splice(10..12, sum);
            header
        }
        (from, to) => {
            let [high, low] = (length as u16).to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, 64];
            header.extend(octets(from));
            header.extend(octets(to));
            header
        }
    }
}

/// What the sums of TCP, UDP and ICMPv6 cover besides the packet itself (RFC 9293, RFC 8200).
fn pseudo(way: Way, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = octets(way.from);
    bytes.extend(octets(way.to));
    // The two families differ in the order of these, which a sum does not notice.
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn syn(port: u16, token: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(port.to_be_bytes());
    bytes.extend(PORT.to_be_bytes());
    bytes.extend(token.to_be_bytes());
    // Nothing acknowledged, five words of header, SYN, a window, no sum yet.
    bytes.extend([0, 0, 0, 0, 0x50, SYN, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes
}

fn datagram(port: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(port.to_be_bytes());
    bytes.extend(PORT.to_be_bytes());
    bytes.extend(((8 + content.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(content);
    bytes
}

fn echo(kind: u8, token: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(token.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let pair = |pair: &[u8]| {
        let high = pair.first().copied().unwrap_or(0);
        u32::from(high) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame: destination, source, EtherType, content.
#[must_use]
pub fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = to.to_vec();
    bytes.extend(from);
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Everybody on the link.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A question whether an address is in use: an ARP probe, whose sender has no address (RFC 5227, 1.1).
#[must_use]
pub fn arp_probe(from: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    arp(from, Ipv4Addr::UNSPECIFIED, address)
}

/// Says whose an address is now: an ARP announcement (RFC 5227, 1.1). A station that knew another Ethernet address for
/// it, because another probe had it a moment ago, learns this one.
#[must_use]
pub fn arp_announcement(from: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    arp(from, address, address)
}

fn arp(from: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, lengths of their addresses, request.
    let mut bytes = vec![0, 1, 0x08, 0, 6, 4, 0, 1];
    bytes.extend(from);
    bytes.extend(sender.octets());
    bytes.extend([0; 6]);
    bytes.extend(target.octets());
    bytes
}

/// What an ARP frame says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArpClaim {
    /// Its sender has it.
    Has(Ipv4Addr),
    /// Its sender probes for it, and may have it in a moment (RFC 5227, 2.1.1).
    Wants(Ipv4Addr),
}

/// How the Ethernet address of a throwaway container begins (one that is locally administered).
pub const THROWAWAY: [u8; 2] = [0xfa, 0xff];

/// The claim in an ARP frame. `None` for one of this station's own, and for the question of another
/// throwaway container whose Ethernet address is higher: of two that want the same address the lower goes
/// first.
#[must_use]
pub fn arp_claim(frame: &[u8], own: [u8; 6]) -> Option<ArpClaim> {
    let arp = frame.get(14..)?;
    let from = arp.get(8..14)?;
    if arp.get(..6)? != [0, 1, 0x08, 0, 6, 4] || from == own {
        return None;
    }
    let address = |at: usize| {
        let bytes = arp.get(at..)?.first_chunk::<4>()?;
        Some(Ipv4Addr::from(*bytes))
    };
    let sender = address(14)?;
    if !sender.is_unspecified() {
        return Some(ArpClaim::Has(sender));
    }
    let yields = from.starts_with(&THROWAWAY) && from > own.as_slice();
    address(24).filter(|_| !yields).map(ArpClaim::Wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(from: &str, to: &str) -> Way {
        Way {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            port: 40_000,
        }
    }

    const ALL: [Content; 4] = [
        Content::Syn,
        Content::Datagram,
        Content::Echo,
        Content::Other,
    ];

    fn ways() -> [Way; 2] {
        [
            way("172.17.255.254", "169.254.169.254"),
            way("fd00:17::9", "fd00:ec2::254"),
        ]
    }

    #[test]
    fn every_packet_is_known_by_its_token() {
        for way in ways() {
            for content in ALL {
                let packet = build(content, way, 0xdead_beef);
                assert_eq!(token_of(&packet), Some(0xdead_beef), "{content:?} {way:?}");
                assert_eq!(answered_by(&packet), None, "{content:?} {way:?}");
            }
        }
    }

    #[test]
    fn sums_are_right() {
        for way in ways() {
            for content in ALL {
                let packet = build(content, way, 7);
                let (protocol, payload) = split(&packet).unwrap();
                if way.to.is_ipv4() {
                    assert_eq!(checksum(&packet[..20]), 0);
                }
                let mut summed = match protocol {
                    ICMP => Vec::new(),
                    EXPERIMENT => continue,
                    _ => pseudo(way, protocol, payload.len()),
                };
                summed.extend(payload);
                assert_eq!(checksum(&summed), 0, "{content:?} {way:?}");
            }
        }
    }

    #[test]
    fn answers_are_known() {
        let [v4, v6] = ways();
        for way in [v4, v6] {
            let mut shaken = build(Content::Syn, way, 7);
            let at = shaken.len() - 20;
            shaken[at + 8..at + 12].copy_from_slice(&8_u32.to_be_bytes());
            for (flags, answer) in [(SYN | ACK, true), (RST | ACK, true), (ACK, false)] {
                shaken[at + 13] = flags;
                assert_eq!(answered_by(&shaken), answer.then_some(7), "{flags}");
            }
            let reply = if way.to.is_ipv4() { 0 } else { 129 };
            let mut echo = build(Content::Echo, way, 7);
            let at = if way.to.is_ipv4() { 20 } else { 40 };
            echo[at] = reply;
            assert_eq!(answered_by(&echo), Some(7));
            for content in ALL {
                let protocol = if way.to.is_ipv4() { ICMP } else { ICMPV6 };
                let mut quote = vec![if way.to.is_ipv4() { 3 } else { 1 }, 3, 0, 0, 0, 0, 0, 0];
                quote.extend(build(content, way, 7));
                let mut error = header(way, protocol, quote.len());
                error.extend(quote);
                assert_eq!(answered_by(&error), Some(7), "{content:?}");
            }
        }
    }

    #[test]
    fn other_traffic_is_not_taken_for_a_probes() {
        let mut other = build(Content::Syn, ways()[0], 7);
        other[20 + 13] = ACK;
        assert_eq!(token_of(&other), None);
        let mut datagram = build(Content::Datagram, ways()[0], 7);
        datagram[30] ^= 1;
        assert_eq!(token_of(&datagram), None);
        for nonsense in [&[][..], &[0x45], &[0x60; 41], &[0x4f; 30]] {
            assert_eq!((token_of(nonsense), answered_by(nonsense)), (None, None));
        }
    }

    #[test]
    fn arp_shows_who_has_an_address() {
        let (own, other) = ([2; 6], [4; 6]);
        let asked = Ipv4Addr::new(172, 17, 255, 254);
        let arp = |from, sender: [u8; 4]| {
            let mut arp = arp_probe(from, asked);
            arp[14..18].copy_from_slice(&sender);
            frame(BROADCAST, from, 0x0806, &arp)
        };
        assert_eq!(arp_claim(&arp(own, [0; 4]), own), None);
        let found = arp_claim(&arp(other, [0; 4]), own);
        assert_eq!(found, Some(ArpClaim::Wants(asked)));
        let sender = Ipv4Addr::new(172, 17, 0, 2);
        let found = arp_claim(&arp(other, sender.octets()), own);
        assert_eq!(found, Some(ArpClaim::Has(sender)));
        assert_eq!(arp_claim(&[0; 20], own), None);
        let [low, high] = [1, 2].map(|last| [0xfa, 0xff, 0, 0, 0, last]);
        assert_eq!(arp_claim(&arp(high, [0; 4]), low), None);
        let found = arp_claim(&arp(low, [0; 4]), high);
        assert_eq!(found, Some(ArpClaim::Wants(asked)));
        let found = arp_claim(&arp(high, sender.octets()), low);
        assert_eq!(found, Some(ArpClaim::Has(sender)));
    }
}
