//! Hosts with rules of native nftables: what is proved of them, and what real packets do.
//!
//! `tests/fixtures/native/NAME.nft` is a ruleset in the form that its program makes, with the verdicts
//! that its first lines expect:
//!
//! ```text
//! # what: Docker 29 with firewall-backend nftables
//! # rules: ecs-init block        (what iptables holds beside it)
//! # expect: task-credentials docker0 held
//! ```

mod json;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ecs_netguard::os::facts::host_view;
use ecs_netguard::os::nft::Inventory;
use ecs_netguard::prove::{HostView, Prover};
use ecs_netguard::ruleset::{Family, Ruleset, parse_save};
use lab::Lab;
use lab::imds::IMDS;
use lab::namespace::Namespace;
use lab::probe::proto;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

use crate::fixtures::file::{Expected, found};

/// One file.
struct Native {
    name: String,
    text: String,
    rules: Vec<String>,
    expect: Vec<Expected>,
}

fn fixtures() -> Vec<Native> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/native");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Native {
    let text = fs::read_to_string(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let lines = |key: &str| {
        let key = format!("# {key}: ");
        let values = text
            .lines()
            .filter_map(|line| line.strip_prefix(&key).map(str::to_owned));
        values.collect::<Vec<String>>()
    };
    let expect = lines("expect").into_iter().map(|line| {
        let [guarantee, from, verdict] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{name}: {line}");
        };
        Expected {
            guarantee: guarantee.to_owned(),
            from: from.to_owned(),
            verdict: verdict.to_owned(),
        }
    });
    let expect: Vec<Expected> = expect.collect();
    let rules = lines("rules")
        .iter()
        .flat_map(|line| line.split(' '))
        .map(str::to_owned)
        .collect();
    assert!(
        !expect.is_empty() && lines("what").len() == 1,
        "{name}: first lines"
    );
    Native {
        name,
        rules,
        expect,
        text,
    }
}

/// A host with a ruleset, on which packets go where the rules let them.
fn scene(native: &Native) -> Lab {
    let lab = Lab::new();
    lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
    for from in lab.containers() {
        eventually(LONG, "containers reach IMDS", || {
            from.icmp_echo(IMDS).unwrap()
        });
    }
    let tamper = lab.tamper(Backend::Nft);
    for rules in &native.rules {
        match rules.as_str() {
            "ecs-init" => tamper.ecs_init_pre_start(),
            "block" => {
                for bridge in ["docker+", "br-+", "ecs-bridge"] {
                    tamper.iptables(&format!(
                        "-I FORWARD -d 169.254.169.254/32 -i {bridge} -j DROP"
                    ));
                }
            }
            other => panic!("{}: no rules {other}", native.name),
        }
    }
    lab.write("native.nft", &native.text);
    lab.host.sh("nft -f /run/lab/native.nft");
    lab
}

/// What is known of the host.
fn known(lab: &Lab) -> (Ruleset, HostView) {
    let (mut view, problems) = lab.host.run(|| host_view(None));
    assert_eq!(problems, [] as [String; 0]);
    let inventory = lab.host.run(Inventory::take).unwrap();
    view.native = inventory.native.decode(Family::V4);
    let saved = lab.tamper(Backend::Nft).save();
    (parse_save(Family::V4, saved).unwrap(), view)
}

fn verdict(ruleset: &Ruleset, view: &HostView, expected: &Expected) -> (&'static str, String) {
    found(&Prover::new(&[ruleset], view), &expected.claim(Family::V4))
}

fn namespace<'a>(lab: &'a Lab, from: &str) -> &'a Namespace {
    match from {
        "docker0" => &lab.docker,
        "br-+" => &lab.user,
        "ecs-bridge" => &lab.awsvpc,
        "host" => &lab.host,
        other => panic!("nothing is on {other}"),
    }
}

/// A service of the Kubernetes fixtures.
const SERVICE: &str = "10.100.30.2:80";

/// Whether anything that a container tries arrives at IMDS.
fn reaches_imds(lab: &Lab, from: &Namespace) -> bool {
    lab.counter().reset();
    from.set_patience(Duration::from_millis(20));
    for port in [80, 443] {
        from.tcp_connects(SocketAddr::new(IMDS, port));
    }
    from.udp_send(SocketAddr::new(IMDS, 53)).unwrap();
    from.icmp_echo(IMDS).unwrap();
    for number in [proto::SCTP, proto::GRE, proto::EXPERIMENT] {
        from.raw_proto(IMDS, number).unwrap();
    }
    // A service has two endpoints, of which one is taken by chance each time.
    for (elsewhere, times) in [("10.0.0.10:8888", 1), ("8.8.8.8:80", 1), (SERVICE, 16)] {
        for _ in 0..times {
            from.tcp_connects(elsewhere.parse().unwrap());
        }
    }
    from.set_patience(Duration::from_millis(300));
    lab.counter().arrived().total() > 0
}

