//! What the kernel tells over netlink, and iptables' listing does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ecs_netguard::os::nft::{
    Batch, ChainName, Inventory, Moment, OWNER, Proto, Socket, packets_of,
};
use ecs_netguard::ruleset::Family;
use ecs_netguard::ruleset::native::{Condition, NativeRule, Statement};
use lab::Lab;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

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
    assert_eq!(found.native.tables, []);
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

/// What rules in a chain are read as.
fn read(lab: &Lab, family: Family, declared: &str, rules: &[&str]) -> Vec<NativeRule> {
    let mut text = format!(
        "table inet t {{\n{declared}\nchain other {{}}\nchain c {{ type filter hook prerouting priority 0;\n"
    );
    for rule in rules {
        text += rule;
        text += "\n";
    }
    text += "}\n}\n";
    lab.write("rules.nft", format!("flush ruleset\n{text}"));
    lab.host.sh("nft -f /run/lab/rules.nft");
    let tables = inventory(lab).native.decode(family);
    let table = tables.iter().find(|table| table.name == "inet t").unwrap();
    table.chains["c"].rules.clone()
}

/// Whether anything of a rule is not understood.
fn open(rule: &NativeRule) -> bool {
    rule.statements.iter().any(|statement| match statement {
        Statement::Test(condition) => condition.open().is_some(),
        Statement::Map(entries) => entries
            .iter()
            .any(|(condition, _)| condition.open().is_some()),
        Statement::Effect(..) => true,
        _ => false,
    })
}

