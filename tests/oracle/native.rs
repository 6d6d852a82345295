//! Random rules of native nftables, as lines for `nft -f`, each behind [`MARKER`].

use ecs_netguard::ruleset::Family;

use super::claims::BRIDGES;
use super::random::Random;

/// What a line of a case begins with that is for nft.
pub(crate) const MARKER: &str = "nft> ";

/// The tables that a case may make.
pub(crate) const TABLES: [&str; 4] = ["inet o0", "ip o1", "ip6 o1", "inet o2"];

/// Some tables, beside those of iptables.
pub(crate) fn native(random: &mut Random, family: Family) -> String {
    let own = if family == Family::V4 {
        "ip o1"
    } else {
        "ip6 o1"
    };
    let mut lines = Vec::new();
    for table in ["inet o0", own, "inet o2"] {
        if random.percent(40) {
            lines.extend(Table { random, family }.table(table));
        }
    }
    lines
        .iter()
        .map(|line| format!("{MARKER}{line}\n"))
        .collect()
}

struct Table<'r> {
    random: &'r mut Random,
    family: Family,
}

/// Where a rule stands.
#[derive(Clone, Copy)]
struct Place {
    hook: &'static str,
    nat: bool,
    early: bool,
    /// The first of the chains that it may jump to.
    first: usize,
}

const USERS: usize = 3;

