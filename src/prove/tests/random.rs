//! Random rulesets: the prover against the second opinion of [`super::concrete`].

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::concrete::{Answers, Cond, Fate, Line, Open, Probe, Rules, To, fate};
use super::generate::{AGENT, ENDPOINT, IMDS, probe, rules};
use super::*;

/// Whether a packet ends badly whatever the unknown answers are, for some of the others.
fn surely(rules: &Rules, p: &Probe, answers: &Answers, bad: &dyn Fn(Fate) -> bool) -> bool {
    let with = |site: &String, answer| {
        let mut answers = answers.clone();
        answers.insert(site.clone(), answer);
        surely(rules, p, &answers, bad)
    };
    match fate(rules, answers, p) {
        Ok(fate) => bad(fate),
        Err(Open(site, true)) => with(&site, true) || with(&site, false),
        Err(Open(site, false)) => with(&site, true) && with(&site, false),
    }
}

/// Whether a packet ends badly for any answers at all.
fn possibly(rules: &Rules, p: &Probe, answers: &Answers, bad: &dyn Fn(Fate) -> bool) -> bool {
    match fate(rules, answers, p) {
        Ok(fate) => bad(fate),
        Err(Open(site, _)) => [true, false].into_iter().any(|answer| {
            let mut answers = answers.clone();
            answers.insert(site.clone(), answer);
            possibly(rules, p, &answers, bad)
        }),
    }
}

fn as_probe(packet: &Packet) -> Probe {
    let v4 = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(addr) => panic!("{addr}"),
    };
    let name = |name: &Option<String>| -> &'static str {
        name.clone()
            .map_or("", |name| Box::leak(name.into_boxed_str()))
    };
    Probe {
        input: name(&packet.iif),
        output: name(&packet.oif),
        src: v4(packet.src),
        dst: v4(packet.dst),
        proto: packet.protocol,
        sport: packet.sport.unwrap_or(0),
        dport: packet.dport.unwrap_or(0),
        icmp: packet.icmp.map_or(255, |(kind, _)| kind),
        flags: packet.flags.unwrap_or(0),
        uid: packet.uid.unwrap_or(0),
        state: packet.odd.map(|odd| match odd {
            Odd::Invalid => "INVALID",
            Odd::Later if packet.icmp.is_some() => "RELATED",
            Odd::Later => "ESTABLISHED",
            odd => panic!("no example is {odd}"),
        }),
    }
}

fn compare(
    rules: &Rules,
    claim: &Claim,
    probes: &[Probe],
    bad: &dyn Fn(Fate) -> bool,
) -> Result<(), TestCaseError> {
    let text = rules.text();
    let ruleset = parse_save(Family::V4, &text).unwrap();
    let none = Answers::new();
    let open = text.contains("-m set") || text.contains("-m recent");
    match prove(&ruleset, claim, &host()) {
        Verdict::Held => {
            for p in probes {
                prop_assert!(!possibly(rules, p, &none, bad), "held, but {p:?}\n{text}");
            }
        }
        Verdict::Violated { walk } => {
            let p = as_probe(walk.example.as_ref().unwrap());
            prop_assert!(
                surely(rules, &p, &none, bad),
                "violated, but not\n{walk}\n{text}"
            );
        }
        Verdict::Undecided { why, walk } => {
            let odd = walk.example.as_ref().is_some_and(|p| p.odd.is_some());
            prop_assert!(odd || open, "undecided: {why}\n{walk}\n{text}");
            if !open {
                for p in probes {
                    prop_assert!(
                        !surely(rules, p, &none, bad),
                        "undecided, but {p:?}\n{text}"
                    );
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn blocks_of_forwarded_packets(
        rules in rules(false),
        probes in proptest::collection::vec(probe(false), 40),
        general in any::<bool>(),
    ) {
        let bad = |fate| fate == Fate::Left(IMDS);
        // REDIRECT needs an interface with an address, and a pattern has others too.
        let general = general && !rules.text().contains("REDIRECT");
        let claim = imds(if general { "docker+" } else { "docker0" });
        compare(&rules, &claim, &probes, &bad)?;
    }

    #[test]
    fn blocks_of_the_hosts_own_packets(
        rules in rules(true),
        probes in proptest::collection::vec(probe(true), 40),
    ) {
        let bad = |fate| fate == Fate::Left(IMDS);
        let packets = PacketClass { from: Origin::Host, ..imds("lo").packets };
        compare(&rules, &Claim { packets, ..imds("lo") }, &probes, &bad)?;
    }

    #[test]
    fn deliveries_from_a_bridge(
        rules in rules(false),
        probes in proptest::collection::vec(probe(false), 40),
    ) {
        let claim = credentials(Origin::Interface(super::iface("docker0")));
        deliver(&rules, &claim, probes)?;
    }

    #[test]
    fn deliveries_from_the_host(
        rules in rules(true),
        probes in proptest::collection::vec(probe(true), 40),
    ) {
        deliver(&rules, &credentials(Origin::Host), probes)?;
    }

    #[test]
    fn what_is_held_of_several_interfaces_is_held_of_each(
        rules in rules(false),
        delivery in any::<bool>(),
        turned in any::<bool>(),
    ) {
        let claims = ["docker+", "br-a", "eth0"].map(|name| {
            let mut claim = imds(name);
            claim.packets.turned = turned;
            if delivery {
                claim = credentials(claim.packets.from);
            }
            claim
        });
        let joint = claims[0].with(&claims[1]).unwrap().with(&claims[2]).unwrap();
        let text = if delivery { delivering(&rules) } else { rules }.text();
        let ruleset = parse_save(Family::V4, &text).unwrap();
        let held = |claim: &Claim| prove(&ruleset, claim, &host()) == Verdict::Held;
        let each = claims.iter().map(held).collect::<Vec<_>>();
        let all = each.iter().all(|held| *held);
        prop_assert_eq!(held(&joint), all, "{:?}\n{}", each, text);
    }
}

/// Random rules alone hardly ever deliver.
fn delivering(rules: &Rules) -> Rules {
    let mut rules = rules.clone();
    for chain in ["PREROUTING", "OUTPUT"] {
        if let Some(lines) = rules.chains.get_mut(&("nat", chain)) {
            lines.push(Line {
                conds: vec![Cond::Dst(false, ENDPOINT, 32), Cond::Proto(false, 6)],
                to: To::Dnat(Some(Ipv4Addr::LOCALHOST), Some(AGENT)),
            });
        }
    }
    rules
}

fn deliver(rules: &Rules, claim: &Claim, probes: Vec<Probe>) -> Result<(), TestCaseError> {
    let rules = delivering(rules);
    let good = Fate::Here(Ipv4Addr::LOCALHOST, AGENT);
    let probes: Vec<Probe> = probes
        .into_iter()
        .map(|p| Probe {
            dst: ENDPOINT,
            proto: 6,
            dport: 80,
            flags: 2,
            ..p
        })
        .collect();
    compare(&rules, claim, &probes, &|fate| fate != good)
}
