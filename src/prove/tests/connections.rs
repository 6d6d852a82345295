//! Packets of connections that were there before, and packets that rules make themselves.

use super::*;
use crate::ruleset::{Place, Target};

pub(super) const CHAIN: &str = ":PREROUTING ACCEPT [0:0]";
/// A block before everything else.
pub(super) const EARLY: (&str, &str, &str) = (
    "raw",
    CHAIN,
    "-A PREROUTING -d 169.254.169.254/32 -i docker+ -j DROP",
);

/// FORWARD, with the block at its end.
fn above(rules: &str) -> Ruleset {
    forward(&format!("{rules}\n{BLOCK}"))
}

#[test]
fn a_block_holds_for_connections_that_a_container_made_itself() {
    let claim = imds("docker0");
    let shown = [
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -m state --state ESTABLISHED -j ACCEPT",
        "-A FORWARD -m conntrack ! --ctstate NEW,INVALID,UNTRACKED -j ACCEPT",
    ];
    // Whether a connection is one of these depends on more than that it is there.
    let possible = [
        "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
        "-A FORWARD -m connmark --mark 0x1 -j ACCEPT
         -A FORWARD -p udp -j CONNMARK --set-xmark 0x1/0xffffffff",
    ];
    for hole in shown.iter().chain(&possible) {
        let odd = if shown.contains(hole) {
            let packet = violated(&above(hole), &claim).example.unwrap();
            // No other packet of TCP goes on with a connection whatever came before.
            assert_eq!((packet.protocol, packet.flags), (6, Some(0x10)), "{hole}");
            packet.odd.unwrap().to_string()
        } else {
            undecided(&above(hole), &claim)
        };
        assert!(odd.contains("established connection"), "{hole}: {odd}");
        held(&forward(&format!("{BLOCK}{hole}")), &claim);
        held(&above(hole), &first("docker0"));
    }
    let related = above("-A FORWARD -m conntrack --ctstate RELATED -j ACCEPT");
    let packet = violated(&related, &claim).example.unwrap();
    assert_eq!((packet.icmp, packet.odd), (Some((11, 0)), Some(Odd::Later)));
    // Nothing of SCTP is expected by a helper, as FTP's data is.
    let mut claim_of = claim.clone();
    for (protocol, verdict) in [(6, "undecided"), (47, "undecided"), (132, "held")] {
        claim_of.packets.protocol = Some(protocol);
        let found = sanitize(&super::verdict(&related, &claim_of));
        assert!(found.starts_with(verdict), "{protocol}: {found}");
    }
    let states =
        "-A FORWARD -d 169.254.169.254/32 -m conntrack --ctstate NEW,INVALID,UNTRACKED -j DROP";
    violated(&forward(states), &claim);
    // What no rule ever marks has no mark.
    held(
        &above("-A FORWARD -m connmark --mark 0x1 -j ACCEPT"),
        &claim,
    );
}

