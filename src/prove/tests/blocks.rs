//! Claims that packets are dropped.

use super::*;
use crate::ruleset::parse_save;

/// The rule, with others above it.
fn below(rules: &str) -> Ruleset {
    forward(&format!("{rules}\n{BLOCK}"))
}

#[test]
fn the_documented_rule_holds() {
    held(&forward(BLOCK), &imds("docker0"));
    held(&forward(BLOCK), &imds("docker+"));
    violated(&forward(BLOCK), &imds("br-+"));
    violated(&forward(""), &imds("docker0"));
    held(
        &tables(&[("filter", ":FORWARD DROP [0:0]", "")]),
        &imds("docker0"),
    );
}

#[test]
fn a_rule_for_one_bridge_does_not_hold_for_a_pattern() {
    let one = forward("-A FORWARD -d 169.254.169.254/32 -i docker0 -j DROP");
    held(&one, &imds("docker0"));
    let walk = violated(&one, &imds("docker+"));
    assert_ne!(walk.example.unwrap().iif.as_deref(), Some("docker0"));
}

#[test]
fn dockers_accept_above_it_breaks_it() {
    let docker = "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n";
    held(&forward(&format!("{BLOCK}{docker}")), &imds("docker0"));
    let walk = violated(&below(docker), &imds("docker0"));
    assert_eq!(
        walk.decisive().unwrap().text,
        "-i docker0 ! -o docker0 -j ACCEPT"
    );
    assert_eq!(
        walk.to_string(),
        "\
tcp 172.17.0.2:40000 > 169.254.169.254:80 in docker0 out eth0
  FORWARD filter FORWARD 1: -i docker0 ! -o docker0 -j ACCEPT: matches
  = accepted"
    );
}

#[test]
fn a_match_that_cuts_the_class_leaves_a_hole() {
    let claim = imds("docker0");
    for accept in [
        "-p tcp -j ACCEPT",
        "-p tcp -m tcp --dport 80 -j ACCEPT",
        "-s 172.17.0.9/32 -j ACCEPT",
        "-s 172.17.0.0/16 -p udp -m udp --sport 53 -j RETURN",
        "-p icmp -m icmp --icmp-type 8 -j ACCEPT",
        "-m iprange --src-range 172.17.0.9-172.17.0.10 -j ACCEPT",
        "-p tcp -m multiport --dports 1,2,3 -j ACCEPT",
        "-m mark --mark 0x0 -j ACCEPT",
        "-m conntrack --ctstate NEW -j ACCEPT",
        "-m addrtype ! --dst-type LOCAL -j ACCEPT",
        "! -i eth0 -j ACCEPT",
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
    ] {
        violated(&below(&format!("-A FORWARD {accept}")), &claim);
    }
    for harmless in [
        "-d 8.8.8.8/32 -j ACCEPT",
        "-i eth0 -j ACCEPT",
        "-m mark --mark 0x1 -j ACCEPT",
        "-m connmark ! --mark 0x0 -j ACCEPT",
        "-m addrtype --dst-type LOCAL -j ACCEPT",
        "-m set --match-set s src -j DROP",
        "-j LOG --log-prefix \"x \"",
        "-m recent --set --name x --mask 255.255.255.255 --rsource",
        "-j MARK --set-xmark 0x1/0xffffffff",
        "-p tcp -j REJECT --reject-with tcp-reset",
    ] {
        held(&below(&format!("-A FORWARD {harmless}")), &claim);
    }
}

