//! The story of a container, the instance's credentials, and the guard between them: a real daemon
//! in a private lab of network namespaces, real packets, real iptables. Nothing of the machine it
//! runs on is touched, and nothing is left behind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a demonstration stops where it goes wrong"
)]

#[allow(dead_code, reason = "the demo needs a part of what the tests need")]
#[path = "../tests/lab/mod.rs"]
mod lab;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use lab::Lab;
use lab::daemon::Daemon;
use lab::imds::CREDENTIALS_ID;
use lab::namespace::Namespace;
use lab::tamper::{Backend, Tamper};
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
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
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

    screen.chapter("The daemon starts with this ecs.config");
    let ecs_config =
        "ECS_CLUSTER=demo\nECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
    screen.text(ecs_config);
    let mut daemon = lab.start_daemon(ecs_config);
    daemon.wait_for_log("keeping the rules", PATIENCE);
    screen.text(&daemon.log());
    screen.curl(&lab.docker, ROLE);
    let task = format!("http://169.254.170.2/v2/credentials/{CREDENTIALS_ID}");
    screen.text("The task's own credentials, from the container and from the host:");
    screen.curl(&lab.docker, &task);
    screen.curl(&lab.host, &task);

    let mut table = Vec::new();
    for attack in ATTACKS {
        screen.chapter(attack.title);
        table.push(survive(&screen, &lab, &daemon, &tamper, &attack));
    }

    screen.chapter("Somebody edits ecs.config: the rules follow");
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

/// Something that takes the rules away, and how to see that they are back.
struct Attack {
    title: &'static str,
    /// For the table.
    name: &'static str,
    strike: fn(&Tamper<'_>),
    /// Whether what was promised is so (again).
    whole: fn(&Lab) -> bool,
    /// What a request that finds it broken means.
    harm: &'static str,
}

const ATTACKS: [Attack; 3] = [
    Attack {
        title: "Docker 25 restarts: it inserts its ACCEPTs above the DROP",
        name: "Docker restart",
        strike: |tamper| tamper.docker25_restart(),
        whole: |lab| !reaches_imds(&lab.docker),
        harm: "requests answered by IMDS",
    },
    Attack {
        title: "Somebody runs iptables -F FORWARD",
        name: "iptables -F FORWARD",
        strike: |tamper| tamper.flush("filter", Some("FORWARD")),
        whole: |lab| !reaches_imds(&lab.docker),
        harm: "requests answered by IMDS",
    },
    Attack {
        title: "ecs-init starts and stops: it takes its rules and route_localnet away",
        name: "ecs-init stop",
        strike: |tamper| {
            tamper.ecs_init_pre_start();
            tamper.ecs_init_post_stop();
        },
        whole: |lab| lab.docker.task_credentials().is_ok(),
        harm: "requests for credentials lost",
    },
];

struct Row {
    name: &'static str,
    open: Duration,
    harm: String,
    repair: String,
}

fn survive(
    screen: &Screen,
    lab: &Lab,
    daemon: &Daemon,
    tamper: &Tamper<'_>,
    attack: &Attack,
) -> Row {
    let seen = daemon.log().len();
    let struck = Instant::now();
    (attack.strike)(tamper);
    let (mut harmed, mut open) = (0, Duration::ZERO);
    let repaired = || daemon.log()[seen..].contains("put right");
    while !(attack.whole)(lab) || !repaired() {
        assert!(
            struck.elapsed() < PATIENCE,
            "not repaired: {}",
            daemon.log()
        );
        if !(attack.whole)(lab) {
            harmed += 1;
            open = struck.elapsed();
        }
    }
    let log = daemon.log()[seen..].to_owned();
    screen.text(&log);
    let repair = log.split_once("put right in ").map_or("", |(_, rest)| rest);
    let repair = repair.lines().next().unwrap_or_default().to_owned();
    Row {
        name: attack.name,
        open,
        harm: format!("{harmed} {}", attack.harm),
        repair,
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

    fn closing(&self, table: &[Row], started: Instant) {
        self.chapter("What happened");
        println!("   {:<22}{:>10}{:>10}   meanwhile", "", "repair", "open");
        for Row {
            name,
            open,
            harm,
            repair,
        } in table
        {
            let open = format!("{} ms", open.as_millis());
            println!("   {name:<22}{repair:>10}{open:>10}   {harm}");
        }
        println!(
            "   The repair itself takes milliseconds; what is open longer waited for the next"
        );
        println!("   verification, once a second here.");
        println!("\n{} s in all.", started.elapsed().as_secs());
    }
}
