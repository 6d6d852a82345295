//! What other programs do to a host's rules: administrators, Docker, ecs-init, restores of old
//! snapshots. Each with the commands, and the number of commands, that the real one uses.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::namespace::Namespace;

/// Which of the kernel's two homes of iptables rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// nf_tables, by the `-nft` programs.
    Nft,
    /// The old tables, by the `-legacy` programs.
    Legacy,
}

impl Backend {
    /// Both, for tests that must hold on either.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The word of config.toml, and the end of the programs' names.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// `iptables-nft` or `iptables-legacy`
    pub fn iptables(self) -> String {
        format!("iptables-{}", self.suffix())
    }

    /// The same for IPv6.
    pub fn ip6tables(self) -> String {
        format!("ip6tables-{}", self.suffix())
    }

    /// The program that prints all rules.
    pub fn save(self) -> String {
        format!("{}-save", self.iptables())
    }

    /// The same for IPv6.
    pub fn save6(self) -> String {
        format!("{}-save", self.ip6tables())
    }

    /// The program that loads rules.
    pub fn restore(self) -> String {
        format!("{}-restore", self.iptables())
    }

    /// The same for IPv6.
    pub fn restore6(self) -> String {
        format!("{}-restore", self.ip6tables())
    }
}

/// A hand on the host's rules.
#[derive(Debug)]
pub struct Tamper<'a> {
    host: &'a Namespace,
    pub(super) backend: Backend,
}

impl<'a> Tamper<'a> {
    pub(super) fn new(host: &'a Namespace, backend: Backend) -> Self {
        Self { host, backend }
    }

    /// Runs iptables with arguments as one would type them; panics where it fails.
    #[track_caller]
    pub fn iptables(&self, args: &str) -> String {
        self.host
            .command(self.backend.iptables())
            .args(args.split_whitespace())
            .run()
    }

    /// Runs ip6tables likewise.
    #[track_caller]
    pub fn ip6tables(&self, args: &str) -> String {
        self.host
            .command(self.backend.ip6tables())
            .args(args.split_whitespace())
            .run()
    }

    pub(super) fn attempt(&self, program: &str, args: &str) -> bool {
        let command = self.host.command(program).args(args.split_whitespace());
        command.status().is_ok_and(|status| status.success())
    }

    /// The rule AWS documents, in the words in which AWS documents it.
    #[track_caller]
    pub fn aws_documented_block(&self) {
        self.iptables(
            "--insert FORWARD 1 --in-interface docker+ --destination 169.254.169.254/32 --jump DROP",
        );
    }

    /// `iptables -t TABLE -F [CHAIN]`
    #[track_caller]
    pub fn flush(&self, table: &str, chain: Option<&str>) {
        self.iptables(&format!("-t {table} -F {}", chain.unwrap_or_default()));
    }

    /// `nft flush ruleset`
    #[track_caller]
    pub fn flush_ruleset(&self) {
        self.host.command("nft").args(["flush", "ruleset"]).run();
    }

    /// The same for IPv6.
    #[track_caller]
    pub fn flush6(&self, table: &str, chain: Option<&str>) {
        self.ip6tables(&format!("-t {table} -F {}", chain.unwrap_or_default()));
    }

    /// Deletes one rule, given without `-A`: `"filter", "FORWARD -i docker+ … -j DROP"`.
    #[track_caller]
    pub fn delete_one(&self, table: &str, rule: &str) {
        self.iptables(&format!("-t {table} -D {rule}"));
    }

    /// Deletes a chain's nth rule, counted from 1.
    #[track_caller]
    pub fn delete_nth(&self, table: &str, chain: &str, nth: usize) {
        self.iptables(&format!("-t {table} -D {chain} {nth}"));
    }

    /// All rules, as `iptables-save` prints them.
    #[track_caller]
    pub fn save(&self) -> String {
        self.host.command(self.backend.save()).run()
    }

    /// The same for IPv6.
    #[track_caller]
    pub fn save6(&self) -> String {
        self.host.command(self.backend.save6()).run()
    }

    /// Loads a snapshot as `iptables-restore < FILE` does: whatever else is in its tables is gone.
    #[track_caller]
    pub fn restore_snapshot(&self, text: &str) {
        self.host.command(self.backend.restore()).stdin(text).run();
    }

