//! Random rulesets and packets, of few enough values to meet each other.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::concrete::{Cond, Line, Probe, Rules, To};

pub(super) const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(super) const ENDPOINT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
pub(super) const AGENT: u16 = 51679;

fn address() -> impl Strategy<Value = Ipv4Addr> {
    select(vec![
        IMDS,
        ENDPOINT,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(10, 0, 0, 5),
        Ipv4Addr::new(172, 17, 0, 1),
        Ipv4Addr::new(172, 17, 0, 2),
        Ipv4Addr::new(172, 17, 0, 3),
        Ipv4Addr::new(8, 8, 8, 8),
    ])
}

fn network() -> impl Strategy<Value = (Ipv4Addr, u32)> {
    (address(), select(vec![32, 32, 31, 24, 16, 8, 1, 0])).prop_map(|(addr, bits)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        (Ipv4Addr::from(u32::from(addr) & mask), bits)
    })
}

fn iface() -> impl Strategy<Value = &'static str> {
    select(vec![
        "docker0", "docker+", "eth0", "eth+", "br-a", "lo", "d+",
    ])
}

fn port_number() -> impl Strategy<Value = u16> {
    select(vec![80, 443, 40_000, AGENT])
}

fn mark() -> impl Strategy<Value = (u32, u32)> {
    (0u32..4, select(vec![1, 2, 3, u32::MAX]))
}

/// A condition that any rule can have.
fn cond() -> impl Strategy<Value = Cond> {
    let not = any::<bool>;
    let states = vec![
        "NEW",
        "ESTABLISHED",
        "RELATED",
        "INVALID",
        "UNTRACKED",
        "DNAT",
    ];
    prop_oneof![
        4 => (not(), iface()).prop_map(|(n, i)| Cond::In(n, i)),
        2 => (not(), iface()).prop_map(|(n, i)| Cond::Out(n, i)),
        3 => (not(), network()).prop_map(|(n, (net, bits))| Cond::Src(n, net, bits)),
        5 => (not(), network()).prop_map(|(n, (net, bits))| Cond::Dst(n, net, bits)),
        2 => (not(), subsequence(states, 1..4)).prop_map(|(n, s)| Cond::State(n, s)),
        2 => (not(), mark()).prop_map(|(n, (v, m))| Cond::Mark(n, v, m)),
        1 => (not(), mark()).prop_map(|(n, (v, m))| Cond::Connmark(n, v, m)),
        1 => not().prop_map(Cond::LocalSrc),
        2 => not().prop_map(Cond::LocalDst),
        1 => (not(), address(), address())
            .prop_map(|(n, a, b)| Cond::Range(n, a.min(b), a.max(b))),
        1 => Just(Cond::Comment),
        1 => Just(Cond::Limit),
        1 => Just(Cond::Recent),
        1 => Just(Cond::Set),
    ]
}

/// The conditions of a rule: perhaps a protocol with what belongs to it, and some others.
fn conds(from_host: bool) -> impl Strategy<Value = Vec<Cond>> {
    let not = any::<bool>;
    let ports = || (port_number(), port_number()).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let tcp = prop_oneof![
        (not(), ports()).prop_map(|(n, (a, b))| Cond::Sport(n, a, b)),
        (not(), ports()).prop_map(|(n, (a, b))| Cond::Dport(n, a, b)),
        not().prop_map(Cond::Syn),
        (not(), proptest::collection::vec(port_number(), 1..3))
            .prop_map(|(n, list)| Cond::Ports(n, list)),
        Just(Cond::Comment),
    ];
    let transport = prop_oneof![
        4 => Just(vec![]),
        3 => tcp.prop_map(|c| vec![Cond::Proto(false, 6), c]),
        1 => (not(), select(vec![1, 6, 17, 47])).prop_map(|(n, p)| vec![Cond::Proto(n, p)]),
        1 => (not(), select(vec![0, 8])).prop_map(|(n, k)| vec![Cond::Proto(false, 1), Cond::Icmp(n, k)]),
    ];
    let owner = (not(), 0u32..3, 0u32..3).prop_map(|(n, a, b)| Cond::Uid(n, a.min(b), a.max(b)));
    let owner = match from_host {
        true => proptest::option::weighted(0.2, owner).boxed(),
        false => Just(None).boxed(),
    };
    (transport, proptest::collection::vec(cond(), 0..3), owner).prop_map(
        |(mut conds, more, owner)| {
            // As iptables prints them: a common option once, and before every module.
            let mut all = Vec::new();
            let mut seen = Vec::new();
            conds.extend(more);
            for c in conds {
                let common = matches!(
                    c,
                    Cond::In(..) | Cond::Out(..) | Cond::Src(..) | Cond::Dst(..) | Cond::Proto(..)
                );
                let kind = std::mem::discriminant(&c);
                match common {
                    true if seen.contains(&kind) => {}
                    true => {
                        seen.push(kind);
                        all.insert(seen.len() - 1, c);
                    }
                    false => all.push(c),
                }
            }
            all.extend(owner);
            all
        },
    )
}

