//! Saved rulesets of real programs, each with the verdicts that its first lines expect:
//!
//! ```text
//! # what: Docker 25.0 after AWS's documented rule and a restart of Docker
//! # load: nft legacy            (the backends that can load it; `none: needs ipset` otherwise)
//! # expect: imds-block docker0 violated
//! # expect: task-credentials host held
//! ```
//!
//! `NAME.rules` is what iptables-save printed, `NAME.rules6` what ip6tables-save did. An expectation
//! names a guarantee, an interface (or a prefix with `+`, or `host`) and a verdict. Most files were
//! printed by the program's own rules in a network namespace; `kube-proxy*`, `calico*` and `cis*` are
//! written in the form those have.

pub(crate) mod file;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use ecs_netguard::prove::{HostView, Iface, Prover};
use ecs_netguard::ruleset::{Family, Ruleset, parse_save};
use file::{Expected, Fixture, fixtures, found, ip};
use lab::Lab;
use lab::imds::{IMDS, IMDS6};
use lab::namespace::Namespace;
use lab::probe::proto;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

/// The host of the fixtures. `route_localnet` is on.
fn host() -> HostView {
    let interface = |name: &str, addrs: &[&str]| {
        let addrs = addrs.iter().copied().map(ip).collect();
        let route_localnet = true;
        (
            name.to_owned(),
            Iface {
                addrs,
                route_localnet,
            },
        )
    };
    HostView {
        interfaces: [
            interface("lo", &["127.0.0.1", "::1"]),
            interface("ens5", &["10.0.0.10", "fd00:10::10"]),
            interface("docker0", &["172.17.0.1", "fd00:17::1"]),
            interface("br-0123456789ab", &["172.18.0.1", "fd00:18::1"]),
            interface("ecs-bridge", &["169.254.172.1"]),
        ]
        .into(),
        route_localnet: true,
        ..HostView::default()
    }
}

fn verdict_of(ruleset: &Ruleset, expected: &Expected) -> (&'static str, String) {
    let host = host();
    found(
        &Prover::new(&[ruleset], &host),
        &expected.claim(ruleset.family),
    )
}

#[test]
fn every_fixture_is_read_to_its_last_word() {
    for fixture in fixtures() {
        let ruleset = fixture.ruleset();
        let rules: usize = ruleset
            .tables
            .values()
            .flat_map(|table| table.chains.values())
            .map(|chain| chain.rules.len())
            .sum();
        let lines = fixture.text.lines().filter(|line| {
            let rest = match line.strip_prefix('[') {
                Some(counters) => counters.split_once("] ").map_or("", |(_, rest)| rest),
                None => line,
            };
            rest.starts_with("-A ")
        });
        assert_eq!(rules, lines.count(), "{}", fixture.name);
    }
}

