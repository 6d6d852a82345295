//! What is read of iptables-legacy's tables, against the program itself.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use std::env;
use std::process::Command;

use ecs_netguard::os::legacy::{Tables, tables};
use ecs_netguard::prove::Hook;
use ecs_netguard::ruleset::Family;
use lab::Lab;
use lab::tamper::Backend;

/// The first three rules of a chain.
fn read(lab: &Lab, family: Family, table: &'static str, hook: Hook) -> Option<Vec<Vec<u8>>> {
    lab.host.run(move || {
        let mut tables = Tables::open(family).unwrap();
        tables.chain(table, hook, 3).unwrap()
    })
}

/// A rule with matches and a target's arguments, and another that needs a chain.
const BLOCK: &str = "FORWARD -i docker+ -d 169.254.169.254/32 -m comment --comment ecs -j DROP";
const DNAT: &str = "PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -m comment --comment ecs \
                    -j DNAT --to-destination 127.0.0.1:51679";
const SHIELD: &str = "INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack \
                      ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

#[test]
fn looking_makes_no_table() {
    let lab = Lab::new();
    assert_eq!(read(&lab, Family::V4, "filter", Hook::Forward), None);
    assert_eq!(read(&lab, Family::V6, "filter", Hook::Forward), None);
    let tables = |family| lab.host.run(move || tables(family));
    assert!(tables(Family::V4).is_empty() && tables(Family::V6).is_empty());
    lab.tamper(Backend::Legacy).iptables("-t nat -L");
    assert_eq!(tables(Family::V4), ["nat"]);
    assert_eq!(
        read(&lab, Family::V4, "nat", Hook::Prerouting),
        Some(vec![])
    );
    assert_eq!(read(&lab, Family::V4, "filter", Hook::Forward), None);
}

/// Adds, deletes, adds again; in between other rules in other chains, so that all has moved.
fn same_again(lab: &Lab, change: &dyn Fn(&str), family: Family, table: &'static str, rule: &str) {
    let hook = match rule.split(' ').next() {
        Some("FORWARD") => Hook::Forward,
        Some("INPUT") => Hook::Input,
        _ => Hook::Prerouting,
    };
    change(&format!("-t {table} -A {rule}"));
    let first = read(lab, family, table, hook).unwrap();
    assert_eq!(first.len(), 1);
    change(&format!("-t {table} -D {rule}"));
    assert_eq!(read(lab, family, table, hook), Some(vec![]));
    change(&format!("-t {table} -A OUTPUT -p udp"));
    change(&format!("-t {table} -N OTHER"));
    change(&format!("-t {table} -A {rule}"));
    assert_eq!(read(lab, family, table, hook).unwrap(), first, "{rule}");
    let chain = rule.split(' ').next().unwrap();
    change(&format!("-t {table} -I {chain} -j ACCEPT"));
    let topped = read(lab, family, table, hook).unwrap();
    assert_eq!(
        topped[1..],
        first,
        "an insert on top is seen, and moves the rest"
    );
    change(&format!("-t {table} -F OUTPUT"));
    change(&format!("-t {table} -X OTHER"));
    change(&format!("-t {table} -F {chain}"));
}

#[test]
fn equal_rules_are_equal_bytes() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Legacy);
    let v4 = |args: &str| drop(tamper.iptables(args));
    let v6 = |args: &str| drop(tamper.ip6tables(args));
    same_again(&lab, &v4, Family::V4, "filter", BLOCK);
    same_again(&lab, &v4, Family::V4, "filter", SHIELD);
    same_again(&lab, &v4, Family::V4, "nat", DNAT);
    let block6 = "FORWARD -i docker+ -d fd00:ec2::254/128 -m comment --comment ecs -j DROP";
    same_again(&lab, &v6, Family::V6, "filter", block6);
    let port6 = "INPUT ! -i lo -p tcp -m tcp --dport 51678 -j DROP";
    same_again(&lab, &v6, Family::V6, "filter", port6);
}

#[test]
fn unequal_rules_are_unequal_bytes() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Legacy);
    tamper.iptables(&format!("-A {BLOCK}"));
    tamper.iptables(&format!("-A {}", BLOCK.replace("DROP", "ACCEPT")));
    tamper.iptables(&format!("-A {}", BLOCK.replace("ecs", "other")));
    tamper.iptables(&format!("-A {}", BLOCK.replace("/32", "/31")));
    let rules = read(&lab, Family::V4, "filter", Hook::Forward).unwrap();
    assert_eq!(rules.len(), 3, "no more than asked for");
    assert!(rules[0] != rules[1] && rules[0] != rules[2] && rules[1] != rules[2]);
}

#[test]
fn counters_do_not_count() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Legacy);
    tamper.iptables("-A INPUT -i lo -j ACCEPT");
    let count = || tamper.iptables("-nvxL INPUT");
    let (before, counted) = (read(&lab, Family::V4, "filter", Hook::Input), count());
    assert!(lab.host.icmp_echo("127.0.0.1".parse().unwrap()).unwrap());
    assert_ne!(count(), counted, "the packets were counted");
    assert_eq!(read(&lab, Family::V4, "filter", Hook::Input), before);
}

#[test]
fn a_table_that_changes_all_the_while_is_read_whole() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Legacy);
    tamper.iptables(&format!("-A {BLOCK}"));
    tamper.iptables("-A INPUT -j ACCEPT");
    let first = read(&lab, Family::V4, "filter", Hook::Forward);
    // FORWARD stands between the two: its place changes, the size of the table does not.
    let script = "move() {
            printf '*filter\\n-D %s -j ACCEPT\\n-A %s -j ACCEPT\\nCOMMIT\\n' $1 $2 |
                iptables-legacy-restore --noflush
        }
        for n in $(seq 100); do move INPUT OUTPUT; move OUTPUT INPUT; done";
    let tampering = lab
        .host
        .thread(move || Command::new("sh").args(["-ec", script]).status());
    let (tampering, wrong) = lab.host.run(move || {
        let mut tables = Tables::open(Family::V4).unwrap();
        let mut wrong = Vec::new();
        while !tampering.is_finished() {
            let found = tables.chain("filter", Hook::Forward, 3).unwrap();
            if found != first {
                wrong.push(found);
            }
        }
        (tampering, wrong)
    });
    assert!(tampering.join().unwrap().unwrap().success());
    assert_eq!(wrong, []);
}

/// The test below starts this program again with fewer rights, to run this one function.
#[test]
fn reader() {
    let Ok(wanted) = env::var("READER_FINDS") else {
        return; // Not started by that test.
    };
    let mut tables = Tables::open(Family::V4).unwrap();
    let found = match tables.chain("filter", Hook::Forward, 3) {
        Ok(found) => format!("{found:?}"),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, wanted);
}

#[test]
fn it_needs_net_admin_alone_and_says_so() {
    let lab = Lab::new();
    lab.tamper(Backend::Legacy).iptables("-L");
    let run = |without: &str, finds: &str| {
        lab.host
            .command("setpriv")
            .args(["--bounding-set", without, "--"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "reader", "--nocapture"])
            .env("READER_FINDS", finds)
            .run();
    };
    run("-net_raw", "Some([])");
    let refused = "read IPv4 filter of iptables-legacy: Operation not permitted (os error 1) (needs \
                   CAP_NET_ADMIN)";
    run("-net_admin", refused);
}