fn target(table: &'static str, chain: &'static str) -> BoxedStrategy<To> {
    let callable = match chain {
        "U2" => vec![],
        "U1" => vec!["U2"],
        _ => vec!["U1", "U2"],
    };
    let calls = if callable.is_empty() {
        Just(To::Return).boxed()
    } else {
        prop_oneof![
            select(callable.clone()).prop_map(To::Jump),
            select(callable).prop_map(To::Goto),
        ]
        .boxed()
    };
    let (drops, marks, nats, raw) = match table {
        "nat" => (0, 1, 6, 0),
        "raw" => (1, 1, 0, 2),
        "mangle" => (2, 4, 0, 0),
        _ => (5, 1, 0, 0),
    };
    let to = (
        proptest::option::of(address()),
        proptest::option::of(port_number()),
    )
        .prop_map(|(addr, port)| match (addr, port) {
            (None, None) => To::Dnat(Some(IMDS), None),
            (addr, port) => To::Dnat(addr, port),
        });
    let masks = || select(vec![1, 3, u32::MAX]);
    let mut choices = vec![
        (3, Just(To::Accept).boxed()),
        (drops, Just(To::Drop).boxed()),
        (2, Just(To::Return).boxed()),
        (1, Just(To::Log).boxed()),
        (1, Just(To::Nothing).boxed()),
        (4, calls),
        (marks, mark().prop_map(|(v, m)| To::Mark(v, m)).boxed()),
        (marks, mark().prop_map(|(v, m)| To::Connmark(v, m)).boxed()),
        (marks, masks().prop_map(To::Save).boxed()),
        (marks, masks().prop_map(To::Restore).boxed()),
        (nats, to.boxed()),
        (nats, port_number().prop_map(To::Redirect).boxed()),
        (raw, Just(To::Notrack).boxed()),
    ];
    choices.retain(|(weight, _)| *weight > 0);
    proptest::strategy::Union::new_weighted(choices).boxed()
}

fn line(table: &'static str, chain: &'static str, from_host: bool) -> BoxedStrategy<Line> {
    (conds(from_host), target(table, chain))
        .prop_map(move |(mut conds, mut to)| {
            let rewrites_port = matches!(to, To::Dnat(_, Some(_)) | To::Redirect(_));
            if rewrites_port {
                // Ports are only rewritten where there are some.
                conds.retain(|c| !matches!(c, Cond::Proto(..) | Cond::Icmp(..)));
                conds.insert(0, Cond::Proto(false, 6));
            }
            if let (To::Redirect(port), false, true) = (
                &to,
                from_host,
                chain.starts_with('U') || chain == "PREROUTING",
            ) {
                // Only these interfaces have addresses here.
                let port = *port;
                conds.retain(|c| !matches!(c, Cond::In(..)));
                conds.insert(0, Cond::In(false, "docker0"));
                to = To::Redirect(port);
            }
            Line { conds, to }
        })
        .boxed()
}

pub(super) fn rules(from_host: bool) -> impl Strategy<Value = Rules> {
    let places: Vec<(&'static str, &'static str)> = if from_host {
        vec![
            ("raw", "OUTPUT"),
            ("mangle", "OUTPUT"),
            ("nat", "OUTPUT"),
            ("nat", "U1"),
            ("filter", "OUTPUT"),
            ("filter", "INPUT"),
            ("filter", "U1"),
            ("filter", "U2"),
            ("mangle", "PREROUTING"),
            ("mangle", "POSTROUTING"),
        ]
    } else {
        vec![
            ("raw", "PREROUTING"),
            ("mangle", "PREROUTING"),
            ("nat", "PREROUTING"),
            ("nat", "U1"),
            ("nat", "U2"),
            ("mangle", "FORWARD"),
            ("mangle", "U1"),
            ("filter", "FORWARD"),
            ("filter", "INPUT"),
            ("filter", "U1"),
            ("filter", "U2"),
        ]
    };
    let chains: Vec<_> = places
        .into_iter()
        .map(|(table, chain)| {
            let most = if table == "filter" { 5 } else { 3 };
            let lines = proptest::collection::vec(line(table, chain, from_host), 0..most);
            (Just((table, chain)), lines, proptest::bool::weighted(0.15))
        })
        .collect();
    chains.prop_map(|chains| {
        let mut rules = Rules::default();
        for (place, lines, drops) in chains {
            rules.chains.insert(place, lines);
            if drops && place.0 == "filter" && !place.1.starts_with('U') {
                rules.drops.push(place);
            }
        }
        for table in ["raw", "mangle", "nat", "filter"] {
            for user in ["U1", "U2"] {
                rules.chains.entry((table, user)).or_default();
            }
        }
        rules
    })
}

pub(super) fn probe(from_host: bool) -> impl Strategy<Value = Probe> {
    let input = if from_host { vec![""] } else { vec!["docker0"] };
    let src = if from_host {
        vec![Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::LOCALHOST]
    } else {
        vec![
            Ipv4Addr::new(172, 17, 0, 2),
            Ipv4Addr::new(172, 17, 0, 3),
            Ipv4Addr::new(8, 8, 8, 8),
        ]
    };
    (
        (
            select(input),
            select(vec!["eth0", "br-a", "docker1"]),
            select(src),
            address(),
        ),
        (select(vec![1, 6, 6, 17, 47]), port_number(), port_number()),
        (select(vec![0, 8]), select(vec![2, 16, 0]), 0u32..3),
    )
        .prop_map(
            |((input, output, src, dst), (proto, sport, dport), (icmp, flags, uid))| Probe {
                input,
                output,
                src,
                dst,
                proto,
                sport,
                dport,
                icmp,
                flags,
                uid,
                state: None,
            },
        )
}