/// Where NAT gives a connection another source, that is undone in what comes back.
#[test]
fn what_comes_back_is_turned_where_a_connection_may_have_begun_so() {
    let claim = imds("docker0");
    let rules = |prerouting: &str, postrouting: &str, filter: &str| {
        let nat = format!("{prerouting}\n{postrouting}");
        let chains = ":PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]";
        let filter = format!("{filter}\n-A FORWARD -j ACCEPT");
        tables(&[
            EARLY,
            ("nat", chains, &nat),
            ("filter", ":FORWARD ACCEPT [0:0]", &filter),
        ])
    };
    let snat = "-A POSTROUTING -p udp -j SNAT --to-source 10.0.0.5";
    violated(&rules("", snat, ""), &claim);
    // No connection comes as far as there.
    held(
        &rules("-A PREROUTING -j DNAT --to-destination 127.0.0.1", snat, ""),
        &claim,
    );
    held(
        &rules("", snat, "-A FORWARD -s 169.254.169.254/32 -j DROP"),
        &claim,
    );
    // A helper's connection does not begin with a NEW packet.
    let new = "-A FORWARD -s 169.254.169.254/32 -m conntrack --ctstate NEW -j DROP";
    undecided(&rules("", snat, new), &claim);
    let others = format!("{new}\n-A FORWARD -m conntrack --ctstate RELATED -j DROP");
    held(&rules("", snat, &others), &claim);
    // Packets of another protocol belong to none of these; an error by ICMP may, and what a helper expects.
    let tcp = "-A FORWARD ! -p udp -m conntrack ! --ctstate ESTABLISHED -j DROP\n-A FORWARD -p udp -j DROP";
    held(&rules("", snat, tcp), &claim);
    for (protocol, verdict) in [
        (1, "undecided"),
        (6, "held"),
        (17, "violated"),
        (132, "held"),
    ] {
        let mut of = claim.clone();
        of.packets.protocol = Some(protocol);
        let found = sanitize(&super::verdict(&rules("", snat, ""), &of));
        assert!(found.starts_with(verdict), "{protocol}: {found}");
    }
    // A reply to a host elsewhere comes from there, and not from these containers.
    let mut of = claim.clone();
    of.packets.src = net("172.17.0.0/16").into();
    of.packets.protocol = Some(17);
    let elsewhere = "-A POSTROUTING ! -d 172.17.0.0/16 -p udp -j SNAT --to-source 10.0.0.5";
    held(&rules("", elsewhere, ""), &of);
    violated(&rules("", snat, ""), &of);
    let away = "-A PREROUTING -d 172.17.0.0/16 -j DNAT --to-destination 10.9.9.9";
    let own = "-A FORWARD -m conntrack --ctstate RELATED -j DROP";
    held(&rules(away, snat, own), &of);
    // But errors about it may come from anywhere, and what a helper expects of it.
    of.packets.protocol = None;
    let only = |protocol| format!("-A FORWARD -d 169.254.169.254/32 ! -p {protocol} -j DROP");
    undecided(&rules(away, snat, &only("icmp")), &of);
    undecided(&rules(away, snat, &only("tcp")), &of);
    held(&rules(away, snat, &format!("{}\n{own}", only("tcp"))), &of);
}

/// A mark that is set behind FORWARD is not there in FORWARD, and only what marks connections marks them.
#[test]
fn marks_are_there_where_they_were_set_before() {
    let block = format!("-A FORWARD -m mark --mark 0x1 -j ACCEPT\n{BLOCK}");
    let nat = "-A PREROUTING -d 10.9.9.9/32 -j DNAT --to-destination 169.254.169.254";
    let chains = ":PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]";
    let rules = |mangle: &str, filter: &str| {
        tables(&[
            ("nat", chains, nat),
            ("mangle", chains, mangle),
            ("filter", ":FORWARD ACCEPT [0:0]", filter),
        ])
    };
    let claim = imds("docker0");
    held(
        &rules("-A POSTROUTING -j MARK --set-xmark 0x1/0xffffffff", &block),
        &claim,
    );
    violated(
        &rules("-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff", &block),
        &claim,
    );
    let block = format!("-A FORWARD -m connmark --mark 0x1 -j ACCEPT\n{BLOCK}");
    held(
        &rules("-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff", &block),
        &claim,
    );
    let kept = "-A POSTROUTING -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff";
    undecided(&rules(kept, &block), &claim);
}

/// It goes where the connection went that it is about, whatever rules say of first packets.
#[test]
fn no_rule_of_nat_turns_an_icmp_error() {
    let nat = (
        "nat",
        CHAIN,
        "-A PREROUTING -j DNAT --to-destination 10.0.0.1",
    );
    let others = "-A FORWARD -m conntrack --ctstate ESTABLISHED,INVALID -j DROP";
    let errors = "-A FORWARD -p icmp -m conntrack --ctstate RELATED -j DROP";
    let mut claim = imds("docker0");
    claim.packets.turned = false;
    let rules = |filter: &str| tables(&[nat, ("filter", ":FORWARD ACCEPT [0:0]", filter)]);
    let packet = violated(&rules(others), &claim).example.unwrap();
    assert_eq!((packet.icmp, packet.odd), (Some((11, 0)), Some(Odd::Later)));
    held(&rules(&format!("{others}\n{errors}")), &claim);
}

