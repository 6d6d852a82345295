//! The lab must be right before anything shown in it can be: these tests are of the lab alone.

#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

#[allow(
    dead_code,
    reason = "every test uses a part of the lab, and each compiles all of it"
)]
mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::daemon::Daemon;
use lab::docker::{Docker, Programs};
use lab::http::Request;
use lab::imds::{IMDS, IMDS6, ROLE, SECRET, SECRET_PORT};
use lab::namespace::Namespace;
use lab::probe::proto;
use lab::tamper::Backend;
use lab::wait::eventually;
use lab::{AWSVPC, DOCKER, Lab, NEIGHBOUR, USER};

const SOON: Duration = Duration::from_secs(5);

fn steals_role(container: &Namespace, imds: IpAddr) -> bool {
    let v1 = container.role_credentials_v1(imds);
    let v2 = container.role_credentials_v2(imds);
    match (v1, v2) {
        (Ok(v1), Ok(v2)) => {
            assert_eq!(v1.json()["Code"], "Success");
            assert_eq!(v1.json(), v2.json());
            assert_eq!(v1.json()["AccessKeyId"], "ASIAINSTANCEROLE0000");
            true
        }
        (Err(_), Err(_)) => false,
        (v1, v2) => panic!("{}: half a block: v1 {v1:?}, v2 {v2:?}", container.name()),
    }
}

#[test]
fn is_built_in_a_moment() {
    drop(Lab::new()); // The first one in a process pays for loading programs from the disk.
    let start = Instant::now();
    let lab = Lab::new();
    let built = start.elapsed();
    drop(lab);
    println!(
        "lab built in {built:?}, gone {:?} later",
        start.elapsed() - built
    );
    assert!(built < Duration::from_secs(3), "{built:?}");
}

#[test]
fn every_container_reaches_the_metadata_service() {
    let lab = Lab::new();
    for container in lab.containers() {
        assert!(steals_role(container, IMDS), "{} by IPv4", container.name());
        assert!(
            steals_role(container, IMDS6),
            "{} by IPv6",
            container.name()
        );
        let answer = container.http_get("[fd00:ec2::254]", 80, "/latest/meta-data/instance-id");
        assert_eq!(answer.unwrap().body, "i-0123456789abcdef0");
        for imds in [IMDS, IMDS6] {
            assert!(container.tcp_connects(SocketAddr::new(imds, 80)));
            assert!(
                container.icmp_echo(imds).unwrap(),
                "{} {imds}",
                container.name()
            );
        }
    }
    let arrived = lab.counter().arrived();
    for source in [DOCKER, USER, AWSVPC] {
        assert!(arrived.of(source, proto::TCP) > 0 && arrived.of(source, proto::ICMP) == 1);
    }
    assert_eq!(arrived.from(NEIGHBOUR), 0);
}

#[test]
fn the_metadata_service_is_strict_about_tokens() {
    let lab = Lab::new();
    let ask = |request| lab.docker.http(IMDS, 80, request).unwrap();
    let roles = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(ask(Request::get(roles)).body, ROLE);
    assert_eq!(
        ask(Request::get(roles).header("X-aws-ec2-metadata-token", "wrong")).status,
        401
    );
    assert_eq!(ask(Request::put("/latest/api/token")).status, 400);
    assert_eq!(ask(Request::get("/latest/nothing")).status, 404);
}

#[test]
fn the_counter_is_exact() {
    let lab = Lab::new();
    let ports = |imds| SocketAddr::new(imds, 9);
    for _ in 0..100 {
        lab.docker.udp_send(ports(IMDS)).unwrap();
        lab.user.udp_send(ports(IMDS6)).unwrap();
        lab.user.raw_proto(IMDS, proto::SCTP).unwrap();
        lab.awsvpc.raw_proto(IMDS6, proto::EXPERIMENT).unwrap();
    }
    let arrived = lab.counter().arrived();
    assert_eq!(arrived.of(DOCKER, proto::UDP), 100);
    assert_eq!(arrived.of(USER, proto::SCTP), 100);
    assert_eq!(arrived.of("fd00:18::2".parse().unwrap(), proto::UDP), 100);
    assert_eq!(
        arrived.of("fd00:19::2".parse().unwrap(), proto::EXPERIMENT),
        100
    );
    assert_eq!((arrived.total(), arrived.v6()), (400, 200));

    lab.counter().reset();
    assert_eq!(lab.counter().arrived().total(), 0);

    let start = Instant::now();
    let flood = lab.docker.flood(ports(IMDS)).unwrap();
    eventually(SOON, "many packets", || {
        lab.counter().arrived().total() > 20_000
    });
    let sent = flood.stop();
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    let reading = Instant::now();
    eventually(SOON, "the last packet", || {
        lab.counter().arrived().total() == sent
    });
    println!(
        "flood: {sent} packets, {rate:.0}/s, all counted; read in {:?}",
        reading.elapsed()
    );
}

