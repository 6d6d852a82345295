//! What headers say beside addresses and ports: length, TTL, class of service, MAC.

use super::*;

/// What is said where rules above the block accept such packets.
fn above(rules: &str) -> Ruleset {
    let accept = |rule: &str| format!("-A FORWARD {rule} -j ACCEPT\n");
    forward(&format!(
        "{}{BLOCK}",
        rules.lines().map(accept).collect::<String>()
    ))
}

#[test]
fn a_sender_chooses_what_headers_say() {
    let claim = imds("docker0");
    for (rule, text) in [
        ("-m length --length 1000", "length 1000"),
        ("-m length ! --length 0:120", "length 121"),
        // One is taken off before.
        ("-m ttl --ttl-eq 7", "ttl 8"),
        ("-m ttl --ttl-lt 2", "ttl 2"),
        ("-m ttl --ttl-gt 253", "ttl 255"),
        ("-m dscp --dscp 0x0a", "tos 0x28"),
        ("-m tos ! --tos 0x00/0xff", "tos 0x01"),
        (
            "-m mac --mac-source 02:00:00:00:00:07",
            "mac 02:00:00:00:00:07",
        ),
        ("-m policy --dir in --pol none", "tcp"),
    ] {
        let packet = violated(&above(rule), &claim).example.unwrap().to_string();
        assert!(packet.contains(text), "{rule}: {packet}");
    }
    // What every packet of Linux has is not said, and neither is what no rule asks for.
    let packet = violated(&above("-m ttl --ttl-eq 63\n-m tos --tos 0"), &claim);
    let packet = packet.example.unwrap();
    assert_eq!((packet.ttl, packet.tos), (Some(64), Some(0)));
    assert!(packet.to_string().ends_with("out eth0"), "{packet}");
    let packet = violated(&forward(""), &claim).example.unwrap();
    assert_eq!(
        (packet.length, packet.ttl, packet.tos, packet.mac),
        (None, None, None, None)
    );
}

#[test]
fn what_no_packet_has_lets_none_through() {
    for rule in [
        // Nothing comes to FORWARD with that much left, and what has nothing left does not come there.
        "-m ttl --ttl-eq 255",
        "-m ttl --ttl-lt 1",
        "-m length --length 0:19",
        // No frame has it, and a packet without a frame meets it neither way.
        "-m tos --tos 0x10/0x0f",
    ] {
        held(&above(rule), &imds("docker0"));
    }
    // Every packet is one or the other.
    let both = [
        "-A FORWARD -m length --length 0:500 -j DROP\n-A FORWARD -m length --length 501:65535 -j DROP",
        "-A FORWARD -m ttl --ttl-lt 64 -j DROP\n-A FORWARD -m ttl --ttl-gt 63 -j DROP",
        "-A FORWARD -m dscp --dscp 0x0a -j DROP\n-A FORWARD -m dscp ! --dscp 0x0a -j DROP",
    ];
    for rules in both {
        held(&forward(rules), &imds("docker0"));
    }
    // One that came in no frame of Ethernet is neither, and no example.
    let mac = "-A FORWARD -m mac --mac-source 02:00:00:00:00:07 -j DROP
               -A FORWARD -m mac ! --mac-source 02:00:00:00:00:07 -j DROP";
    let why = undecided(&forward(mac), &imds("docker0"));
    assert!(why.contains("no MAC that sends"), "{why}");
    let ipsec = format!("-A FORWARD -m policy --dir in --pol ipsec -j ACCEPT\n{BLOCK}");
    undecided(&forward(&ipsec), &imds("docker0"));
}

/// Forwarded packets have one less also in POSTROUTING; what a host sends has all.
#[test]
fn what_is_left_to_go_is_less_behind_forwarding() {
    let behind = |left: u8| {
        let rules = format!(
            "-A POSTROUTING -m ttl --ttl-eq {left} -j ACCEPT
             -A POSTROUTING -d 169.254.169.254/32 -j DROP"
        );
        tables(&[("mangle", ":POSTROUTING ACCEPT [0:0]", &rules)])
    };
    held(&behind(255), &imds("docker0"));
    let packet = violated(&behind(254), &imds("docker0")).example.unwrap();
    assert_eq!(packet.ttl, Some(255));
    let mut own = imds("docker0");
    own.packets.from = Origin::Host;
    let packet = violated(&behind(255), &own).example.unwrap();
    assert_eq!(packet.ttl, Some(255));
}

#[test]
fn no_interface_has_the_mac_of_nobody_or_of_a_group() {
    for mac in ["00:00:00:00:00:00", "01:00:5e:00:00:01"] {
        undecided(
            &above(&format!("-m mac --mac-source {mac}")),
            &imds("docker0"),
        );
    }
}

#[test]
fn the_header_of_ipv6_is_longer() {
    let rules = |length: u16| {
        let rules = format!(
            "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m length --length 0:{length} -j ACCEPT\nCOMMIT\n"
        );
        parse_save(Family::V6, rules).unwrap()
    };
    let mut claim = imds("docker0");
    claim.packets.family = Family::V6;
    claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
    held(&rules(39), &claim);
    violated(&rules(40), &claim);
}

