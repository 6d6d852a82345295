//! Ways to the service that rules of others open: what rewrites, copies and routes packets, and what a
//! container does by itself to pass for an answer. Each arrives without the edge, and none with it.

use super::{edge, look};
use lab::Lab;
use lab::frames::mac;

/// What the host's rules do, and what the container on docker0 sends by each family.
struct Way {
    name: &'static str,
    /// Runs in the host. `IPT` is iptables of the family, `IP` its name in nftables, `SERVICE`,
    /// `ROUTER` and `ELSEWHERE` are its addresses.
    host: &'static str,
    /// Packets as spoof.py takes them, with `ME` for the container and `HOST` for the host on docker0.
    sent: &'static [&'static str],
}

const TO_THE_SERVICE: &[&str] = &["ME,SERVICE"];
const TO_ELSEWHERE: &[&str] = &["ME,ELSEWHERE"];

/// Rows 1 to 4 and 9 of what a proof by rules alone once took for held.
const WAYS: &[Way] = &[
    Way {
        name: "a connection that the container established itself",
        host: "IPT -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
               IPT -A FORWARD -i docker0 -d SERVICE -j DROP",
        sent: &["SERVICE,ME", "ME,SERVICE"],
    },
    Way {
        name: "a state that the drop leaves out",
        host: "IPT -A FORWARD -m conntrack --ctstate NEW,INVALID,UNTRACKED -d SERVICE -j DROP",
        sent: &["SERVICE,ME", "ME,SERVICE"],
    },
    Way {
        name: "TEE in raw",
        host: "IPT -t raw -A PREROUTING -i docker0 -j TEE --gateway ROUTER
               IPT -A FORWARD -d SERVICE -j DROP",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "TEE in mangle FORWARD",
        host: "IPT -t mangle -A FORWARD -i docker0 -j TEE --gateway ROUTER
               IPT -A FORWARD -d SERVICE -j DROP",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "a translation that is undone behind the drop",
        host: "IPT -t raw -A PREROUTING -i docker0 -d SERVICE -j DROP
               IPT -t nat -A POSTROUTING -j MASQUERADE",
        sent: &["SERVICE,ME", "ME,HOST"],
    },
    Way {
        name: "a route that the sender names",
        host: "sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.docker0.accept_source_route=1 \
               net.ipv6.conf.all.seg6_enabled=1 net.ipv6.conf.docker0.seg6_enabled=1
               IPT -t raw -A PREROUTING -i docker0 -d SERVICE -j DROP",
        sent: &["ME,SERVICE,HOST"],
    },
    Way {
        name: "an address that is written in forward",
        host: "IPT -A FORWARD -d SERVICE -j DROP
               nft add table IP t
               nft add chain IP t c '{ type filter hook forward priority 10; }'
               nft add rule IP t c IP daddr ELSEWHERE IP daddr set SERVICE",
        sent: TO_ELSEWHERE,
    },
    Way {
        name: "an address that is written in postrouting",
        host: "nft add table IP t
               nft add chain IP t c '{ type filter hook postrouting priority 0; }'
               nft add rule IP t c IP daddr ELSEWHERE IP daddr set SERVICE",
        sent: TO_ELSEWHERE,
    },
    Way {
        name: "an address that is written in another egress chain",
        host: "nft add table netdev t
               nft add chain netdev t c '{ type filter hook egress device ens5 priority 2147483640; }'
               nft add rule netdev t c IP daddr ELSEWHERE IP daddr set SERVICE",
        sent: TO_ELSEWHERE,
    },
    Way {
        name: "an address that is away meanwhile",
        host: "IPT -t raw -A PREROUTING -d SERVICE -j DROP
               IPT -A FORWARD -d SERVICE -j DROP
               nft add table IP t
               nft add chain IP t a '{ type filter hook prerouting priority -350; }'
               nft add rule IP t a IP daddr SERVICE IP daddr set ELSEWHERE
               nft add chain IP t b '{ type filter hook postrouting priority 0; }'
               nft add rule IP t b IP daddr ELSEWHERE IP daddr set SERVICE",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "a copy made in prerouting",
        host: "IPT -A FORWARD -d SERVICE -j DROP
               nft add table IP t
               nft add chain IP t c '{ type filter hook prerouting priority -400; }'
               nft add rule IP t c iif docker0 dup to ROUTER device ens5",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "a packet that is sent on at ingress",
        host: "IPT -A FORWARD -d SERVICE -j DROP
               nft add table netdev t
               nft add chain netdev t c '{ type filter hook ingress device docker0 priority 0; }'
               nft add rule netdev t c IP daddr SERVICE fwd IP to ROUTER device ens5",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "a packet without a state",
        host: "IPT -A FORWARD -d SERVICE -m conntrack ! --ctstate UNTRACKED -j DROP
               nft add table IP t
               nft add chain IP t c '{ type filter hook prerouting priority -300; }'
               nft add rule IP t c notrack",
        sent: TO_THE_SERVICE,
    },
    Way {
        name: "a mark that a bridge's rules set",
        host: "IPT -A FORWARD -d SERVICE -m mark ! --mark 1 -j DROP
               nft add table bridge t
               nft add chain bridge t c '{ type filter hook prerouting priority 0; }'
               nft add rule bridge t c meta mark set 1",
        sent: TO_THE_SERVICE,
    },
];

/// The words of each family.
const FAMILIES: [[(&str, &str); 7]; 2] = [
    [
        ("IPT", "iptables"),
        ("SERVICE", "169.254.169.254"),
        ("ROUTER", "10.0.0.1"),
        ("ELSEWHERE", "192.0.2.9"),
        ("ME", "172.17.0.2"),
        ("HOST", "172.17.0.1"),
        ("IP ", "ip "),
    ],
    [
        ("IPT", "ip6tables"),
        ("SERVICE", "fd00:ec2::254"),
        ("ROUTER", "fd00:10::1"),
        ("ELSEWHERE", "2001:db8::9"),
        ("ME", "fd00:17::2"),
        ("HOST", "fd00:17::1"),
        ("IP ", "ip6 "),
    ],
];

#[test]
fn what_other_rules_rewrite_copy_or_route_does_not_leave() {
    for way in WAYS {
        let lab = Lab::new();
        let router = mac(&lab.host, "docker0");
        let arrived = |words: &[(&str, &str)]| {
            let packets = way.sent.iter().map(|packet| filled(packet, words));
            lab.counter().reset();
            lab.docker
                .command("python3")
                .args(["-", &router])
                .args(packets)
                .stdin(include_str!("spoof.py"))
                .run();
            lab.counter().arrived().total()
        };
        for words in &FAMILIES {
            lab.host.sh(&filled(way.host, words));
            let rules = || lab.host.sh("nft list ruleset");
            let name = (way.name, words[0].1);
            assert!(arrived(words) > 0, "{name:?}: no way at all\n{}", rules());
        }
        let _edge = edge(&lab);
        for words in &FAMILIES {
            assert_eq!(arrived(words), 0, "{}, {}", way.name, words[0].1);
        }
        let stopped = look(&lab).stopped;
        assert!(
            stopped.iter().all(|(_, packets)| *packets > 0),
            "{}: {stopped:?}",
            way.name
        );
    }
}

fn filled(text: &str, words: &[(&str, &str)]) -> String {
    let fill = |text: String, (word, value): &(&str, &str)| text.replace(word, value);
    words.iter().fold(text.to_owned(), fill)
}
