//! The address of a throwaway container: free, and never one that is in use.

use std::collections::{BTreeMap, BTreeSet};

use super::{guarded, packets, probe};
use lab::Lab;
use lab::daemon::Daemon;
use lab::namespace::{Kind, Namespace};
use lab::wait::LONG;

/// A bridge with a network of eight addresses, 10.77.0.1 its own, and containers that have `taken`.
fn small_network(lab: &Lab, taken: std::ops::RangeInclusive<u8>) -> Namespace {
    let containers = Namespace::new("crowd", Kind::Network).unwrap();
    let netns = containers.netns();
    lab.host.sh(&format!(
        "ip link add br-77 type bridge forward_delay 0; ip addr add 10.77.0.1/29 dev br-77
         ip link set br-77 up
         ip link add veth77 type veth peer name eth0 netns {}
         ip link set veth77 master br-77 up",
        netns.display()
    ));
    containers.sh("ip link set eth0 up");
    for last in taken {
        containers.sh(&format!("ip addr add 10.77.0.{last}/29 dev eth0"));
    }
    containers
}

#[test]
fn an_address_in_use_is_never_taken() {
    let lab = guarded("");
    let _crowd = small_network(&lab, 3..=6);
    for _ in 0..3 {
        let probed = probe(&lab, &["--only", "bridges"]);
        let place = probed.place("bridge", "br-77");
        assert_eq!(
            place["sources"],
            serde_json::json!(["10.77.0.2"]),
            "{probed}"
        );
        assert_eq!(probed.code, 0, "{probed}");
    }
}

#[test]
fn a_full_network_is_said_and_undecided() {
    let lab = guarded("");
    let crowd = small_network(&lab, 2..=6);
    lab.host.sh("ip addr add fd00:77::1/64 dev br-77 nodad");
    let probed = probe(&lab, &[]);
    assert_eq!(probed.code, 3, "{probed}");
    let place = probed.place("bridge", "br-77");
    let failure = place["failure"].as_str().unwrap();
    assert!(
        failure.contains("no free address was found in its network 10.77.0.1/29"),
        "{failure}"
    );
    // IPv6 has room, and is probed anyway.
    assert_eq!(probed.seen("bridge", "br-77", packets), ["stopped by seal"]);
    drop(crowd);
}

/// The IPv4 addresses that probes of a bridge took which began at the same time. Each has one.
fn probe_at_once(lab: &Lab, probes: usize, bridge: &str) -> Vec<String> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..probes)
            .map(|_| scope.spawn(|| probe(lab, &["--only", "bridges"])))
            .collect();
        all.into_iter()
            .map(|thread| {
                let probed = thread.join().unwrap();
                assert_eq!(probed.code, 0, "{probed}");
                let source = &probed.place("bridge", bridge)["sources"][0];
                source.as_str().unwrap().to_owned()
            })
            .collect()
    })
}

#[test]
fn probes_at_the_same_time_do_not_take_the_same_address() {
    let lab = guarded("");
    let sources = probe_at_once(&lab, 4, "docker0");
    let different: BTreeSet<&String> = sources.iter().collect();
    assert_eq!(different.len(), 4, "{sources:?}");
}

/// Writes down when which station sends from which address.
const WATCH: &str = r#"
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((sys.argv[1], 0))
print("watching", file=sys.stderr)
while True:
    frame, sender = wire.recvfrom(2048)
    at = {0x0800: 26, 0x0806: 28}.get(int.from_bytes(frame[12:14], "big"))
    if at and sender[2] != socket.PACKET_OUTGOING:
        print(frame[6:12].hex(), socket.inet_ntoa(frame[at:at + 4]), time.monotonic_ns(), file=sys.stderr)
"#;

/// From when until when each station sent from an address, in the order in which they began.
fn used(seen: &str, address: &str) -> Vec<(u64, u64)> {
    let mut times: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in seen.lines() {
        if let [station, from, at] = line.split(' ').collect::<Vec<_>>()[..]
            && from == address
        {
            let at = at.parse().unwrap();
            times.entry(station).or_insert((at, at)).1 = at;
        }
    }
    let mut times: Vec<_> = times.into_values().collect();
    times.sort_unstable();
    times
}

#[test]
fn probes_at_the_same_time_share_a_small_network() {
    let lab = guarded("");
    let _crowd = small_network(&lab, 2..=2);
    let watcher = Daemon::start(lab.host.command("python3").args(["-uc", WATCH, "br-77"]));
    watcher.wait_for_log("watching", LONG);
    // Four addresses are left, one for each: all of them are asked for by all, and none finds the network full. One
    // that has ended leaves its address to one that still chooses.
    let free = [3, 4, 5, 6].map(|last| format!("10.77.0.{last}"));
    let sources = probe_at_once(&lab, 4, "br-77");
    assert!(sources.iter().all(|of| free.contains(of)), "{sources:?}");
    let seen = watcher.log();
    for address in &free {
        let times = used(&seen, address);
        let apart = times.is_sorted_by(|one, next| one.1 < next.0);
        assert!(apart, "{address} was two probes' at once: {seen}");
    }
    let users: usize = free.iter().map(|address| used(&seen, address).len()).sum();
    assert_eq!(users, 4, "{seen}");
}

#[test]
fn the_bridge_keeps_its_ethernet_address() {
    let lab = Lab::new();
    let mac = || lab.host.sh("cat /sys/class/net/docker0/address");
    let before = mac();
    let watched = std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe(&lab, &["--only", "bridges"]));
        let mut same = true;
        while !probing.is_finished() {
            same &= mac() == before;
        }
        same
    });
    assert!(watched, "containers lost their router");
}

#[test]
fn a_bridge_that_carries_the_hosts_own_interface_is_left_alone() {
    let lab = Lab::new();
    lab.host
        .sh("ip link add uplink0 type vxlan id 7 dev ens5 dstport 4789
        ip link add br0 type bridge; ip addr add 10.78.0.1/24 dev br0; ip link set br0 up
        ip link set uplink0 master br0 up");
    let probed = probe(&lab, &["--only", "bridges"]);
    let place = probed.place("bridge", "br0");
    assert_eq!(place["rows"], serde_json::json!([]));
    assert!(
        place["notes"][0].as_str().unwrap().contains("uplink0"),
        "{probed}"
    );
}
