//! Blocks of other kinds: packets for this host, IPv6, several rulesets, native chains.

use super::*;

#[test]
fn shields_of_this_host() {
    let shield = "-A INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
    let input = |rules| tables(&[("filter", ":INPUT ACCEPT [0:0]", rules)]);
    let mut loopback = first("eth0");
    loopback.packets.dst = Destination::Net(net("127.0.0.0/8"));
    loopback.packets.src.except = vec![net("127.0.0.0/8")];
    loopback.packets.turned = false;
    held(&input(shield), &loopback);
    violated(&input(""), &loopback);
    let off = HostView {
        route_localnet: false,
        ..host()
    };
    assert_eq!(prove(&input(""), &loopback, &off), Verdict::Held);

    let rules = "-A INPUT -i docker0 -p tcp -m tcp --dport 51678 -j ACCEPT
                 -A INPUT ! -i lo -p tcp -m tcp --dport 51678 -j DROP";
    let mut introspection = first("docker0");
    introspection.packets.dst = Destination::ThisHost;
    introspection.packets.protocol = Some(6);
    introspection.packets.dport = port(51678);
    let but = |names: &[&str]| {
        let names = names.iter().map(|name| IfacePattern::parse(name).unwrap());
        Origin::Interface(Ifaces::all_but(names.collect()))
    };
    introspection.packets.from = but(&["lo", "docker0"]);
    held(&input(rules), &introspection);
    let strangers = prove(&input(rules), &introspection, &HostView::default());
    assert_eq!(strangers, Verdict::Held);
    introspection.packets.from = but(&["lo"]);
    violated(&input(rules), &introspection);
    assert!(matches!(
        prove(&input(rules), &introspection, &HostView::default()),
        Verdict::Violated { .. }
    ));
}

#[test]
fn ipv6() {
    let rules = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d fd00:ec2::254/128 -i docker+ -j DROP\nCOMMIT\n";
    let rules = parse_save(Family::V6, rules).unwrap();
    let mut claim = imds("docker0");
    claim.packets.family = Family::V6;
    claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
    held(&rules, &claim);
    let split = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -j DROP\n-A FORWARD ! -p tcp -j DROP\nCOMMIT\n";
    let why = undecided(&parse_save(Family::V6, split).unwrap(), &claim);
    assert!(why.contains("lead to no protocol"), "{why}");
    // The rules of the other family say nothing.
    violated(&forward(BLOCK), &claim);
}

#[test]
fn two_rulesets_in_force_together() {
    let nft = forward("-A FORWARD -i docker0 -j ACCEPT");
    let legacy = forward(BLOCK);
    violated(&nft, &imds("docker0"));
    let host = host();
    assert_eq!(
        Prover::new(&[&nft, &legacy], &host).prove(&imds("docker0")),
        Verdict::Held
    );
}

#[test]
fn claims_read_as_sentences() {
    let said = |change: fn(&mut PacketClass)| {
        let mut claim = imds("docker0");
        change(&mut claim.packets);
        claim.to_string()
    };
    assert_eq!(
        said(|_| {}),
        "every protocol from docker0 to 169.254.169.254 is dropped"
    );
    assert_eq!(
        said(|class| {
            class.protocol = Some(6);
            class.dst = Destination::ThisHost;
            class.dport = port(51678);
            let lo = IfacePattern::Exact("lo".into());
            class.from = Origin::Interface(Ifaces::all_but(vec![lo]));
        }),
        "TCP from any interface but lo to this host, port 51678 is dropped"
    );
    assert_eq!(
        said(|class| class.src.except = vec![net("127.0.0.0/8")]),
        "every protocol from docker0, source any address but 127.0.0.0/8 to 169.254.169.254 is dropped"
    );
}

#[test]
fn neighbour_discovery_is_untracked_and_not_new() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP\nCOMMIT\n";
    let mut claim = first("docker0");
    claim.packets.family = Family::V6;
    claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
    let ruleset = parse_save(Family::V6, text).unwrap();
    let packet = violated(&ruleset, &claim).example.unwrap();
    assert!(
        matches!(packet.icmp, Some((130..=136 | 143, _))),
        "{packet}"
    );
    let all = text.replace("INVALID,NEW", "INVALID,NEW,UNTRACKED");
    held(&parse_save(Family::V6, all).unwrap(), &claim);
    claim.packets.protocol = Some(6);
    held(&ruleset, &claim);
}

#[test]
fn what_nat_may_choose_is_no_example() {
    let range = |to| format!("-A PREROUTING -i docker0 -j DNAT --to-destination {to}");
    let invalid = (
        "filter",
        ":FORWARD ACCEPT [0:0]",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    );
    let nat = |to| {
        let rule = range(to);
        tables(&[("nat", ":PREROUTING ACCEPT [0:0]", &rule), invalid])
    };
    let why = undecided(&nat("169.254.169.250-169.254.169.254"), &first("docker0"));
    assert!(why.contains("NAT"), "{why}");
    violated(&nat("169.254.169.254"), &first("docker0"));
    held(&nat("169.254.169.1-169.254.169.9"), &first("docker0"));
}

#[test]
fn a_masqueraded_source_is_one_of_several() {
    let nat = "-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679
-A POSTROUTING -d 127.0.0.1/32 -j MASQUERADE";
    let chains = ":OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]";
    let drops = |from: &str| {
        let rule = format!("-A INPUT -s {from} -j DROP");
        let filter = ("filter", ":INPUT ACCEPT [0:0]", rule.as_str());
        tables(&[("nat", chains, nat), filter])
    };
    undecided(&drops("172.17.0.0/16"), &credentials(Origin::Host));
    violated(&drops("0.0.0.0/0"), &credentials(Origin::Host));
}

#[test]
fn forwarded_packets_have_no_owner() {
    let rules = |owner: &str| {
        let rules = format!("-A POSTROUTING -m owner {owner} -j ACCEPT\n-A POSTROUTING -j DROP");
        tables(&[("mangle", ":POSTROUTING ACCEPT [0:0]", &rules)])
    };
    held(&rules("--gid-owner 0-10"), &imds("docker0"));
    violated(&rules("! --gid-owner 0-10"), &imds("docker0"));
}
