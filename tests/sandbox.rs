//! The rights that the unit leaves to the daemon are enough for everything it does. (Whether the rest
//! of the sandbox is, is seen on a machine with systemd.)

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use lab::Lab;
use lab::cgroup::{TaskSlice, in_pid_namespace, unify};
use lab::daemon::{Daemon, binary, with_paths};
use lab::tamper::Backend;
use lab::task::Plan;
use lab::wait::{LONG, eventually};

/// A unit's `CapabilityBoundingSet=`, in the words of setpriv(1).
fn capabilities(unit: &str) -> String {
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = set.unwrap().split(' ');
    let names = names.map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase());
    names.fold("-all".to_owned(), |all, name| format!("{all},+{name}"))
}

#[test]
fn the_unit_gives_away_no_socket_behind_a_link() {
    let unit = include_str!("../systemd/ecs-netguard.service");
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStartPost=-+"));
    let script: String = lines.map(|line| format!("{line}\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    symlink(&socket, dir.path().join("status.sock")).unwrap();
    // A group that every machine has.
    let script = script
        .replace(
            "ecs-netguard /run/ecs-netguard",
            &format!("nogroup {}", dir.path().display()),
        )
        .replace("/run/ecs-netguard", &dir.path().display().to_string());
    let done = Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(done.success() && script.contains("nogroup"), "{script}");
    let given = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap().gid();
    assert_ne!(given("status.sock"), 0, "the link itself: {script}");
    assert_eq!(given("docker.sock"), 0);
}

fn start_with_the_units_rights(lab: &Lab) -> Daemon {
    let command = lab
        .host
        .command("setpriv")
        .args(["--no-new-privs", "--inh-caps=-all", "--bounding-set"])
        .arg(capabilities(include_str!(
            "../systemd/ecs-netguard.service"
        )))
        .arg(binary())
        .arg("run");
    Daemon::start(with_paths(command, lab))
}

#[test]
fn the_capabilities_of_the_probes_unit_are_enough() {
    let lab = Lab::new();
    unify(&lab.host);
    let slice = TaskSlice::new();
    lab.write(
        "config.toml",
        format!(
            "[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{}\"\n",
            slice.name
        ),
    );
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let task = lab.task(Plan::default());
    lab.netguard(["apply"]).run();
    let command = lab
        .host
        .command("setpriv")
        .args(["--no-new-privs", "--inh-caps=-all", "--bounding-set"])
        .arg(capabilities(include_str!(
            "../systemd/ecs-netguard-probe.service"
        )))
        .arg(binary())
        .args(["probe", "--json", "--record"]);
    let output = with_paths(command, &lab).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let places = found["places"].as_array().unwrap();
    assert!(places.len() >= 6, "{found:#}");
    for place in places {
        assert_eq!(place["failure"], serde_json::Value::Null, "{found:#}");
    }
    assert!(lab.dir().join("state/probe.json").exists());
    task.stop(&lab.host);
}

#[test]
fn the_units_capabilities_are_enough() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        lab.tamper(backend).make_default().unwrap();
        unify(&lab.host);
        let slice = TaskSlice::new();
        lab.write(
            "config.toml",
            format!(
                "[verify]\ninterval = \"1s\"\n[imds]\nhost_tasks = true\nhost_tasks_cgroup = \"{}\"\n",
                slice.name
            ),
        );
        lab.write(
            "ecs.config",
            "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n",
        );
        let task = lab.task(Plan::default());
        let daemon = start_with_the_units_rights(&lab);
        let log = daemon.wait_for_log("the rules are kept with", LONG);
        for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let has = |field: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                line.unwrap().trim().to_owned()
            };
            // CAP_NET_ADMIN and CAP_NET_RAW: what scripts/check-units.sh asks about.
            for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
                assert_eq!(has(set), format!("{:016x}", 3 << 12), "{set}");
            }
            assert_eq!(has("Seccomp:"), "2", "{status}");
        }
        let rules = task.ns.sh("nft list table inet ecs_netguard");
        assert_eq!(rules.matches(" drop").count(), 2, "{rules}");
        let rules = task.ns.sh("nft list table netdev ecs_netguard");
        assert!(rules.contains("device \"eth0\""), "{rules}");
        for guarantee in [
            " imds-block",
            "awsvpc-imds-block",
            "host-imds-block",
            "loopback-shield",
            "task-credentials",
        ] {
            assert!(log.contains(&format!("{guarantee} is held")), "{log}");
        }
        assert!(log.contains(&backend.iptables()), "{log}");
        assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "1");
        let seal = lab.host.try_run("nft delete table inet ecs_netguard");
        assert!(seal.unwrap_err().contains("Operation not permitted"));
        lab.tamper(backend).flush("filter", None);
        eventually(LONG, "repaired", || {
            lab.tamper(backend)
                .save()
                .contains("ecs-netguard: imds-block")
        });
        let state = lab.dir().join("state/state.json");
        assert!(state.exists());
    }
}

