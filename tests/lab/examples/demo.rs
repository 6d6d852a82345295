//! The story of a container, the instance's credentials, and the guard between them: a real daemon
//! in a private lab of network namespaces, real packets, real iptables. Nothing of the machine it
//! runs on is touched, and nothing is left behind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a demonstration stops where it goes wrong"
)]

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::cgroup::{TaskSlice, asks, bash, unify};
use lab::daemon::Daemon;
use lab::frames::{mac, write_frames};
use lab::http::Request;
use lab::imds::{CREDENTIALS_ID, IMDS, ROLE as ROLE_NAME, ROLES_PATH};
use lab::namespace::Namespace;
use lab::tamper::{Backend, Tamper};
use lab::task::Plan;
use lab::wait::eventually;

const ROLE: &str =
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/ecsInstanceRole";
/// "Amazon ECS container instance IAM role", ECS developer guide.
const DOCUMENTED: &str = "-i docker+ -d 169.254.169.254/32 -j DROP";
const PATIENCE: Duration = Duration::from_secs(15);

fn main() {
    let screen = Screen {
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let started = Instant::now();
    let lab = Lab::new();
    screen.title(&format!(
        "An ECS host, its containers and the metadata service, in namespaces ({} ms)",
        started.elapsed().as_millis()
    ));

    screen.chapter("Without the guard, any container reads the host's own role");
    screen.curl(&lab.docker, ROLE);

    screen.chapter("AWS documents a rule against that. It works, until Docker restarts");
    let tamper = lab.tamper(Backend::Nft);
    tamper.aws_documented_block();
    screen.curl(&lab.docker, ROLE);
    tamper.docker25_restart();
    screen.text("after a Docker restart, `iptables -C` still finds the rule:");
    screen.shell(
        &lab.host,
        &format!("iptables -C FORWARD {DOCUMENTED} && echo \"it is there\""),
    );
    screen.curl(&lab.docker, ROLE);
    screen
        .text("presence is not protection: `ecs-netguard check` walks a packet through the rules");
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let check = lab.netguard(["check"]).output().expect("the program runs");
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    screen.text(&check.lines().take(3).collect::<Vec<_>>().join("\n"));
    tamper.iptables(&format!("-D FORWARD {DOCUMENTED}"));

    screen.chapter(
        "No rule of iptables sees a whole frame, which any container with CAP_NET_RAW writes",
    );
    screen.frames(&lab);

    screen.chapter("The daemon starts with this ecs.config");
    let ecs_config =
        "ECS_CLUSTER=demo\nECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
    screen.text(ecs_config);
    let mut daemon = lab.start_daemon(ecs_config);
    daemon.wait_for_log("the rules are kept with", PATIENCE);
    screen.text(&daemon.log());
    screen.curl(&lab.docker, ROLE);
    let task = format!("http://169.254.170.2/v2/credentials/{CREDENTIALS_ID}");
    screen.text("The task's own credentials, from the container and from the host:");
    screen.curl(&lab.docker, &task);
    screen.curl(&lab.host, &task);

    screen.text("The frames:");
    screen.frames(&lab);

    screen.text("What the daemon knows, on its socket:");
    screen.text(&lab.netguard(["status"]).run());

    let mut table = Vec::new();
    for attack in ATTACKS {
        screen.chapter(attack.title);
        table.push(survive(&screen, &lab, &daemon, &tamper, &attack));
    }

    screen.chapter("A task in awsvpc mode, with the ECS agent's blackhole. That alone is no block");
    let awsvpc = lab.task(Plan::default());
    screen.text("a socket that names its interface gets past it, without any privilege:");
    screen.shell(&awsvpc.ns, "ip route get 169.254.169.254 oif eth0");
    eventually(PATIENCE, "the guard's drop is in the task", || {
        awsvpc.ns.sh("nft list ruleset").contains(" drop")
    });
    screen.text("so the guard keeps a native drop beside it. The task's root takes both away:");
    screen.shell(
        &awsvpc.ns,
        "nft flush ruleset; ip route del blackhole 169.254.169.254",
    );
    let log = daemon.wait_for_log("missing in the network namespace of task", PATIENCE);
    let line = log
        .lines()
        .rfind(|line| line.contains("missing in the network namespace"));
    screen.text(line.unwrap_or_default());
    screen.curl(&awsvpc.ns, ROLE);
    drop(awsvpc);

    screen.chapter("A process tries to remove the seal");
    let delete = "nft delete table inet ecs_netguard";
    screen.text(&format!(
        "host$ {delete}\n{}",
        lab.host.try_run(delete).expect_err("it is the daemon's")
    ));

    screen.chapter("The daemon is killed; meanwhile every visible rule is flushed");
    daemon.kill();
    tamper.flush("filter", None);
    screen.text(&format!("{} tagged rules are left", tagged(&tamper)));
    screen.curl(&lab.docker, ROLE);
    screen.text("The next start takes the table over and repairs the rest:");
    daemon = lab.start_daemon(ecs_config);
    daemon.wait_for_log("the rules are kept with", PATIENCE);
    screen.text(&format!("{} tagged rules", tagged(&tamper)));

    screen.chapter("A task on the host's own network is distinguished by its cgroup");
    host_task(&screen, &lab, &daemon);

    screen.chapter("ecs.config is edited: the rules follow");
    lab.write(
        "ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS=false\nECS_ENABLE_TASK_IAM_ROLE=true\n",
    );
    eventually(PATIENCE, "the container reaches IMDS", || {
        reaches_imds(&lab.docker)
    });
    screen.text("ECS_AWSVPC_BLOCK_IMDS=false:");
    screen.curl(&lab.docker, ROLE);
    lab.write(
        "ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS=\"true\"\nECS_ENABLE_TASK_IAM_ROLE=true\n",
    );
    eventually(PATIENCE, "the container is blocked", || {
        !reaches_imds(&lab.docker)
    });
    screen.text("ECS_AWSVPC_BLOCK_IMDS=\"true\", with quotes that the ECS agent cannot read:");
    screen.curl(&lab.docker, ROLE);

    screen.chapter("It is stopped: the rules stay. Then it is released: they go");
    daemon.terminate();
    screen.text(&format!("after SIGTERM: {} tagged rules", tagged(&tamper)));
    screen.text(&lab.netguard(["release"]).run());
    screen.text(&format!("after release: {} tagged rules", tagged(&tamper)));

    screen.closing(&table, started);
}

/// A task and the ECS agent, both on the host's network, ask for the role.
fn host_task(screen: &Screen, lab: &Lab, daemon: &Daemon) {
    let slice = match TaskSlice::try_new() {
        Ok(slice) => slice,
        Err(error) => {
            screen.text(&format!(
                "no cgroup of version 2 to show it with here: {error}"
            ));
            return;
        }
    };
    unify(&lab.host);
    let ask = |asked_for: &str| {
        let (task, agent) = (
            slice.run(&lab.host, &asks(IMDS)),
            bash(&lab.host, &asks(IMDS)),
        );
        let word = |answer: Option<String>| match answer {
            Some(answer) if answer.ends_with(ROLE_NAME) => "gets the role's name",
            _ => "gets no answer",
        };
        screen.text(&format!(
            "host_tasks = {asked_for}: the task {}, the agent {}",
            word(task),
            word(agent)
        ));
    };
    ask("false");
    let name = &slice.name;
    let settings = format!("[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{name}\"\n");
    lab.write("config.toml", settings);
    daemon.wait_for_log("host-imds-block is held", PATIENCE);
    ask("true");
    lab.write("config.toml", "# the defaults\n");
    let off = "host-imds-block is not required";
    let told = || {
        daemon
            .log()
            .rsplit("host-imds-block is held")
            .next()
            .is_some_and(|log| log.contains(off))
    };
    eventually(PATIENCE, "it is turned off", told);
}

/// Something that removes the rules.
struct Attack {
    title: &'static str,
    /// For the table.
    name: &'static str,
    strike: fn(&Tamper<'_>),
    /// What a container asks for all the while, and must not or must get.
    asks: Asks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    ForTheRole,
    ForItsCredentials,
}

const ATTACKS: [Attack; 4] = [
    Attack {
        title: "Docker 25 restarts: it inserts its ACCEPTs above the DROP",
        name: "Docker restart",
        strike: |tamper| tamper.docker25_restart(),
        asks: Asks::ForTheRole,
    },
    Attack {
        title: "A script runs iptables -F FORWARD",
        name: "iptables -F FORWARD",
        strike: |tamper| tamper.flush("filter", Some("FORWARD")),
        asks: Asks::ForTheRole,
    },
    Attack {
        title: "A script runs nft flush ruleset",
        name: "nft flush ruleset",
        strike: |tamper| tamper.flush_ruleset(),
        asks: Asks::ForTheRole,
    },
    Attack {
        title: "ecs-init starts and stops: it takes its rules and route_localnet away",
        name: "ecs-init stop",
        strike: |tamper| {
            tamper.ecs_init_pre_start();
            tamper.ecs_init_post_stop();
        },
        asks: Asks::ForItsCredentials,
    },
];

struct Row {
    name: &'static str,
    repair: String,
    asked: String,
}

/// How often a container asked, and was answered.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
}

fn survive(
    screen: &Screen,
    lab: &Lab,
    daemon: &Daemon,
    tamper: &Tamper<'_>,
    attack: &Attack,
) -> Row {
    let tally = Arc::new(Tally::default());
    let container = {
        let (tally, asks) = (Arc::clone(&tally), attack.asks);
        lab.docker.thread(move || keep_asking(asks, &tally))
    };
    let seen = daemon.log().len();
    (attack.strike)(tamper);
    eventually(PATIENCE, "it is repaired", || {
        daemon.log()[seen..].contains("repaired in")
    });
    // A while longer, so that what comes after is counted too.
    sleep(Duration::from_millis(500));
    tally.stop.store(true, Ordering::Relaxed);
    container
        .join()
        .expect("the container ends when it is asked to");
    let log = daemon.log()[seen..].to_owned();
    screen.text(&log);
    let repair = log
        .split_once("repaired in ")
        .map_or("", |(_, rest)| rest)
        .split([';', '\n'])
        .next()
        .unwrap_or_default();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (asked, answered) = (count(&tally.asked), count(&tally.answered));
    Row {
        name: attack.name,
        repair: repair.to_owned(),
        asked: match attack.asks {
            Asks::ForTheRole => format!("{answered} of {asked} requests answered by IMDS"),
            Asks::ForItsCredentials => {
                format!(
                    "{} of {asked} requests for credentials lost",
                    asked - answered
                )
            }
        },
    }
}

fn keep_asking(asks: Asks, tally: &Tally) {
    let (address, path) = match asks {
        Asks::ForTheRole => (IMDS, format!("{ROLES_PATH}{ROLE_NAME}")),
        Asks::ForItsCredentials => (
            IpAddr::from([169, 254, 170, 2]),
            format!("/v2/credentials/{CREDENTIALS_ID}"),
        ),
    };
    while !tally.stop.load(Ordering::Relaxed) {
        tally.asked.fetch_add(1, Ordering::Relaxed);
        let patience = Duration::from_millis(20);
        let answer = Request::get(&path).send(SocketAddr::new(address, 80), patience);
        if answer.is_ok_and(|answer| answer.status == 200) {
            tally.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn reaches_imds(from: &Namespace) -> bool {
    from.http_get("169.254.169.254", 80, "/latest/meta-data/")
        .is_ok()
}

fn tagged(tamper: &Tamper<'_>) -> usize {
    let both = tamper.save() + &tamper.save6();
    both.lines()
        .filter(|line| line.contains("ecs-netguard: "))
        .count()
}

struct Screen {
    colour: bool,
}

impl Screen {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn title(&self, text: &str) {
        println!("{}", self.paint("1", text));
    }

    fn chapter(&self, text: &str) {
        println!("\n{}", self.paint("1;36", &format!("== {text}")));
    }

    fn text(&self, text: &str) {
        for line in text.lines() {
            println!("   {line}");
        }
    }

    /// Runs a command line in a namespace and shows what a person would see.
    fn shell(&self, at: &Namespace, line: &str) {
        println!("   {}", self.paint("1", &format!("{}$ {line}", at.name())));
        self.text(&at.sh(line));
    }

    /// Runs curl in a namespace and shows what a person would see.
    fn curl(&self, from: &Namespace, url: &str) {
        let line = format!("{}$ curl {url}", from.name());
        println!("   {}", self.paint("1", &line));
        let output = from
            .command("curl")
            .args(["--silent", "--show-error", "--max-time", "1", url])
            .output()
            .expect("curl runs");
        let text = if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        };
        let text = String::from_utf8_lossy(text);
        let shown: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = if shown.len() > 100 {
            format!("{} …", &shown[..100])
        } else {
            shown
        };
        println!(
            "   {}",
            self.paint(if output.status.success() { "33" } else { "32" }, &shown)
        );
    }

    /// Has a task on the host's network write frames to the metadata service, and shows how many arrive.
    fn frames(&self, lab: &Lab) {
        lab.counter().reset();
        let (taken, refused) = write_frames(&lab.host, "ens5", &mac(&lab.imds, "lan"));
        let written = taken + refused;
        let arrived = lab.counter().arrived().total();
        let shown = format!(
            "{written} raw frames written by a task on the host's network: {arrived} packets arrive at the \
             metadata service"
        );
        let colour = if arrived > 0 { "33" } else { "32" };
        println!("   {}", self.paint(colour, &shown));
    }

    fn closing(&self, table: &[Row], started: Instant) {
        self.chapter("What happened");
        println!("   {:<22}{:>12}   meanwhile", "", "repaired in");
        for Row {
            name,
            repair,
            asked,
        } in table
        {
            println!("   {name:<22}{repair:>12}   {asked}");
        }
        println!("\n{} s in all.", started.elapsed().as_secs());
    }
}
