//! What real daemons answer to scrapes, in every state that a host can be in: before something happens to the host,
//! and after.

use std::any::Any;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::task::Plan;
use lab::wait::eventually;

use super::text::{Shot, Story};

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two answers of one daemon, from which it is known how fast its counters grow.
const BETWEEN: Duration = Duration::from_secs(4);
const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
const BARE: &str = "[seal]\nenabled = false\n[edge]\nenabled = false\n";
const VERIFY: &str = "[verify]\ninterval = \"2s\"\n";
const VIOLATED: &str = r#"ecs_netguard_guarantee_state{guarantee="imds-block",state="violated"} 1"#;
/// The last daemon of version 0.1.0, once.
const OLD: &str = include_str!("0.1.0.txt");

/// A state of a host.
pub(super) struct State {
    pub(super) name: &'static str,
    /// What its hosts answer.
    pub(super) source: Source,
    /// How it is scraped, where that makes the difference.
    pub(super) way: Option<Way>,
    /// The config.toml with which its daemon starts, beside [`VERIFY`].
    config: &'static str,
    /// Arguments of the daemon.
    arguments: &'static [&'static str],
    /// What happens to the host; what it returns is held until all is recorded.
    happens: fn(&Lab) -> Box<dyn Any>,
    /// A part of the daemon's answer once it knows.
    known: &'static str,
    /// The alert that must find it; none where the host is well.
    pub(super) alert: Option<&'static str>,
    /// Alerts that are true of it as well.
    pub(super) also: &'static [&'static str],
    /// The guarantee and its state, for what the documented query must answer; none where the host is protected.
    pub(super) unprotected: Option<(&'static str, &'static str)>,
    /// The command that did it, and the script that started that.
    pub(super) by: Option<(&'static str, &'static str)>,
}

/// Where a state's answers are from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Source {
    /// A daemon to which that happens.
    Recorded,
    /// The healthy daemon, which then ends.
    Dies,
    /// A daemon of the version before.
    Old,
    /// The same, which then ends.
    OldDies,
}

/// How Prometheus gets at a host's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// From a file, which is still there when the daemon is gone.
    Textfile,
    /// From the daemon itself, through `ecs-netguard exporter`.
    Exporter,
}

const WELL: State = State {
    name: "healthy",
    source: Source::Recorded,
    way: None,
    config: "",
    arguments: &[],
    happens: |_| Box::new(()),
    known: "",
    alert: None,
    also: &[],
    unprotected: None,
    by: None,
};

/// What there is to record.
pub(super) static STATES: [State; 15] = [
    WELL,
    State {
        name: "version 0.1.0",
        source: Source::Old,
        ..WELL
    },
    State {
        name: "attacked in a loop",
        happens: attack,
        known: r#"ecs_netguard_fights_total{guarantee="imds-block"} 1"#,
        alert: Some("EcsNetguardFight"),
        also: &["EcsNetguardDrift"],
        ..WELL
    },
    State {
        name: "seal missing",
        config: "[seal]\nenabled = false\n",
        happens: |lab| {
            let owner = hold(
                lab,
                "own.sh",
                "add table inet ecs_netguard { flags owner; }",
            );
            configure(lab, "");
            owner
        },
        known: r#"ecs_netguard_layer_state{layer="sealed",state="missing"} 1"#,
        alert: Some("EcsNetguardLayerMissing"),
        ..WELL
    },
    State {
        name: "edge unsupported",
        config: "[edge]\nenabled = false\n",
        arguments: &["--kernel-lacking", "owner"],
        happens: |lab| {
            configure(lab, "");
            Box::new(())
        },
        known: r#"ecs_netguard_layer_state{layer="edge",state="missing"} 1"#,
        alert: Some("EcsNetguardLayerMissing"),
        ..WELL
    },
    State {
        name: "uncovered bridge",
        config: "[edge]\nenabled = false\n",
        happens: |lab| {
            lab.host.sh("ip link add virbr0 type bridge; ip addr add 192.0.2.1/24 dev virbr0; ip link set virbr0 up");
            Box::new(())
        },
        known: r#"ecs_netguard_uncovered_interfaces{layer="visible"} 1"#,
        alert: Some("EcsNetguardUncoveredInterface"),
        ..WELL
    },
    State {
        name: "undecided",
        config: "[credentials]\nopen_input = \"never\"\n",
        happens: |lab| {
            let unread = "-I INPUT -p tcp -m u32 --u32 0&0xff=0 -j DROP";
            lab.tamper(Backend::Nft).iptables(unread);
            Box::new(())
        },
        known: r#"ecs_netguard_guarantee_state{guarantee="task-credentials",state="undecided"} 1"#,
        alert: Some("EcsNetguardUndecided"),
        unprotected: Some(("task-credentials", "undecided")),
        ..WELL
    },
    State {
        name: "violated",
        config: BARE,
        happens: hijack,
        known: VIOLATED,
        alert: Some("EcsNetguardNotProtected"),
        also: &["EcsNetguardRepairFails"],
        unprotected: Some(("imds-block", "violated")),
        by: Some(("nft", "hijack.sh")),
        ..WELL
    },
    State {
        name: "probe violated",
        config: BARE,
        happens: |lab| {
            let owner = hijack(lab);
            // Else packets and proof are of different moments, and contradict each other.
            wait(lab, VIOLATED);
            let probed = lab.netguard(["probe", "--record"]).output();
            assert_eq!(probed.expect("it runs").status.code(), Some(1));
            owner
        },
        known: r#"ecs_netguard_probe_state{state="violated"} 1"#,
        alert: Some("EcsNetguardProbeViolated"),
        also: &["EcsNetguardNotProtected", "EcsNetguardRepairFails"],
        unprotected: Some(("imds-block", "violated")),
        by: Some(("nft", "hijack.sh")),
        ..WELL
    },
    State {
        // The seal holds imds-block; the shields are in the hijacked table alone.
        name: "repair fails",
        happens: hijack,
        known: r#"ecs_netguard_guarantee_state{guarantee="loopback-shield",state="violated"} 1"#,
        alert: Some("EcsNetguardRepairFails"),
        also: &["EcsNetguardNotProtected"],
        unprotected: Some(("loopback-shield", "violated")),
        by: Some(("nft", "hijack.sh")),
        ..WELL
    },
    State {
        name: "IMDS open",
        happens: |lab| {
            lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=false\n");
            Box::new(())
        },
        known: "ecs_netguard_imds_open 1",
        alert: Some("EcsNetguardImdsOpen"),
        unprotected: Some(("imds-block", "not-required")),
        ..WELL
    },
    State {
        name: "trap in ecs.config",
        happens: |lab| {
            let quoted = BLOCK.replacen("true", "\"true\"", 1);
            lab.write("ecs.config", quoted);
            Box::new(())
        },
        known: "ecs_netguard_config_traps 1",
        alert: Some("EcsNetguardConfigTrap"),
        ..WELL
    },
    State {
        name: "daemon gone, textfile",
        source: Source::Dies,
        way: Some(Way::Textfile),
        alert: Some("EcsNetguardSilent"),
        unprotected: Some(("", "silent")),
        ..WELL
    },
    State {
        name: "daemon gone, exporter",
        source: Source::Dies,
        way: Some(Way::Exporter),
        alert: Some("EcsNetguardDown"),
        unprotected: Some(("", "silent")),
        ..WELL
    },
    State {
        name: "0.1.0, daemon gone",
        source: Source::OldDies,
        way: Some(Way::Textfile),
        alert: Some("EcsNetguardSilent"),
        unprotected: Some(("", "silent")),
        ..WELL
    },
];

