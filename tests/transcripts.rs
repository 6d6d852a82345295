//! What each command prints, in one place: on a healthy host, under attack, with a configuration that is
//! not what it seems, without the daemon, without root, without iptables. `tests/snapshots/transcripts__*`
//! can be read in ten minutes; what differs from run to run (times, pids, versions) stands in angle
//! brackets there. `cargo test --test transcripts -- --nocapture` prints it as it was.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_CLUSTER=demo\nECS_ENABLE_TASK_IAM_ROLE=true\nECS_AWSVPC_BLOCK_IMDS=true\n";

/// The words after which the host's name stands.
const WORDS: [&str; 3] = ["PROTECTED", "NOT PROTECTED", "UNDECIDED"];

/// `check` looks into every network namespace of the machine for tasks: one lab at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What was typed and what was printed.
struct Transcript(
    String,
    #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>,
);

impl Transcript {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self(String::new(), alone)
    }

    fn run(&mut self, lab: &Lab, prompt: char, args: &[&str]) {
        let output = lab.netguard(args).output().unwrap();
        self.note(prompt, args, &output);
    }

    fn note(&mut self, prompt: char, args: &[&str], output: &Output) {
        let text = [&output.stdout, &output.stderr];
        let text = text.map(|text| String::from_utf8_lossy(text).into_owned());
        let (args, code) = (args.join(" "), output.status.code().unwrap());
        let [out, err] = text;
        self.0.push_str(&format!(
            "{prompt} ecs-netguard {args}\n{out}{err}[exit code {code}]\n\n"
        ));
    }

    /// Compares it with the snapshot of this name.
    fn end(self, name: &str) {
        println!("{}", self.0);
        let lines: Vec<String> = self.0.lines().map(steady).collect();
        insta::assert_snapshot!(name, lines.join("\n"));
    }
}

/// A line without what differs from run to run and from machine to machine.
fn steady(line: &str) -> String {
    let line = line.replace("just now", "0s ago");
    if let Some((word, _host)) = line
        .split_once("  ")
        .filter(|(word, _)| WORDS.contains(word))
    {
        return format!("{word}  <host>");
    }
    // Between two blanks stands an empty word: so columns stay columns.
    let words: Vec<&str> = line.split(' ').collect();
    let word = |at: Option<usize>| at.and_then(|at| words.get(at)).copied().unwrap_or_default();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(this) = words.get(at) {
        let (before, after) = (word(at.checked_sub(1)), word(at.checked_add(1)));
        let digits = this.starts_with(|c: char| c.is_ascii_digit());
        let unit = after.trim_end_matches([';', ',', ')']);
        out.push(match *this {
            // Whether more is known of a program than its pid depends on whether it was still there.
            this if before.ends_with("pid") && this.ends_with(',') => {
                out.push("<pid>, …)".to_owned());
                break;
            }
            this if before.ends_with("pid") && digits => this
                .replace(|c: char| c.is_ascii_digit(), "")
                .replacen("", "<pid>", 1),
            this if digits && this.contains('T') && this.ends_with('Z') => "<time>".to_owned(),
            _ if digits && ["µs", "ms", "s"].contains(&unit) => {
                at += 1;
                format!("<duration>{}", &after[unit.len()..])
            }
            _ if digits && (after == "MiB" || after == "ago" || before == "up") => "<n>".to_owned(),
            _ if digits && ["kernel", "ecs-netguard", "iptables-nft"].contains(&before) => {
                "<version>".to_owned()
            }
            this => this.to_owned(),
        });
        at += 1;
    }
    let out = out.join(" ");
    // What follows a time stands in a column, as far off as the time is short.
    match out.split_once("<n> ago  ") {
        Some((before, after)) => format!("{before}<n> ago  {}", after.trim_start()),
        None => out,
    }
}

/// A script that does what people's scripts do to the rules.
fn script(lab: &Lab, name: &str, text: &str) {
    let path = lab.inside(name);
    lab.script(&path, text);
    lab.host.sh(&path.display().to_string());
}

fn start(lab: &Lab, ecs_config: &str) -> Daemon {
    let daemon = lab.start_daemon(ecs_config);
    daemon.wait_for_log("the rules are kept with", LONG);
    daemon
}