#[test]
fn drops_add_up() {
    let parts = "\
-A FORWARD -i docker0 -p tcp -m tcp --dport 0:1023 -j DROP
-A FORWARD -i docker0 -p tcp -m tcp --dport 1024:65535 -j DROP
-A FORWARD -i docker0 ! -p tcp -m conntrack --ctstate NEW -j DROP
-A FORWARD -i docker0 -m conntrack --ctstate INVALID -j DROP";
    held(&forward(parts), &first("docker0"));
    let (most, _) = parts.rsplit_once('\n').unwrap();
    // A reply without a request is INVALID, and passes.
    let walk = violated(&forward(most), &first("docker0"));
    assert_eq!(walk.example.unwrap().protocol, 1);
    let mut claim = first("docker0");
    let rules = forward(&format!("{most}\n-A FORWARD -p icmp -j DROP"));
    let packet = violated(&rules, &claim).example.unwrap();
    assert_eq!(packet.odd, Some(Odd::Invalid));
    // Conntrack knows no wrong packets of a protocol of which it knows nothing.
    claim.packets.protocol = Some(253);
    held(&rules, &claim);
    // How a wrong one of DCCP sets out is not known.
    claim.packets.from = Origin::Host;
    let rules = "-A OUTPUT -m conntrack --ctstate NEW -j DROP";
    let rules = tables(&[("filter", ":OUTPUT ACCEPT [0:0]", rules)]);
    for (protocol, found) in [
        (17, "violated"),
        (132, "violated"),
        (33, "undecided"),
        (253, "held"),
    ] {
        claim.packets.protocol = Some(protocol);
        let verdict = sanitize(&verdict(&rules, &claim));
        assert!(verdict.starts_with(found), "{protocol}: {verdict}");
    }
}

#[test]
fn ports_do_not_stop_fragments_unless_something_reassembles() {
    let ports = "-A FORWARD -p udp -m udp --dport 0:1023 -j DROP
                 -A FORWARD -p udp -m udp --dport 1024:65535 -j DROP";
    let mut claim = imds("docker0");
    claim.packets.protocol = Some(17);
    let why = undecided(&forward(ports), &claim);
    assert!(why.contains("fragment"), "{why}");
    let nat = (
        "nat",
        ":POSTROUTING ACCEPT [0:0]",
        "-A POSTROUTING -j MASQUERADE",
    );
    held(
        &tables(&[("filter", ":FORWARD ACCEPT [0:0]", ports), nat]),
        &claim,
    );
}

#[test]
fn what_depends_on_the_moment_does_let_some_through() {
    let claim = imds("docker0");
    for either in [
        "-m limit --limit 5/min",
        "-m statistic --mode random --probability 0.50000000000",
        "-m time --weekdays Mon --datestop 2038-01-19T03:14:07",
        "-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 5 --hashlimit-name x",
    ] {
        violated(&below(&format!("-A FORWARD {either} -j ACCEPT")), &claim);
        violated(&forward(&format!("-A FORWARD {either} -j DROP")), &claim);
    }
    let listed = "-m recent --rcheck --name x --mask 255.255.255.255 --rsource";
    violated(&forward(&format!("-A FORWARD {listed} -j DROP")), &claim);
    let why = undecided(&below(&format!("-A FORWARD {listed} -j ACCEPT")), &claim);
    assert!(why.contains("--rcheck"), "{why}");
}

#[test]
fn what_is_not_understood_is_never_guessed() {
    let claim = imds("docker0");
    for unknown in [
        "-m set --match-set s src,dst",
        "-m physdev --physdev-in eth0",
    ] {
        let why = undecided(&below(&format!("-A FORWARD {unknown} -j ACCEPT")), &claim);
        assert!(why.contains(unknown), "{why}");
        undecided(&forward(&format!("-A FORWARD {unknown} -j DROP")), &claim);
        // Whatever it says, the packet gets through.
        let walk = violated(
            &forward(&format!(
                "-A FORWARD {unknown} -j ACCEPT\n-A FORWARD -p tcp -j ACCEPT\n{BLOCK}"
            )),
            &claim,
        );
        assert!(walk.unknown().is_some());
        // Whatever it says, the packet is dropped.
        held(&below(&format!("-A FORWARD {unknown} -j LOG")), &claim);
    }
    let why = undecided(&below("-A FORWARD -j NFQUEUE --queue-num 5"), &claim);
    assert_eq!(
        why,
        "filter FORWARD rule 1: a target that is not understood"
    );
    held(
        &forward(&format!("{BLOCK}-A FORWARD -j NFQUEUE --queue-num 5")),
        &claim,
    );
    let mut distrusted = forward(BLOCK);
    assert!(distrusted.distrust(
        ("filter", "FORWARD", 0),
        "a native set look-up".into(),
        None
    ));
    let why = undecided(&distrusted, &claim);
    assert!(why.contains("a native set look-up"), "{why}");
}