#[test]
fn what_nft_makes_is_understood_to_its_last_attribute() {
    let lab = Lab::new();
    let declared = "set names { type ifname; elements = { \"docker0\", \"eth9\" } }
        set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 172.16.0.0-172.16.0.9 } }
        set pairs { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 } }
        set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90 } }
        map verdicts { type ifname : verdict; elements = { \"docker0\" : jump other, \"eth9\" : drop } }";
    // As nft prints them, or as they are shown where that differs.
    let rules = [
        ("ip saddr 127.0.0.0/8 drop", ""),
        ("ip daddr 169.254.169.254 counter drop", ""),
        ("ip daddr != 10.0.0.0/9 accept", ""),
        (
            "ip daddr 10.0.0.1-10.0.0.9 accept",
            "ip daddr >= 10.0.0.1 ip daddr <= 10.0.0.9 accept",
        ),
        ("ip saddr > 10.0.0.1 accept", "ip saddr > 10.0.0.1 accept"),
        ("tcp dport 22 accept", ""),
        ("tcp dport { 22, 80 } accept", ""),
        (
            "udp sport 1024-65535 accept",
            "udp sport >= 1024 th sport <= 65535 accept",
        ),
        (
            "tcp flags syn / fin,syn,rst,ack accept",
            "tcp flags 2 accept",
        ),
        (
            "meta l4proto { tcp, udp } th dport 53 accept",
            "meta l4proto { tcp, udp } th dport 53 accept",
        ),
        ("icmp type echo-request accept", "icmp type 8 accept"),
        ("ct state established,related accept", ""),
        ("ct state new accept", ""),
        ("ct state { new, untracked } accept", ""),
        (
            "ct state vmap { established : accept, invalid : drop }",
            "ct state vmap { invalid : drop, established : accept }",
        ),
        ("ct status dnat accept", ""),
        ("iifname \"docker0\" accept", ""),
        ("iifname \"docker*\" accept", ""),
        ("iifname @names accept", ""),
        (
            "iifname { \"br-*\", \"lo\" } accept",
            "iifname { \"br-\", \"lo\" } accept",
        ),
        ("iifname vmap @verdicts", ""),
        ("iif \"lo\" accept", ""),
        ("oif != \"lo\" accept", ""),
        ("ip saddr @nets drop", ""),
        ("ip daddr . tcp dport @pairs drop", ""),
        ("ip daddr . tcp dport @ranges drop", ""),
        (
            "ip daddr . meta l4proto . th dport { 10.0.0.1 . tcp . 80 } accept",
            "ip daddr . meta l4proto . th dport { 10.0.0.1 . tcp . 80 } accept",
        ),
        ("meta mark 0x00000001 accept", "meta mark 0x1 accept"),
        (
            "meta mark & 0x000000ff == 0x00000001 accept",
            "meta mark 0x1 accept",
        ),
        ("meta mark set 0x00000005", "meta mark set"),
        ("meta mark set meta mark | 0x00000010", "meta mark set"),
        ("ct mark set meta mark", "ct mark set"),
        ("meta mark set ct mark", "meta mark set"),
        ("fib daddr type local accept", ""),
        (
            "fib daddr type != local accept",
            "fib daddr type != local accept",
        ),
        ("meta nfproto ipv4 accept", "accept"),
        ("meta pkttype broadcast drop", "drop"),
        ("meta skuid 1000 accept", ""),
        ("ip protocol icmp accept", "meta l4proto icmp accept"),
        (
            "ip frag-off & 0x1fff != 0 drop",
            "ip frag-off != 0x0000 drop",
        ),
        ("log prefix \"x\" jump other", "log jump other"),
        ("reject", ""),
        ("accept comment \"hello\"", ""),
        ("return", ""),
        ("goto other", ""),
        ("ip dscp set cs1", "@nh,0,16 set"),
        ("ip ttl 64 accept", ""),
        ("ip ttl < 2 drop", ""),
        ("ip dscp af11 accept", "ip dscp 0x0a accept"),
        (
            "ip dscp { cs1, ef } accept",
            "ip dscp { 0x08, 0x2e } accept",
        ),
        ("ip ecn ce accept", "ip ecn 0x03 accept"),
        ("ip length 50 accept", ""),
        ("meta length > 100 accept", "ip length > 100 accept"),
        ("ct direction original accept", ""),
    ];
    let texts: Vec<&str> = rules.iter().map(|(rule, _)| *rule).collect();
    let found = read(&lab, Family::V4, declared, &texts);
    assert_eq!(found.len(), rules.len());
    let mut wrong = String::new();
    for ((rule, shown), found) in rules.iter().zip(&found) {
        let wanted = if shown.is_empty() {
            (*rule).to_owned()
        } else {
            (*shown).to_owned()
        };
        if found.text != wanted || open(found) {
            wrong += &format!("{rule}\n  {}\n  {:?}\n", found.text, found.statements);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn headers_of_ipv6_are_read_as_nft_prints_them() {
    let lab = Lab::new();
    let rules = [
        "ip6 hoplimit 64 accept",
        "ip6 dscp 0x0a accept",
        "ip6 dscp { 0x00, 0x2e } accept",
        "ip6 ecn != 0x03 accept",
    ];
    for (rule, found) in rules.iter().zip(read(&lab, Family::V6, "", &rules)) {
        assert_eq!(found.text, *rule);
        assert!(!open(&found), "{rule}: {found:?}");
    }
}

#[test]
fn what_is_not_understood_is_unknown() {
    let lab = Lab::new();
    let declared = "set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; }";
    let rules = [
        "ether saddr 02:00:00:00:00:01 drop",
        "ct status assured accept",
        "ct helper \"ftp\" accept",
        "ip saddr @seen drop",
        "add @seen { ip saddr } accept",
        "numgen random mod 2 0 accept",
        "limit rate 5/second accept",
        "quota over 5 bytes drop",
        "fib saddr . iif oif missing drop",
        "socket transparent 1 accept",
        "meta cgroup 5 drop",
        "ip daddr set 10.0.0.1",
        "ip option lsrr exists drop",
        "tcp flags cwr accept",
        "tcp option maxseg size set 1360 drop",
    ];
    for (rule, found) in rules.iter().zip(read(&lab, Family::V4, declared, &rules)) {
        assert!(open(&found), "{rule}: {found:?}");
    }
}

#[test]
fn a_table_of_inet_says_something_else_to_each_family() {
    let lab = Lab::new();
    let rules = [
        "ip daddr 10.0.0.1 drop",
        "ip6 daddr fd00::1 drop",
        "icmpv6 type 135 accept",
        "meta nfproto ipv6 drop",
    ];
    let dead = |rule: &NativeRule| {
        rule.statements
            .contains(&Statement::Test(Condition::Always(false)))
    };
    let found = |family| {
        read(&lab, family, "", &rules)
            .iter()
            .map(dead)
            .collect::<Vec<_>>()
    };
    assert_eq!(found(Family::V4), [false, true, true, true]);
    assert_eq!(found(Family::V6), [true, false, false, false]);
}

#[test]
fn base_chains_of_every_family_are_found_and_sleeping_tables_are_not() {
    let lab = Lab::new();
    lab.tamper(Backend::Nft).iptables("-A FORWARD -j ACCEPT");
    lab.host.sh("nft add table inet quiet
         nft add chain inet quiet in '{ type filter hook input priority 0; policy accept; }'
         nft add table ip6 strict
         nft add chain ip6 strict through '{ type filter hook forward priority 7; policy drop; }'
         nft add table ip turn
         nft add chain ip turn pre '{ type nat hook prerouting priority -101; }'
         nft add rule ip turn pre tcp dport 81 redirect to :82
         nft add table bridge others
         nft add chain bridge others in '{ type filter hook input priority 0; policy drop; }'
         nft add table netdev low
         nft add chain netdev low in '{ type filter hook ingress device ens5 priority 3; }'
         nft add table inet asleep '{ flags dormant; }'
         nft add chain inet asleep in '{ type filter hook input priority 0; policy drop; }'
         nft add chain ip filter mine '{ type filter hook forward priority 5; policy drop; }'");
    let bases = |family| {
        let tables = inventory(&lab).native.decode(family);
        let mut found = Vec::new();
        for table in &tables {
            for (name, chain) in &table.chains {
                if let Some(base) = &chain.base {
                    let devices = base.devices.join(",");
                    found.push(
                        format!(
                            "{} {name} {:?} {} {:?} {} {devices}",
                            table.name, base.at, base.priority, base.kind, base.policy
                        )
                        .trim()
                        .to_owned(),
                    );
                }
            }
        }
        found.sort();
        found
    };
    let both = [
        "bridge others in Input 0 Filter DROP",
        "inet quiet in Input 0 Filter ACCEPT",
    ];
    let netdev = "netdev low in Ingress 3 Filter ACCEPT ens5";
    let v4 = [
        "ip filter mine Forward 5 Filter DROP",
        "ip turn pre Prerouting -101 Nat ACCEPT",
    ];
    assert_eq!(bases(Family::V4), [&both[..], &v4, &[netdev]].concat());
    assert_eq!(
        bases(Family::V6),
        [
            &both[..],
            &["ip6 strict through Forward 7 Filter DROP", netdev]
        ]
        .concat()
    );
}

#[test]
fn the_generation_counts_commits() {
    let lab = Lab::new();
    let before = inventory(&lab).moment.generation;
    assert_eq!(
        inventory(&lab).moment.generation,
        before,
        "looking is no commit"
    );
    lab.tamper(Backend::Nft).iptables("-A FORWARD -j ACCEPT");
    assert!(inventory(&lab).moment.generation > before);
}

/// A verification that goes by the generation alone would not see that it is gone.
#[test]
fn a_table_that_goes_without_a_commit_is_seen_to_have_gone() {
    let lab = Lab::new();
    let moment = || lab.host.run(Moment::read).unwrap();
    let owner = lab.host.run(|| {
        let mut socket = Socket::open().unwrap();
        let mut batch = Batch::default();
        batch.table(Proto::Inet, "theirs", OWNER);
        batch.commit(&mut socket, None).unwrap();
        socket
    });
    let before = moment();
    assert_eq!(moment(), before);

    drop(owner);
    // A program that another test starts has the socket open until it is executed.
    let unowned = eventually(LONG, "the table is gone", || {
        Some(moment()).filter(|now| *now != before)
    });
    assert_eq!(unowned.generation, before.generation, "no commit");
}

/// A commit to any table ends a list early, that of a family which is restored at the same time too: the kernel says
/// so (NLM_F_DUMP_INTR), and it is read again.
#[test]
fn a_chain_is_read_while_another_program_commits_again_and_again() {
    let lab = Lab::new();
    let rule = "-A INPUT -m comment --comment of-a-test -j ACCEPT\n";
    let snapshot = format!("*filter\n{}COMMIT\n", rule.repeat(10));
    lab.tamper(Backend::Nft).restore_snapshot(&snapshot);
    let done = Arc::new(AtomicBool::new(false));
    let other = Arc::clone(&done);
    let other = lab.host.thread(move || {
        let mut socket = Socket::open().unwrap();
        while !other.load(Ordering::Relaxed) {
            let (mut made, mut deleted) = (Batch::default(), Batch::default());
            made.table(Proto::Ipv6, "other", 0);
            deleted.delete_table(Proto::Ipv6, "other");
            for batch in [made, deleted] {
                batch.commit(&mut socket, None).unwrap();
                // No program finds a moment between commits that follow at once.
                thread::sleep(Duration::from_micros(500));
            }
        }
    });
    let chain = ChainName::of_iptables(Family::V4, "filter", "INPUT");
    let read = lab.host.run(move || {
        let mut socket = Socket::open().unwrap();
        let once = |_| packets_of(&mut socket, &chain, "of-a-test").map(|rules| rules.len());
        (0..3000).map(once).collect::<Result<Vec<_>, _>>()
    });
    done.store(true, Ordering::Relaxed);
    other.join().unwrap();
    assert_eq!(read.unwrap(), [10; 3000]);
}
