//! Claims that packets arrive.

use super::*;

const NAT: &str = "\
-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679
-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679
";

const NAT_CHAINS: &str = ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]";

fn bridge() -> Origin {
    Origin::Interface(iface("docker0"))
}

/// The rules of ecs-init, and INPUT with a policy and rules.
fn input(policy: &str, rules: &str) -> Ruleset {
    let chain = format!(":INPUT {policy} [0:0]");
    tables(&[("nat", NAT_CHAINS, NAT), ("filter", &chain, rules)])
}

#[test]
fn the_rules_of_ecs_init_deliver() {
    let rules = tables(&[("nat", NAT_CHAINS, NAT)]);
    held(&rules, &credentials(bridge()));
    held(&rules, &credentials(Origin::Host));
    let walk = violated(&tables(&[]), &credentials(bridge()));
    assert_eq!(walk.ends, [End::Elsewhere]);
}

/// On a host without an IPv4 default route nothing comes to OUTPUT, whatever its rules.
#[test]
fn what_the_host_has_no_route_to_is_not_delivered() {
    let rules = tables(&[("nat", NAT_CHAINS, NAT)]);
    let mut host = host();
    host.unroutable = vec!["169.254.170.2".parse().unwrap()];
    let Verdict::Violated { walk } = prove(&rules, &credentials(Origin::Host), &host) else {
        panic!("not violated");
    };
    assert_eq!(walk.ends, [End::Dropped]);
    assert_eq!(
        walk.decisive().unwrap().text,
        "this host has no route to 169.254.170.2"
    );
    // Containers have their own routes.
    assert_eq!(prove(&rules, &credentials(bridge()), &host), Verdict::Held);
    host.unroutable = vec!["169.254.170.3".parse().unwrap()];
    assert_eq!(
        prove(&rules, &credentials(Origin::Host), &host),
        Verdict::Held
    );
}

#[test]
fn without_route_localnet_nothing_arrives() {
    let rules = tables(&[("nat", NAT_CHAINS, NAT)]);
    let mut host = host();
    host.route_localnet = false;
    let Verdict::Violated { walk } = prove(&rules, &credentials(bridge()), &host) else {
        panic!("not violated");
    };
    assert_eq!(walk.ends, [End::Martian]);
    // The host's own packets never come from outside.
    assert_eq!(
        prove(&rules, &credentials(Origin::Host), &host),
        Verdict::Held
    );
    host.interfaces.get_mut("docker0").unwrap().route_localnet = true;
    assert_eq!(prove(&rules, &credentials(bridge()), &host), Verdict::Held);
    // Any docker bridge there may be is more than the one that has it on.
    let general = credentials(Origin::Interface(iface("docker+")));
    assert!(matches!(
        prove(&rules, &general, &host),
        Verdict::Violated { .. }
    ));
}