#[test]
fn packets_fare_as_is_proved_of_native_rules() {
    let mut wrong = String::new();
    for native in fixtures() {
        let lab = scene(&native);
        let (ruleset, view) = known(&lab);
        // First what lets nothing through: of what is let through, an answer may still be under way.
        let mut expect: Vec<&Expected> = native.expect.iter().collect();
        expect.sort_by_key(|expected| expected.verdict.as_str());
        for expected in expect {
            let Expected {
                guarantee,
                from,
                verdict: wanted,
            } = expected;
            let (found, how) = verdict(&ruleset, &view, expected);
            if found != wanted {
                let _ = writeln!(
                    wrong,
                    "{}: {guarantee} {from}: {wanted} expected, {found} found\n{how}",
                    native.name
                );
            }
            let sender = namespace(&lab, from);
            let holds = match guarantee.as_str() {
                "imds-block" => !reaches_imds(&lab, sender),
                _ => sender.task_credentials().is_ok(),
            };
            if matches!(wanted.as_str(), "held" | "violated") && holds != (wanted == "held") {
                let _ = writeln!(
                    wrong,
                    "{}: {guarantee} {from} is {wanted}, and packets say otherwise",
                    native.name
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Exit code and text of a command of the program.
fn netguard(lab: &Lab, args: &[&str]) -> (i32, String) {
    let output = lab.netguard(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// A host that runs the guard, with the rules of a fixture.
fn guarded(fixture: &str, config: &str) -> Lab {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/native")
        .join(fixture);
    let mut native = read(&file);
    native.rules.clear();
    let lab = scene(&native);
    lab.write(
        "ecs.config",
        "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n",
    );
    lab.write("config.toml", config);
    lab
}

#[test]
fn beside_docker_29_kube_proxy_and_calico_everything_is_decided() {
    for fixture in ["docker29.nft", "kube-proxy.nft", "calico.nft"] {
        let lab = guarded(fixture, "");
        let (code, text) = netguard(&lab, &["apply"]);
        assert_eq!(code, 0, "{fixture}: {text}");
        assert!(!text.contains("UNDECIDED"), "{fixture}: {text}");
        let (code, text) = netguard(&lab, &["check"]);
        assert_eq!(code, 0, "{fixture}: {text}");
        for from in lab.containers() {
            assert!(from.task_credentials().is_ok(), "{fixture}");
            assert!(!reaches_imds(&lab, from), "{fixture}");
        }
    }
}

#[test]
fn the_native_chain_that_drops_credentials_is_named() {
    let lab = guarded("cis.nft", "[credentials]\nopen_input = \"never\"\n");
    let (code, text) = netguard(&lab, &["apply"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("inet filter input"), "{text}");
    assert!(text.contains("policy drop"), "{text}");
    assert!(!text.contains("UNDECIDED"), "{text}");
    assert!(lab.docker.task_credentials().is_err());
    assert!(lab.host.task_credentials().is_ok());
}

/// How often the guard's own rule stands in the host's native input chain, and whether it is the first.
fn opened(lab: &Lab) -> (usize, bool) {
    let listed = lab.host.sh("nft list chain inet filter input");
    let tagged = |line: &&str| line.contains("comment \"ecs-netguard: task-credentials\"");
    let mut rules = listed
        .lines()
        .skip_while(|line| !line.contains("policy drop"))
        .skip(1);
    let count = listed.lines().filter(tagged).count();
    (count, rules.next().is_some_and(|line| tagged(&line)))
}

#[test]
fn a_hardened_native_chain_is_opened_by_one_narrow_rule() {
    let lab = guarded("cis.nft", "");
    for _ in 0..2 {
        let (code, text) = netguard(&lab, &["apply"]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(opened(&lab), (1, true));
        for from in lab.containers() {
            assert!(from.task_credentials().is_ok());
            assert!(!reaches_imds(&lab, from));
        }
        assert!(!lab.neighbour.tcp_connects(SocketAddr::new(lab::HOST, 8500)));
        // No rule of iptables would have helped.
        let save = lab.tamper(Backend::Nft).save();
        assert!(
            !save.contains("-A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 51679"),
            "{save}"
        );
        let (code, text) = netguard(&lab, &["check"]);
        assert_eq!(code, 0, "{text}");
    }
    let restored = |what: &str, act: &str| {
        lab.host.sh(act);
        assert!(lab.docker.task_credentials().is_err(), "{what}");
        let (code, text) = netguard(&lab, &["check"]);
        assert_eq!(code, 1, "{what}: {text}");
        assert!(text.contains("inet filter input"), "{what}: {text}");
        let (code, text) = netguard(&lab, &["apply"]);
        assert_eq!(code, 0, "{what}: {text}");
        assert_eq!(opened(&lab), (1, true), "{what}");
        assert!(lab.docker.task_credentials().is_ok(), "{what}");
    };
    restored(
        "another rule on top",
        "nft insert rule inet filter input tcp dport 51679 drop",
    );
    lab.host.sh("nft delete rule inet filter input handle $(nft -a list chain inet filter input | sed -n 's/.*dport 51679 drop # handle //p')");
    restored(
        "the table loaded anew",
        "nft delete table inet filter; nft -f /run/lab/native.nft",
    );
    // No longer needed, no longer there.
    lab.host
        .sh("nft insert rule inet filter input ip daddr 127.0.0.1 accept");
    let (code, text) = netguard(&lab, &["apply"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(opened(&lab).0, 0);
    lab.host
        .sh("nft delete table inet filter; nft -f /run/lab/native.nft");
    netguard(&lab, &["apply"]);
    assert_eq!(opened(&lab), (1, true));
    let (code, text) = netguard(&lab, &["release"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(opened(&lab).0, 0, "release takes it out: {text}");
}

#[test]
fn a_daemon_keeps_a_hardened_native_chain_open() {
    let lab = guarded("cis.nft", "");
    let _daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n");
    let open = || opened(&lab) == (1, true);
    eventually(LONG, "the chain is opened", open);
    assert!(lab.docker.task_credentials().is_ok());
    lab.host
        .sh("nft delete table inet filter; nft -f /run/lab/native.nft");
    eventually(LONG, "the chain is opened again", open);
    assert!(lab.docker.task_credentials().is_ok());
}