#[test]
fn what_sends_packets_of_its_own_breaks_a_block_below_it() {
    let claim = imds("docker0");
    for target in [
        "TEE --gateway 10.0.0.1",
        "SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460",
        "NFQUEUE --queue-num 5",
        "WHATEVER --it-is",
    ] {
        let rule = format!("-A PREROUTING -i docker+ -j {target}");
        for table in ["raw", "mangle"] {
            let early = (table, CHAIN, rule.as_str());
            let block = ("filter", ":FORWARD ACCEPT [0:0]", BLOCK);
            undecided(&tables(&[early, block]), &claim);
        }
        let below = forward(&format!("{BLOCK}-A FORWARD -j {target}"));
        if target.starts_with("WHATEVER") {
            // It may turn packets to there that are addressed elsewhere.
            undecided(&below, &claim);
        } else {
            held(&below, &claim);
        }
    }
    for quiet in ["SET --add-set seen src", "CT --zone 5", "TTL --ttl-set 5"] {
        let early = format!("-A PREROUTING -i docker+ -j {quiet}");
        let block = ("filter", ":FORWARD ACCEPT [0:0]", BLOCK);
        held(&tables(&[("mangle", CHAIN, &early), block]), &claim);
    }
}

#[test]
fn of_two_tables_at_the_same_place_either_may_come_first() {
    let claim = imds("docker0");
    let marked = "-A FORWARD -d 169.254.169.254/32 -m mark --mark 0x1 -j DROP";
    let mark = "-A FORWARD -j MARK --set-xmark 0x1/0xffffffff";
    let [marks, drops] = [mark, marked].map(forward);
    let proved = |layers: &[&Ruleset]| Prover::new(layers, &host()).prove(&claim);
    for layers in [[&marks, &drops], [&drops, &marks]] {
        let verdict = proved(&layers);
        assert!(
            matches!(verdict, Verdict::Undecided { .. }),
            "{}",
            sanitize(&verdict)
        );
    }
    assert_eq!(proved(&[&marks, &drops, &forward(BLOCK)]), Verdict::Held);

    // The same of the seal and the table raw.
    let seal = Ruleset {
        place: Place::Seal,
        ..tables(&[EARLY])
    };
    let harmless = tables(&[("raw", CHAIN, "-A PREROUTING -p udp -j NOTRACK")]);
    assert_eq!(proved(&[&seal, &harmless]), Verdict::Held);
    let tee = tables(&[("raw", CHAIN, "-A PREROUTING -j TEE --gateway 10.0.0.1")]);
    let verdict = proved(&[&seal, &tee]);
    assert!(
        matches!(verdict, Verdict::Undecided { .. }),
        "{}",
        sanitize(&verdict)
    );
    // The seal's other chain stands before the table filter.
    let seal = Ruleset {
        place: Place::Seal,
        ..forward(BLOCK)
    };
    let queue = forward("-A FORWARD -d 169.254.169.254/32 -j NFQUEUE --queue-num 1");
    assert_eq!(proved(&[&queue, &seal]), Verdict::Held);
}

#[test]
fn nat_sees_nothing_where_nothing_tracks_connections() {
    let nat = (
        "nat",
        CHAIN,
        "-A PREROUTING -i docker0 -j MARK --set-xmark 0x1/0xffffffff",
    );
    let filter = (
        "filter",
        ":FORWARD ACCEPT [0:0]",
        "-A FORWARD -d 169.254.169.254/32 -m mark ! --mark 0x1 -j DROP",
    );
    undecided(&tables(&[nat, filter]), &imds("docker0"));
    let dropping = ("nat", ":POSTROUTING DROP [0:0]", "");
    let mut udp = first("docker0");
    udp.packets.protocol = Some(17);
    // Whether they are tracked or not, one with a bad checksum comes to no NAT.
    let packet = violated(&tables(&[dropping]), &udp).example.unwrap();
    assert_eq!(packet.odd, Some(Odd::Invalid));
    let tracked = (
        "filter",
        ":FORWARD ACCEPT [0:0]",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    );
    held(&tables(&[dropping, tracked]), &first("docker0"));
}

