//! The lab must be right before anything shown in it can be: these tests are of the lab alone.

#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

#[path = "lab_itself/leaves_nothing.rs"]
mod leaves_nothing;
#[path = "lab_itself/real_docker.rs"]
mod real_docker;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::thread;
use std::time::Instant;

use lab::cgroup::{in_pid_namespace, is_gone, owner};
use lab::daemon::{Daemon, runs};
use lab::http::Request;
use lab::imds::{IMDS, IMDS6, ROLE, SECRET, SECRET_PORT};
use lab::namespace::Namespace;
use lab::probe::proto;
use lab::socket::reply;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};
use lab::{AWSVPC, DOCKER, Lab, NEIGHBOUR, USER};

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
fn what_a_process_left_is_found_by_its_name_and_not_taken_from_one_that_runs() {
    let mut other = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "sleep", "60"])
        .spawn()
        .unwrap();
    let own = owner();
    assert!(!is_gone(&own));
    let (namespace, _) = own.split_once('x').unwrap();
    assert!(is_gone(&format!("{namespace}x{}", u32::MAX)));
    // No process has this one; whether that is so is seen from the initial namespace alone.
    assert_eq!(is_gone("7x1"), !in_pid_namespace());
    // Not there before its first process is.
    let link = format!("/proc/{}/ns/pid_for_children", other.id());
    let child = eventually(LONG, "a namespace", || fs::read_link(&link).ok());
    let child = child.to_string_lossy();
    let number: String = child.chars().filter(char::is_ascii_digit).collect();
    assert!(!is_gone(&format!("{number}x1")), "{child} runs");
    other.kill().unwrap();
    // A zombie, since nobody has waited for it.
    eventually(LONG, "it does not run", || !runs(other.id()));
    other.wait().unwrap();
    assert!(runs(std::process::id()));
}

#[test]
fn an_answer_is_awaited_by_a_process_that_was_stopped_meanwhile() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // A read with a limit ends with EINTR when its process goes on (signal(7)).
    ours.set_read_timeout(Some(LONG)).unwrap();
    let awaited = thread::spawn(move || reply(ours));
    let stop = "for i in 1 2 3; do sleep 0.1; kill -STOP $PPID; sleep 0.1; kill -CONT $PPID; done";
    let done = Command::new("sh").args(["-c", stop]).status().unwrap();
    assert!(done.success());
    theirs
        .write_all(b"HTTP/1.1 200 OK\r\n\r\nanswered")
        .unwrap();
    drop(theirs);
    assert_eq!(awaited.join().unwrap().unwrap().body, "answered");
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
    eventually(LONG, "many packets", || {
        lab.counter().arrived().total() > 20_000
    });
    let sent = flood.stop();
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    let reading = Instant::now();
    eventually(LONG, "the last packet", || {
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
    // A shell cannot trap what was ignored when it began, as under nohup.
    let script = "trap 'echo again >&2' HUP; trap 'echo bye >&2; exit 7' TERM; echo ready >&2; \
                  while :; do sleep 0.01; done";
    let mut daemon =
        Daemon::start(
            lab.host
                .command("env")
                .args(["--default-signal=HUP", "sh", "-c", script]),
        );
    daemon.wait_for_log("ready", LONG);
    daemon.hangup();
    daemon.wait_for_log("again", LONG);
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