#[test]
fn the_prover_finds_what_each_fixture_expects() {
    let mut wrong = String::new();
    let mut verdicts = BTreeSet::new();
    for fixture in fixtures() {
        let ruleset = fixture.ruleset();
        for expected in &fixture.expect {
            let (found, how) = verdict_of(&ruleset, expected);
            verdicts.insert(found);
            if found != expected.verdict {
                let Expected {
                    guarantee,
                    from,
                    verdict,
                } = expected;
                let _ = writeln!(
                    wrong,
                    "{} ({}): {guarantee} {from}: {verdict} expected, {found} found\n{how}",
                    fixture.name, fixture.what
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(verdicts.len(), 4, "only {verdicts:?} ever found");
}

#[test]
fn the_kernel_takes_the_fixtures_and_gives_back_the_same() {
    let lab = Lab::new();
    for backend in Backend::ALL {
        let tamper = lab.tamper(backend);
        for fixture in fixtures().iter().filter(|f| f.loads(backend)) {
            let printed = match fixture.family {
                Family::V4 => {
                    tamper.restore_snapshot(&fixture.text);
                    tamper.save()
                }
                Family::V6 => {
                    tamper.restore_snapshot6(&fixture.text);
                    tamper.save6()
                }
            };
            let back = parse_save(fixture.family, &printed).unwrap();
            assert_same(&fixture.ruleset(), &back, &fixture.name, backend);
        }
        // Tables that a later file does not name would stay; and nothing may be left for the other
        // backend.
        empty(&lab, backend);
    }
}

/// Flushes every table, and sets the policies back.
fn empty(lab: &Lab, backend: Backend) {
    for program in [backend.iptables(), backend.ip6tables()] {
        lab.host.sh(&format!(
            "for t in raw mangle nat filter security; do {program} -t $t -F; {program} -t $t -X; done; \
             for c in INPUT FORWARD OUTPUT; do {program} -P $c ACCEPT; done"
        ));
    }
}

/// Every table of the file is in the kernel as it stands in the file. Tables it does not name are
/// left by the file before, and of no concern.
#[track_caller]
fn assert_same(file: &Ruleset, back: &Ruleset, name: &str, backend: Backend) {
    for (table, wanted) in &file.tables {
        let found = &back
            .tables
            .get(table)
            .unwrap_or_else(|| panic!("{name} {backend:?}: no table {table}"));
        assert!(
            wanted.chains.keys().eq(found.chains.keys()),
            "{name} {backend:?} {table}: chains"
        );
        for (chain, wanted) in &wanted.chains {
            let place = format!("{name} {backend:?} {table} {chain}");
            let found = &found.chains[chain];
            assert_eq!(wanted.policy, found.policy, "{place}");
            assert_eq!(wanted.rules.len(), found.rules.len(), "{place}");
            for (a, b) in wanted.rules.iter().zip(&found.rules) {
                let same = a.rule.same_as(&b.rule);
                assert!(same, "{place}: {} became {}", a.text, b.text);
            }
        }
    }
}

#[test]
fn packets_fare_as_the_fixtures_expect() {
    let all: Vec<Fixture> = fixtures()
        .into_iter()
        .filter(|fixture| fixture.loads(Backend::Nft))
        .collect();
    // Most of the time is spent waiting for answers that never come.
    let wrong: Vec<String> = thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks(all.len().div_ceil(4))
            .map(|part| scope.spawn(|| part.iter().flat_map(contradictions).collect::<Vec<_>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap())
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What real packets do otherwise than a fixture expects.
fn contradictions(fixture: &Fixture) -> Vec<String> {
    // A lab for each, because connections are remembered beyond a change of the rules.
    let lab = Lab::new();
    lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
    // Links come up in their own time; silence must be the rules' doing. By ICMP, of which nothing is
    // under way any more when the answer is there.
    for from in lab.containers() {
        for address in [IMDS, IMDS6] {
            eventually(LONG, "containers reach IMDS", || {
                from.icmp_echo(address).unwrap()
            });
        }
    }
    let tamper = lab.tamper(Backend::Nft);
    match fixture.family {
        Family::V4 => tamper.restore_snapshot(&fixture.text),
        Family::V6 => tamper.restore_snapshot6(&fixture.text),
    }
    let contradicted = |expected: &&Expected| {
        let Some(from) = namespace(&lab, &expected.from) else {
            return false;
        };
        let found = match expected.guarantee.as_str() {
            "imds-block" => !some_reach_imds(&lab, from, fixture),
            _ => from.task_credentials().is_ok(),
        };
        // A pattern can be violated by an interface that is not in the lab.
        match found {
            true => expected.verdict == "violated" && !expected.from.ends_with('+'),
            false => expected.verdict == "held",
        }
    };
    let describe = |expected: &Expected| {
        let Expected {
            guarantee,
            from,
            verdict,
        } = expected;
        format!("{}: {guarantee} {from} is not {verdict}", fixture.name)
    };
    // First those that let nothing through: of what is let through, an answer's answer may still be
    // under way when the next one is tried.
    ["held", "violated"]
        .into_iter()
        .flat_map(|verdict| fixture.expect.iter().filter(move |e| e.verdict == verdict))
        .filter(contradicted)
        .map(describe)
        .collect()
}

/// What in the lab stands for an interface.
fn namespace<'a>(lab: &'a Lab, interface: &str) -> Option<&'a Namespace> {
    Some(match interface {
        "docker0" => &lab.docker,
        "br-+" => &lab.user,
        "ecs-bridge" => &lab.awsvpc,
        "host" => &lab.host,
        _ => return None,
    })
}

/// Whether anything of all that a container can try arrives at IMDS: every kind of packet to its
/// address, and TCP to the addresses that some fixtures turn there.
fn some_reach_imds(lab: &Lab, from: &Namespace, fixture: &Fixture) -> bool {
    lab.counter().reset();
    // What counts is that packets arrive, not that anybody answers.
    from.set_patience(Duration::from_millis(20));
    let address = match fixture.family {
        Family::V4 => IMDS,
        Family::V6 => IMDS6,
    };
    from.tcp_connects(SocketAddr::new(address, 80));
    from.tcp_connects(SocketAddr::new(address, 443));
    from.udp_send(SocketAddr::new(address, 53)).unwrap();
    from.icmp_echo(address).unwrap();
    for number in [proto::SCTP, proto::GRE, proto::EXPERIMENT] {
        from.raw_proto(address, number).unwrap();
    }
    for (addr, times) in [("10.0.0.10:8888", 1), ("10.100.30.2:80", 16)] {
        let (ip, port) = addr.split_once(':').unwrap();
        // A service has two endpoints, of which one is taken by chance each time.
        let here = fixture.text.contains(ip) && fixture.text.contains(port);
        for _ in 0..if here { times } else { 0 } {
            from.tcp_connects(addr.parse().unwrap());
        }
    }
    from.set_patience(Duration::from_millis(300));
    lab.counter().arrived().total() > 0
}

/// A host with thousands of rules of an address list, in FORWARD's way.
fn big_host(count: usize) -> String {
    let mut text = String::from(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:blocklist - [0:0]\n\
         -A FORWARD -j blocklist\n",
    );
    for number in 0..count {
        let (high, low) = (number / 250, number % 250 + 1);
        let _ = match number % 4 {
            0 => writeln!(text, "-A blocklist -s 198.18.{high}.{low}/32 -j DROP"),
            1 => writeln!(
                text,
                "-A blocklist -d 198.19.{high}.{low}/32 -p tcp -m tcp --dport 25 -j REJECT --reject-with icmp-port-unreachable"
            ),
            2 => writeln!(
                text,
                "-A blocklist -s 100.64.{high}.{low}/32 -m comment --comment \"entry {number}\" -j RETURN"
            ),
            _ => writeln!(
                text,
                "-A blocklist -d 203.0.{high}.{low}/32 -i docker0 -p udp -m multiport --dports 53,123 -j ACCEPT"
            ),
        };
    }
    text
}

#[test]
fn five_thousand_rules_are_walked_in_time() {
    let block = "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n";
    let expected = |verdict: &str| Expected {
        guarantee: "imds-block".into(),
        from: "docker0".into(),
        verdict: verdict.into(),
    };
    let open = "-A blocklist -d 169.254.169.0/24 -p tcp -j ACCEPT\n";
    for (rules, verdict) in [
        (format!("{}{block}COMMIT\n", big_host(5_000)), "held"),
        (format!("{}COMMIT\n", big_host(5_000)), "violated"),
        (
            format!("{}{open}{block}COMMIT\n", big_host(5_000)),
            "violated",
        ),
    ] {
        let ruleset = parse_save(Family::V4, &rules).unwrap();
        let (found, how) = verdict_of(&ruleset, &expected(verdict));
        assert_eq!(found, verdict, "{how}");
    }
}

#[test]
fn the_kernel_takes_five_thousand_rules_and_gives_back_the_same() {
    let lab = Lab::new();
    let text = format!("{}COMMIT\n", big_host(5_000));
    let ruleset = parse_save(Family::V4, &text).unwrap();
    for backend in Backend::ALL {
        let tamper = lab.tamper(backend);
        tamper.restore_snapshot(&text);
        let back = parse_save(Family::V4, tamper.save()).unwrap();
        assert_same(&ruleset, &back, "5,000 rules", backend);
        empty(&lab, backend);
    }
}
