//! The edge: to the metadata service goes only what this host's own IP stack sends for a socket of its
//! own network namespace. Which interfaces it stands at, and its rules.
//!
//! The kernel notes a route for what its IP stack sends, and for nothing else. A frame written to a
//! packet socket has none, and its writer chooses where the kernel takes the network header to begin
//! (`sll_protocol`, packet(7); packet_snd() and packet_parse_headers() in net/packet/af_packet.c): so it
//! is compared byte by byte wherever the header may be.

use std::net::IpAddr;

use super::imds_block::address;
use crate::ruleset::Family;

/// A network interface of the host, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number, which stays with it over a change of its name.
    pub index: u32,
    /// Its name; not necessarily UTF-8.
    pub name: Vec<u8>,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// What made it: `bridge`, `veth`; absent for physical ones.
    pub kind: Option<String>,
    /// The number of the interface that it is a port of.
    pub master: Option<u32>,
    /// Whether its other end is in another network namespace.
    pub leads_elsewhere: bool,
}

impl Interface {
    fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }
}

/// The interfaces by which a packet can leave the machine: all but the loopback, bridges, whose packets
/// leave by their ports, and the ports of bridges that lead into a container.
#[must_use]
pub fn edges(interfaces: &[Interface]) -> Vec<&Interface> {
    let on_a_bridge = |port: &Interface| {
        let master = |of: &Interface| of.is_bridge() && Some(of.index) == port.master;
        interfaces.iter().any(master)
    };
    let leaves = |interface: &&Interface| {
        let to_a_container = interface.kind.as_deref() == Some("veth")
            && interface.leads_elsewhere
            && on_a_bridge(interface);
        !interface.loopback && !interface.is_bridge() && !to_a_container
    };
    interfaces.iter().filter(leaves).collect()
}

/// Where in a frame a place is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The link-layer header, where the kernel knows of one.
    Link,
    /// What the kernel takes for the network header.
    Network,
}

/// Bytes at a place in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Where the place is counted from.
    pub from: Start,
    /// How far from there.
    pub offset: u32,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// A rule that drops the frames in which all these bytes stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameDrop {
    /// Whose packets.
    pub family: Family,
    /// Which bytes.
    pub at: Vec<At>,
}

/// What drops packets that have a route: their network header is where the kernel says.
#[must_use]
pub fn routed(families: &[Family]) -> Vec<FrameDrop> {
    let drop = |&family| to_the_service(family, Start::Network, 0);
    families.iter().map(drop).collect()
}

/// The length of an Ethernet header and of a VLAN tag (linux/if_ether.h, linux/if_vlan.h).
const ETHERNET: i32 = 14;
const TAG: i32 = 4;

/// What drops frames without a route. They may carry up to two VLAN tags in their own bytes.
#[must_use]
pub fn raw(families: &[Family]) -> Vec<FrameDrop> {
    families.iter().flat_map(|family| raw_of(*family)).collect()
}

fn raw_of(family: Family) -> Vec<FrameDrop> {
    // What is taken for the network header begins at the tags, at the packet behind them, or behind
    // the packet's beginning: a frame that claims to be tagged (ETH_P_8021Q) and is not has its first
    // bytes skipped as tags. Of IPv6 these can be up to seven: the flow label, the hop limit and the
    // source address are the sender's to choose. Of IPv4 it is one: its length cannot be that of a
    // VLAN's type in a frame that arrives.
    let skipped = match family {
        Family::V4 => 1,
        Family::V6 => 7,
    };
    let packet = (-skipped..=2).map(|tags| (Start::Network, tags * TAG));
    // Or it is where the frame begins: a short frame on an interface whose header is longer than an
    // Ethernet header, as that of a VLAN device is.
    let frame = (0..=2).map(|tags| (Start::Network, ETHERNET + tags * TAG));
    let link = (0..=2).map(|tags| (Start::Link, ETHERNET + tags * TAG));
    let places = packet.chain(frame).chain(link);
    places
        .map(|(from, begin)| to_the_service(family, from, begin))
        .collect()
}

