//! What things are called in nft's language.

use std::fmt::Write as _;

use super::super::matches::{Header, PortRange, Side};
use super::super::target::Rewrite;
use super::Key;
use super::registers::{Registers, Source};

/// What a source is called.
pub(super) fn text(registers: &Registers, of: Source) -> String {
    match of {
        Source::Unknown(number) => registers.unknown_text(number),
        Source::Numgen(_, count) => format!("numgen mod {count}"),
        other => source(other).to_owned(),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = "0x".to_owned();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a source is called, where that does not depend on the family.
const fn source(source: Source) -> &'static str {
    match source {
        Source::Constant => "a constant",
        Source::Number(key) => match key {
            Key::Addr(Side::Src) => "saddr",
            Key::Addr(Side::Dst) => "daddr",
            Key::Port(Side::Src) | Key::AnyPort(Side::Src) => "th sport",
            Key::Port(Side::Dst) | Key::AnyPort(Side::Dst) => "th dport",
            Key::Protocol => "meta l4proto",
            Key::TcpFlags => "tcp flags",
            Key::IcmpType => "icmp type",
            Key::IcmpCode => "icmp code",
            Key::Mark => "meta mark",
            Key::Connmark => "ct mark",
            Key::Uid => "meta skuid",
            Key::Gid => "meta skgid",
            Key::Header(Header::Length) => "length",
            Key::Header(Header::Ttl) => "ttl",
            Key::Header(Header::Tos) => "tos",
            Key::Header(Header::Mac) => "ether saddr",
        },
        Source::State => "ct state",
        Source::Direction => "ct direction",
        Source::Status => "ct status",
        Source::AddressType(Side::Src) => "fib saddr type",
        Source::AddressType(Side::Dst) => "fib daddr type",
        Source::Fragment => "ip frag-off",
        Source::Class => "ip6 dscp",
        Source::Name(Side::Src) => "iifname",
        Source::Name(Side::Dst) => "oifname",
        Source::Index(Side::Src) => "iif",
        Source::Index(Side::Dst) => "oif",
        Source::Numgen(..) | Source::Unknown(_) => "",
    }
}

/// A key of meta.
pub(super) fn meta(key: u32) -> String {
    let names = [
        "length",
        "protocol",
        "priority",
        "mark",
        "iif",
        "oif",
        "iifname",
        "oifname",
        "iiftype",
        "oiftype",
        "skuid",
        "skgid",
        "nftrace",
        "rtclassid",
        "secmark",
        "nfproto",
        "l4proto",
        "bri_iifname",
        "bri_oifname",
        "pkttype",
        "cpu",
        "iifgroup",
        "oifgroup",
        "cgroup",
    ];
    let name = names.get(key as usize);
    name.map_or_else(|| format!("meta key {key}"), |name| format!("meta {name}"))
}

/// A key of ct.
pub(super) fn ct(key: u32) -> String {
    let names = [
        "state",
        "direction",
        "status",
        "mark",
        "secmark",
        "expiration",
        "helper",
        "l3proto",
        "saddr",
        "daddr",
        "protocol",
        "proto-src",
        "proto-dst",
        "label",
        "packets",
        "bytes",
        "avgpkt",
        "zone",
        "event",
    ];
    let name = names.get(key as usize);
    name.map_or_else(|| format!("ct key {key}"), |name| format!("ct {name}"))
}

/// Bytes of a header.
pub(super) fn payload(base: u32, offset: u32, length: usize) -> String {
    let base = match base {
        0 => "ll",
        1 => "nh",
        2 => "th",
        _ => "ih",
    };
    // The kernel's numbers are of 32 bits, and so may be eight times as large here.
    let offset = u64::from(offset) * 8;
    format!("@{base},{offset},{}", length.saturating_mul(8))
}

pub(super) fn ports(ports: Option<PortRange>) -> String {
    match ports {
        Some(PortRange { low, high }) if low == high => format!(" to :{low}"),
        Some(PortRange { low, high }) => format!(" to :{low}-{high}"),
        None => String::new(),
    }
}

/// Where NAT turns packets.
pub(super) fn rewrite(to: Option<&Rewrite>) -> String {
    let Some(to) = to else {
        return "an address of a map".to_owned();
    };
    to.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_in_a_packet_has_a_name() {
        assert_eq!(payload(1, 16, 4), "@nh,128,32");
        assert_eq!(payload(1, u32::MAX, 4), "@nh,34359738360,32");
    }
}
