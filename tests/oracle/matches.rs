//! Random matches and targets, with constants that hit the packets that are sent.

use ecs_netguard::ruleset::Family;

use super::headers::{self, STATES};
use super::random::Random;

/// Where a chain's rules can come to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) family: Family,
    pub(crate) table: &'static str,
    /// The hook, or `""` in a user chain.
    pub(crate) hook: &'static str,
    /// In nat: whether the chain is for the packets' destinations (or for their sources).
    pub(crate) before: bool,
    /// Whether matches and targets may be used that are not understood.
    pub(crate) dark: bool,
}

impl Place {
    fn v4(self) -> bool {
        self.family == Family::V4
    }
}

const V4: [&str; 16] = [
    "169.254.169.254",
    "169.254.169.254/32",
    "169.254.0.0/16",
    "169.254.169.0/24",
    "169.254.169.252/30",
    "128.0.0.0/1",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.0.0.1",
    "127.0.0.0/8",
    "127.0.0.1",
    "169.254.170.2",
    "172.16.0.0/12",
    "172.17.0.1",
    "169.254.172.0/22",
    "8.8.8.8",
];
const V6: [&str; 9] = [
    "fd00:ec2::254",
    "fd00:ec2::254/128",
    "fd00:ec2::/32",
    "fd00:ec2::/64",
    "fd00:ec2::200/119",
    "fd00::/8",
    "8000::/1",
    "fd00:10::1",
    "fd00:17::1",
];
const SOURCES4: [&str; 8] = [
    "172.17.0.2",
    "172.17.0.0/16",
    "172.18.0.0/16",
    "169.254.172.0/22",
    "172.16.0.0/12",
    "169.254.0.0/16",
    "10.0.0.0/24",
    "127.0.0.0/8",
];
const SOURCES6: [&str; 4] = ["fd00:17::2", "fd00:17::/64", "fd00:18::/63", "fd00::/16"];
const IN: [&str; 9] = [
    "docker0",
    "docker0",
    "docker+",
    "br-+",
    "br-0123456789ab",
    "ecs-bridge",
    "e+",
    "lo",
    "+",
];
const OUT: [&str; 6] = ["ens5", "ens+", "docker0", "lo", "e+", "eth0"];
const PORTS: [&str; 12] = [
    "80",
    "80",
    "53",
    "51679",
    "443",
    "0:79",
    "81:65535",
    "1:1023",
    "1024:65535",
    "22:90",
    "1:65534",
    "40000",
];
/// One or two conditions, seldom none or more: a rule of many hardly ever applies, and then says
/// nothing about any of them. Answers the words, and the protocol if there is one with ports.
pub(crate) fn matches(random: &mut Random, place: Place) -> (String, Option<&'static str>) {
    let mut out = String::new();
    let receives = ["", "PREROUTING", "INPUT", "FORWARD"].contains(&place.hook);
    let sends = ["", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&place.hook);
    let count = random.pick(&[0, 1, 1, 1, 1, 2, 2, 2, 3, 4]);
    // In the order in which every tool takes them, each once but for the last kind.
    let mut kinds: Vec<usize> = (0..count).map(|_| random.below(10)).collect();
    kinds.sort_unstable();
    kinds.dedup_by(|a, b| a == b && *a < 6);
    let mut with_ports = None;
    for kind in kinds {
        match kind {
            0 if receives => {
                // iptables-legacy-save prints `! -i +` as nothing (see `ruleset`), and ports
                // that are not 0:65535 too: such a text cannot be read.
                let name = random.pick(&IN);
                let not = if name == "+" { "" } else { random.not() };
                out += &format!("{not}-i {name} ");
            }
            1 if sends => out += &format!("{}-o {} ", random.not(), random.pick(&OUT)),
            2 => {
                let own: &[&str] = if place.v4() { &SOURCES4 } else { &SOURCES6 };
                out += &format!("{}-s {} ", random.not(), random.pick(own));
            }
            3 => out += &format!("{}-d {} ", random.not(), destination(random, place)),
            4 | 5 if with_ports.is_none() && !out.contains("-p ") => {
                with_ports = protocol(random, place, &mut out);
            }
            _ => {
                let more = extra(random, place);
                // A match that is there twice has two of its own options: some tools take offence.
                let module = more.split(' ').nth(1).unwrap_or_default().to_owned();
                if !out.contains(&format!("-m {module} ")) {
                    out += &more;
                }
            }
        }
    }
    (out, with_ports)
}

fn destination(random: &mut Random, place: Place) -> &'static str {
    if place.v4() && random.percent(3) {
        random.pick(&["169.0.169.0/255.0.255.0", "0.0.169.0/0.0.255.1"])
    } else if place.v4() {
        random.pick(&V4)
    } else {
        random.pick(&V6)
    }
}

