//! Walks as people read them, and bounds on the work.

use std::fmt::Write;

use super::*;

/// A host where Docker restarted after the block was put in.
fn docker() -> Ruleset {
    tables(&[
        (
            "filter",
            ":INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]",
            "-A FORWARD -j DOCKER-USER
             -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             -A FORWARD -o docker0 -j DOCKER
             -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
             -A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP
             -A DOCKER -d 172.17.0.3/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
             -A DOCKER-USER -m set --match-set allowed dst -j ACCEPT
             -A DOCKER-USER -m limit --limit 1/sec -j LOG --log-prefix \"fwd \"
             -A DOCKER-USER -j RETURN",
        ),
        (
            "nat",
            ":PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]",
            "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.3:80",
        ),
    ])
}

#[test]
fn a_counterexample() {
    insta::assert_snapshot!(violated(&docker(), &imds("docker0")).to_string());
}

#[test]
fn an_explanation() {
    let host = host();
    let rules = docker();
    let prover = Prover::new(&[&rules], &host);
    insta::assert_snapshot!(prover.explain(&imds("docker0").packets).to_string());
    let mut published = imds("eth0").packets;
    published.dst = Destination::Net(net("10.0.0.5"));
    published.protocol = Some(6);
    published.dport = port(8080);
    insta::assert_snapshot!(prover.explain(&published).to_string());
}

#[test]
fn a_verdict_for_machines() {
    let verdict = verdict(&docker(), &imds("docker0"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&verdict).unwrap());
}

#[test]
fn a_walk_past_thousands_of_rules_stays_readable() {
    let mut rules = String::new();
    for n in 0..9_000 {
        writeln!(
            rules,
            "-A FORWARD -s 10.1.{}.{}/32 -j DROP",
            n / 250,
            n % 250
        )
        .unwrap();
    }
    let walk = violated(&forward(&rules), &imds("docker0"));
    assert_eq!((walk.steps.len(), walk.omitted), (201, 8_800));
}

#[test]
fn chains_that_call_each_other_without_end_are_given_up() {
    // Each calls the next twice: 2^40 ways.
    let mut chains = ":FORWARD ACCEPT [0:0]\n".to_owned();
    let mut rules = "-A FORWARD -j C0\n".to_owned();
    for n in 0..40 {
        writeln!(chains, ":C{n} - [0:0]").unwrap();
        writeln!(rules, "-A C{n} -j C{}\n-A C{n} -j C{}", n + 1, n + 1).unwrap();
    }
    chains += ":C40 - [0:0]";
    let why = undecided(&tables(&[("filter", &chains, &rules)]), &imds("docker0"));
    assert_eq!(why, "the rules are more than a proof may look at");
}

#[test]
fn thousands_of_unknown_matches_are_given_up() {
    let rules: String = (0..9_000)
        .map(|n| format!("-A FORWARD -m set --match-set s{n} src -j DROP\n"))
        .collect();
    undecided(&forward(&rules), &imds("docker0"));
}

/// Claims about 10,000 rules: more work than a proof may do would be a verdict of its own.
#[test]
fn ten_thousand_rules_are_no_trouble() {
    let mut rules = String::new();
    for n in 0..5_000 {
        let (a, b) = (n / 250, n % 250);
        writeln!(rules, "-A FORWARD -s 10.1.{a}.{b}/32 -j DROP").unwrap();
        writeln!(
            rules,
            "-A FORWARD -d 10.2.{a}.{b}/32 -o docker0 -p tcp -m tcp --dport {n} -j ACCEPT"
        )
        .unwrap();
    }
    rules += "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n";
    let ruleset = forward(&rules);
    let host = host();
    let prover = Prover::new(&[&ruleset], &host);
    for _ in 0..10 {
        assert_eq!(prover.prove(&imds("docker0")), Verdict::Held);
    }

    let broken = forward(&rules.replace("169.254.169.254", "169.254.169.253"));
    violated(&broken, &imds("docker0"));

    let chains = ":INPUT ACCEPT [0:0]";
    let nat = "-A PREROUTING -d 169.254.170.2/32 -p tcp -j DNAT --to-destination 127.0.0.1:51679";
    let nat = ("nat", ":PREROUTING ACCEPT [0:0]", nat);
    let delivering = tables(&[nat, ("filter", chains, &rules.replace("FORWARD", "INPUT"))]);
    let mut claim = credentials(Origin::Interface(iface("docker0")));
    claim.packets.src = net("172.17.0.0/16").into();
    held(&delivering, &claim);
}

/// Drops of TCP are passed over where the packet taken at random is none; whether these stop one cannot be known.
#[test]
fn what_may_be_stopped_by_a_rule_that_is_not_understood_is_no_example() {
    let drop = "-A FORWARD -p tcp -m set --match-set s src -j DROP";
    let jump = "-A FORWARD -m set --match-set s src -j SOME\n-A SOME -p tcp -j DROP";
    let chains = ":FORWARD ACCEPT [0:0]\n:SOME - [0:0]";
    for rules in [drop, jump] {
        let walk = violated(&tables(&[("filter", chains, rules)]), &imds("docker0"));
        let example = walk.example.as_ref().unwrap();
        assert_ne!(example.protocol, 6, "{walk}");
    }
}