    /// The same for IPv6.
    #[track_caller]
    pub fn restore_snapshot6(&self, text: &str) {
        self.host.command(self.backend.restore6()).stdin(text).run();
    }

    /// ecs-init's `pre-start`: sysctls, then rules by `-I` and `-A` with no look at what is there.
    #[track_caller]
    pub fn ecs_init_pre_start(&self) {
        self.host
            .set_sysctl("net/ipv4/conf/all/route_localnet", "1");
        // `sysctl -e`: a host without docker0 is no error.
        let _ = self
            .host
            .try_set_sysctl("net/ipv6/conf/docker0/accept_ra", "0");
        if self.host.sh("ip route show default").trim().is_empty() {
            self.host
                .sh("ip route add 169.254.170.2/32 dev lo scope link");
        }
        for (program, how, rule) in self.ecs_init_rules() {
            self.host
                .command(program)
                .args(how.split(' '))
                .args(rule.split(' '))
                .run();
        }
    }

    /// ecs-init's `post-stop`: one copy of each rule deleted, by its bare words; and route_localnet
    /// set to whatever the default is. Returns whether everything was there to be deleted.
    pub fn ecs_init_post_stop(&self) -> bool {
        let mut all = true;
        for (program, how, rule) in self.ecs_init_rules() {
            let delete = how.replace("-A", "-D").replace("-I", "-D");
            all &= self.attempt(&program, &format!("{delete} {rule}"));
        }
        let default = self.host.sysctl("net/ipv4/conf/default/route_localnet");
        self.host
            .set_sysctl("net/ipv4/conf/all/route_localnet", &default);
        all
    }

    /// What ecs-init calls at its start: the program, table, command and chain, and the rule.
    pub fn ecs_init_rules(&self) -> Vec<(String, &'static str, &'static str)> {
        const SHIELD: &str = "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
        const OFF_HOST: &str = "! -i lo -p tcp -m tcp --dport 51678 -j DROP";
        const BRIDGE: &str = "-i docker0 -p tcp -m tcp --dport 51678 -j ACCEPT";
        let (v4, v6) = (|| self.backend.iptables(), || self.backend.ip6tables());
        vec![
            (
                v4(),
                "-t nat -A PREROUTING",
                "-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679",
            ),
            (v4(), "-t filter -I INPUT", SHIELD),
            (v4(), "-t filter -I INPUT", OFF_HOST),
            (v6(), "-t filter -I INPUT", OFF_HOST),
            (v4(), "-t filter -I INPUT", BRIDGE),
            (v6(), "-t filter -I INPUT", BRIDGE),
            (
                v4(),
                "-t nat -A OUTPUT",
                "-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679",
            ),
        ]
    }

    /// Makes plain `iptables`, `ip6tables` and their `-save` and `-restore` be of this backend, as
    /// `update-alternatives` would, in the host's own view of /etc/alternatives.
    pub fn make_default(&self) -> io::Result<()> {
        let alternatives = Path::new("/etc/alternatives");
        let mut links: BTreeMap<_, _> = fs::read_dir(alternatives)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.file_name(), fs::read_link(entry.path()).ok()?))
            })
            .collect();
        for (plain, program) in [
            ("iptables", self.backend.iptables()),
            ("ip6tables", self.backend.ip6tables()),
        ] {
            for tail in ["", "-save", "-restore"] {
                let target = links.get_mut(Path::new(&format!("{plain}{tail}")).as_os_str());
                let target = target.ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("{plain} is no alternative here"),
                    )
                })?;
                *target = target.with_file_name(format!("{program}{tail}"));
            }
        }
        // One directory a backend, never removed: nothing can be mounted over a removed one.
        let inside = Path::new("/run").join(format!("alternatives-{}", self.backend.suffix()));
        let own = self
            .host
            .root()
            .join(inside.strip_prefix("/").unwrap_or(&inside));
        if !own.exists() {
            fs::create_dir(&own)?;
            for (name, target) in links {
                symlink(target, own.join(name))?;
            }
        }
        self.host.shadow(&inside, alternatives)
    }
}
