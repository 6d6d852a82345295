//! The host on which another program runs beside the guard, while containers ask for IMDS all the
//! time.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::found::Found;
use lab::asking::Asking;
use lab::daemon::Daemon;
use lab::http::{Response, Server};
use lab::imds::IMDS;
use lab::tamper::Backend;
use lab::wait::{LONG, within};
use lab::{HOST, Lab};

const WISH: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// A port that the other programs are configured to open to the network.
pub(crate) const OPEN: u16 = 8080;
/// One that they are not.
pub(crate) const CLOSED: u16 = 8081;

/// A host, the guard on it, and the containers that ask.
pub(crate) struct Scene {
    program: &'static str,
    sealed: bool,
    backend: Backend,
    asking: Option<Asking>,
    daemon: Option<Daemon>,
    _ports: Vec<Server>,
    /// The tagged rules that the guard put in at first.
    rules: Vec<String>,
    pub(crate) lab: Lab,
}

impl Scene {
    /// The host without the guard. `sealed` says how the guard will be configured.
    pub(crate) fn new(program: &'static str, backend: Backend, sealed: bool) -> Self {
        let lab = Lab::new();
        lab.tamper(backend).make_default().unwrap();
        lab.write(
            "config.toml",
            format!("[seal]\nenabled = {sealed}\n[edge]\nenabled = {sealed}\n"),
        );
        for container in lab.containers() {
            container.set_patience(Duration::from_millis(150));
        }
        let listen = |port| {
            let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            Server::start(&lab.host, addr, Arc::new(|_, _| Response::ok("open"))).unwrap()
        };
        Self {
            program,
            sealed,
            backend,
            asking: None,
            daemon: None,
            _ports: [OPEN, CLOSED].map(listen).into(),
            rules: Vec::new(),
            lab,
        }
    }

    /// The same with the guard running, and containers that ask for IMDS from then on.
    pub(crate) fn guarded(program: &'static str, backend: Backend, sealed: bool) -> Self {
        let mut scene = Self::new(program, backend, sealed);
        scene.guard();
        scene
    }

    /// Starts the guard; when it has said that it keeps the rules, the containers begin to ask.
    pub(crate) fn guard(&mut self) {
        let daemon = self.lab.start_daemon(WISH);
        daemon.wait_for_log("the rules are kept with", LONG);
        self.daemon = Some(daemon);
        self.rules = self.on_top().unwrap();
        assert!(!self.rules.is_empty());
        self.lab.counter().reset();
        self.asking = Some(Asking::start(&self.lab));
    }

    /// Something happens; afterwards everything is held and in place.
    pub(crate) fn held(&self, what: &str, act: impl FnOnce(&Lab)) {
        self.step(what, act, &[]);
        self.credentials(what, true);
    }

    /// Something happens. Afterwards the rules stand on top, once each, and every guarantee is held
    /// but those that are named. Returns what `check` says of these.
    pub(crate) fn step(
        &self,
        what: &str,
        act: impl FnOnce(&Lab),
        other_than_held: &[(&str, &str)],
    ) -> String {
        let asking = self.asking.as_ref().unwrap();
        let (asked, arrived) = (asking.asked(), self.arrived());
        let seen = self.events(0).last().map_or(0, seq);
        let began = Instant::now();
        act(&self.lab);
        let mut last = String::new();
        let found = within(LONG, || {
            let found = self.check();
            let result = found.are(other_than_held).and_then(|()| {
                let missing = |rules: Vec<String>| {
                    let missing = self.rules.iter().find(|rule| !rules.contains(rule));
                    missing.map_or(Ok(()), |rule| Err(format!("missing: {rule}")))
                };
                self.on_top().and_then(missing)
            });
            result.map(|()| found).map_err(|why| last = why).ok()
        });
        let Some(found) = found else {
            let log = self.daemon.as_ref().unwrap().log();
            panic!("{}, {what}: {last}\n{log}", self.name());
        };
        for container in self.lab.containers() {
            let stolen = container.role_credentials_v1(IMDS);
            assert!(stolen.is_err(), "{what}: {}", container.name());
        }
        let (asked, arrived) = (asking.asked() - asked, self.arrived() - arrived);
        assert!(asked > 0, "{what}: no request was made");
        if self.sealed {
            assert_eq!(arrived, 0, "{}, {what}", self.name());
        }
        let standing = other_than_held.first();
        let standing = standing.map_or("held".to_owned(), |(g, s)| format!("{g} {s}"));
        let open = began.elapsed().mul_f64(arrived as f64 / asked as f64);
        self.tell(what, seen, (arrived, asked, open), &standing);
        found.problems
    }