#[test]
fn the_documented_rule_blocks_docker0_until_docker_restarts() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let tamper = lab.tamper(backend);
        tamper.docker25_restart();
        assert!(
            steals_role(&lab.docker, IMDS),
            "{backend:?}: Docker's rules block nothing"
        );
        tamper.aws_documented_block();
        lab.counter().reset();

        assert!(!steals_role(&lab.docker, IMDS), "{backend:?}");
        assert!(!lab.docker.icmp_echo(IMDS).unwrap(), "{backend:?}");
        lab.docker.udp_send(SocketAddr::new(IMDS, 53)).unwrap();
        lab.docker.raw_proto(IMDS, proto::SCTP).unwrap();
        assert_eq!(lab.counter().arrived().total(), 0, "{backend:?}");
        // What the rule does not say, it does not block.
        assert!(steals_role(&lab.docker, IMDS6), "{backend:?}");
        assert!(steals_role(&lab.user, IMDS), "{backend:?}");

        tamper.docker25_restart();
        assert!(
            steals_role(&lab.docker, IMDS),
            "{backend:?}: Docker's rules are above the block"
        );
        let forward: Vec<_> = rules_of(&tamper.save(), "FORWARD");
        let place = forward
            .iter()
            .position(|rule| rule.contains("169.254.169.254"));
        assert!(
            place.is_some_and(|place| place > 4),
            "{backend:?}: {forward:#?}"
        );

        tamper.flush("filter", Some("FORWARD"));
        tamper.aws_documented_block();
        assert!(!steals_role(&lab.docker, IMDS), "{backend:?}");
        tamper.docker28_restart();
        assert!(
            steals_role(&lab.docker, IMDS),
            "{backend:?}: so are those of Docker 28"
        );
        let forward = rules_of(&tamper.save(), "FORWARD");
        assert_eq!(forward[0], "-A FORWARD -j DOCKER-USER");
        assert_eq!(forward[1], "-A FORWARD -j DOCKER-FORWARD");
    }
}

fn rules_of(save: &str, chain: &str) -> Vec<String> {
    let start = format!("-A {chain} ");
    save.lines()
        .filter(|line| line.starts_with(&start))
        .map(str::to_owned)
        .collect()
}

#[test]
fn docker_may_restart_as_often_as_it_likes() {
    let lab = Lab::new();
    let tamper = lab.tamper(Backend::Nft);
    type Restart<'a> = fn(&lab::tamper::Tamper<'a>);
    let restarts: [Restart<'_>; 2] = [
        lab::tamper::Tamper::docker25_restart,
        lab::tamper::Tamper::docker28_restart,
    ];
    for restart in restarts {
        restart(&tamper);
        let rules = |text: String| {
            let mut lines: Vec<_> = text
                .lines()
                .filter(|l| l.starts_with('-'))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        let once = rules(tamper.save());
        restart(&tamper);
        assert_eq!(once, rules(tamper.save()));
        for table in ["filter", "nat"] {
            tamper.flush(table, None);
            tamper.flush6(table, None);
        }
    }
}

#[test]
fn snapshots_flushes_and_single_deletions() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let tamper = lab.tamper(backend);
        tamper.iptables("-I FORWARD -i docker0 -j DROP");
        let snapshot = tamper.save();
        tamper.aws_documented_block();
        tamper.restore_snapshot(&snapshot);
        assert_eq!(
            rules_of(&tamper.save(), "FORWARD"),
            ["-A FORWARD -i docker0 -j DROP"]
        );
        tamper.aws_documented_block();
        tamper.delete_one("filter", "FORWARD -i docker+ -d 169.254.169.254/32 -j DROP");
        tamper.delete_nth("filter", "FORWARD", 1);
        assert_eq!(rules_of(&tamper.save(), "FORWARD"), [""; 0]);
        tamper.ip6tables("-I FORWARD -i docker0 -j DROP");
        tamper.flush6("filter", Some("FORWARD"));
        assert_eq!(rules_of(&tamper.save6(), "FORWARD"), [""; 0]);
    }
}

