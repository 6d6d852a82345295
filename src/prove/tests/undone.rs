//! Ways around a block in two packets: the second answers the first, whose source NAT changed.

use super::*;
use crate::ruleset::Policy;
use crate::ruleset::native::{
    At, Base, Condition, Kind, NativeChain, NativeRule, NativeTable, Statement, Verdict as To,
};

const EARLY: (&str, &str, &str) = (
    "raw",
    ":PREROUTING ACCEPT [0:0]",
    "-A PREROUTING -d 169.254.169.254/32 -i docker+ -j DROP",
);

fn behind(nat: &str, filter: &str) -> Ruleset {
    tables(&[
        EARLY,
        (
            "nat",
            ":PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]",
            nat,
        ),
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
        // What answers goes the other way.
        (
            "-A POSTROUTING -j MASQUERADE",
            "-A FORWARD -d 169.254.169.254/32 -m conntrack --ctdir ORIGINAL -j DROP",
            "violated",
        ),
        // The first goes elsewhere.
        (
            "-A PREROUTING -d 172.17.0.2/32 -j DNAT --to-destination 10.3.3.3\n-A POSTROUTING -j MASQUERADE",
            "",
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
    let ports = format!("{}\n-A PREROUTING -p udp --dport 1:9 -j DROP", EARLY.2);
    let netmap = "-A POSTROUTING -j NETMAP --to 10.7.0.0/16";
    let netmapped = tables(&[
        (EARLY.0, EARLY.1, &ports),
        ("nat", ":POSTROUTING ACCEPT [0:0]", netmap),
    ]);
    undecided(&netmapped, &claim);
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

#[test]
fn who_answers_is_one_that_the_claim_is_about_and_not_the_host() {
    let masquerade = behind("-A POSTROUTING -j MASQUERADE", "");
    let packet = violated(&masquerade, &imds("docker0")).example.unwrap();
    assert_eq!(
        packet.dst.to_string(),
        "172.17.0.1",
        "that of its interface"
    );

    let mut claim = imds("docker0");
    claim.packets.src = Addrs {
        any_of: Vec::new(),
        except: vec![net("172.17.0.2/32")],
    };
    undecided(&masquerade, &claim);

    let mut own = host();
    let docker0 = own.interfaces.get_mut("docker0").unwrap();
    docker0.addrs.push("172.17.0.2".parse().unwrap());
    let found = prove(&masquerade, &imds("docker0"), &own);
    assert!(matches!(found, Verdict::Undecided { .. }), "{found:?}");
}

#[test]
fn what_stands_where_nat_does_or_below_ip_may_come_before_it_or_behind() {
    let masquerade = behind("-A POSTROUTING -j MASQUERADE", "");
    let beside = |at, priority| {
        let base = Base {
            at,
            priority,
            kind: Kind::Filter,
            policy: Policy::Accept,
            devices: vec!["docker0".to_owned()],
        };
        let rule = NativeRule {
            statements: vec![
                Statement::Test(Condition::Unknown("something".to_owned())),
                Statement::Verdict(To::Accept),
            ],
            ..NativeRule::default()
        };
        let chain = NativeChain {
            base: Some(base),
            rules: vec![rule],
        };
        let table = NativeTable {
            family: Family::V4,
            name: "inet x".to_owned(),
            bridge: false,
            chains: [("c".to_owned(), chain)].into(),
        };
        let host = HostView {
            native: vec![table],
            ..host()
        };
        prove(&masquerade, &imds("docker0"), &host)
    };
    for (at, priority) in [(At::Prerouting, -100), (At::Ingress, 0)] {
        let found = beside(at, priority);
        assert!(matches!(found, Verdict::Undecided { .. }), "{at:?}");
    }
    let found = beside(At::Prerouting, -99);
    assert!(matches!(found, Verdict::Violated { .. }), "{found:?}");
}