/// Sockets whose owners do as root whatever uid 0 asks of them.
const SOCKETS: [&str; 4] = [
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
];

/// What each attempt of taken_over.py came to.
fn attempts(told: &str) -> Vec<(String, String)> {
    let lines = told.lines().filter_map(|line| line.split_once('\t'));
    lines
        .map(|(what, end)| (what.to_owned(), end.to_owned()))
        .collect()
}

#[test]
fn a_daemon_that_is_taken_over_does_not_become_root() {
    let lab = Lab::new();
    lab.tamper(Backend::Nft).make_default().unwrap();
    let run = lab.host.root().join("run");
    let mut listeners = Vec::new();
    for socket in SOCKETS {
        let path = run.join(socket.strip_prefix("/run/").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        listeners.push(UnixListener::bind(&path).unwrap());
    }
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    let attack = format!(
        "python3 {}/tests/sandbox/taken_over.py {} {}",
        env!("CARGO_MANIFEST_DIR"),
        victim.id(),
        SOCKETS.join(" ")
    );
    let by_root = attempts(&lab.host.sh(&attack));
    assert_eq!(by_root.len(), SOCKETS.len() + 5);
    // In a container without io_uring it would be the kernel that refuses.
    for (what, end) in by_root.iter().filter(|(what, _)| what != "io_uring_setup") {
        assert_eq!(end, "through", "{what}: the lab itself");
    }
    // What runs in the daemon's place has all that it has left.
    let iptables = run.join("alternatives-nft/iptables");
    let real = fs::read_link(&iptables).unwrap();
    let script = format!(
        "test -e /run/lab/told || {attack} >/run/lab/told 2>&1\nexec {} \"$@\"",
        real.display()
    );
    lab.script("/run/alternatives-nft/iptables", &script);
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let daemon = start_with_the_units_rights(&lab);
    daemon.wait_for_log("the rules are kept with", LONG);
    let told = fs::read_to_string(lab.dir().join("told")).unwrap();
    let by_daemon = attempts(&told);
    assert_eq!(by_daemon.len(), by_root.len(), "{told}");
    for (what, end) in by_daemon {
        assert!(["EPERM", "EACCES"].contains(&end.as_str()), "{what}: {end}");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn the_program_that_changed_a_rule_is_named_without_the_right_to_trace_it() {
    let lab = Lab::new();
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let daemon = start_with_the_units_rights(&lab);
    daemon.wait_for_log("the rules are kept with", LONG);
    // It is there a while longer, with all of root's capabilities.
    lab.host
        .sh("(echo 'flush chain ip filter FORWARD'; sleep 3) | nft -i >/dev/null");
    let log = daemon.wait_for_log("by nft (pid ", LONG);
    let line = log
        .lines()
        .find(|line| line.contains("by nft (pid "))
        .unwrap();
    if !in_pid_namespace() {
        assert!(line.contains("started by sh"), "{line}");
        assert!(!line.contains("gone"), "{line}");
    } else {
        assert!(line.contains("not visible from this PID"), "{line}");
    }
}
