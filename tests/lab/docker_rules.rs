//! What a starting Docker daemon does to the rules, imitated: for tests that need it often and at
//! once. `lab_itself` compares it with a real one.

use super::tamper::Tamper;
use super::topology::USER_BRIDGE;

impl Tamper<'_> {
    /// What Docker 25 (and 20 to 27) does to IPv4 rules when its daemon starts: it empties its own
    /// chains, adds what is missing for the networks it knew, and makes the default bridge again,
    /// every rule of which it *inserts*. A DROP that stood first in FORWARD is seventh afterwards.
    #[track_caller]
    pub fn docker25_restart(&self) {
        let docker = Docker {
            tamper: self,
            program: self.backend.iptables(),
            loopback: "127.0.0.0/8",
        };
        docker.remove_nat_jumps();
        for (table, chain) in [
            ("nat", "DOCKER"),
            ("filter", "DOCKER"),
            ("filter", "DOCKER-ISOLATION-STAGE-1"),
            ("filter", "DOCKER-ISOLATION-STAGE-2"),
        ] {
            docker.remove_chain(table, chain);
            docker.new_chain(table, chain);
        }
        docker.append("filter", "DOCKER-ISOLATION-STAGE-1 -j RETURN");
        docker.append("filter", "DOCKER-ISOLATION-STAGE-2 -j RETURN");
        docker.add_nat_jumps();

        docker.network25(USER_BRIDGE, "172.18.0.0/16");
        // The networks it knew keep the places of their rules; the default bridge does not.
        for rule in Docker::bridge_rules25("docker0") {
            docker.delete("filter", &rule);
        }
        docker.delete(
            "nat",
            "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        );
        docker.network25("docker0", "172.17.0.0/16");

        docker.user_chain();
    }

    /// What Docker 28 does when its daemon starts, IPv4 and IPv6: its rules are in chains of its
    /// own, and the two jumps to them go on top of FORWARD. DOCKER-USER keeps what is in it. The
    /// result is that of 28.5.2 (`tests/fixtures/docker28-networks.rules`).
    #[track_caller]
    pub fn docker28_restart(&self) {
        let families = [
            (
                self.backend.iptables(),
                "127.0.0.0/8",
                ["172.17.0.0/16", "172.18.0.0/16"],
            ),
            (
                self.backend.ip6tables(),
                "::1/128",
                ["fd00:17::/64", "fd00:18::/64"],
            ),
        ];
        for (program, loopback, subnets) in families {
            let docker = Docker {
                tamper: self,
                program,
                loopback,
            };
            docker.remove_nat_jumps();
            docker.remove_chain("nat", "DOCKER");
            docker.new_chain("nat", "DOCKER");
            for chain in [
                "DOCKER",
                "DOCKER-FORWARD",
                "DOCKER-BRIDGE",
                "DOCKER-CT",
                "DOCKER-ISOLATION-STAGE-1",
                "DOCKER-ISOLATION-STAGE-2",
            ] {
                docker.remove_chain("filter", chain);
                docker.new_chain("filter", chain);
            }
            docker.add_nat_jumps();
            docker.jump_first("FORWARD", "DOCKER-FORWARD");
            docker.jump_first("DOCKER-FORWARD", "DOCKER-BRIDGE");
            docker.jump_first("DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1");
            docker.jump_first("DOCKER-FORWARD", "DOCKER-CT");
            for (bridge, subnet) in [USER_BRIDGE, "docker0"]
                .into_iter()
                .zip(subnets.iter().rev())
            {
                docker.network28(bridge, subnet);
            }
            docker.new_chain("filter", "DOCKER-USER");
            docker.jump_first("FORWARD", "DOCKER-USER");
        }
    }
}

/// The habits of Docker's own iptables code: look with `-C` before adding, ignore what cannot be
/// deleted, one process a rule.
struct Docker<'a> {
    tamper: &'a Tamper<'a>,
    program: String,
    loopback: &'static str,
}