#[test]
fn healthy() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    said.run(&lab, '#', &["apply", "--dry-run"]);
    let _daemon = start(&lab, BLOCK);
    said.run(&lab, '$', &["config"]);
    said.run(&lab, '$', &["config", "--check"]);
    said.run(&lab, '$', &["status"]);
    said.run(&lab, '#', &["check"]);
    said.run(&lab, '$', &["events"]);
    let packet = ["explain", "--iif", "docker0", "--dst", "169.254.169.254"];
    said.run(&lab, '#', &packet);
    said.run(&lab, '#', &["apply"]);
    said.end("healthy");
}

#[test]
fn open() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    let _daemon = start(&lab, "ECS_CLUSTER=demo\n");
    said.run(&lab, '$', &["status"]);
    said.run(&lab, '$', &["config"]);
    said.end("open");
}

#[test]
fn under_attack() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    let daemon = start(&lab, BLOCK);
    script(&lab, "deploy.sh", "iptables-nft -F FORWARD");
    daemon.wait_for_log("4 rules missing, repaired", LONG);
    script(
        &lab,
        "dockerd",
        "iptables-nft -I FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    );
    daemon.wait_for_log("4 rules displaced, repaired", LONG);
    eventually(LONG, "verified afterwards", || {
        lab.get("/v1/status").body.contains("rules displaced")
    });
    said.run(&lab, '$', &["status"]);
    said.run(&lab, '$', &["events", "--kind", "drift"]);
    said.end("under_attack");
}

#[test]
fn violated() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.write(
        "config.toml",
        "[seal]\nenabled = false\n[edge]\nenabled = false\n[credentials]\nopen_input = \"never\"\n",
    );
    lab.netguard(["apply"]).run();
    lab.host.sh(
        "iptables-nft -P INPUT DROP; iptables-nft -I FORWARD 1 -i docker0 ! -o docker0 -j ACCEPT",
    );
    said.run(&lab, '#', &["check"]);
    let packet = [
        "explain",
        "--iif",
        "docker0",
        "--oif",
        "ens5",
        "--dst",
        "169.254.169.254",
    ];
    said.run(&lab, '#', &packet);
    said.end("violated");
}

#[test]
fn misconfigured() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    lab.write(
        "ecs.config",
        "ECS_CLUSTER=demo\nECS_AWSVPC_BLOCK_IMDS=\"true\"\nECS_ENABLE_TASK_IAM_ROLL=true\n",
    );
    said.run(&lab, '$', &["config"]);
    said.run(&lab, '$', &["config", "--check"]);
    lab.write(
        "config.toml",
        "[imds]\nblok = \"always\"\ninterfaces = []\n[verify]\ninterval = \"5h\"\n",
    );
    said.run(&lab, '$', &["config", "--check"]);
    said.run(&lab, '#', &["check"]);
    said.run(&lab, '#', &["check", "--config", "/etc/typo.toml"]);
    said.end("misconfigured");
}

#[test]
fn without_the_daemon() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    said.run(&lab, '$', &["status"]);
    let mut daemon = start(&lab, BLOCK);
    // The daemon waits for no disk.
    eventually(LONG, "the events are written down", || {
        std::fs::read_to_string(lab.dir().join("state/events.jsonl"))
            .is_ok_and(|history| history.contains("the rules are kept with"))
    });
    daemon.kill();
    said.run(&lab, '$', &["status"]);
    said.run(&lab, '#', &["events", "--limit", "2"]);
    said.run(&lab, '$', &["events", "--follow"]);
    said.run(&lab, '#', &["check"]);
    said.run(&lab, '#', &["release"]);
    said.run(&lab, '#', &["release"]);
    said.end("without_the_daemon");
}

#[test]
fn without_root() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    let _daemon = start(&lab, BLOCK);
    for args in [
        &["status"][..],
        &["events"],
        &["check"],
        &["apply"],
        &["release"],
        &["probe"],
        &["report"],
        &["explain", "--dst", "169.254.169.254"],
    ] {
        let command = lab.host.command("setpriv");
        let command = command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        let output = with_paths(command.arg(binary()).args(args), &lab).output();
        said.note('$', args, &output.unwrap());
    }
    said.end("without_root");
}

#[test]
fn without_iptables() {
    let mut said = Transcript::new();
    let lab = Lab::new();
    lab.host.sh(
        "mkdir /run/empty; for d in /usr/sbin /usr/local/sbin; do mount --bind /run/empty $d; done",
    );
    lab.write("ecs.config", BLOCK);
    said.run(&lab, '#', &["check"]);
    said.run(&lab, '#', &["apply"]);
    said.run(&lab, '#', &["release"]);
    said.end("without_iptables");
}