#[test]
fn ecs_init_makes_the_credentials_endpoint_answer() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let tamper = lab.tamper(backend);
        assert!(lab.docker.task_credentials().is_err());
        tamper.ecs_init_pre_start();
        assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "1");
        for asker in [&lab.docker, &lab.user, &lab.awsvpc, &lab.host] {
            let answer = asker.task_credentials();
            let answer = answer.unwrap_or_else(|e| panic!("{backend:?} {}: {e}", asker.name()));
            assert_eq!(answer.json()["AccessKeyId"], "ASIATASKROLE00000000");
        }
        assert!(tamper.ecs_init_post_stop());
        assert_eq!(lab.host.sysctl("net/ipv4/conf/all/route_localnet"), "0");
        assert!(lab.docker.task_credentials().is_err());
        assert!(
            !tamper.ecs_init_post_stop(),
            "{backend:?}: nothing is left to delete"
        );
        assert!(
            !tamper.save().contains("-A "),
            "{backend:?}: {}",
            tamper.save()
        );
    }
}

#[test]
fn introspection_is_for_the_default_bridge_alone() {
    let lab = Lab::new();
    let ask = |ns: &Namespace, host| ns.http_get(host, 51678, "/v1/metadata").is_ok();
    assert!(ask(&lab.docker, "172.17.0.1") && ask(&lab.neighbour, "10.0.0.10"));
    lab.tamper(Backend::Nft).ecs_init_pre_start();
    assert!(ask(&lab.docker, "172.17.0.1") && !ask(&lab.neighbour, "10.0.0.10"));
    assert!(!ask(&lab.user, "172.18.0.1") && !ask(&lab.neighbour, "[fd00:10::10]"));
}

#[test]
fn a_neighbour_reaches_loopback_services_only_without_the_shield() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        let secret = || lab.neighbour.http_get("127.0.0.1", SECRET_PORT, "/");
        assert!(
            secret().is_err(),
            "{backend:?}: the kernel's own protection"
        );
        lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
        assert_eq!(secret().unwrap().body, SECRET, "{backend:?}");
        lab.tamper(backend).ecs_init_pre_start();
        assert!(secret().is_err(), "{backend:?}: the shield");
        assert_eq!(
            lab.host
                .http_get("127.0.0.1", SECRET_PORT, "/")
                .unwrap()
                .body,
            SECRET
        );
    }
}

#[test]
fn plain_iptables_can_be_either() {
    let lab = Lab::new();
    let version = || lab.host.sh("iptables -V; ip6tables-save -V").to_lowercase();
    for backend in [Backend::Legacy, Backend::Nft] {
        lab.tamper(backend).make_default().unwrap();
        let word = match backend {
            Backend::Nft => "nf_tables",
            Backend::Legacy => "legacy",
        };
        assert_eq!(
            version().matches(word).count(),
            2,
            "{backend:?}: {}",
            version()
        );
        assert!(
            lab.host
                .sh("iptables-nft -V; iptables-legacy -V")
                .contains("nf_tables")
        );
    }
}

#[test]
fn the_host_has_its_own_run_and_sys() {
    let lab = Lab::new();
    let interfaces: BTreeSet<_> = lab
        .host
        .sh("ls /sys/class/net")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert!(
        interfaces.contains("ens5") && interfaces.contains("docker0"),
        "{interfaces:?}"
    );
    lab.host.sh("echo x > /run/lab-was-here");
    assert!(!fs::exists("/run/lab-was-here").unwrap());
    assert!(fs::exists(lab.host.root().join("run/lab-was-here")).unwrap());
    assert!(!lab.host.sh("ls /sys/fs/cgroup").is_empty());
}