#[test]
fn jumps_returns_and_gotos() {
    let filter = |rules: &str| {
        tables(&[(
            "filter",
            ":FORWARD ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]",
            rules,
        )])
    };
    let claim = imds("docker0");
    held(
        &filter(&format!(
            "-A FORWARD -j A\n-A A -p tcp -j RETURN\n-A A -j DROP\n{BLOCK}"
        )),
        &claim,
    );
    violated(
        &filter("-A FORWARD -j A\n-A A -p tcp -j RETURN\n-A A -j DROP"),
        &claim,
    );
    // A goto does not come back to the chain it was in …
    violated(&filter(&format!("-A FORWARD -g A\n{BLOCK}")), &claim);
    // … but to the caller of that chain.
    held(
        &filter(&format!(
            "-A FORWARD -j A\n{BLOCK}-A A -g B\n-A A -j ACCEPT"
        )),
        &claim,
    );
    // RETURN in a base chain is the policy.
    violated(&filter(&format!("-A FORWARD -j RETURN\n{BLOCK}")), &claim);
    // The kernel has no such chains.
    undecided(&filter(&format!("-A FORWARD -j MISSING\n{BLOCK}")), &claim);
    undecided(
        &filter(&format!("-A FORWARD -j A\n-A A -j A\n{BLOCK}")),
        &claim,
    );
}

#[test]
fn marks_are_computed() {
    let claim = imds("docker0");
    let mangle = |rules| {
        tables(&[
            (
                "filter",
                ":FORWARD ACCEPT [0:0]",
                "-A FORWARD -m mark --mark 0x4/0xc -j DROP",
            ),
            (
                "mangle",
                ":PREROUTING ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]",
                rules,
            ),
        ])
    };
    held(
        &mangle("-A PREROUTING -j MARK --set-xmark 0x7/0xffffffff"),
        &claim,
    );
    violated(
        &mangle("-A PREROUTING -j MARK --set-xmark 0xc/0xffffffff"),
        &claim,
    );
    violated(
        &mangle("-A PREROUTING -p tcp -j MARK --set-xmark 0x4/0xc"),
        &claim,
    );
    held(
        &mangle(
            "-A PREROUTING -j CONNMARK --set-xmark 0x4/0xf
             -A FORWARD -j CONNMARK --restore-mark --nfmask 0x4 --ctmask 0x4
             -A FORWARD -m conntrack --ctstate INVALID -j DROP",
        ),
        &claim,
    );
}

#[test]
fn packets_that_a_dnat_turns_to_imds_must_be_dropped_too() {
    let early = (
        "raw",
        ":PREROUTING ACCEPT [0:0]",
        "-A PREROUTING -d 169.254.169.254/32 -i docker+ -j DROP",
    );
    let turn = |to: &str| {
        format!(
            "-A PREROUTING -d 10.9.9.9/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {to}"
        )
    };
    let (toward, away) = (turn("169.254.169.254"), turn("10.0.0.9"));
    let chain = ":PREROUTING ACCEPT [0:0]";
    let claim = first("docker0");
    held(&tables(&[early]), &claim);
    held(&tables(&[early, ("nat", chain, &away)]), &claim);
    let walk = violated(&tables(&[early, ("nat", chain, &toward)]), &claim);
    assert_eq!(walk.example.unwrap().dst.to_string(), "10.9.9.9");
    held(
        &tables(&[
            ("filter", ":FORWARD ACCEPT [0:0]", BLOCK),
            ("nat", chain, &toward),
        ]),
        &claim,
    );
    // A rule to which no packet comes turns nothing.
    let dead = format!("-A PREROUTING -j RETURN\n{toward}");
    held(&tables(&[early, ("nat", chain, &dead)]), &claim);
    // Only packets that are addressed to it, where the claim says so.
    let mut addressed = claim.clone();
    addressed.packets.turned = false;
    held(&tables(&[early, ("nat", chain, &toward)]), &addressed);
    // A table that cannot be read could turn anything.
    let broken = format!(
        "{}# Table `nat' is incompatible, use 'nft' tool.\n",
        text(&[early])
    );
    undecided(&parse_save(Family::V4, broken).unwrap(), &claim);
}

