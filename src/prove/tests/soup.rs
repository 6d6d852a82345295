//! Whatever can be parsed can be proved about: no panic, no endless walk.

use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A rule of words that belong to rules, in any order.
fn rule() -> impl Strategy<Value = String> {
    let part = select(vec![
        "-s 10.0.0.0/8",
        "! -s 172.17.0.2",
        "-d 169.254.169.254/32",
        "! -d fd00:ec2::254/128",
        "-i docker+",
        "! -o lo",
        "-p tcp",
        "! -p 58",
        "-f",
        "-m tcp --dport 80",
        "-m tcp --tcp-flags SYN NONE",
        "-m multiport ! --ports 1,2:70",
        "-m icmp --icmp-type any",
        "-m icmp6 --icmpv6-type 1/4",
        "-m conntrack ! --ctstate NEW,DNAT,SNAT",
        "-m mark --mark 0x5/0x3",
        "-m connmark ! --mark 0x0",
        "-m addrtype --src-type LOCAL",
        "-m iprange --src-range 10.0.0.1-10.0.0.9",
        "-m owner --uid-owner 0-5",
        "-m limit --limit 5/min",
        "-m recent ! --rcheck --name x --mask 255.255.255.255 --rsource",
        "-m set --match-set s src,dst",
        "-m comment --comment \"a \\\" b\"",
        "!",
        "-m",
        "--more",
        "é",
    ]);
    let target = select(vec![
        "",
        "-j ACCEPT",
        "-j DROP",
        "-j RETURN",
        "-j A",
        "-g B",
        "-j FORWARD",
        "-j MISSING",
        "-j MARK --set-xmark 0x5/0x3",
        "-j MARK --set-xmark 0xff/0xf",
        "-j CONNMARK --save-mark",
        "-j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff",
        "-j NOTRACK",
        "-j DNAT --to-destination 169.254.169.254",
        "-j DNAT --to-destination 127.0.0.1-169.254.169.254",
        "-p tcp -j DNAT --to-destination :51679",
        "-j SNAT --to-source 10.0.0.1-10.0.0.9",
        "-j MASQUERADE",
        "-j REDIRECT",
        "-j NFQUEUE",
        "-j TPROXY --on-port 5",
    ]);
    (proptest::collection::vec(part, 0..4), target)
        .prop_map(|(parts, target)| format!("{} {target}", parts.join(" ")))
}

fn soup() -> impl Strategy<Value = String> {
    let table = |name: &'static str| {
        let chain = select(vec![
            "PREROUTING",
            "INPUT",
            "FORWARD",
            "OUTPUT",
            "POSTROUTING",
            "A",
            "B",
        ]);
        let rules = proptest::collection::vec((chain, rule()), 0..7);
        (rules, select(vec!["ACCEPT", "DROP", "-"])).prop_map(move |(rules, policy)| {
            let mut text = format!("*{name}\n:A - [0:0]\n:B - [0:0]\n");
            for base in ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"] {
                text += &format!(":{base} ACCEPT [0:0]\n");
            }
            text += &format!(":FORWARD {policy} [0:0]\n");
            for (chain, rule) in rules {
                text += &format!("-A {chain} {rule}\n");
            }
            text + "COMMIT\n"
        })
    };
    let note = select(vec![
        "",
        "",
        "# Table `nat' is incompatible, use 'nft' tool.\n",
        "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n",
    ]);
    (
        table("raw"),
        table("mangle"),
        table("nat"),
        table("filter"),
        note,
    )
        .prop_map(|(raw, mangle, nat, filter, note)| format!("{raw}{mangle}{nat}{filter}{note}"))
}

fn claims(family: Family, from: &Origin) -> Vec<Claim> {
    let mut claims = Vec::new();
    for moment in [Moment::First, Moment::Established] {
        let mut claim = imds("docker0");
        claim.packets.moment = moment;
        claim.packets.from = from.clone();
        claims.push(claim.clone());
        claim.packets.dst = Destination::ThisHost;
        claim.packets.dport = port(51678);
        claims.push(claim);
        let mut claim = credentials(from.clone());
        claim.packets.moment = moment;
        claims.push(claim);
    }
    for claim in &mut claims {
        claim.packets.family = family;
        if family == Family::V6 && claim.packets.dst != Destination::ThisHost {
            claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
        }
        if let (Family::V6, Expect::Delivered { addr, .. }) = (family, &mut claim.expect) {
            *addr = "::1".parse().unwrap();
        }
    }
    claims
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_text_that_parses_gets_a_verdict(
        text in soup(),
        family in select(vec![Family::V4, Family::V6]),
        from in select(vec!["", "docker0", "+"]),
        which in 0usize..6,
        known in any::<bool>(),
    ) {
        let ruleset = parse_save(family, &text).unwrap();
        let host = if known { host() } else { HostView::default() };
        let from = if from.is_empty() { Origin::Host } else { Origin::Interface(iface(from)) };
        let claim = claims(family, &from).swap_remove(which);
        let started = Instant::now();
        let prover = Prover::new(&[&ruleset], &host);
        if let Verdict::Violated { walk } = prover.prove(&claim) {
            prop_assert!(walk.example.is_some(), "{claim}\n{text}");
        }
        prover.explain(&claim.packets);
        prop_assert!(started.elapsed().as_secs() < 20, "{claim}\n{text}");
    }
}
