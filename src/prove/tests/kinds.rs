//! Of what kind addresses and frames are, whether a bridge forwarded them, and which socket they are of.

use super::*;

/// Above a block: what an address is, how a frame was addressed, whether a bridge forwarded it, which socket it is of.
#[test]
fn what_no_forwarded_packet_to_the_service_is_lets_none_through() {
    let above = |rule: &str| forward(&format!("-A FORWARD {rule} -j ACCEPT\n{BLOCK}"));
    for rule in [
        "-m addrtype --dst-type LOCAL",
        "-m addrtype --dst-type BROADCAST",
        "-m addrtype --dst-type LOCAL,MULTICAST,BROADCAST",
        "-m addrtype ! --dst-type UNICAST",
        "-m pkttype --pkt-type broadcast",
        "-m pkttype ! --pkt-type unicast",
        "-m physdev --physdev-is-bridged",
        "-m physdev --physdev-in eth0 --physdev-is-bridged",
        "-m cgroup --path a",
        "-m cgroup ! --path a",
        "-d 169.0.168.0/255.0.255.0",
        "! -d 169.0.169.0/255.0.255.0",
    ] {
        held(&above(rule), &imds("docker0"));
    }
    for rule in [
        "-m addrtype --dst-type UNICAST",
        "-m addrtype ! --dst-type LOCAL,BROADCAST",
        "-m addrtype --src-type UNICAST --dst-type UNICAST",
        "-m pkttype --pkt-type unicast",
        "-m pkttype ! --pkt-type multicast",
        "-m physdev ! --physdev-is-bridged",
        "-d 169.0.169.0/255.0.255.0",
        "! -d 169.0.168.0/255.0.255.0",
    ] {
        let packet = violated(&above(rule), &imds("docker0")).example.unwrap();
        assert_eq!(packet.odd, None, "{rule}");
    }
    // No host sends from such an address, and this one takes it for none.
    for rule in [
        "-m addrtype --src-type BROADCAST",
        "-m addrtype --src-type MULTICAST",
    ] {
        undecided(&above(rule), &imds("docker0"));
    }
    for rule in [
        "-m physdev --physdev-in eth0",
        "-m physdev --physdev-in eth0 ! --physdev-is-bridged",
    ] {
        undecided(&above(rule), &imds("docker0"));
    }
}

#[test]
fn the_addresses_of_all_hosts_in_a_network_are_known() {
    let rules = forward(&format!(
        "-A FORWARD -m addrtype --src-type UNICAST -j DROP\n{BLOCK}"
    ));
    let mut claim = imds("br-0");
    let from = |net: &str| Net::parse(Family::V4, net).unwrap();
    claim.packets.src = from("172.17.255.255").into();
    let with = HostView {
        broadcast: vec![from("172.17.255.255")],
        ..host()
    };
    assert!(matches!(prove(&rules, &claim, &host()), Verdict::Held));
    assert!(!matches!(prove(&rules, &claim, &with), Verdict::Held));
    let v6 = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m addrtype --dst-type UNICAST -j DROP\nCOMMIT\n";
    let v6 = parse_save(Family::V6, v6).unwrap();
    claim.packets.family = Family::V6;
    claim.packets.src = Default::default();
    claim.packets.dst = Destination::Net(Net::parse(Family::V6, "fd00:ec2::254").unwrap());
    assert!(matches!(prove(&v6, &claim, &host()), Verdict::Held));
}

/// What came in may have found its socket by INPUT, and its frame may have been for everybody.
#[test]
fn in_input_sockets_and_frames_are_not_known() {
    let mut claim = imds("docker0");
    claim.packets.dst = Destination::ThisHost;
    claim.packets.turned = false;
    for (rule, chain) in [
        ("-m cgroup --path a", "INPUT"),
        ("-m pkttype --pkt-type broadcast", "INPUT"),
    ] {
        let rules = format!("-A {chain} {rule} -j ACCEPT\n-A INPUT -j DROP");
        let rules = tables(&[("filter", ":INPUT ACCEPT [0:0]", &rules)]);
        undecided(&rules, &claim);
    }
}
