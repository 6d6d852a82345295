//! Ways around a block in two packets: the second answers the first, whose source NAT changed.

use super::*;

const EARLY: (&str, &str, &str) = (
    "raw",
    ":PREROUTING ACCEPT [0:0]",
    "-A PREROUTING -d 169.254.169.254/32 -i docker+ -j DROP",
);

fn behind(postrouting: &str, filter: &str) -> Ruleset {
    tables(&[
        EARLY,
        ("nat", ":POSTROUTING ACCEPT [0:0]", postrouting),
        ("filter", ":FORWARD ACCEPT [0:0]", filter),
    ])
}

#[test]
fn both_packets_are_shown() {
    let netmap = "-A POSTROUTING -s 169.254.0.0/16 -j NETMAP --to 10.7.0.0/16";
    let walk = violated(&behind(netmap, ""), &imds("docker0"));
    insta::assert_snapshot!(walk.to_string());
}

#[test]
fn what_of_nat_and_rules_makes_the_way() {
    for (postrouting, filter, wanted) in [
        ("-A POSTROUTING -j MASQUERADE", "", "violated"),
        (
            "-A POSTROUTING -j SNAT --to-source 10.0.0.5",
            "",
            "violated",
        ),
        // Each of four may be taken, and each leads there.
        (
            "-A POSTROUTING -j SNAT --to-source 10.0.0.4-10.0.0.7",
            "",
            "violated",
        ),
        // Of more than these it is not tried.
        (
            "-A POSTROUTING -j SNAT --to-source 10.0.0.0-10.0.0.64",
            "",
            "undecided",
        ),
        (
            "-A POSTROUTING -p udp -j MASQUERADE --to-ports 30000-50000",
            "",
            "violated",
        ),
        // NAT takes a port that nobody knows before.
        (
            "-A POSTROUTING -p udp --sport 1:1000 -j MASQUERADE --to-ports 2000-3000",
            "",
            "undecided",
        ),
        // Only at another interface than where who answers is.
        ("-A POSTROUTING -o eth0 -j MASQUERADE", "", "undecided"),
        // The first packet does not pass, or the second, whatever it is addressed to.
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -i docker0 -o docker0 -j DROP",
            "undecided",
        ),
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -d 169.254.169.254/32 -j DROP",
            "held",
        ),
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -d 169.254.169.254/32 -p udp -j DROP",
            "undecided",
        ),
        // It hangs on what is not understood.
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -d 169.254.169.254/32 -m string --string x --algo bm -j DROP",
            "undecided",
        ),
        (
            "-A POSTROUTING -m string --string x --algo bm -j MASQUERADE",
            "",
            "undecided",
        ),
        (
            "-A POSTROUTING -m limit --limit 1/sec -j MASQUERADE",
            "-A FORWARD -d 169.254.169.254/32 -m limit --limit 1/sec -j DROP",
            "violated",
        ),
        // Some of its packets are marked.
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -d 10.1.1.1/32 -j CONNMARK --set-xmark 0x1/0xffffffff",
            "undecided",
        ),
    ] {
        let found = sanitize(&verdict(&behind(postrouting, filter), &imds("docker0")));
        assert!(
            found.starts_with(wanted),
            "{postrouting} {filter}: {found}, not {wanted}"
        );
    }
}

#[test]
fn an_early_rule_may_drop_what_answers_an_address_that_nat_may_take() {
    let rules = |early: &str| {
        let early = format!("{}\n{early}", EARLY.2);
        let masquerade = "-A POSTROUTING -j MASQUERADE";
        tables(&[
            (EARLY.0, EARLY.1, &early),
            ("nat", ":POSTROUTING ACCEPT [0:0]", masquerade),
        ])
    };
    let claim = imds("docker0");
    violated(&rules("-A PREROUTING -d 10.9.9.9/32 -j DROP"), &claim);
    undecided(&rules("-A PREROUTING -d 10.0.0.5/32 -j DROP"), &claim);
    undecided(&rules("-A PREROUTING -p udp --dport 1:9 -j DROP"), &claim);
    // What a rule there sees is the address before.
    let mangle = "-A PREROUTING -d 169.254.169.254/32 -j DROP";
    let chain = ":PREROUTING ACCEPT [0:0]";
    let nat = (
        "nat",
        ":POSTROUTING ACCEPT [0:0]",
        "-A POSTROUTING -j MASQUERADE",
    );
    violated(&tables(&[EARLY, ("mangle", chain, mangle), nat]), &claim);
}

#[test]
fn of_the_hosts_interfaces_one_that_shows_it_is_enough() {
    let mut claim = imds("docker0");
    claim.packets.from =
        Origin::Interface(Ifaces::all_but(vec![IfacePattern::parse("lo").unwrap()]));
    let early = "-A PREROUTING -d 169.254.169.254/32 -j DROP";
    let nat = "-A POSTROUTING -o docker0 -j MASQUERADE";
    let rules = tables(&[
        ("raw", ":PREROUTING ACCEPT [0:0]", early),
        ("nat", ":POSTROUTING ACCEPT [0:0]", nat),
    ]);
    let packet = violated(&rules, &claim).example.unwrap();
    assert_eq!(packet.iif.as_deref(), Some("docker0"));
    // TCP would need more than two.
    claim.packets.protocol = Some(6);
    undecided(&rules, &claim);
    claim.packets.protocol = Some(17);
    violated(&rules, &claim);
}

#[test]
fn of_a_host_of_which_nothing_is_known_the_gateway_is_an_address() {
    let unknown = HostView::default();
    let masquerade = behind("-A POSTROUTING -j MASQUERADE", "");
    let Verdict::Violated { walk } = prove(&masquerade, &imds("docker+"), &unknown) else {
        panic!("one shows it");
    };
    let packet = walk.example.unwrap();
    assert_eq!(packet.iif.as_deref(), Some("docker0"));
    let ends = (packet.src.to_string(), packet.dst.to_string());
    assert_eq!(ends, ("172.17.0.2".to_owned(), "172.17.0.1".to_owned()));
    // Where some are known, they are all.
    let found = prove(&masquerade, &imds("docker+"), &host());
    assert!(matches!(found, Verdict::Violated { .. }));
}