fn protocol(random: &mut Random, place: Place, out: &mut String) -> Option<&'static str> {
    let icmp = if place.v4() { "icmp" } else { "ipv6-icmp" };
    let name = random.pick(&[
        "tcp", "tcp", "tcp", "udp", "udp", "sctp", "253", "47", icmp, icmp,
    ]);
    let not = if random.percent(12) { "! " } else { "" };
    *out += &format!("{not}-p {name} ");
    if not == "! " {
        return None;
    }
    match name {
        "tcp" | "udp" | "sctp" => {
            if random.percent(30) {
                let (side, port) = (random.pick(&["ports", "dports", "sports"]), ports(random));
                *out += &format!("-m multiport {}--{side} {port} ", random.not());
            } else if random.percent(75) {
                *out += &format!("-m {name} ");
                if random.percent(70) {
                    *out += &format!("{}--dport {} ", random.not(), random.pick(&PORTS));
                }
                if random.percent(25) {
                    *out += &format!("{}--sport {} ", random.not(), random.pick(&PORTS));
                }
                if name == "tcp" && random.percent(25) {
                    *out += &flags(random);
                }
            }
            Some(name)
        }
        _ if name == icmp => {
            if random.percent(60) {
                let not = random.not();
                if place.v4() {
                    let kind = random.pick(&["8", "0", "3", "3/1", "13", "echo-request"]);
                    *out += &format!("-m icmp {not}--icmp-type {kind} ");
                } else {
                    let kind = random.pick(&["128", "129", "1", "135", "3", "echo-request"]);
                    *out += &format!("-m icmp6 {not}--icmpv6-type {kind} ");
                }
            }
            None
        }
        _ => None,
    }
}

fn ports(random: &mut Random) -> String {
    let some: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(&PORTS)).collect();
    some.join(",")
}

fn flags(random: &mut Random) -> String {
    let not = random.not();
    if random.percent(50) {
        return format!("{not}--syn ");
    }
    let (mask, set) = random.pick(&[
        ("SYN,ACK", "SYN"),
        ("FIN,SYN,RST,PSH,ACK,URG", "NONE"),
        ("ALL", "SYN"),
        ("SYN,RST", "SYN,RST"),
        ("ACK", "ACK"),
        ("FIN,SYN", "FIN,SYN"),
    ]);
    format!("{not}--tcp-flags {mask} {set} ")
}

fn mark(random: &mut Random) -> String {
    let value = random.pick(&["0x0", "0x1", "0x2", "0x3", "0x100"]);
    match random.below(4) {
        0 => format!("{value}/0x1"),
        1 => format!("{value}/0xff"),
        2 => format!("{value}/0x101"),
        _ => value.to_owned(),
    }
}

fn extra(random: &mut Random, place: Place) -> String {
    let not = random.not();
    if place.dark && random.percent(30) {
        return dark(random, place);
    }
    match random.below(28) {
        25..=27 => headers::connection(random, place.v4()),
        0..=3 => format!("-m conntrack {not}--ctstate {} ", random.pick(&STATES)),
        4 => format!(
            "-m conntrack {not}--ctstate {} ",
            random.pick(&["DNAT", "SNAT", "DNAT,NEW"])
        ),
        5 => format!("-m state {not}--state {} ", random.pick(&STATES)),
        6 | 7 => format!("-m mark {not}--mark {} ", mark(random)),
        8 | 9 => format!("-m connmark {not}--mark {} ", mark(random)),
        10 | 11 => {
            let kind = random.pick(&["src", "dst", "dst"]);
            let types: &[&str] = if place.v4() {
                &[
                    "LOCAL",
                    "LOCAL",
                    "UNICAST",
                    "MULTICAST",
                    "BROADCAST",
                    "UNICAST,LOCAL",
                ]
            } else {
                &["LOCAL", "UNICAST", "MULTICAST"]
            };
            format!("-m addrtype {not}--{kind}-type {} ", random.pick(types))
        }
        12 if place.v4() => {
            let range = random.pick(&[
                "--dst-range 169.254.169.0-169.254.169.255",
                "--dst-range 10.0.0.0-169.254.169.253",
                "--src-range 172.17.0.2-172.17.0.9",
                "--src-range 169.254.172.2-172.17.0.1",
            ]);
            format!("-m iprange {not}{range} ")
        }
        12 => {
            let range = random.pick(&[
                "--dst-range fd00:ec2::-fd00:ec2::ffff",
                "--src-range fd00:17::2-fd00:18::1",
            ]);
            format!("-m iprange {not}{range} ")
        }
        13 => "-m comment --comment \"ecs-netguard: a b\" ".to_owned(),
        14 if random.percent(40) => "-m limit --limit 1000/sec --limit-burst 1 ".to_owned(),
        15 if random.percent(40) => {
            format!("-m statistic --mode random {not}--probability 0.5 ")
        }
        16 if ["OUTPUT", "POSTROUTING"].contains(&place.hook) => {
            let id = random.pick(&["--uid-owner 0", "--uid-owner 1000", "--gid-owner 0-10"]);
            format!("-m owner {not}{id} ")
        }
        // Elsewhere it hangs on what no packet of these shows.
        17 if ["FORWARD", "OUTPUT", "POSTROUTING"].contains(&place.hook) => {
            let to = random.pick(&["unicast", "broadcast", "multicast"]);
            format!("-m pkttype {not}--pkt-type {to} ")
        }
        21..=24 => headers::header(random, place.v4()),
        19 | 20 => super::sets::lookup(random, place.family),
        18 => format!("-m physdev {not}--physdev-is-bridged "),
        _ => String::new(),
    }
}