impl Docker<'_> {
    fn attempt(&self, args: &str) -> bool {
        self.tamper
            .attempt(&self.program, &format!("--wait {args}"))
    }

    #[track_caller]
    fn must(&self, args: &str) {
        assert!(self.attempt(args), "{} --wait {args}", self.program);
    }

    fn exists(&self, table: &str, rule: &str) -> bool {
        self.attempt(&format!("-t {table} -C {rule}"))
    }

    fn append(&self, table: &str, rule: &str) {
        if !self.exists(table, rule) {
            self.must(&format!("-t {table} -A {rule}"));
        }
    }

    fn insert(&self, table: &str, rule: &str) {
        if !self.exists(table, rule) {
            self.must(&format!("-t {table} -I {rule}"));
        }
    }

    fn delete(&self, table: &str, rule: &str) {
        if self.exists(table, rule) {
            self.must(&format!("-t {table} -D {rule}"));
        }
    }

    fn new_chain(&self, table: &str, chain: &str) {
        if !self.attempt(&format!("-t {table} -n -L {chain}")) {
            self.must(&format!("-t {table} -N {chain}"));
        }
    }

    /// Empties it; deleting fails while something jumps to it, and Docker does not mind.
    fn remove_chain(&self, table: &str, chain: &str) {
        self.attempt(&format!("-t {table} -F {chain}"));
        self.attempt(&format!("-t {table} -X {chain}"));
    }

    fn jump_first(&self, chain: &str, to: &str) {
        self.delete("filter", &format!("{chain} -j {to}"));
        self.must(&format!("-t filter -I {chain} -j {to}"));
    }

    fn nat_jumps(&self) -> [String; 2] {
        [
            "PREROUTING -m addrtype --dst-type LOCAL -j DOCKER".to_owned(),
            format!(
                "OUTPUT -m addrtype --dst-type LOCAL -j DOCKER ! --dst {}",
                self.loopback
            ),
        ]
    }

    fn remove_nat_jumps(&self) {
        for rule in self.nat_jumps() {
            self.attempt(&format!("-t nat -D {rule}"));
        }
    }

    fn add_nat_jumps(&self) {
        for rule in self.nat_jumps() {
            self.append("nat", &rule);
        }
    }

    /// DOCKER-USER: made where it is missing, never emptied, and put first.
    fn user_chain(&self) {
        self.new_chain("filter", "DOCKER-USER");
        self.append("filter", "DOCKER-USER -j RETURN");
        self.jump_first("FORWARD", "DOCKER-USER");
    }

    /// In the order in which they are inserted; so they stand in the reverse.
    fn bridge_rules25(bridge: &str) -> [String; 4] {
        [
            format!("FORWARD -i {bridge} -o {bridge} -j ACCEPT"),
            format!("FORWARD -i {bridge} ! -o {bridge} -j ACCEPT"),
            format!("FORWARD -o {bridge} -j DOCKER"),
            format!("FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ]
    }

    fn network25(&self, bridge: &str, subnet: &str) {
        self.insert(
            "nat",
            &format!("POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE"),
        );
        self.insert("nat", &format!("DOCKER -i {bridge} -j RETURN"));
        for rule in Self::bridge_rules25(bridge) {
            self.insert("filter", &rule);
        }
        let stage = "DOCKER-ISOLATION-STAGE";
        self.insert(
            "filter",
            &format!("{stage}-1 -i {bridge} ! -o {bridge} -j {stage}-2"),
        );
        self.insert("filter", &format!("{stage}-2 -o {bridge} -j DROP"));
        self.jump_first("FORWARD", &format!("{stage}-1"));
    }

    fn network28(&self, bridge: &str, subnet: &str) {
        self.insert(
            "nat",
            &format!("POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE"),
        );
        self.append("filter", &format!("DOCKER-FORWARD -i {bridge} -j ACCEPT"));
        self.append(
            "filter",
            &format!("DOCKER ! -i {bridge} -o {bridge} -j DROP"),
        );
        let established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        self.append("filter", &format!("DOCKER-CT -o {bridge} {established}"));
        self.append("filter", &format!("DOCKER-BRIDGE -o {bridge} -j DOCKER"));
        self.insert("nat", &format!("DOCKER -i {bridge} -j RETURN"));
        let stage = "DOCKER-ISOLATION-STAGE";
        self.append(
            "filter",
            &format!("{stage}-1 -i {bridge} ! -o {bridge} -j {stage}-2"),
        );
        self.insert("filter", &format!("{stage}-2 -o {bridge} -j DROP"));
    }
}
