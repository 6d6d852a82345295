//! What is connected with what.
//!
//! ```text
//!   docker ── docker0 ─────────┐
//!   user ──── br-0123456789ab ─┤ host ─ ens5 ──┐
//!   awsvpc ── ecs-bridge ──────┘               lan ─ imds (169.254.169.254, fd00:ec2::254)
//!                                 neighbour ───┘
//! ```
//!
//! The metadata service lies behind a router, as far as the host can tell, and that router knows
//! the way back to the containers: no address is translated unless a test (or Docker) sets that
//! up, so that the counter sees the real sender of a packet.

use std::io;

use super::namespace::Namespace;

/// The user-defined Docker network's bridge.
pub const USER_BRIDGE: &str = "br-0123456789ab";

pub(super) struct World<'a> {
    pub(super) imds: &'a Namespace,
    pub(super) host: &'a Namespace,
    pub(super) docker: &'a Namespace,
    pub(super) user: &'a Namespace,
    pub(super) awsvpc: &'a Namespace,
    pub(super) neighbour: &'a Namespace,
}

impl World<'_> {
    /// Connects everything. Few processes, since each costs milliseconds: one `ip` a namespace.
    pub(super) fn connect(&self, own_docker0: bool) -> io::Result<()> {
        for ns in [
            self.imds,
            self.host,
            self.docker,
            self.user,
            self.awsvpc,
            self.neighbour,
        ] {
            settle_ipv6(ns)?;
        }
        for (ns, forwards) in [
            (self.imds, true),
            (self.host, true),
            (self.neighbour, false),
        ] {
            // A machine's own settings leak into its namespaces (net.core.devconf_inherit_init_net):
            // what the lab depends on, it sets.
            ns.set_sysctl("net/ipv4/conf/all/rp_filter", "0");
            ns.set_sysctl("net/ipv4/conf/default/rp_filter", "0");
            ns.set_sysctl(
                "net/ipv4/conf/all/route_localnet",
                if forwards { "0" } else { "1" },
            );
            ns.set_sysctl("net/ipv4/conf/default/route_localnet", "0");
            if forwards {
                ns.set_sysctl("net/ipv4/ip_forward", "1");
                ns.set_sysctl("net/ipv6/conf/all/forwarding", "1");
            }
        }
        self.links(own_docker0);
        self.addresses(own_docker0);
        Ok(())
    }

    fn links(&self, own_docker0: bool) {
        let mut host = Batch::default();
        host.bridge("ecs-bridge", &["169.254.172.1/22", "fd00:19::1/64"]);
        host.bridge(USER_BRIDGE, &["172.18.0.1/16", "fd00:18::1/64"]);
        host.veth("vetha", "ecs-bridge", "ecs-eth0", self.awsvpc);
        host.veth("vethu", USER_BRIDGE, "eth0", self.user);
        if own_docker0 {
            host.bridge("docker0", &["172.17.0.1/16", "fd00:17::1/64"]);
            host.veth("vethd", "docker0", "eth0", self.docker);
        }
        host.add("link set lo up");
        host.run(self.host);

        let mut imds = Batch::default();
        imds.bridge("lan", &["10.0.0.1/24", "fd00:10::1/64"]);
        // Without one of its own it would change with the ports that come and go, and machines would not
        // find their router for a while.
        imds.add("link set lan address 02:00:0a:00:00:01");
        imds.veth("host", "lan", "ens5", self.host);
        imds.veth("neighbour", "lan", "eth0", self.neighbour);
        imds.add("link set lo up");
        imds.add("addr add 169.254.169.254/32 dev lo");
        imds.add("addr add fd00:ec2::254/128 dev lo nodad");
        for net in ["172.16.0.0/12", "169.254.172.0/22"] {
            imds.add(format!("route add {net} via 10.0.0.10"));
        }
        for net in ["fd00:17::/64", "fd00:18::/64", "fd00:19::/64"] {
            imds.add(format!("route add {net} via fd00:10::10"));
        }
        imds.run(self.imds);
    }

    fn addresses(&self, own_docker0: bool) {
        let mut host = Batch::default();
        host.port(
            "ens5",
            &["10.0.0.10/24", "fd00:10::10/64"],
            &["10.0.0.1", "fd00:10::1"],
        );
        host.run(self.host);

        let containers = [
            (
                self.docker,
                "eth0",
                ["172.17.0.2/16", "fd00:17::2/64"],
                ["172.17.0.1", "fd00:17::1"],
            ),
            (
                self.user,
                "eth0",
                ["172.18.0.2/16", "fd00:18::2/64"],
                ["172.18.0.1", "fd00:18::1"],
            ),
            (
                self.awsvpc,
                "ecs-eth0",
                ["169.254.172.2/22", "fd00:19::2/64"],
                ["169.254.172.1", "fd00:19::1"],
            ),
        ];
        for (ns, port, addresses, gateways) in containers {
            if ns.name() == self.docker.name() && !own_docker0 {
                continue;
            }
            let mut batch = Batch::default();
            batch.add("link set lo up");
            batch.port(port, &addresses, &gateways);
            batch.run(ns);
        }

        // Its loopback interface stays down: so 127.0.0.0/8 is nothing local to the neighbour, and
        // can be routed to the host like any other network. That is the attack of CVE-2020-8558.
        let mut neighbour = Batch::default();
        neighbour.port(
            "eth0",
            &["10.0.0.20/24", "fd00:10::20/64"],
            &["10.0.0.1", "fd00:10::1"],
        );
        neighbour.add("route add 127.0.0.0/8 via 10.0.0.10 src 10.0.0.20");
        neighbour.run(self.neighbour);
    }
}

/// No waiting for addresses that no other can have, and none that no test asked for.
fn settle_ipv6(ns: &Namespace) -> io::Result<()> {
    for (key, value) in [
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("accept_ra", "0"),
    ] {
        for which in ["all", "default"] {
            ns.try_set_sysctl(&format!("net/ipv6/conf/{which}/{key}"), value)?;
        }
    }
    Ok(())
}

/// Lines for `ip -batch`.
#[derive(Default)]
struct Batch(String);

impl Batch {
    fn add(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    fn addresses(&mut self, dev: &str, addresses: &[&str]) {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.add(format!("addr add {address} dev {dev}{nodad}"));
        }
    }

    /// A bridge that forwards from its first packet: no spanning tree, no snooping to learn first.
    fn bridge(&mut self, name: &str, addresses: &[&str]) {
        self.add(format!(
            "link add {name} type bridge forward_delay 0 mcast_snooping 0"
        ));
        self.addresses(name, addresses);
        self.add(format!("link set {name} up"));
    }

    /// A cable from a bridge here to an interface in another namespace.
    fn veth(&mut self, name: &str, bridge: &str, peer: &str, other: &Namespace) {
        let netns = other.netns();
        self.add(format!(
            "link add {name} type veth peer name {peer} netns {}",
            netns.display()
        ));
        self.add(format!("link set {name} master {bridge} up"));
    }

    fn port(&mut self, dev: &str, addresses: &[&str], gateways: &[&str]) {
        self.addresses(dev, addresses);
        self.add(format!("link set {dev} up"));
        for gateway in gateways {
            self.add(format!("route add default via {gateway} dev {dev}"));
        }
    }

    fn run(self, ns: &Namespace) {
        ns.command("ip").args(["-batch", "-"]).stdin(self.0).run();
    }
}