/// A packet is shorter than its headers only where it is malformed, and longer than 1,500 bytes in few places.
#[test]
fn examples_have_lengths_that_can_be_sent() {
    let tcp = |rule: &str| {
        let mut claim = imds("docker0");
        claim.packets.protocol = Some(6);
        claim.packets.moment = Moment::First;
        (above(rule), claim)
    };
    let (rules, claim) = tcp("-m length --length 0:39");
    let why = undecided(&rules, &claim);
    assert!(why.contains("INVALID"), "{why}");
    let (rules, claim) = tcp("-m length --length 0:40");
    assert_eq!(violated(&rules, &claim).example.unwrap().length, Some(40));
    let (rules, claim) = tcp("-m length --length 1501:65535");
    let why = undecided(&rules, &claim);
    assert!(why.contains("more than 1500 bytes"), "{why}");
    let (rules, claim) = tcp("-m length --length 1500:65535");
    assert_eq!(violated(&rules, &claim).example.unwrap().length, Some(1500));
}

/// The example has what its sender wrote.
#[test]
fn another_class_of_service_is_computed() {
    let claim = imds("docker0");
    let seen = |mangle: &str, filter: &str| {
        let filter = format!("-A FORWARD {filter} -j ACCEPT\n{BLOCK}");
        let rules = tables(&[
            ("mangle", ":PREROUTING ACCEPT [0:0]", mangle),
            ("filter", ":FORWARD ACCEPT [0:0]", &filter),
        ]);
        match verdict(&rules, &claim) {
            Verdict::Held => None,
            Verdict::Violated { walk } => walk.example.unwrap().tos,
            other => panic!("{mangle} {filter}: {}", sanitize(&other)),
        }
    };
    let dscp = "-A PREROUTING -j DSCP --set-dscp 0x0a";
    assert_eq!(seen(dscp, "-m dscp --dscp 0x0a"), Some(0));
    assert_eq!(seen(dscp, "-m dscp ! --dscp 0x0a"), None);
    assert_eq!(seen(dscp, "-m tos --tos 0x29"), Some(1));
    let some = "-A PREROUTING -m tos --tos 0x10 -j TOS --set-tos 0x01/0x0f";
    assert_eq!(seen(some, "-m tos --tos 0x11"), Some(0x10));
    assert_eq!(seen(some, "-m tos --tos 0x10"), None);
    let twice = format!("{dscp}\n-A PREROUTING -j TOS --set-tos 0x00/0xff");
    assert_eq!(seen(&twice, "-m tos --tos 0x00"), Some(0));
    assert_eq!(seen(&twice, "-m dscp --dscp 0x0a"), None);
}

/// A delivery is claimed of what Linux sends when nobody asks for something else.
#[test]
fn deliveries_are_of_usual_packets() {
    let claim = credentials(Origin::Interface(iface("docker0")));
    let nat = "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679";
    let rules = |input: &str| {
        let filter = format!("-A INPUT {input} -j DROP");
        tables(&[
            ("nat", ":PREROUTING ACCEPT [0:0]", nat),
            ("filter", ":INPUT ACCEPT [0:0]", &filter),
        ])
    };
    for input in [
        "-m length --length 121:65535",
        "-m length --length 0:39",
        "-m ttl ! --ttl-eq 64",
        "-m tos ! --tos 0x00/0xff",
    ] {
        held(&rules(input), &claim);
    }
    for input in [
        "-m length --length 60",
        "-m length --length 120",
        "-m length --length 40",
        "-m ttl --ttl-eq 64",
        "-m dscp --dscp 0x00",
        "-m mac ! --mac-source 02:00:00:00:00:07",
    ] {
        violated(&rules(input), &claim);
    }
}

/// What a target changed of it is not known any more, where a rule asks for it.
#[test]
fn what_targets_change_shows_nothing() {
    let claim = imds("docker0");
    let rules = |mangle: &str, filter: &str| {
        let filter = format!("{filter}\n{BLOCK}");
        tables(&[
            ("mangle", ":PREROUTING ACCEPT [0:0]", mangle),
            ("filter", ":FORWARD ACCEPT [0:0]", &filter),
        ])
    };
    let dscp = "-A PREROUTING -j DSCP --set-dscp 0x0a";
    let class = "-A PREROUTING -j DSCP --set-dscp-class AF11";
    let mss = "-A PREROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu";
    let asks_tos = "-A FORWARD -m dscp --dscp 0x0a -j ACCEPT";
    let asks_length =
        "-A FORWARD -p tcp -m length --length 60 -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT";
    for (mangle, filter) in [(class, asks_tos), (mss, asks_length)] {
        let why = undecided(&rules(mangle, filter), &claim);
        assert_eq!(why, "it hangs on what a target made of the packet");
        violated(&rules("", filter), &claim);
    }
    // What is not asked for harms nothing.
    violated(&rules(dscp, asks_length), &claim);
    violated(&rules(mss, asks_tos), &claim);
    violated(&rules(dscp, "-A FORWARD -j ACCEPT"), &claim);
    // Another class of service is no other packet to a block.
    held(&rules(dscp, ""), &claim);
}