fn configure(lab: &Lab, settings: &str) {
    lab.write("config.toml", format!("{settings}{VERIFY}"));
}

fn script(lab: &Lab, name: &str, text: &str) -> Daemon {
    let path = lab.inside(name);
    lab.script(&path, text);
    Daemon::start(lab.host.command(path))
}

/// A script that removes the visible rules again and again.
fn attack(lab: &Lab) -> Box<dyn Any> {
    let flush = "while iptables-nft -F FORWARD; do sleep 0.3; done";
    Box::new(script(lab, "deploy.sh", flush))
}

/// A script that runs a line of nft and keeps the socket, which then owns the table, until the script is killed.
fn hold(lab: &Lab, name: &str, line: &str) -> Box<dyn Any> {
    let text = format!(
        "mkfifo /run/lab/lines && exec 3<>/run/lab/lines && echo '{line}' >&3
         setpriv --pdeathsig KILL nft -i <&3"
    );
    Box::new(script(lab, name, &text))
}

/// A program makes iptables' own table anew, with a chain that accepts everything, and owns it: no other process can
/// change it.
fn hijack(lab: &Lab) -> Box<dyn Any> {
    // In one transaction, or the sentinel is there first.
    let line = "delete table ip filter; add table ip filter { flags owner; }; \
        add chain ip filter FORWARD { type filter hook forward priority 0; }";
    hold(lab, "hijack.sh", line)
}

/// Records a state in a lab of its own.
pub(super) fn record(state: &State) -> Story {
    let lab = Lab::new();
    configure(&lab, state.config);
    lab.write("ecs.config", BLOCK);
    let _daemon = Daemon::start(lab.netguard(["run"].iter().chain(state.arguments)));
    // What every host has.
    let task = lab.task(Plan::default());
    wait(&lab, r#"ecs_netguard_state{state="protected"} 1"#);
    wait(&lab, r#"ecs_netguard_tasks{mode="awsvpc",state="held"} 1"#);
    let well = twice(&lab);
    let (mut held, mut then) = (None, None);
    if !state.known.is_empty() {
        held = Some((state.happens)(&lab));
        wait(&lab, state.known);
        then = Some(twice(&lab));
    }
    drop(held);
    task.stop(&lab.host);
    Story { well, then }
}

/// A host of the version before: nothing but its clock moves.
pub(super) fn old() -> Story {
    let at = OLD.lines().find_map(|line| {
        let value = line.strip_prefix("ecs_netguard_last_verification_timestamp_seconds ")?;
        value.parse().ok()
    });
    let shot = Shot::new(at.expect("its last verification"), OLD);
    Story {
        well: [shot.clone(), shot],
        then: None,
    }
}

/// Waits until the daemon's answer has a line.
fn wait(lab: &Lab, line: &str) {
    eventually(PATIENCE, line, || {
        lab.connect().is_ok() && scrape(lab).contains(line)
    });
}

fn twice(lab: &Lab) -> [Shot; 2] {
    let first = Shot::new(now(), &scrape(lab));
    thread::sleep(BETWEEN);
    [first, Shot::new(now(), &scrape(lab))]
}

fn scrape(lab: &Lab) -> String {
    lab.get("/metrics").body
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs_f64()
}
