//! What the kernel tells over netlink, and iptables' listing does not.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use ecs_netguard::os::nft::Inventory;
use ecs_netguard::prove::Hook;
use ecs_netguard::ruleset::Family;
use lab::Lab;
use lab::tamper::Backend;

fn inventory(lab: &Lab) -> Inventory {
    lab.host.run(Inventory::take).unwrap()
}

#[test]
fn what_iptables_makes_is_never_foreign() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Nft);
    tamper.restore_snapshot(include_str!("nftables/iptables.rules"));
    tamper.restore_snapshot6(include_str!("nftables/iptables.rules6"));
    let found = inventory(&lab);
    assert_eq!(found.rules, [], "iptables made them all");
    assert_eq!(found.chains, []);
    let tables = ["filter", "mangle", "nat", "raw"];
    for table in tables {
        assert!(
            found.tables.contains(&(Family::V4, table.to_owned())),
            "{table}"
        );
    }
}

#[test]
fn every_native_rule_in_a_table_of_iptables_is_foreign() {
    let lab = Lab::new();
    lab.tamper(Backend::Nft)
        .iptables("-A FORWARD -p tcp --dport 80 -j ACCEPT");
    lab.host
        .sh("nft add set ip filter nobody '{ type ipv4_addr; }'");
    let rules = [
        "ip saddr @nobody drop",
        "ip saddr @nobody counter drop",
        "ip ttl 64 counter drop",
        "ct state established counter accept",
        "tcp dport '{ 80, 90 }' counter drop",
        "iif lo counter accept",
        "ip daddr 1.1.1.1-1.1.1.4 counter drop",
        "numgen random mod 2 0 counter drop",
        "fib daddr type local counter drop",
        "meta skuid 5 counter drop",
        "ip daddr vmap '{ 1.1.1.1 : drop }'",
        "ip dscp 5 counter drop",
        "ip length 50 counter drop",
        "meta mark set 5 counter",
        "ip daddr set 10.0.0.1 counter",
        "ip frag-off 0 counter accept",
        "meta mark or 0x1 == 1 counter accept",
        "ip daddr 1.2.3.4 ip daddr 169.254.169.254 counter drop",
        "ip daddr 169.254.169.0-169.254.169.255 counter accept",
        "ip daddr '>' 169.254.169.0 counter drop",
        "icmp type 8-10 counter drop",
        // As iptables would make it, but for the counter that it always adds.
        "tcp dport 80 accept",
    ];
    for rule in rules {
        lab.host
            .sh(&format!("nft add rule ip filter FORWARD {rule}"));
    }
    let found = inventory(&lab).rules;
    let indices: Vec<usize> = found.iter().map(|rule| rule.index).collect();
    assert_eq!(indices, (1..=rules.len()).collect::<Vec<_>>(), "{found:#?}");
    assert!(
        found
            .iter()
            .all(|rule| rule.table == "filter" && rule.chain == "FORWARD")
    );
}

#[test]
fn native_chains_count_once_they_can_drop() {
    let lab = Lab::new();
    lab.host.sh("nft add table inet quiet
         nft add chain inet quiet in '{ type filter hook input priority 0; policy accept; }'
         nft add table inet rules
         nft add chain inet rules in '{ type filter hook input priority 0; policy accept; }'
         nft add rule inet rules in tcp dport 22 accept
         nft add table ip6 strict
         nft add chain ip6 strict through '{ type filter hook forward priority 0; policy drop; }'
         nft add table ip turn
         nft add chain ip turn pre '{ type nat hook prerouting priority -101; }'
         nft add rule ip turn pre tcp dport 81 redirect to :82
         nft add table bridge others
         nft add chain bridge others in '{ type filter hook input priority 0; policy drop; }'");
    let mut found = inventory(&lab).chains;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let summary: Vec<_> = found
        .iter()
        .map(|chain| (chain.name.as_str(), chain.family, chain.hook, chain.nat))
        .collect();
    assert_eq!(
        summary,
        [
            ("inet rules in", None, Hook::Input, false),
            ("ip turn pre", Some(Family::V4), Hook::Prerouting, true),
            ("ip6 strict through", Some(Family::V6), Hook::Forward, false),
        ]
    );
}

#[test]
fn the_generation_counts_commits() {
    let lab = Lab::new();
    let before = inventory(&lab).generation;
    assert_eq!(inventory(&lab).generation, before, "looking is no commit");
    lab.tamper(Backend::Nft).iptables("-A FORWARD -j ACCEPT");
    assert!(inventory(&lab).generation > before);
}
