//! Rules that ask for sets of ipset.

use super::*;
use crate::ruleset::{Entry, Ipset, Part, protocol};

fn entry(parts: Vec<Part>) -> Entry {
    Entry {
        parts,
        except: false,
    }
}

fn within(text: &str) -> Part {
    Part::Net(net(text))
}

fn at(protocol: Option<u8>, port: u16) -> Part {
    let port = port.into();
    Part::Port { protocol, port }
}

/// The host with sets of these names.
fn with(sets: Vec<(&str, Option<Ipset>)>) -> HostView {
    let sets = sets.into_iter().map(|(name, set)| (name.to_owned(), set));
    HostView {
        ipsets: sets.collect(),
        ..host()
    }
}

fn entries(entries: &[Entry]) -> Option<Ipset> {
    Some(Ipset::Entries(entries.to_vec()))
}

/// What is said where a rule above the block accepts what is in the set.
fn above(lookup: &str, host: &HostView) -> Verdict {
    let rule = format!("-A FORWARD -m set {lookup} -j ACCEPT\n{BLOCK}");
    prove(&forward(&rule), &imds("docker0"), host)
}

fn lets_through(lookup: &str, host: &HostView) -> Option<Packet> {
    match above(lookup, host) {
        Verdict::Held => None,
        Verdict::Violated { walk } => walk.example,
        other => panic!("{lookup}: {}", sanitize(&other)),
    }
}

#[test]
fn what_is_in_a_set_is_met() {
    let host = with(vec![
        ("one", entries(&[entry(vec![within("169.254.169.254/32")])])),
        ("other", entries(&[entry(vec![within("10.0.0.0/8")])])),
        ("none", entries(&[])),
        ("six", entries(&[entry(vec![within("fd00:ec2::254/128")])])),
    ]);
    for (lookup, meets) in [
        ("--match-set one dst", true),
        ("! --match-set one dst", false),
        ("--match-set other dst", false),
        ("! --match-set other dst", true),
        ("--match-set other src", true),
        ("--match-set none dst", false),
        ("! --match-set none dst", true),
        ("--match-set six dst", false),
        // More sides than there are parts do no harm.
        ("--match-set one dst,src", true),
    ] {
        assert_eq!(lets_through(lookup, &host).is_some(), meets, "{lookup}");
    }
}

/// The narrowest network that an address is in decides.
#[test]
fn what_is_taken_out_of_a_network_is_not_in_the_set() {
    let except = |text: &str| Entry {
        except: true,
        ..entry(vec![within(text)])
    };
    let host = with(vec![
        (
            "spared",
            entries(&[
                except("169.254.169.254/32"),
                entry(vec![within("169.254.0.0/16")]),
            ]),
        ),
        (
            "inside",
            entries(&[
                entry(vec![within("169.254.169.254/32")]),
                except("169.254.169.0/24"),
                entry(vec![within("169.254.0.0/16")]),
            ]),
        ),
    ]);
    assert_eq!(lets_through("--match-set spared dst", &host), None);
    assert!(lets_through("--match-set inside dst", &host).is_some());
}

#[test]
fn a_port_is_that_of_a_protocol() {
    let service = || within("169.254.169.254/32");
    let host = with(vec![
        (
            "web",
            entries(&[entry(vec![service(), at(Some(protocol::TCP), 80)])]),
        ),
        (
            "ping",
            entries(&[entry(vec![service(), at(Some(protocol::ICMP), 0x0800)])]),
        ),
        ("bare", entries(&[entry(vec![service(), at(Some(253), 0)])])),
        (
            "never",
            entries(&[entry(vec![service(), at(Some(253), 7)])]),
        ),
        ("any", entries(&[entry(vec![at(None, 53)])])),
    ]);
    let seen = |lookup: &str| {
        lets_through(lookup, &host).map(|packet| (packet.protocol, packet.dport, packet.icmp))
    };
    assert_eq!(seen("--match-set web dst,dst"), Some((6, Some(80), None)));
    assert_eq!(
        seen("--match-set ping dst,src"),
        Some((1, None, Some((8, 0))))
    );
    assert_eq!(seen("--match-set bare dst,dst"), Some((253, None, None)));
    assert_eq!(seen("--match-set never dst,dst"), None);
    // It has a part that nothing is compared with.
    assert_eq!(seen("--match-set web dst"), None);
    // It has no header that a later fragment would lack.
    let drop = forward("-A FORWARD -m set --match-set bare dst,dst -j DROP");
    let mut claim = imds("docker0");
    claim.packets.protocol = Some(253);
    assert!(matches!(prove(&drop, &claim, &host), Verdict::Held));
    let any = |protocol| {
        let rule = format!("-A FORWARD -m set --match-set any dst -j ACCEPT\n{BLOCK}");
        let mut claim = imds("docker0");
        claim.packets.protocol = Some(protocol);
        prove(&forward(&rule), &claim, &host) == Verdict::Held
    };
    assert_eq!([6, 17, 132].map(any), [false, false, true]);
}

#[test]
fn a_port_of_icmpv6_is_its_type_and_code() {
    let ping = entry(vec![
        within("fd00:ec2::254/128"),
        at(Some(protocol::ICMPV6), 0x8000),
    ]);
    let host = with(vec![("ping", entries(&[ping]))]);
    let rules = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m set --match-set ping dst,dst -j ACCEPT\nCOMMIT\n";
    let rules = parse_save(Family::V6, rules).unwrap();
    let mut claim = imds("docker0");
    claim.packets.family = Family::V6;
    claim.packets.dst = Destination::Net(net("fd00:ec2::254"));
    let Verdict::Violated { walk } = prove(&rules, &claim, &host) else {
        panic!("a ping gets through");
    };
    assert_eq!(walk.example.unwrap().icmp, Some((128, 0)));
}

#[test]
fn a_list_has_what_each_of_its_sets_has() {
    let list = |names: &[&str]| Some(Ipset::List(names.iter().map(ToString::to_string).collect()));
    let host = with(vec![
        ("one", entries(&[entry(vec![within("169.254.169.254/32")])])),
        ("other", entries(&[entry(vec![within("10.0.0.0/8")])])),
        ("unknown", None),
        ("both", list(&["other", "one"])),
        ("neither", list(&["other"])),
        ("dark", list(&["other", "unknown"])),
        ("gone", list(&["other", "nowhere"])),
    ]);
    assert!(lets_through("--match-set both dst", &host).is_some());
    assert_eq!(lets_through("--match-set neither dst", &host), None);
    for name in ["dark", "gone", "unknown", "nowhere"] {
        let verdict = above(&format!("--match-set {name} dst"), &host);
        let Verdict::Undecided { why, .. } = verdict else {
            panic!("{name}: {}", sanitize(&verdict));
        };
        assert!(
            why.contains(&format!("-m set --match-set {name} dst")),
            "{why}"
        );
    }
}