#[test]
fn packets_that_a_dnat_turns_away_do_not_leave_for_first() {
    let proxy = "-A PREROUTING -d 169.254.169.254/32 -i docker0 -j DNAT --to-destination 10.0.0.5";
    let chain = ":PREROUTING ACCEPT [0:0]";
    // What conntrack finds invalid (a reply without a request, a FIN out of nowhere) is not
    // translated, so something must still drop it.
    violated(&tables(&[("nat", chain, proxy)]), &first("docker0"));
    let invalid = "-A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let filter = ("filter", ":FORWARD ACCEPT [0:0]", invalid);
    held(&tables(&[("nat", chain, proxy), filter]), &first("docker0"));
    let untracked = ("raw", chain, "-A PREROUTING -p udp -j NOTRACK");
    violated(
        &tables(&[("nat", chain, proxy), filter, untracked]),
        &first("docker0"),
    );
}

#[test]
fn what_the_host_itself_sends() {
    let mut claim = first("docker0");
    claim.packets.from = Origin::Host;
    let output = |rules| tables(&[("filter", ":OUTPUT ACCEPT [0:0]", rules)]);
    held(&output("-A OUTPUT -d 169.254.169.254/32 -j DROP"), &claim);
    let walk = violated(
        &output(
            "-A OUTPUT -m owner --uid-owner 0 -j ACCEPT\n-A OUTPUT -d 169.254.169.254/32 -j DROP",
        ),
        &claim,
    );
    assert_eq!(walk.example.unwrap().uid, Some(0));
    let why = undecided(
        &output(
            "-A OUTPUT -m owner --uid-owner 0-4294967294 -j DROP\n-A OUTPUT -m owner --uid-owner 4294967295 -j DROP
-A OUTPUT -m conntrack --ctstate INVALID -j DROP",
        ),
        &claim,
    );
    assert!(why.contains("without a socket"), "{why}");
}

#[test]
fn claims_join_where_only_the_interfaces_differ() {
    let both = imds("docker+").with(&imds("br-+")).unwrap();
    let text = "every protocol from docker+ or br-+ to 169.254.169.254 is dropped";
    assert_eq!(both.to_string(), text);
    let three = both.with(&imds("ecs-bridge")).unwrap();
    let Origin::Interface(ifaces) = &three.packets.from else {
        panic!("{three}");
    };
    let fits = ["docker0", "br-1", "ecs-bridge", "eth0"].map(|name| ifaces.fits(name));
    assert_eq!(fits, [true, true, true, false]);

    let changed = |change: fn(&mut Claim)| {
        let mut other = imds("br-+");
        change(&mut other);
        other
    };
    for other in [
        changed(|claim| claim.packets.dst = Destination::Net(net("169.254.170.2"))),
        changed(|claim| claim.packets.moment = Moment::First),
        changed(|claim| claim.packets.from = Origin::Host),
        changed(|claim| claim.guarantee = "another".to_owned()),
        changed(|claim| claim.expect = credentials(Origin::Host).expect),
        changed(|claim| {
            let docker = IfacePattern::Exact("docker0".to_owned());
            claim.packets.from = Origin::Interface(Ifaces::all_but(vec![docker]));
        }),
    ] {
        assert_eq!(imds("docker+").with(&other), None, "{other}");
        assert_eq!(other.with(&imds("docker+")), None, "{other}");
    }
}

#[test]
fn of_several_interfaces_each_is_followed() {
    let both = imds("docker+").with(&imds("br-+")).unwrap();
    let drop = |iface: &str| format!("-A FORWARD -d 169.254.169.254/32 -i {iface} -j DROP\n");
    held(&forward(&(drop("docker+") + &drop("br-+"))), &both);
    let walk = violated(&forward(&drop("docker+")), &both);
    assert_eq!(walk.example.unwrap().iif.as_deref(), Some("br-0"));
    let walk = violated(&forward(&drop("br-+")), &both);
    assert!(walk.example.unwrap().iif.unwrap().starts_with("docker"));
    violated(&forward(&(drop("docker0") + &drop("br-+"))), &both);
    // Before routing too, where all go together.
    let early = |rules: &str| tables(&[("raw", ":PREROUTING ACCEPT [0:0]", rules)]);
    let drop = |iface: &str| format!("-A PREROUTING -i {iface} -j DROP\n");
    held(&early(&(drop("docker+") + &drop("br-+"))), &both);
    violated(&early(&drop("br-+")), &both);
}
