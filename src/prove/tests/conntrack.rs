//! What is asked of a connection beside its state.

use super::*;

/// What becomes of the block below a rule that accepts packets with a connection like that.
fn above(asked: &str, claim: &Claim) -> String {
    let rules = format!("-A FORWARD -m conntrack {asked} -j ACCEPT\n{BLOCK}");
    sanitize(&verdict(&forward(&rules), claim))
}

#[test]
fn a_first_packet_tells_all_of_its_connection() {
    for (asked, wanted) in [
        ("--ctdir ORIGINAL", "violated"),
        ("--ctdir REPLY", "held"),
        ("--ctproto 17", "violated"),
        ("! --ctproto 17", "violated"),
        ("--ctorigdst 169.254.169.254", "violated"),
        ("! --ctorigdst 169.254.169.254", "held"),
        ("--ctorigdst 10.9.9.9", "held"),
        ("--ctorigsrc 172.17.0.0/16", "violated"),
        ("--ctreplsrc 169.254.169.254", "violated"),
        ("--ctreplsrc 10.9.9.9", "held"),
        ("--ctrepldst 172.17.0.0/16", "violated"),
        ("--ctorigdstport 80 --ctproto 6", "violated"),
        ("--ctreplsrcport 80 --ctproto 6 --ctorigdstport 81", "held"),
        (
            "--ctrepldstport 7 --ctproto 6 --ctorigsrcport 7",
            "violated",
        ),
        ("--ctrepldstport 7 --ctproto 6 --ctorigsrcport 8", "held"),
        // ICMP has numbers of its own there.
        ("--ctproto 1 --ctorigdstport 80", "undecided"),
        ("--ctstatus NONE", "held"),
        ("! --ctstatus NONE", "violated"),
        ("--ctstatus SEEN_REPLY", "held"),
        ("! --ctstatus SEEN_REPLY", "violated"),
        ("--ctstatus ASSURED,EXPECTED", "held"),
        ("--ctstatus CONFIRMED", "undecided"),
        ("--ctexpire 1:5", "undecided"),
        ("--ctstate NEW --ctdir ORIGINAL", "violated"),
        ("--ctstate NEW --ctdir REPLY", "held"),
        ("--ctstate ESTABLISHED --ctdir ORIGINAL", "held"),
    ] {
        let found = above(asked, &first("docker0"));
        assert!(found.starts_with(wanted), "{asked}: {found}, not {wanted}");
    }
}

#[test]
fn a_later_packet_tells_what_nat_made_nothing_of() {
    for (asked, wanted) in [
        ("--ctstatus SEEN_REPLY", "violated"),
        ("--ctstatus ASSURED", "undecided"),
        ("--ctstatus EXPECTED", "undecided"),
        ("--ctdir REPLY", "violated"),
        ("--ctdir REPLY --ctorigsrc 169.254.169.254", "violated"),
        ("--ctdir REPLY --ctorigdst 172.17.0.0/16", "violated"),
        ("--ctdir REPLY --ctreplsrc 172.17.0.0/16", "violated"),
        (
            "--ctdir REPLY --ctreplsrc 169.254.169.254 --ctrepldst 169.254.169.254",
            "violated",
        ),
        // An error by ICMP may be about any connection.
        (
            "--ctdir REPLY --ctrepldst 10.9.9.9 --ctproto 17",
            "undecided",
        ),
        ("--ctdir REPLY --ctrepldst 10.9.9.9 -p udp", "held"),
        (
            "--ctdir ORIGINAL --ctstate ESTABLISHED --ctorigdst 10.9.9.9 -p udp",
            "held",
        ),
    ] {
        let found = above(asked, &imds("docker0"));
        assert!(found.starts_with(wanted), "{asked}: {found}, not {wanted}");
    }
}

#[test]
fn an_example_says_where_it_goes_the_other_way() {
    let said = "goes the other way than its first packet";
    assert!(above("--ctdir REPLY", &imds("docker0")).contains(said));
    assert!(!above("--ctstatus SEEN_REPLY", &imds("docker0")).contains(said));
}

#[test]
fn without_a_connection_only_the_state_counts() {
    let none = "-A FORWARD -m conntrack --ctstate INVALID --ctproto 17 -j ACCEPT";
    let rules = format!("{none}\n{BLOCK}");
    let packet = violated(&forward(&rules), &first("docker0"))
        .example
        .unwrap();
    assert_eq!(packet.protocol, 6);
    assert!(above("--ctproto 6 ! --ctstatus NONE", &first("docker0")).contains("tcp"));
    let untracked = tables(&[
        (
            "raw",
            ":PREROUTING ACCEPT [0:0]",
            "-A PREROUTING -j CT --notrack",
        ),
        (
            "filter",
            ":FORWARD ACCEPT [0:0]",
            &format!("-A FORWARD -m conntrack ! --ctproto 6 -j ACCEPT\n{BLOCK}"),
        ),
    ]);
    held(&untracked, &first("docker0"));
}

#[test]
fn a_connection_that_nat_turns_is_known_by_where_it_was_addressed() {
    let turned = |asked: &str| {
        let filter = format!("-A FORWARD -m conntrack {asked} -j ACCEPT\n{BLOCK}");
        tables(&[
            (
                "nat",
                ":PREROUTING ACCEPT [0:0]",
                "-A PREROUTING -d 10.9.9.9/32 -p tcp -j DNAT --to-destination 169.254.169.254:80",
            ),
            ("filter", ":FORWARD ACCEPT [0:0]", &filter),
        ])
    };
    let claim = first("docker0");
    for asked in [
        "--ctorigdst 10.9.9.9",
        "--ctorigdst 10.9.9.9 --ctreplsrc 169.254.169.254",
    ] {
        let packet = violated(&turned(asked), &claim).example.unwrap();
        assert_eq!(packet.dst.to_string(), "10.9.9.9", "{asked}");
    }
    let port = "--ctorigdstport 8080 --ctreplsrcport 80 --ctproto 6";
    let packet = violated(&turned(port), &claim).example.unwrap();
    assert_eq!(
        (packet.dst.to_string().as_str(), packet.dport),
        ("10.9.9.9", Some(8080))
    );
    held(&turned("--ctorigdst 10.9.9.9 --ctreplsrc 10.9.9.9"), &claim);
    let packet = violated(&turned("! --ctorigdst 169.254.169.254"), &claim);
    assert_eq!(packet.example.unwrap().dst.to_string(), "10.9.9.9");
    // Of a connection that was there before it is not known what NAT made of it.
    undecided(
        &turned("--ctdir REPLY --ctorigsrc 10.9.9.9 --ctproto 17"),
        &imds("docker0"),
    );
}

#[test]
fn an_open_part_is_named() {
    let why = |asked: &str| {
        let rules = format!("-A FORWARD -m conntrack {asked} -j ACCEPT\n{BLOCK}");
        undecided(&forward(&rules), &first("docker0"))
    };
    let said = why("--ctstatus CONFIRMED");
    assert!(said.contains("-m conntrack --ctstatus CONFIRMED"), "{said}");
}