#[test]
fn a_daemon_is_followed_and_ended() {
    let lab = Lab::new();
    let script = "trap 'echo again >&2' HUP; trap 'echo bye >&2; exit 7' TERM; echo ready >&2; \
                  while :; do sleep 0.01; done";
    let mut daemon = Daemon::start(lab.host.command("sh").args(["-c", script]));
    daemon.wait_for_log("ready", SOON);
    daemon.hangup();
    daemon.wait_for_log("again", SOON);
    assert!(daemon.is_running());
    assert_eq!(daemon.terminate().code(), Some(7));
    assert_eq!(daemon.log(), "ready\nagain\nbye\n");

    let mut killed = Daemon::start(lab.host.command("sleep").arg("1000"));
    assert!(!killed.kill().success());

    assert!(lab.netguard(["--help"]).output().is_ok());
    assert_eq!(
        fs::read_to_string(lab.dir().join("ecs.config")).unwrap(),
        ""
    );
    drop(lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n"));
    assert_eq!(
        lab.host.sh("cat /run/lab/ecs.config"),
        "ECS_AWSVPC_BLOCK_IMDS=true\n"
    );
}

#[test]
fn a_panic_inside_a_namespace_is_the_callers() {
    let lab = Lab::new();
    let result = catch_unwind(AssertUnwindSafe(|| lab.host.run(|| panic!("inside"))));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
    assert_eq!(lab.host.run(|| 1), 1, "the namespace goes on");
}

/// Everything by which a lab could outlive itself.
struct Traces {
    namespaces: BTreeSet<String>,
    pids: Vec<u32>,
}

impl Traces {
    fn of(lab: &Lab, daemons: &[&Daemon]) -> Self {
        let namespaces = lab
            .namespaces()
            .iter()
            .flat_map(|ns| ns.identities())
            .collect();
        Self {
            namespaces,
            pids: daemons
                .iter()
                .map(|d| d.pid().as_raw().cast_unsigned())
                .collect(),
        }
    }

    /// Looks into every task and every open file of the machine, and at what is mounted.
    fn found(&self) -> Vec<String> {
        let mut found: Vec<_> = tasks()
            .flat_map(|task| {
                let links = ["ns/net", "ns/mnt"].into_iter().map(|ns| task.join(ns));
                let files = fs::read_dir(task.join("fd")).into_iter().flatten();
                links
                    .chain(files.filter_map(|fd| Some(fd.ok()?.path())))
                    .collect::<Vec<_>>()
            })
            .filter(|link| {
                let target = fs::read_link(link).unwrap_or_default();
                self.namespaces.contains(&*target.to_string_lossy())
            })
            .map(|link| link.display().to_string())
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(
            mounts
                .lines()
                .filter(|l| self.namespaces.iter().any(|n| l.contains(n)))
                .map(str::to_owned),
        );
        // A zombie of a test that was killed waits for whoever adopted it; it does nothing more.
        let runs = |pid: &&u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        found.extend(
            self.pids
                .iter()
                .filter(runs)
                .map(|pid| format!("process {pid}")),
        );
        found
    }

    #[track_caller]
    fn vanish(&self) {
        assert!(self.namespaces.len() >= 12, "two of each of six");
        eventually(SOON, "the lab is gone", || {
            let found = self.found();
            if !found.is_empty() {
                println!("still there: {found:?}");
            }
            found.is_empty()
        });
    }
}

fn tasks() -> impl Iterator<Item = std::path::PathBuf> {
    let numbered = |dir: std::path::PathBuf| {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
    };
    numbered("/proc".into())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok())
        })
        .flat_map(move |process| numbered(process.join("task")))
}

fn busy_lab() -> (Lab, Daemon) {
    let lab = Lab::new();
    let daemon = Daemon::start(lab.host.command("sleep").arg("1000000"));
    assert!(lab.docker.role_credentials_v1(IMDS).is_ok());
    (lab, daemon)
}

#[test]
fn nothing_is_left_when_it_is_dropped() {
    let (lab, daemon) = busy_lab();
    let traces = Traces::of(&lab, &[&daemon]);
    assert!(
        !traces.found().is_empty(),
        "the search finds a lab that lives"
    );
    drop(lab); // Before the daemon: the kernel ends it with the namespace.
    traces.vanish();
    drop(daemon);
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut traces = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (lab, daemon) = busy_lab();
        traces = Some(Traces::of(&lab, &[&daemon]));
        panic!("a test fails");
    }));
    assert!(result.is_err());
    traces.unwrap().vanish();
}

/// The children of the next tests: labs that are killed in the middle of their work.
#[test]
#[ignore = "run by nothing_is_left_after_a_kill"]
fn a_lab_to_be_killed() {
    let (lab, daemon) = busy_lab();
    Traces::of(&lab, &[&daemon]).tell_and_wait();
}

#[test]
#[ignore = "run by nothing_is_left_of_docker_after_a_kill"]
fn a_docker_to_be_killed() {
    let programs = Programs::get().unwrap();
    let lab = Lab::builder().without_docker0().build();
    let docker = lab.start_docker(&programs);
    docker.container("one", "bridge");
    println!("cgroup {}", docker.cgroup());
    docker_traces(&lab, &docker, "one").tell_and_wait();
}

