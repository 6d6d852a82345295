//! `probe` on a host with many containers, which do not notice it.

use anyhow::{Result, ensure};

use super::{On, Report, Scenario};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "probe",
    about: "20 containers on 5 networks; a download and 1,000 pings go on while everything is probed",
    core: false,
    bare: false,
    on: On::EveryTree,
    needs: &[],
    run,
};

/// Sends 10 MB in 10 s to every client.
const DOWNLOAD: &str = "
import socket, time
server = socket.create_server((\"10.0.0.1\", 8081))
stream, _ = server.accept()
for _ in range(100):
    stream.sendall(bytes(100_000))
    time.sleep(0.1)
";

/// Everything that a probe could leave behind, without counters.
const TRACES: &str = "ip -o link | sed 's/ state .*//' | sort; ip netns; ip rule; ip route show table all | sort; \
    iptables -S; iptables -t nat -S; iptables -t raw -S; iptables -t mangle -S; ip6tables -S; ip6tables -t nat -S; \
    nft -s list ruleset; find /sys/fs/cgroup -name '*ecs*' -o -name '*netguard*' | sort";

fn run(host: &mut Host<'_>) -> Result<Report> {
    host.install()?;
    host.wait_tasks()?;
    host.sh(
        "for network in 1 2 3; do docker network create many$network >/dev/null; done
         for number in $(seq 17); do
             network=bridge; [ $((number % 4)) = 0 ] || network=many$((number % 4))
             docker run -d --name many-$number --network $network --stop-timeout 1 probe sleep 3600 >/dev/null
         done",
    )?;
    host.wait_protected()?;
    host.wait_for(
        "the containers' interfaces have all their addresses",
        &format!("{{ {TRACES}; }} >/run/before; sleep 3; {{ {TRACES}; }} >/run/after; diff /run/before /run/after"),
    )?;
    host.sh(&format!(
        "cat >/run/download.py <<'END'{DOWNLOAD}END
         systemd-run -q --unit download -p NetworkNamespacePath=/run/netns/up python3 /run/download.py"
    ))?;
    host.wait_for(
        "the server listens",
        "ip netns exec up ss -ltn | grep -q 8081",
    )?;
    host.sh(
        "systemd-run -q --unit fetch sh -c 'docker exec many-1 sh -c \"nc 10.0.0.1 8081 </dev/null | wc -c\" >/run/fetched'
         systemd-run -q --unit pings sh -c 'docker exec many-2 ping -q -i 0.01 -c 1000 10.0.0.1 >/run/pings'",
    )?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let probed = host.run("ecs-netguard probe --json")?;
        ensure!(
            probed.code == 0,
            "probe: {}: {}",
            probed.code,
            probed.stdout
        );
        let time = serde_json::from_str::<serde_json::Value>(&probed.stdout)?;
        times.push(format!(
            "{:.1}",
            time["elapsed_seconds"].as_f64().unwrap_or_default()
        ));
    }
    host.wait_for(
        "nothing is left",
        &format!("{{ {TRACES}; }} >/run/after; diff /run/before /run/after"),
    )?;
    host.wait_for(
        "the download and the pings end",
        "! systemctl is-active -q fetch pings",
    )?;
    let fetched = host.sh("cat /run/fetched")?;
    ensure!(fetched.trim() == "10000000", "downloaded: {fetched}");
    let pings = host.sh("cat /run/pings")?;
    ensure!(pings.contains("1000 packets received"), "{pings}");
    Ok(Report {
        packets: Some(host.finish()?),
        measured: vec![("probes (s)".to_owned(), times.join(", "))],
    })
}
