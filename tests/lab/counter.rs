//! What arrived at the metadata service's addresses, to the packet.
//!
//! Counted by nftables in the namespace beyond the host, before anything there looks at a packet:
//! exact at any rate, and indifferent to whether a program listens or answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::namespace::Namespace;

const RULES: &str = "
table inet lab_counter {
    set v4 { type ipv4_addr . inet_proto; flags dynamic; counter; size 65535; }
    set v6 { type ipv6_addr . inet_proto; flags dynamic; counter; size 65535; }
    chain arrived {
        type filter hook prerouting priority raw; policy accept;
        ip daddr 169.254.169.254 update @v4 { ip saddr . meta l4proto }
        ip6 daddr fd00:ec2::254 update @v6 { ip6 saddr . meta l4proto }
    }
}
";

/// Packets by where they came from and their protocol's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(IpAddr, u8), u64>);

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those of one protocol (see [`super::probe::proto`]), from anybody.
    pub fn proto(&self, protocol: u8) -> u64 {
        self.sum(|_, p| p == protocol)
    }

    /// Those from one address.
    pub fn from(&self, source: IpAddr) -> u64 {
        self.sum(|s, _| s == source)
    }

    /// Those from one address, of one protocol.
    pub fn of(&self, source: IpAddr, protocol: u8) -> u64 {
        self.0.get(&(source, protocol)).copied().unwrap_or(0)
    }

    /// Those that came by IPv6.
    pub fn v6(&self) -> u64 {
        self.sum(|s, _| s.is_ipv6())
    }

    fn sum(&self, which: impl Fn(IpAddr, u8) -> bool) -> u64 {
        self.0
            .iter()
            .filter(|((s, p), _)| which(*s, *p))
            .map(|(_, n)| n)
            .sum()
    }
}

pub(super) fn install(ns: &Namespace) {
    ns.command("nft").args(["-f", "-"]).stdin(RULES).run();
}

/// The counter of the metadata service's namespace.
#[derive(Debug)]
pub struct Counter<'a>(pub(super) &'a Namespace);

impl Counter<'_> {
    /// What has arrived since the start, or since [`Counter::reset`].
    pub fn arrived(&self) -> Counts {
        let text = self
            .0
            .command("nft")
            .args(["-n", "-j", "list", "table", "inet", "lab_counter"])
            .run();
        let json: serde_json::Value = serde_json::from_str(&text).expect("nft -j prints JSON");
        let elements = json["nftables"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|object| object["set"]["elem"].as_array())
            .flatten();
        Counts(elements.map(|e| element(&e["elem"])).collect())
    }

    /// Forgets what has arrived.
    pub fn reset(&self) {
        self.0
            .sh("nft 'flush set inet lab_counter v4; flush set inet lab_counter v6'");
    }
}

fn element(elem: &serde_json::Value) -> ((IpAddr, u8), u64) {
    let key = &elem["val"]["concat"];
    let source = key[0].as_str().and_then(|text| text.parse().ok());
    let protocol = key[1]
        .as_u64()
        .and_then(|n| u8::try_from(n).ok())
        .or_else(|| named(&key[1]));
    let packets = elem["counter"]["packets"].as_u64();
    match (source, protocol, packets) {
        (Some(source), Some(protocol), Some(packets)) => ((source, protocol), packets),
        _ => panic!("not an element of the counter's sets: {elem}"),
    }
}

/// Some versions of nft print names in spite of `-n`.
fn named(protocol: &serde_json::Value) -> Option<u8> {
    use super::probe::proto;
    Some(match protocol.as_str()? {
        "icmp" => proto::ICMP,
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "gre" => proto::GRE,
        "ipv6-icmp" | "icmpv6" => proto::ICMPV6,
        "sctp" => proto::SCTP,
        number => number.parse().ok()?,
    })
}
