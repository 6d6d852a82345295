//! What NAT turns to a block's destination, at once and later.

use super::connections::{CHAIN, EARLY};
use super::*;

#[test]
fn nat_is_undone_behind_an_early_drop() {
    let claim = imds("docker0");
    for source in [
        "-j MASQUERADE",
        "-o docker0 -j SNAT --to-source 172.17.0.1",
        "-j NETMAP --to 10.9.0.0/16",
        "-s 169.254.0.0/16 -j MASQUERADE",
        "! -s 10.0.0.0/8 -j MASQUERADE",
    ] {
        let nat = (
            "nat",
            ":POSTROUTING ACCEPT [0:0]",
            format!("-A POSTROUTING {source}"),
        );
        let nat = (nat.0, nat.1, nat.2.as_str());
        let packet = violated(&tables(&[EARLY, nat]), &claim).example.unwrap();
        assert!(packet.answers.is_some(), "{source}: {packet}");
        held(
            &tables(&[EARLY, nat, ("filter", ":FORWARD ACCEPT [0:0]", BLOCK)]),
            &claim,
        );
    }
    // Docker's own is never asked for a packet that comes from there, nor are others for one that begins nothing.
    for source in [
        "-m conntrack --ctstate INVALID,UNTRACKED -j MASQUERADE",
        "-p icmp -m icmp --icmp-type 0 -j MASQUERADE",
        "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "! -s 169.254.0.0/16 -j MASQUERADE",
    ] {
        let rule = format!("-A POSTROUTING {source}");
        held(
            &tables(&[EARLY, ("nat", ":POSTROUTING ACCEPT [0:0]", &rule)]),
            &claim,
        );
    }
}

#[test]
fn a_connection_that_nat_turned_may_go_on_at_another_interface() {
    let claim = imds("docker0");
    let turn = "-d 10.9.9.9/32 -j DNAT --to-destination 169.254.169.254";
    let elsewhere = format!("-A PREROUTING ! -i docker0 {turn}");
    let nat = ("nat", CHAIN, elsewhere.as_str());
    let why = undecided(&tables(&[EARLY, nat]), &claim);
    assert!(why.contains("established connection"), "{why}");
    held(&tables(&[EARLY, nat]), &first("docker0"));
    // Where none begins, none goes on.
    let new = "-A FORWARD -d 169.254.169.254/32 -m conntrack --ctstate NEW -j DROP";
    let filter = ("filter", ":FORWARD ACCEPT [0:0]", new);
    held(&tables(&[EARLY, nat, filter]), &claim);
    let udp = format!("-A PREROUTING ! -i docker0 -p udp {turn}");
    let mut tcp = imds("docker0");
    tcp.packets.protocol = Some(6);
    held(&tables(&[EARLY, ("nat", CHAIN, &udp)]), &tcp);
    // An error by ICMP goes the way of the connection that it is about, whichever host it comes from.
    let mut icmp = imds("docker0");
    icmp.packets.protocol = Some(1);
    undecided(&tables(&[EARLY, ("nat", CHAIN, &udp)]), &icmp);
    let to_another = "-A POSTROUTING -d 172.17.0.9/32 -j MASQUERADE";
    let source = tables(&[EARLY, ("nat", ":POSTROUTING ACCEPT [0:0]", to_another)]);
    for (claim, found) in [(&mut tcp, "held"), (&mut icmp, "undecided")] {
        claim.packets.src = Addrs::from(net("172.17.0.2"));
        let verdict = sanitize(&verdict(&source, claim));
        assert!(verdict.starts_with(found), "{claim}: {verdict}");
    }
    // A chain to which nothing leads turns nothing, nor does one of the host's own packets.
    let chains =
        ":PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:U - [0:0]";
    for (chain, leads) in [
        ("U", "-A PREROUTING -j U"),
        ("OUTPUT", ""),
        ("U", "-A POSTROUTING -g U"),
    ] {
        let turns = |rule: &str| tables(&[EARLY, ("nat", chains, rule)]);
        held(&turns(&format!("-A {chain} {turn}")), &claim);
        let reached = turns(&format!("{leads}\n-A {chain} {turn}"));
        if leads.contains("PREROUTING") {
            violated(&reached, &claim);
        } else {
            held(&reached, &claim);
        }
    }
}

#[test]
fn a_network_that_takes_the_place_of_another_keeps_the_rest_of_the_address() {
    let turned = |rule: &str| {
        let rule = format!("-A PREROUTING {rule}");
        tables(&[EARLY, ("nat", CHAIN, &rule)])
    };
    let claim = first("docker0");
    for (rule, dst) in [
        (
            "-d 10.9.0.0/16 -j NETMAP --to 169.254.0.0/16",
            "10.9.169.254",
        ),
        (
            "-d 10.9.169.0/24 -j NETMAP --to 169.254.169.0/24",
            "10.9.169.254",
        ),
        (
            "-d 10.9.9.9/32 -j NETMAP --to 169.254.169.254/32",
            "10.9.9.9",
        ),
    ] {
        let packet = violated(&turned(rule), &claim).example.unwrap();
        assert_eq!(packet.dst.to_string(), dst, "{rule}");
    }
    for rule in [
        "-d 10.9.0.0/24 -j NETMAP --to 169.254.0.0/16",
        "-d 10.9.0.0/16 -j NETMAP --to 169.254.168.0/24",
        "-d 169.254.0.0/16 -j NETMAP --to 10.9.0.0/16",
    ] {
        held(&turned(rule), &claim);
    }
    // What it turns away needs no drop, and what is there already is not turned.
    let (chain, away) = (CHAIN, "-A PREROUTING -i docker0 -j NETMAP --to");
    let invalid = "-A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let filter = ("filter", ":FORWARD ACCEPT [0:0]", invalid);
    let nat = |net: &str| tables(&[("nat", chain, &format!("{away} {net}")), filter]);
    held(&nat("10.9.0.0/16"), &claim);
    violated(&nat("169.254.0.0/16"), &claim);
    let connections = [
        EARLY,
        ("nat", CHAIN, "-A PREROUTING -j NETMAP --to 169.254.0.0/16"),
        (
            "filter",
            ":FORWARD ACCEPT [0:0]",
            "-A FORWARD -m conntrack --ctstate DNAT -j DROP",
        ),
    ];
    held(&tables(&connections), &claim);
}