/// However many sources are accepted above a block, the first is enough to show that it does not hold.
#[test]
fn of_thousands_of_accepted_sources_the_first_is_the_example() {
    let host = host();
    for ports in ["", " -p tcp -m tcp --dport 80"] {
        let mut rules = String::new();
        for n in 0..10_000 {
            let (a, b) = (n / 250, n % 250);
            writeln!(rules, "-A FORWARD -s 10.1.{a}.{b}/32{ports} -j ACCEPT").unwrap();
        }
        rules += "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n";
        let ruleset = forward(&rules);
        let prover = Prover::new(&[&ruleset], &host);
        let Verdict::Violated { walk } = prover.prove(&imds("docker0")) else {
            panic!("{ports:?} is no way through");
        };
        let accepting = walk.steps.iter().find(|step| step.rule.is_some()).unwrap();
        assert_eq!(accepting.rule, Some(1), "{walk:?}");
    }
}

/// A rule for the interface by which this host sends it is a block, unless a rule for some packets sends those
/// elsewhere.
#[test]
fn what_leaves_by_another_interface_than_the_route_is_no_example() {
    let mut host = host();
    let drop = |interface: &str| {
        forward(&format!(
            "-A FORWARD -o {interface} -d 169.254.169.254/32 -j DROP"
        ))
    };
    let claim = imds("docker0");
    let proved = |host: &HostView, interface| prove(&drop(interface), &claim, host);
    let by = |verdict: &Verdict| match verdict {
        Verdict::Violated { walk } => walk.example.as_ref().unwrap().oif.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(by(&proved(&host, "ens5")).as_deref(), Some("eth0"));
    host.interfaces.insert("ens5".to_owned(), Iface::default());
    host.ways = vec![("169.254.169.254".parse().unwrap(), "ens5".to_owned())];
    assert_eq!(by(&proved(&host, "ens6")).as_deref(), Some("ens5"));
    let Verdict::Undecided { why, walk } = proved(&host, "ens5") else {
        panic!("it neither holds nor does it not");
    };
    let oif = walk.example.unwrap().oif.unwrap();
    assert_eq!(
        why,
        format!(
            "only what leaves by {oif} gets through, and this host sends it by ens5 (`ip route get`)"
        )
    );
}

#[test]
fn an_example_comes_in_by_an_interface_that_the_host_has() {
    let mut view = host();
    let example = |view: &HostView, claim: &Claim| {
        let Verdict::Violated { walk } = prove(&forward(""), claim, view) else {
            panic!("{claim} is violated");
        };
        let packet = walk.example.unwrap();
        format!("{} by {}", packet.src, packet.iif.unwrap_or_default())
    };
    let mut any = first("docker0");
    any.packets.from = Origin::Interface(Ifaces::all_but(vec![IfacePattern::parse("lo").unwrap()]));
    assert_eq!(example(&view, &any), "172.17.0.2 by docker0");
    // What the host sends there leaves by it.
    view.ways = vec![("169.254.169.254".parse().unwrap(), "docker0".to_owned())];
    assert_eq!(example(&view, &any), "10.0.0.6 by eth0");
    // What is for the host itself comes from the network.
    let mut own = any.clone();
    own.packets.dst = Destination::ThisHost;
    own.packets.out = None;
    view.ways = vec![("169.254.169.254".parse().unwrap(), "eth0".to_owned())];
    assert_eq!(example(&view, &own), "10.0.0.6 by eth0");
    // An interface that only a rule names comes after those.
    let rules = forward("-A FORWARD -i a0 -j ACCEPT\n");
    let Verdict::Violated { walk } = prove(&rules, &any, &view) else {
        panic!("violated");
    };
    assert_eq!(walk.example.unwrap().iif.as_deref(), Some("docker0"));
    let alone = HostView::default();
    let Verdict::Violated { walk } = prove(&rules, &any, &alone) else {
        panic!("violated");
    };
    assert_eq!(walk.example.unwrap().iif.as_deref(), Some("a0"));
}

#[test]
fn an_example_of_ipv6_comes_from_no_link_local_address_and_leaves_by_an_interface_of_the_host() {
    let mut view = host();
    let addrs = ["fe80::1", "fd00:17::1"].map(|addr| addr.parse::<std::net::IpAddr>().unwrap());
    view.interfaces
        .get_mut("docker0")
        .unwrap()
        .addrs
        .extend(addrs);
    // Without a route for IPv6 it would leave by the interface of the other.
    view.ways = vec![("169.254.169.254".parse().unwrap(), "ens5".to_owned())];
    let mut claim = first("docker0");
    claim.packets.family = Family::V6;
    claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
    let rules = parse_save(Family::V6, "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n").unwrap();
    let Verdict::Violated { walk } = prove(&rules, &claim, &view) else {
        panic!("violated");
    };
    let example = walk.example.unwrap();
    assert_eq!(example.src.to_string(), "fd00:17::2");
    assert_eq!(example.oif.as_deref(), Some("ens5"));
}