#[test]
fn of_a_rule_that_is_not_what_was_printed_nothing_counts() {
    // `ip daddr 169.254.169.0-169.254.169.255 accept`, as iptables-nft 1.8.9 prints it.
    let printed = above("-A FORWARD -d 169.254.169.255/32 -j ACCEPT");
    held(&printed, &imds("docker0"));
    let mut distrusted = printed;
    assert!(distrusted.distrust(("filter", "FORWARD", 0), "a native `range`".into(), None));
    let why = undecided(&distrusted, &imds("docker0"));
    assert!(why.contains("a native `range`"), "{why}");
    // What it does is known all the same where it only decides.
    for (does, below, alone) in [
        (Target::Drop, "held", "undecided"),
        (Target::Accept, "undecided", "violated"),
        (Target::None, "held", "violated"),
    ] {
        let mut with = above("-A FORWARD -j DROP");
        let place = ("filter", "FORWARD", 0);
        assert!(with.distrust(place, "a native `lookup`".into(), Some(does.clone())));
        let found = verdict(&with, &imds("docker0"));
        let word = |verdict: &Verdict| match verdict {
            Verdict::Held => "held",
            Verdict::Violated { .. } => "violated",
            Verdict::Undecided { .. } => "undecided",
        };
        assert_eq!(word(&found), below, "{does:?}");
        let mut only = forward("-A FORWARD -j DROP");
        only.distrust(place, "a native `lookup`".into(), Some(does.clone()));
        assert_eq!(word(&verdict(&only, &imds("docker0"))), alone, "{does:?}");
    }
}

#[test]
fn packets_that_carry_their_own_route_get_around_a_block() {
    let claim = imds("docker0");
    let routed = |interface: &str| HostView {
        source_routed: vec![(
            Family::V4,
            interface.to_owned(),
            format!("net.ipv4.conf.{interface}.accept_source_route"),
        )],
        ..host()
    };
    let Verdict::Undecided { why, .. } = prove(&forward(BLOCK), &claim, &routed("docker0")) else {
        panic!("an option may name the service");
    };
    assert_eq!(
        why,
        "docker0 accepts packets that carry their own route, which rules do not see: \
         set net.ipv4.conf.docker0.accept_source_route=0"
    );
    assert_eq!(
        prove(&forward(BLOCK), &claim, &routed("eth0")),
        Verdict::Held
    );
}

#[test]
fn addresses_that_a_route_makes_this_hosts_own_are_local() {
    let raw = EARLY;
    let turn = "-A PREROUTING -d 10.9.0.0/16 -m addrtype --dst-type LOCAL -j DNAT --to-destination 169.254.169.254";
    let ruleset = tables(&[raw, ("nat", CHAIN, turn)]);
    let routed = HostView {
        local: vec![net("10.9.0.0/16")],
        ..host()
    };
    let verdict = prove(&ruleset, &first("docker0"), &routed);
    assert!(
        matches!(verdict, Verdict::Violated { .. }),
        "{}",
        sanitize(&verdict)
    );
    held(&ruleset, &first("docker0"));
}

/// SNAT keeps the port where nobody else has it: only by another one would this packet get through.
#[test]
fn what_another_port_would_let_through_is_no_example() {
    let filter = "-A INPUT -p udp -m udp --sport 1:1023 -j ACCEPT\n-A INPUT -j DROP";
    let mut claim = first("docker0");
    claim.packets.from = Origin::Host;
    claim.packets.dst = Destination::ThisHost;
    claim.packets.protocol = Some(17);
    claim.packets.sport = Some(40_000.into());
    for source in ["SNAT --to-source 10.0.0.5", "NETMAP --to 10.0.0.0/24"] {
        let nat = format!("-A POSTROUTING -o lo -j {source}");
        let nat = ("nat", ":POSTROUTING ACCEPT [0:0]", nat.as_str());
        let why = undecided(
            &tables(&[nat, ("filter", ":INPUT ACCEPT [0:0]", filter)]),
            &claim,
        );
        assert!(why.contains("port NAT takes"), "{source}: {why}");
    }
}
