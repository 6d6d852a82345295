//! The edge on other kernels: containers on interfaces of the uplink's own, which no rule of iptables sees.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;
use crate::machine::Ability;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "edge",
    about: "packets and raw frames from a VLAN, an ipvlan and a macvlan of the uplink, by their root",
    core: false,
    bare: true,
    on: On::EveryKernel,
    needs: &[Ability::AnyLink],
    run,
};

/// What sends, each in a network namespace of its own, and how its interface is made.
const SENDERS: [(&str, &str); 3] = [
    ("vlan", "type vlan id 5"),
    ("ipvlan", "type ipvlan mode l2"),
    ("macvlan", "type macvlan mode bridge"),
];

/// Beyond the uplink: the other end of the VLAN, and a counter of what no address of the host's sent.
const BEYOND: &str = "
    ip -n up link add link host0 name eni5 type vlan id 5
    ip -n up addr add 10.5.0.1/24 dev eni5; ip -n up -6 addr add fd00:5::1/64 dev eni5 nodad
    ip -n up link set eni5 up
    ip netns exec up nft -f - <<'END'
table inet foreign {
    counter arrived { }
    chain prerouting {
        type filter hook prerouting priority -301;
        ip daddr 169.254.169.254 ip saddr != 10.0.0.10 counter name arrived
        ip6 daddr fd00:ec2::254 ip6 saddr != fd00:10::10 counter name arrived
    }
}
END";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.sh(BEYOND)?;
    host.sh(&format!(
        "cat >/run/frames.py <<'END'\n{}\nEND",
        include_str!("../../../tests/lab/frames.py")
    ))?;
    for sender in SENDERS {
        let arrived = send(host, sender)?;
        ensure!(
            arrived > 0,
            "without the guard nothing of {} arrives",
            sender.0
        );
    }
    host.install()?;
    let edge = host.wait_for(
        "the edge is owned",
        "ecs-netguard status --json | jq -er '.edge.state | select(startswith(\"owned\"))'",
    )?;
    for sender in SENDERS {
        let arrived = send(host, sender)?;
        ensure!(arrived == 0, "{arrived} packets of {} arrived", sender.0);
    }
    // The host itself is answered, each time.
    host.sh("for i in $(seq 60); do curl -sf -m 20 -o /dev/null http://169.254.169.254/ || exit 1; done")?;
    Ok(Report {
        packets: Some(host.finish()?),
        measured: vec![("edge".to_owned(), edge.trim().to_owned())],
    })
}

/// Sends from a namespace with such an interface by every way, its own tables flushed: how much of it arrived.
fn send(host: &Host<'_>, (name, kind): (&str, &str)) -> Result<u64> {
    let (v4, v6) = match name {
        "vlan" => ("10.5.0", "fd00:5::"),
        _ => ("10.0.0", "fd00:10::"),
    };
    // Only one kind of interface at a time can have the uplink to itself.
    let script = format!(
        "set -e
         ip netns add {name}; ip link add link wan0 name {name}0 {kind}
         ip link set {name}0 netns {name} name eth0
         ip -n {name} addr add {v4}.50/24 dev eth0; ip -n {name} -6 addr add {v6}50/64 dev eth0 nodad
         ip -n {name} link set eth0 up
         ip -n {name} route add default via {v4}.1; ip -n {name} -6 route add default via {v6}1
         ip netns exec {name} nft flush ruleset
         ip netns exec up nft reset counter inet foreign arrived >/dev/null
         mac=$(ip -n up -o link show host0 | sed 's/.*link.ether \\([^ ]*\\).*/\\1/')
         ip netns exec {name} sh -c '
             for to in 169.254.169.254 \"[fd00:ec2::254]\"; do curl -sg -m 3 -o /dev/null http://$to/; done
             for to in 169.254.169.254 fd00:ec2::254; do busybox ping -c 1 -W 1 $to >/dev/null; done
             python3 -c \"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(8), (\\\"169.254.169.254\\\", 80))\"
             python3 /run/frames.py eth0 '$mac' >/dev/null'
         ip -n {name} link del eth0; ip netns del {name}
         ip netns exec up nft list counter inet foreign arrived | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'"
    );
    Ok(host.sh(&script)?.trim().parse()?)
}
