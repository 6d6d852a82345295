//! The daemon is killed (SIGKILL) at random instants: while it starts, while it repairs something,
//! while it follows a changed file and writes its state. Whatever the instant, containers stay
//! blocked meanwhile, the state can be read, and the next start has everything whole and once.
//!
//! `ECS_NETGUARD_KILLS` says how often; `make kill-test` does it 2,000 times.

use std::collections::BTreeMap;
use std::time::Duration;

use ecs_netguard::state::Store;
use lab::Lab;
use lab::daemon::Daemon;
use lab::systemd::FdStore;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

use crate::oracle::random::Random;

const KILLS: u64 = 40;

/// The block is always wanted; what else is changes what is written to the state.
const WISHES: [&str; 2] = [
    "ECS_AWSVPC_BLOCK_IMDS=true\n",
    "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n",
];

/// Half of them, since two tests share them.
fn kills() -> u64 {
    let wanted = std::env::var("ECS_NETGUARD_KILLS").ok();
    wanted
        .map_or(KILLS, |text| text.parse().unwrap())
        .div_ceil(2)
}

/// Sleeps up to so long.
fn pause(random: &mut Random, least: Duration, most: Duration) {
    let spread = usize::try_from((most - least).as_micros()).unwrap();
    std::thread::sleep(least + Duration::from_micros(random.below(spread) as u64));
}

struct Host {
    lab: Lab,
    /// What keeps descriptors over a kill, if anything does.
    systemd: Option<FdStore>,
    wish: usize,
    /// The tagged rules that each wish means.
    expected: BTreeMap<usize, Vec<String>>,
}

impl Host {
    fn new(with_systemd: bool) -> Self {
        let lab = Lab::new();
        let systemd = with_systemd.then(|| FdStore::listen(&lab));
        lab.write("ecs.config", WISHES[0]);
        Self {
            lab,
            systemd,
            wish: 0,
            expected: BTreeMap::new(),
        }
    }

    fn start(&self) -> Daemon {
        let command = self.lab.netguard(["run"]);
        Daemon::start(match &self.systemd {
            Some(systemd) => systemd.give(&self.lab, command),
            None => command,
        })
    }

    fn change_wish(&mut self) {
        self.wish = 1 - self.wish;
        self.lab.write("ecs.config", WISHES[self.wish]);
    }

    /// The tagged rules, in their order.
    fn tagged(&self) -> Vec<String> {
        let tamper = self.lab.tamper(Backend::Nft);
        let save = format!("{}\n{}", tamper.save(), tamper.save6());
        let lines = save.lines().filter(|line| line.contains("ecs-netguard: "));
        lines.map(str::to_owned).collect()
    }

    /// What must be so with no daemon at all.
    fn look_while_dead(&self, round: u64) {
        let imds = "169.254.169.254:80".parse().unwrap();
        assert!(
            !self.lab.docker.tcp_connects(imds),
            "round {round}: a container reached IMDS\n{}",
            self.lab.host.sh("nft list ruleset")
        );
        let (_, warning) = Store::peek(&self.lab.dir().join("state"));
        assert_eq!(warning, None, "round {round}");
        if self.systemd.is_some() {
            self.is_owned(round);
        }
    }

    /// The seal is owned by a socket: no other process can delete it.
    fn is_owned(&self, round: u64) {
        let refused = self.lab.host.try_run("nft delete table inet ecs_netguard");
        let error = refused.unwrap_err();
        assert!(
            error.contains("Operation not permitted"),
            "round {round}: {error}"
        );
    }

    /// What must be so once the daemon has started again.
    fn look_while_running(&mut self, round: u64, daemon: &Daemon) {
        let log = daemon.wait_for_log("the rules are kept with", LONG);
        assert!(!log.contains("state.json"), "round {round}: {log}");
        // The shield goes one pass after the sysctl that asked for it.
        let settled = |rules: &Vec<String>| {
            let shielded = rules.iter().any(|rule| rule.contains("loopback-shield"));
            shielded == (self.wish == 1)
        };
        let tagged = eventually(LONG, "the shield stands where it is wanted", || {
            Some(self.tagged()).filter(settled)
        });
        let expected = self
            .expected
            .entry(self.wish)
            .or_insert_with(|| tagged.clone());
        assert_eq!(&tagged, expected, "round {round}");
        let asked = Store::peek(&self.lab.dir().join("state"))
            .0
            .state
            .inputs
            .ecs;
        let credentials = format!("{asked:?}").contains("ECS_ENABLE_TASK_IAM_ROLE=true");
        assert_eq!(
            credentials,
            self.wish == 1,
            "round {round}: what is remembered"
        );
        self.is_owned(round);
    }

    fn run(mut self, kills: u64) {
        let ms = Duration::from_millis;
        let mut random = Random::new(u64::from(self.systemd.is_some()));
        // What each wish means is learnt undisturbed.
        for _ in WISHES {
            let mut daemon = self.start();
            self.look_while_running(0, &daemon);
            daemon.terminate();
            self.change_wish();
        }
        assert_ne!(self.expected[&0], self.expected[&1]);
        // A stop empties what systemd keeps.
        if let Some(systemd) = &self.systemd {
            systemd.empty();
        }
        let mut daemon = self.start();
        self.look_while_running(0, &daemon);
        for round in 1..=kills {
            match random.below(3) {
                0 => {
                    daemon.kill();
                    daemon = self.start();
                    pause(&mut random, ms(0), ms(250));
                }
                1 => {
                    self.lab
                        .tamper(Backend::Nft)
                        .flush("filter", Some("FORWARD"));
                    pause(&mut random, ms(0), ms(30));
                }
                _ => {
                    self.change_wish();
                    // An editor is given 200 ms to finish.
                    pause(&mut random, ms(180), ms(400));
                }
            }
            daemon.kill();
            self.look_while_dead(round);
            daemon = self.start();
            self.look_while_running(round, &daemon);
        }
    }
}

#[test]
fn killed_with_the_seals_socket_kept_by_systemd() {
    Host::new(true).run(kills());
}

#[test]
fn killed_without_systemd_to_keep_the_seals_socket() {
    Host::new(false).run(kills());
}