impl Traces {
    fn tell_and_wait(&self) {
        for name in &self.namespaces {
            println!("namespace {name}");
        }
        for pid in &self.pids {
            println!("pid {pid}");
        }
        println!("built");
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Runs one of these in a process of its own and kills it: what it left, and its last cgroup.
fn kill_in_the_middle(test: &str) -> (Traces, Option<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut traces = Traces {
        namespaces: BTreeSet::new(),
        pids: vec![child.id()],
    };
    let mut cgroup = None;
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
    {
        match line.split_once(' ') {
            Some(("namespace", name)) => drop(traces.namespaces.insert(name.to_owned())),
            Some(("pid", pid)) => traces.pids.push(pid.parse().unwrap()),
            Some(("cgroup", name)) => cgroup = Some(name.to_owned()),
            _ if line == "built" => break,
            _ => {}
        }
    }
    assert!(
        !traces.found().is_empty(),
        "the search finds a lab that lives"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    (traces, cgroup)
}

#[test]
fn nothing_is_left_after_a_kill() {
    let (traces, _) = kill_in_the_middle("a_lab_to_be_killed");
    assert_eq!(traces.pids.len(), 2);
    traces.vanish();
}

#[test]
fn nothing_is_left_of_docker_after_a_kill() {
    let Some(programs) = programs() else { return };
    let (traces, cgroup) = kill_in_the_middle("a_docker_to_be_killed");
    assert_eq!(traces.namespaces.len(), 15);
    traces.vanish();
    // But for empty cgroups, which the next one sweeps up.
    let cgroup = cgroup.unwrap();
    assert!(!cgroups_named(&cgroup).is_empty());
    let lab = Lab::builder().without_docker0().build();
    drop(lab.start_docker(&programs));
    assert_eq!(cgroups_named(&cgroup), "");
}

fn cgroups_named(name: &str) -> String {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", name])
        .output();
    String::from_utf8_lossy(&found.unwrap().stdout).into_owned()
}

/// The lab's traces, and those of a Docker daemon and one of its containers.
fn docker_traces(lab: &Lab, docker: &Docker<'_>, container: &str) -> Traces {
    let mut traces = Traces::of(lab, &[]);
    let container = format!("/proc/{}/ns", docker.container_pid(container));
    for file in [
        "/proc/1/ns/mnt",
        &format!("{container}/mnt"),
        &format!("{container}/net"),
    ] {
        let identity = docker.beside("readlink").arg(file).run();
        assert!(
            traces.namespaces.insert(identity.trim().to_owned()),
            "{file}"
        );
    }
    traces
}

/// Docker's programs; none where the tests with a real Docker are to be left out.
fn programs() -> Option<Programs> {
    if std::env::var_os("ECS_NETGUARD_LAB_SKIP_DOCKER").is_some() {
        println!("SKIPPED, as ECS_NETGUARD_LAB_SKIP_DOCKER asks");
        return None;
    }
    let programs = Programs::get();
    Some(programs.unwrap_or_else(|e| {
        panic!("{e}\nECS_NETGUARD_LAB_SKIP_DOCKER=1 leaves out what needs Docker")
    }))
}

#[test]
fn a_real_docker_does_what_its_imitation_does() {
    let Some(programs) = programs() else { return };
    const URL: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    let keys_before = fs::read_to_string("/proc/sys/kernel/keys/root_maxkeys").unwrap();

    let lab = Lab::builder().without_docker0().build();
    let tamper = lab.tamper(Backend::Nft);
    let start = Instant::now();
    let mut docker = lab.start_docker(&programs);
    println!("dockerd with an image: {:?}", start.elapsed());

    let start = Instant::now();
    docker.container("one", "bridge");
    println!("docker run: {:?}", start.elapsed());
    docker.docker(&["network", "create", "custom"]);
    docker.container("two", "custom");
    for container in ["one", "two"] {
        assert_eq!(
            docker.wget(container, URL).as_deref(),
            Ok(ROLE),
            "{container}"
        );
    }

    tamper.aws_documented_block();
    assert!(docker.wget("one", URL).is_err());
    assert_eq!(
        docker.wget("two", URL).as_deref(),
        Ok(ROLE),
        "br-… is not docker+"
    );

    let start = Instant::now();
    docker.restart();
    println!("docker restart: {:?}", start.elapsed());
    docker.docker(&["start", "one"]);
    assert_eq!(
        docker.wget("one", URL).as_deref(),
        Ok(ROLE),
        "Docker's rules are above the block"
    );

    let cgroup = docker.cgroup().to_owned();
    assert!(!cgroups_named(&cgroup).is_empty());
    let traces = docker_traces(&lab, &docker, "one");
    let start = Instant::now();
    drop(docker);
    println!("docker gone: {:?}", start.elapsed());
    drop(lab);
    traces.vanish();
    assert_eq!(cgroups_named(&cgroup), "");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/keys/root_maxkeys").unwrap(),
        keys_before
    );
}
