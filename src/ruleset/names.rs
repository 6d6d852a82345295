//! Names of protocols, and ports as iptables writes them.

use std::borrow::Cow;

use super::matches::PortRange;

/// Protocol names that iptables prints: its own list (`xtables_chain_protos`) and those of a usual
/// `/etc/protocols`. A number without a name here is printed as a number.
const PROTOCOLS: &[(&str, u8)] = &[
    ("hopopt", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ggp", 3),
    ("ipencap", 4),
    ("st", 5),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("pup", 12),
    ("udp", 17),
    ("hmp", 20),
    ("xns-idp", 22),
    ("rdp", 27),
    ("iso-tp4", 29),
    ("dccp", 33),
    ("xtp", 36),
    ("ddp", 37),
    ("idpr-cmtp", 38),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("idrp", 45),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("skip", 57),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("rspf", 73),
    ("vmtp", 81),
    ("eigrp", 88),
    ("ospf", 89),
    ("ax.25", 93),
    ("ipip", 94),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("sctp", 132),
    ("fc", 133),
    ("mobility-header", 135),
    ("ipv6-mh", 135),
    ("mh", 135),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("manet", 138),
    ("hip", 139),
    ("shim6", 140),
    ("wesp", 141),
    ("rohc", 142),
];

/// A protocol's name, or its number where it has none.
pub fn protocol_name(number: u8) -> Cow<'static, str> {
    match PROTOCOLS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => Cow::Borrowed(name),
        None => Cow::Owned(number.to_string()),
    }
}

/// The number of a protocol given by name or number. `all` and 0 stand for "any" and are left to
/// the caller.
pub(super) fn protocol_number(text: &str) -> Option<u8> {
    match PROTOCOLS.iter().find(|(name, _)| *name == text) {
        Some((_, number)) => Some(*number),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A port or an inclusive range `LOW:HIGH`; an end left out is the lowest or highest port.
pub(super) fn port_range(text: &str) -> Option<PortRange> {
    let (low, high) = match text.split_once(':') {
        Some((low, high)) => (
            if low.is_empty() { 0 } else { port(low)? },
            if high.is_empty() {
                u16::MAX
            } else {
                port(high)?
            },
        ),
        None => (port(text)?, port(text)?),
    };
    (low <= high).then_some(PortRange { low, high })
}

/// A port or an inclusive range `LOW-HIGH`, as the NAT targets write it.
pub(super) fn port_range_dashed(text: &str) -> Option<PortRange> {
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => (port(text)?, port(text)?),
    };
    (low <= high).then_some(PortRange { low, high })
}

fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}