#[test]
fn input_that_drops_is_named_and_one_narrow_accept_opens_it() {
    let claim = credentials(bridge());
    let walk = violated(&input("DROP", ""), &claim);
    assert_eq!(
        walk.decisive().unwrap().to_string(),
        "INPUT filter INPUT: policy DROP: matches"
    );
    let narrow = "-A INPUT -d 127.0.0.1/32 -i docker0 -p tcp -m tcp --dport 51679 -j ACCEPT";
    held(&input("DROP", narrow), &claim);
    violated(&input("DROP", &narrow.replace("51679", "51678")), &claim);
    violated(
        &input(
            "DROP",
            "-A INPUT -i docker0 -m limit --limit 5/min -j ACCEPT",
        ),
        &claim,
    );
    held(
        &input("DROP", "-A INPUT -m conntrack --ctstate DNAT -j ACCEPT"),
        &claim,
    );
    held(
        &input("DROP", "-A INPUT -m conntrack --ctstate NEW -j ACCEPT"),
        &claim,
    );
    violated(
        &input(
            "DROP",
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
        &claim,
    );
}

#[test]
fn a_source_no_container_has_is_not_in_the_way() {
    let hardened = "-A INPUT -i lo -j ACCEPT\n-A INPUT -s 127.0.0.0/8 -j DROP";
    held(&input("ACCEPT", hardened), &credentials(bridge()));
    let walk = violated(
        &input("ACCEPT", "-A INPUT -s 172.17.0.9/32 -j DROP"),
        &credentials(bridge()),
    );
    assert_eq!(walk.example.unwrap().src.to_string(), "172.17.0.9");
    let mut narrower = credentials(bridge());
    narrower.packets.src = net("172.18.0.0/16").into();
    held(
        &input("ACCEPT", "-A INPUT -s 172.17.0.9/32 -j DROP"),
        &narrower,
    );
}

#[test]
fn another_rule_may_turn_the_packets_first() {
    let first = "-A PREROUTING -i docker0 -p tcp -j DNAT --to-destination";
    for (to, end) in [
        ("10.9.9.9", End::Elsewhere),
        ("127.0.0.1:80", End::Misdelivered),
        ("10.0.0.5:51679", End::Misdelivered),
    ] {
        let rules = tables(&[("nat", NAT_CHAINS, &format!("{first} {to}\n{NAT}"))]);
        assert_eq!(violated(&rules, &credentials(bridge())).ends, [end], "{to}");
    }
    let redirect = format!("-A PREROUTING -p tcp -j REDIRECT --to-ports 51679\n{NAT}");
    let walk = violated(
        &tables(&[("nat", NAT_CHAINS, &redirect)]),
        &credentials(bridge()),
    );
    assert!(
        walk.to_string()
            .contains("destination becomes 172.17.0.1:51679"),
        "{walk}"
    );
}

#[test]
fn dockers_masquerade_is_not_in_the_way_of_the_host() {
    let nat = format!("{NAT}-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
    let chains = format!("{NAT_CHAINS}\n:POSTROUTING ACCEPT [0:0]");
    let lo = ("filter", ":INPUT DROP [0:0]", "-A INPUT -i lo -j ACCEPT");
    held(
        &tables(&[("nat", &chains, &nat), lo]),
        &credentials(Origin::Host),
    );
    let only = (
        "filter",
        ":INPUT DROP [0:0]",
        "-A INPUT -s 172.17.0.1/32 -j ACCEPT",
    );
    let walk = violated(
        &tables(&[("nat", &chains, &nat), only]),
        &credentials(Origin::Host),
    );
    assert!(walk.ends.contains(&End::Dropped));
    let source = nat.replace("-j MASQUERADE", "-j SNAT --to-source 10.0.0.5");
    let snat = (
        "filter",
        ":INPUT DROP [0:0]",
        "-A INPUT -m conntrack ! --ctstate SNAT -j ACCEPT
                                               -A INPUT -s 10.0.0.5/32 -j ACCEPT",
    );
    held(
        &tables(&[("nat", &chains, &source), snat]),
        &credentials(Origin::Host),
    );
}

#[test]
fn untracked_packets_see_no_nat() {
    let notrack = (
        "raw",
        ":PREROUTING ACCEPT [0:0]",
        "-A PREROUTING -p tcp -j CT --notrack",
    );
    let rules = tables(&[("nat", NAT_CHAINS, NAT), notrack]);
    assert_eq!(
        violated(&rules, &credentials(bridge())).ends,
        [End::Elsewhere]
    );
    held(&rules, &credentials(Origin::Host));
}

#[test]
fn the_hosts_own_packets_keep_the_interface_of_their_first_route() {
    let output = |rules: &str| {
        tables(&[
            ("nat", NAT_CHAINS, NAT),
            ("filter", ":OUTPUT DROP [0:0]\n:INPUT DROP [0:0]", rules),
        ])
    };
    let lo = "-A INPUT -i lo -j ACCEPT\n-A OUTPUT -o lo -j ACCEPT\n";
    let mut claim = credentials(Origin::Host);
    claim.packets.out = Some(iface("eth0"));
    violated(&output(lo), &claim);
    held(&output(&format!("{lo}-A OUTPUT -o eth0 -j ACCEPT")), &claim);
    claim.packets.out = Some(iface("lo"));
    held(&output(lo), &claim);
}

#[test]
fn what_is_not_known_leaves_a_delivery_undecided() {
    let claim = credentials(bridge());
    let set = "-A INPUT -m set --match-set bad src -j DROP";
    let why = undecided(&input("ACCEPT", set), &claim);
    assert!(why.contains("--match-set bad src"), "{why}");
    violated(&input("DROP", set), &claim);
    let hidden = format!(
        "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n{}",
        text(&[
            ("nat", NAT_CHAINS, NAT),
            ("filter", ":INPUT ACCEPT [0:0]", "")
        ])
    );
    undecided(&parse_save(Family::V4, hidden).unwrap(), &claim);
}

#[test]
fn an_established_connection_is_walked_without_nat() {
    let mut claim = credentials(bridge());
    claim.packets.moment = Moment::Established;
    claim.packets.dst = Destination::Net(net("127.0.0.1"));
    claim.packets.dport = port(51679);
    let rules = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT";
    held(&input("DROP", rules), &claim);
}

#[test]
fn masquerading_changes_the_source_and_nothing_else() {
    let nat = format!("{NAT}-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n");
    let chains = format!("{NAT_CHAINS}\n:POSTROUTING ACCEPT [0:0]");
    let with_input = |rules| {
        tables(&[
            ("nat", &chains, &nat),
            ("filter", ":INPUT ACCEPT [0:0]", rules),
        ])
    };
    let shield = "-A INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n";
    let claim = credentials(Origin::Host);
    held(&with_input(shield), &claim);
    // Also where the host's addresses are not known, as in a saved ruleset.
    let unknown = HostView {
        route_localnet: true,
        ..HostView::default()
    };
    assert_eq!(prove(&with_input(shield), &claim, &unknown), Verdict::Held);
    // An address that it may become, and that INPUT refuses, leaves the claim open.
    let refused = with_input("-A INPUT -s 203.0.113.0/24 -j DROP\n");
    let mut host = host();
    host.interfaces.get_mut("docker0").unwrap().addrs = vec!["203.0.113.7".parse().unwrap()];
    assert_ne!(prove(&refused, &claim, &host), Verdict::Held);
}