/// What the prover does not try to understand.
fn dark(random: &mut Random, place: Place) -> String {
    let not = random.not();
    match random.below(5) {
        0 => format!("-m string {not}--string lab --algo bm --to 65535 "),
        1 | 2 => format!("-m ecn {not}--ecn-ip-ect 0 "),
        3 => format!("-m cpu {not}--cpu 0 "),
        _ if place.v4() => format!("-m u32 {not}--u32 \"0x0&0xff=0x1\" "),
        _ => format!("-m string {not}--string bal --algo kmp --to 65535 "),
    }
}

/// A target of the chain, for a rule that has (or has not) a protocol with ports.
pub(crate) fn target(random: &mut Random, place: Place, ports: Option<&str>) -> String {
    if place.dark && place.table == "mangle" && random.percent(6) {
        let set = if place.v4() {
            "TTL --ttl-set 60"
        } else {
            "HL --hl-set 60"
        };
        return set.to_owned();
    }
    if place.table == "mangle" && random.percent(4) {
        return random
            .pick(&["DSCP --set-dscp 0x0a", "TOS --set-tos 0x10/0x3f"])
            .to_owned();
    }
    let general = match random.below(20) {
        0..=5 => "ACCEPT".to_owned(),
        6..=8 if place.table != "nat" => "DROP".to_owned(),
        9 | 10 => "RETURN".to_owned(),
        11 => "LOG --log-prefix \"lab \"".to_owned(),
        12 => format!("MARK --set-xmark {}", mark(random)),
        13 => format!("CONNMARK --set-xmark {}", mark(random)),
        14 => "CONNMARK --save-mark".to_owned(),
        15 => "CONNMARK --restore-mark".to_owned(),
        _ => String::new(),
    };
    if !general.is_empty() && (place.table != "nat" || random.percent(60)) {
        return general;
    }
    match place.table {
        "raw" => random.pick(&["CT --notrack", "NOTRACK", "DROP"]).to_owned(),
        "filter" => match ports {
            Some("tcp") if random.percent(20) => "REJECT --reject-with tcp-reset".to_owned(),
            _ => random.pick(&["DROP", "REJECT", "ACCEPT"]).to_owned(),
        },
        "nat" => nat(random, place, ports.is_some()),
        _ => "ACCEPT".to_owned(),
    }
}

fn nat(random: &mut Random, place: Place, ports: bool) -> String {
    let v4 = place.v4();
    if random.percent(12) {
        let nets: &[&str] = match (place.before, v4) {
            (true, true) => &["169.254.0.0/16", "127.0.0.0/8", "10.9.9.0/24"],
            (true, false) => &["fd00:ec2::/64", "fd00:10::/64"],
            (false, true) => &["10.0.0.0/24", "172.17.0.0/16"],
            (false, false) => &["fd00:10::/64", "fd00:17::/64"],
        };
        return format!("NETMAP --to {}", random.pick(nets));
    }
    if !place.before {
        return match random.below(4) {
            0 if ports => "MASQUERADE --to-ports 2000-3000".to_owned(),
            0 | 1 => "MASQUERADE".to_owned(),
            _ if v4 => "SNAT --to-source 10.0.0.10".to_owned(),
            _ => "SNAT --to-source fd00:10::10".to_owned(),
        };
    }
    if random.percent(20) {
        let to = if ports { " --to-ports 51679" } else { "" };
        return format!("REDIRECT{to}");
    }
    let to = match (v4, ports) {
        (true, true) => random.pick(&[
            "169.254.169.254:80",
            "127.0.0.1:51679",
            "127.0.0.1:51679",
            "10.0.0.1:8000-8010",
            ":53",
            "169.254.169.254",
        ]),
        (true, false) => random.pick(&[
            "169.254.169.254",
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.250-169.254.169.254",
        ]),
        (false, true) => random.pick(&[
            "[fd00:ec2::254]:80",
            "[fd00:10::1]:8000-8010",
            "fd00:ec2::254",
        ]),
        (false, false) => {
            random.pick(&["fd00:ec2::254", "fd00:10::1", "fd00:ec2::250-fd00:ec2::254"])
        }
    };
    format!("DNAT --to-destination {to}")
}