    /// How a step went, as information.
    fn tell(
        &self,
        what: &str,
        seen: u64,
        (arrived, asked, open): (u64, u64, Duration),
        standing: &str,
    ) {
        let repairs = |word: &str| {
            let events = self.events(seen).into_iter();
            let about = events.filter(|e| e["message"].as_str().unwrap().contains(word));
            about
                .filter_map(|event| event["repair_seconds"].as_f64())
                .reduce(f64::max)
        };
        if arrived > 0 {
            // The daemon tells of a repair after it, and of many within ten seconds at once.
            within(Duration::from_secs(15), || repairs("imds-block"));
        }
        let longest = |word| match repairs(word) {
            Some(seconds) => format!("repaired in {:.2} ms", seconds * 1e3),
            None => "not touched".to_owned(),
        };
        println!(
            "{}, {what}: {arrived} of {asked} packets arrived, as in {:.1} ms; imds-block {}, \
             anything {}; {standing}",
            self.name(),
            open.as_secs_f64() * 1e3,
            longest("imds-block"),
            longest(""),
        );
    }

    /// Ends the guard and takes its rules out: then containers do reach IMDS, so that it was nothing
    /// else on this host that kept them from it, and no tagged rule is left.
    pub(crate) fn leave(mut self) {
        assert!(self.daemon.as_mut().unwrap().terminate().success());
        self.lab.netguard(["release"]).run();
        assert_eq!(self.on_top(), Ok(Vec::new()));
        let before = self.arrived();
        let open = within(LONG, || self.arrived() > before);
        assert!(open.is_some(), "{}: the lab itself is closed", self.name());
    }

    /// Whether the neighbour reaches a port of the host.
    pub(crate) fn is_open(&self, port: u16) -> bool {
        self.lab.neighbour.tcp_connects(SocketAddr::new(HOST, port))
    }

    /// Whether tasks and the host get credentials.
    pub(crate) fn credentials(&self, what: &str, expected: bool) {
        let mut all: Vec<_> = self.lab.containers().into();
        all.push(&self.lab.host);
        for from in all {
            let answer = from.task_credentials();
            assert_eq!(
                answer.is_ok(),
                expected,
                "{what}: {}: {answer:?}",
                from.name()
            );
        }
    }

    fn name(&self) -> String {
        let seal = if self.sealed { "on" } else { "off" };
        format!("{} ({:?}, seal {seal})", self.program, self.backend)
    }

    fn arrived(&self) -> u64 {
        self.lab.counter().arrived().total()
    }

    fn events(&self, since: u64) -> Vec<Value> {
        let reply = self.lab.get(&format!("/v1/events?since={since}"));
        let lines = reply.body.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    fn check(&self) -> Found {
        let output = self.lab.netguard(["check", "--json"]).output().unwrap();
        Found::read(&serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The tagged rules, where they stand on top of their chains and once each.
    fn on_top(&self) -> Result<Vec<String>, String> {
        let tamper = self.lab.tamper(self.backend);
        let mut all = Vec::new();
        for (family, save) in [("IPv4", tamper.save()), ("IPv6", tamper.save6())] {
            let (mut table, mut others) = ("", BTreeSet::new());
            for line in save.lines() {
                table = line.strip_prefix('*').unwrap_or(table);
                let Some(rule) = line.strip_prefix("-A ") else {
                    continue;
                };
                let place = (table, rule.split(' ').next());
                let name = format!("{family} {table} {rule}");
                if !rule.contains("ecs-netguard: ") {
                    others.insert(place);
                } else if others.contains(&place) || all.contains(&name) {
                    return Err(format!("below others, or twice: {name}\n{save}"));
                } else {
                    all.push(name);
                }
            }
        }
        Ok(all)
    }
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap()
}
