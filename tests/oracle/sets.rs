//! Sets of ipset for random rules to ask for.

use std::collections::BTreeMap;

use ecs_netguard::os::ipset;
use ecs_netguard::ruleset::{Family, Ipset};

use super::random::Random;
use lab::Lab;

/// What is in them hits the packets that are sent.
const SETS: &str = "\
create ip4 hash:ip
add ip4 169.254.169.254
add ip4 172.17.0.2
create masked4 hash:ip netmask 24
add masked4 169.254.169.0
create net4 hash:net
add net4 169.254.0.0/16
add net4 169.254.169.254 nomatch
add net4 172.16.0.0/12
create port4 hash:ip,port
add port4 169.254.169.254,tcp:80
add port4 169.254.169.254,icmp:8/0
add port4 172.18.0.2,253:0
create pair4 hash:net,port
add pair4 169.254.169.0/24,udp:53
add pair4 169.254.169.0/24,tcp:80
create ports bitmap:port range 0-1000
add ports 80
create range4 bitmap:ip range 169.254.169.0-169.254.169.255
add range4 169.254.169.254
create list4 list:set
add list4 ip4
add list4 pair4
add list4 ip6
create ip6 hash:ip family inet6
add ip6 fd00:ec2::254
add ip6 fd00:17::2
create net6 hash:net family inet6
add net6 fd00:ec2::/32
add net6 fd00:ec2::254 nomatch
create port6 hash:net,port family inet6
add port6 fd00:ec2::/64,tcp:80
add port6 fd00:ec2::/64,ipv6-icmp:128/0
create empty4 hash:net
";

/// A set, and how many parts its entries have.
const NAMES4: [(&str, usize); 9] = [
    ("ip4", 1),
    ("masked4", 1),
    ("net4", 1),
    ("port4", 2),
    ("pair4", 2),
    ("ports", 1),
    ("range4", 1),
    ("list4", 2),
    ("empty4", 1),
];
const NAMES6: [(&str, usize); 5] = [
    ("ip6", 1),
    ("net6", 1),
    ("port6", 2),
    ("ports", 1),
    ("list4", 2),
];

/// Makes them on the host; answers what the guard reads of them.
pub(crate) fn make(lab: &Lab) -> BTreeMap<String, Option<Ipset>> {
    // A set that is listed has to be there before.
    let (lists, others): (Vec<&str>, Vec<&str>) =
        SETS.lines().partition(|line| line.contains("list4"));
    let script = [others, lists].concat().join("\n") + "\n";
    lab.host
        .command("ipset")
        .args(["restore"])
        .stdin(script.as_str())
        .run();
    let names = NAMES4.iter().chain(&NAMES6).map(|(name, _)| *name);
    let sets = lab.host.run(|| ipset::read(names));
    let sets = sets.expect("sets can be read");
    assert!(sets.values().all(Option::is_some), "{sets:?}");
    sets
}

/// A match on one of them.
pub(crate) fn lookup(random: &mut Random, family: Family) -> String {
    let names: &[(&str, usize)] = match family {
        Family::V4 => &NAMES4,
        Family::V6 => &NAMES6,
    };
    let (name, parts) = random.pick(names);
    // Sometimes fewer than it has.
    let parts = if random.percent(10) { 1 } else { parts };
    let sides: Vec<&str> = (0..parts)
        .map(|_| random.pick(&["src", "dst", "dst"]))
        .collect();
    let not = random.not();
    format!("-m set {not}--match-set {name} {} ", sides.join(","))
}