/// Packets to the service that begin at this place.
fn to_the_service(family: Family, from: Start, begin: i32) -> FrameDrop {
    let (field, address) = match address(family) {
        IpAddr::V4(address) => (16, address.octets().to_vec()),
        IpAddr::V6(address) => (24, address.octets().to_vec()),
    };
    // Of an address that begins before the place that is known, the rest.
    let offset = begin + field;
    let cut = usize::try_from(-offset).unwrap_or(0);
    let address = address.get(cut..).unwrap_or_default().to_vec();
    let mut at = Vec::new();
    // A request by ARP for the service's address has it where a packet behind two tags has its
    // destination. What tells them apart is the protocol in the last tag, an operation in ARP.
    if family == Family::V4 && (begin == 2 * TAG || begin == ETHERNET + 2 * TAG) {
        at.push(At {
            from,
            offset: (begin - 2).unsigned_abs(),
            bytes: vec![0x08, 0x00],
        });
    }
    at.push(At {
        from,
        offset: u32::try_from(offset).unwrap_or(0),
        bytes: address,
    });
    FrameDrop { family, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, kind: Option<&str>) -> Interface {
        Interface {
            index,
            name: name.into(),
            kind: kind.map(str::to_owned),
            ..Interface::default()
        }
    }

    #[test]
    fn packets_leave_by_everything_but_bridges_and_their_containers() {
        let port = |index, name, kind, master, leads_elsewhere| Interface {
            master: Some(master),
            leads_elsewhere,
            ..interface(index, name, kind)
        };
        let host = [
            Interface {
                loopback: true,
                ..interface(1, "lo", None)
            },
            interface(2, "ens5", None),
            interface(3, "docker0", Some("bridge")),
            port(4, "container", Some("veth"), 3, true),
            port(5, "patch", Some("veth"), 3, false),
            port(6, "uplink-on-a-bridge", None, 3, false),
            port(7, "tap", Some("tun"), 3, false),
            Interface {
                leads_elsewhere: true,
                ..interface(8, "routed", Some("veth"))
            },
            interface(9, "bond0", Some("bond")),
            port(10, "in-a-bond", Some("veth"), 9, true),
            interface(11, "ens5.5", Some("vlan")),
            port(12, "of-another-namespace", Some("veth"), 99, true),
        ];
        let found = edges(&host).into_iter().map(|edge| edge.index);
        assert_eq!(found.collect::<Vec<_>>(), [2, 5, 6, 7, 8, 9, 10, 11, 12]);
    }

    /// Every place of a packet to the service in a frame, as (from, offset, length).
    fn places(drops: &[FrameDrop], family: Family) -> Vec<(Start, u32, usize)> {
        let of = drops.iter().filter(|drop| drop.family == family);
        let last = of.filter_map(|drop| drop.at.last());
        last.map(|at| (at.from, at.offset, at.bytes.len()))
            .collect()
    }

    #[test]
    fn a_packet_is_found_wherever_it_may_begin() {
        use Start::{Link, Network};
        let families = [Family::V4, Family::V6];
        assert_eq!(places(&routed(&families), Family::V4), [(Network, 16, 4)]);
        assert_eq!(places(&routed(&families), Family::V6), [(Network, 24, 16)]);
        let v4 = places(&raw(&families), Family::V4);
        let network = [12, 16, 20, 24, 30, 34, 38].map(|offset| (Network, offset, 4));
        let link = [30, 34, 38].map(|offset| (Link, offset, 4));
        assert_eq!(v4, [&network[..], &link].concat());
        let v6 = places(&raw(&families), Family::V6);
        assert_eq!(
            v6[0],
            (Network, 0, 12),
            "the rest of an address that begins before"
        );
        let network = [0, 4, 8, 12, 16, 20, 24, 28, 32, 38, 42, 46].map(|o| (Network, o, 16));
        let link = [38, 42, 46].map(|offset| (Link, offset, 16));
        assert_eq!(v6[1..], [&network[..], &link].concat());
        // Where a request by ARP has the address too, the protocol in the last tag is compared.
        let of_the_tag = |drop: &FrameDrop| {
            let [tag, _] = &drop.at[..] else { return None };
            Some((drop.family, tag.from, tag.offset, tag.bytes.clone()))
        };
        let tags: Vec<_> = raw(&families).iter().filter_map(of_the_tag).collect();
        let tag = |from, offset| (Family::V4, from, offset, vec![8, 0]);
        assert_eq!(tags, [tag(Network, 6), tag(Network, 20), tag(Link, 20)]);
    }

    #[test]
    fn a_request_by_arp_for_the_services_address_passes() {
        // Hardware, protocol, lengths, operation, sender, target (RFC 826).
        let mut arp = vec![
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 10, 0, 0, 0, 0, 0, 0,
        ];
        arp.extend([169, 254, 169, 254]);
        let frame = [&[0; 12][..], &[8, 6], &arp].concat();
        for drop in raw(&[Family::V4]) {
            let stands = |at: &At| {
                let (bytes, from) = match at.from {
                    Start::Link => (&frame, 0),
                    Start::Network => (&arp, 0),
                };
                let begin = from + at.offset as usize;
                bytes.get(begin..begin + at.bytes.len()) == Some(&at.bytes[..])
            };
            assert!(!drop.at.iter().all(stands), "{drop:?}");
            let of_the_frame = |at: &At| {
                let begin = at.offset as usize;
                frame.get(begin..begin + at.bytes.len()) == Some(&at.bytes[..])
            };
            assert!(!drop.at.iter().all(of_the_frame), "{drop:?}");
        }
    }
}
