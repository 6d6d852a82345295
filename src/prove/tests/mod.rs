//! The prover by value: one small ruleset a test, written as iptables-save prints it.

use super::*;
use crate::ruleset::{Family, IfacePattern, Net, PortRange, Ruleset, parse_save};
use crate::verdict::Verdict;

mod bdd;
mod blocks;
mod cgroups;
mod concrete;
mod connections;
mod conntrack;
mod deliveries;
mod generate;
mod headers;
mod ipsets;
mod kinds;
mod native;
mod random;
mod shields;
mod soup;
mod spell;
mod turning;
mod undone;
mod walks;

/// Proves one claim about one ruleset.
fn prove(ruleset: &Ruleset, claim: &Claim, host: &HostView) -> Verdict {
    Prover::new(&[ruleset], host).prove(claim)
}

/// The documented rule.
const BLOCK: &str = "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n";

/// A ruleset of one filter table whose FORWARD chain has these rules.
fn forward(rules: &str) -> Ruleset {
    tables(&[("filter", ":FORWARD ACCEPT [0:0]", rules)])
}

/// A ruleset of tables: name, chain declarations, rules.
fn tables(tables: &[(&str, &str, &str)]) -> Ruleset {
    parse_save(Family::V4, text(tables)).unwrap()
}

fn text(tables: &[(&str, &str, &str)]) -> String {
    let mut text = String::new();
    for (name, chains, rules) in tables {
        text += &format!("*{name}\n");
        for line in chains.lines().chain(rules.lines()) {
            text += &format!("{}\n", line.trim());
        }
        text += "COMMIT\n";
    }
    text
}

fn net(text: &str) -> Net {
    let family = if text.contains(':') {
        Family::V6
    } else {
        Family::V4
    };
    Net::parse(family, text).unwrap()
}

fn iface(text: &str) -> Ifaces {
    IfacePattern::parse(text).unwrap().into()
}

fn port(port: u16) -> Option<PortRange> {
    Some(PortRange {
        low: port,
        high: port,
    })
}

/// Everything from an interface that would leave for IMDS.
fn imds(from: &str) -> Claim {
    Claim {
        guarantee: "imds-block".into(),
        packets: PacketClass {
            family: Family::V4,
            from: Origin::Interface(iface(from)),
            out: None,
            src: Addrs::default(),
            dst: Destination::Net(net("169.254.169.254")),
            protocol: None,
            sport: None,
            dport: None,
            moment: Moment::Any,
            turned: true,
        },
        expect: Expect::Dropped,
    }
}

/// The same of first packets alone.
fn first(from: &str) -> Claim {
    let mut claim = imds(from);
    claim.packets.moment = Moment::First;
    claim
}

/// The credentials endpoint, from an interface or from the host.
fn credentials(from: Origin) -> Claim {
    Claim {
        guarantee: "task-credentials".into(),
        packets: PacketClass {
            from,
            moment: Moment::First,
            dst: Destination::Net(net("169.254.170.2")),
            protocol: Some(6),
            dport: port(80),
            ..imds("docker0").packets
        },
        expect: Expect::Delivered {
            addr: "127.0.0.1".parse().unwrap(),
            port: 51679,
        },
    }
}

fn host() -> HostView {
    let iface = |addr: &str| Iface {
        addrs: vec![addr.parse().unwrap()],
        route_localnet: false,
    };
    HostView {
        interfaces: [
            ("lo".to_owned(), iface("127.0.0.1")),
            ("eth0".to_owned(), iface("10.0.0.5")),
            ("docker0".to_owned(), iface("172.17.0.1")),
        ]
        .into(),
        route_localnet: true,
        ..HostView::default()
    }
}

fn verdict(ruleset: &Ruleset, claim: &Claim) -> Verdict {
    prove(ruleset, claim, &host())
}

fn held(ruleset: &Ruleset, claim: &Claim) {
    let verdict = verdict(ruleset, claim);
    assert!(
        matches!(verdict, Verdict::Held),
        "{claim}: {}",
        sanitize(&verdict)
    );
}

fn violated(ruleset: &Ruleset, claim: &Claim) -> Walk {
    match verdict(ruleset, claim) {
        Verdict::Violated { walk } => walk,
        other => panic!("{claim}: {}", sanitize(&other)),
    }
}

fn undecided(ruleset: &Ruleset, claim: &Claim) -> String {
    match verdict(ruleset, claim) {
        Verdict::Undecided { why, .. } => why,
        other => panic!("{claim}: {}", sanitize(&other)),
    }
}

fn sanitize(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Held => "held".into(),
        Verdict::Violated { walk } => format!("violated\n{walk}"),
        Verdict::Undecided { why, walk } => format!("undecided: {why}\n{walk}"),
    }
}