impl Table<'_> {
    fn table(mut self, name: &str) -> Vec<String> {
        let mut lines = vec![format!("add table {name}")];
        lines.extend((0..USERS).map(|user| format!("add chain {name} u{user}")));
        let mut rules = Vec::new();
        for number in 0..1 + self.random.below(3) {
            let hook = self.random.pick(&[
                "prerouting",
                "forward",
                "forward",
                "input",
                "output",
                "postrouting",
            ]);
            let nat = hook != "forward" && self.random.percent(35);
            let priority = self
                .random
                .pick(&[-400, -300, -200, -150, -100, -10, 0, 0, 10, 100, 300]);
            let kind = if nat { "nat" } else { "filter" };
            // The kernel takes no chain of NAT before connection tracking.
            let priority = if nat { priority.max(-150) } else { priority };
            let policy = if self.random.percent(8) {
                "drop"
            } else {
                "accept"
            };
            lines.push(format!(
                "add chain {name} c{number} {{ type {kind} hook {hook} priority {priority}; policy {policy}; }}"
            ));
            let place = Place {
                hook,
                nat,
                early: priority < -200,
                first: 0,
            };
            for _ in 0..self.random.below(5) {
                let rule = self.rule(place);
                rules.push(format!("add rule {name} c{number} {rule}"));
            }
        }
        for user in 0..USERS {
            let place = Place {
                hook: "",
                nat: false,
                early: false,
                first: user + 1,
            };
            for _ in 0..self.random.below(3) {
                let rule = self.rule(place);
                rules.push(format!("add rule {name} u{user} {rule}"));
            }
        }
        lines.extend(rules);
        lines
    }

    fn rule(&mut self, place: Place) -> String {
        let mut words = Vec::new();
        let mut ports = false;
        for _ in 0..self.random.below(3) {
            let (word, has_ports) = self.condition(place);
            ports |= has_ports;
            words.push(word);
        }
        if self.random.percent(30) {
            words.push("counter".to_owned());
        }
        if self.random.percent(20) {
            words.push(self.map(place));
        } else {
            let action = self.action(place, ports);
            words.push(action);
        }
        words.join(" ")
    }

    fn not(&mut self) -> &'static str {
        if self.random.percent(25) { "!= " } else { "" }
    }

    fn interface(&mut self) -> String {
        let bridge = self.random.pick(&BRIDGES);
        let names = [
            format!("\"{bridge}\""),
            format!("\"{bridge}\""),
            "\"docker*\"".to_owned(),
            "\"br-*\"".to_owned(),
            "\"ens5\"".to_owned(),
            "\"lo\"".to_owned(),
            format!("{{ \"{bridge}\", \"lo\" }}"),
            "{ \"br-*\", \"ens5\" }".to_owned(),
        ];
        let which = self.random.below(names.len());
        names[which].clone()
    }

    fn address(&mut self) -> &'static str {
        match self.family {
            Family::V4 => self.random.pick(&[
                "169.254.169.254",
                "169.254.169.254",
                "169.254.0.0/16",
                "169.254.170.2",
                "172.17.0.0/16",
                "172.17.0.2",
                "127.0.0.1",
                "127.0.0.0/8",
                "10.0.0.0/8",
                "169.254.169.0-169.254.170.9",
                "{ 169.254.169.254, 10.0.0.1 }",
                "{ 172.16.0.0/12, 10.0.0.0/9 }",
                "169.254.160.0/20",
            ]),
            Family::V6 => self.random.pick(&[
                "fd00:ec2::254",
                "fd00:ec2::254",
                "fd00:ec2::/32",
                "fd00:17::/64",
                "fd00:17::2",
                "::1",
                "fd00::/8",
                "fd00:ec2::250-fd00:ec2::2ff",
                "{ fd00:ec2::254, fd00:10::1 }",
                "{ fd00:17::/64, fd00:ec2::/48 }",
            ]),
        }
    }

    /// A condition, and whether packets that meet it have ports.
    fn condition(&mut self, place: Place) -> (String, bool) {
        let not = self.not();
        let ip = if self.family == Family::V4 {
            "ip"
        } else {
            "ip6"
        };
        let side = self.random.pick(&["saddr", "daddr", "daddr"]);
        let port = self.random.pick(&[
            "80",
            "53",
            "1-1023",
            "{ 80, 443 }",
            "{ 22, 1000-65535 }",
            "51679",
        ]);
        let protocol = self.random.pick(&["tcp", "udp"]);
        let end = self.random.pick(&["dport", "dport", "sport"]);
        match self.random.below(18) {
            15 => (
                format!(
                    "ct direction {not}{}",
                    self.random.pick(&["original", "reply"])
                ),
                false,
            ),
            16 | 17 => (self.header(), false),
            0 | 1 if place.hook != "output" => {
                (format!("iifname {not}{}", self.interface()), false)
            }
            2 if !matches!(place.hook, "prerouting" | "input" | "") => {
                (format!("oifname {not}{}", self.interface()), false)
            }
            0..=5 => (format!("{ip} {side} {not}{}", self.address()), false),
            6 => (format!("{protocol} {end} {not}{port}"), true),
            7 => (
                format!("meta l4proto {{ tcp, udp }} th {end} {not}{port}"),
                true,
            ),
            8 => (format!("meta l4proto {not}{protocol}"), not.is_empty()),
            9 => {
                let states = self.random.pick(&[
                    "new",
                    "established,related",
                    "invalid",
                    "untracked",
                    "{ new, invalid }",
                    "invalid,untracked",
                ]);
                (format!("ct state {not}{states}"), false)
            }
            10 => (
                self.random
                    .pick(&[
                        "ct status dnat",
                        "ct mark 0x1",
                        "ct state new ct status dnat",
                    ])
                    .to_owned(),
                false,
            ),
            11 => {
                let mark = self.random.pick(&["0x0", "0x1", "0x3"]);
                let mask = self.random.pick(&["", "& 0x1 == ", "& 0x2 == "]);
                let mark = if mask.is_empty() {
                    format!("{not}{mark}")
                } else {
                    format!(
                        "{mask}{}",
                        if mark == "0x0" {
                            "0x0"
                        } else {
                            mask.get(2..5).unwrap_or("0x1")
                        }
                    )
                };
                (format!("meta mark {mark}"), false)
            }
            12 if !matches!(place.hook, "forward" | "") => {
                (format!("fib daddr type {not}local"), false)
            }
            13 => {
                let icmp = if self.family == Family::V4 {
                    "icmp"
                } else {
                    "icmpv6"
                };
                (format!("{icmp} type {not}echo-request"), false)
            }
            _ => {
                let to = self.address();
                let set = to.contains('{') || to.contains('-') || to.contains('/');
                let to = if set { self.first_address() } else { to };
                (
                    format!(
                        "{ip} daddr . meta l4proto . th dport {{ {to} . tcp . 80, {to} . udp . 53 }}"
                    ),
                    true,
                )
            }
        }
    }

    /// What headers say beside addresses and ports.
    fn header(&mut self) -> String {
        let not = self.not();
        let (ip, ttl) = if self.family == Family::V4 {
            ("ip", "ttl")
        } else {
            ("ip6", "hoplimit")
        };
        match self.random.below(4) {
            0 => format!(
                "{ip} {ttl} {not}{}",
                self.random.pick(&["64", "63", "1-62", "{ 1, 63, 254 }"])
            ),
            1 => format!(
                "{ip} {ttl} {} {}",
                self.random.pick(&["<", ">", "<=", ">="]),
                self.random.pick(&["63", "64", "65"])
            ),
            2 => format!(
                "{ip} dscp {not}{}",
                self.random.pick(&["cs0", "af11", "ef", "{ cs0, 0x0a }"])
            ),
            _ => format!(
                "meta length {not}{}",
                self.random
                    .pick(&["100", "0-100", "101-1500", "> 100", "<= 99"])
                    .replace("!= >", ">")
            ),
        }
    }

    fn first_address(&self) -> &'static str {
        if self.family == Family::V4 {
            "169.254.169.254"
        } else {
            "fd00:ec2::254"
        }
    }

    /// A verdict map.
    fn map(&mut self, place: Place) -> String {
        let (one, other) = (self.verdict(place), self.verdict(place));
        match self.random.below(4) {
            0 => format!("ct state vmap {{ new : {one}, invalid : {other} }}"),
            1 => format!("meta l4proto vmap {{ tcp : {one}, udp : {other} }}"),
            2 => format!("meta mark vmap {{ 0x0 : {one}, 0x1 : {other} }}"),
            _ => {
                let ip = if self.family == Family::V4 {
                    "ip"
                } else {
                    "ip6"
                };
                let to = self.first_address();
                format!("{ip} daddr vmap {{ {to} : {one}, * : {other} }}")
            }
        }
    }

    fn verdict(&mut self, place: Place) -> String {
        let reachable: Vec<usize> = (place.first..USERS).collect();
        match self.random.below(10) {
            0..=2 => "drop".to_owned(),
            3..=4 => "accept".to_owned(),
            5 => "return".to_owned(),
            6 => "continue".to_owned(),
            _ if reachable.is_empty() || place.nat => "accept".to_owned(),
            7 => format!("goto u{}", self.random.pick(&reachable)),
            _ => format!("jump u{}", self.random.pick(&reachable)),
        }
    }

    fn action(&mut self, place: Place, ports: bool) -> String {
        if place.nat && self.random.percent(60) {
            return self.nat(place, ports);
        }
        match self.random.below(12) {
            0 => "meta mark set 0x1".to_owned(),
            1 => "meta mark set meta mark | 0x2".to_owned(),
            2 => "ct mark set 0x1".to_owned(),
            3 => "meta mark set ct mark".to_owned(),
            4 if place.early => "notrack".to_owned(),
            5 if matches!(place.hook, "input" | "forward" | "output") && !place.nat => {
                "reject".to_owned()
            }
            6 => format!("meta mark set 0x3 {}", self.verdict(place)),
            _ => self.verdict(place),
        }
    }

    fn nat(&mut self, place: Place, ports: bool) -> String {
        let (family, to) = match self.family {
            Family::V4 => (
                "ip",
                self.random
                    .pick(&["169.254.169.254", "10.0.0.1", "127.0.0.1", "172.17.0.2"]),
            ),
            Family::V6 => (
                "ip6",
                self.random
                    .pick(&["fd00:ec2::254", "fd00:10::1", "fd00:17::2"]),
            ),
        };
        match place.hook {
            "prerouting" | "output" if self.random.percent(30) => "redirect".to_owned(),
            "prerouting" | "output" => {
                let bracketed = if family == "ip" {
                    to.to_owned()
                } else {
                    format!("[{to}]")
                };
                match ports {
                    true if self.random.percent(50) => {
                        let port = self.random.pick(&[80, 51_679]);
                        format!("meta l4proto {{ tcp, udp }} dnat {family} to {bracketed}:{port}")
                    }
                    _ => format!("dnat {family} to {to}"),
                }
            }
            "postrouting" if self.random.percent(60) => "masquerade".to_owned(),
            _ => {
                let to = if family == "ip" {
                    "10.0.0.77"
                } else {
                    "fd00:10::77"
                };
                format!("snat {family} to {to}")
            }
        }
    }
}
