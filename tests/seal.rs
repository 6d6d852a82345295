//! The seal on a real kernel: what it holds, what may change it, and what stays of it.

use std::os::fd::AsFd as _;

use ecs_netguard::config::settings::RouteLocalnet;
use ecs_netguard::guarantee::{Guarantee, NativeRule, Rules, Scope};
use ecs_netguard::os::nft::Socket;
use ecs_netguard::ruleset::{Family, IfacePattern};
use ecs_netguard::seal::{self, Around, Error, Seal, SealReading, SealState};
use lab::Lab;
use lab::tamper::Backend;
use lab::wait::close;

fn rules(interfaces: &[&str]) -> Vec<NativeRule> {
    let scope = Scope {
        interfaces: interfaces
            .iter()
            .filter_map(|name| IfacePattern::parse(name))
            .collect(),
        families: vec![Family::V4, Family::V6],
        route_localnet: RouteLocalnet::All,
        ..Scope::default()
    };
    Rules::of(&[Guarantee::ImdsBlock, Guarantee::TaskCredentials], &scope).native
}

fn usual() -> Vec<NativeRule> {
    rules(&["docker+", "br-+", "ecs-bridge", "fargate-bridge"])
}

/// Makes the seal in the lab's host. The socket stays open as long as the value lives.
fn sealed(lab: &Lab, rules: Vec<NativeRule>) -> Seal {
    lab.host.run(move || {
        let mut seal = Seal::open(None).unwrap();
        assert!(
            seal.keep(&rules, Around::NOTHING).unwrap(),
            "nothing was done"
        );
        assert!(
            !seal.keep(&rules, Around::NOTHING).unwrap(),
            "the second time something was done"
        );
        seal
    })
}

/// Makes it and closes its socket.
fn orphaned(lab: &Lab) {
    orphan(lab, sealed(lab, usual()));
}

fn orphan(lab: &Lab, seal: Seal) {
    close(seal, || look(lab, usual()).state.is_owned());
}

fn look(lab: &Lab, rules: Vec<NativeRule>) -> SealReading {
    lab.host
        .run(move || seal::look(&mut Socket::open().unwrap(), &rules).unwrap())
}

fn list(lab: &Lab) -> String {
    lab.host.sh("nft list ruleset")
}

#[test]
fn it_holds_what_is_wanted_as_nft_shows_it() {
    let lab = Lab::new();
    let _seal = sealed(&lab, usual());
    let text = lab.host.sh("nft list table inet ecs_netguard");
    // Which process owns it differs from run to run.
    let text = without_owner(&text);
    insta::assert_snapshot!(text);
    let reading = look(&lab, usual());
    assert_eq!(reading.rules, usual());
    assert!(reading.state.is_owned(), "{:?}", reading.state);
}

fn without_owner(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.split_once(" # progname") {
            Some((before, _)) => before.to_owned(),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn packets_do_not_pass_and_are_counted() {
    let lab = Lab::new();
    let _seal = sealed(&lab, usual());
    for container in lab.containers() {
        for imds in [lab::imds::IMDS, lab::imds::IMDS6] {
            assert!(container.role_credentials_v1(imds).is_err());
        }
    }
    assert_eq!(lab.counter().arrived().total(), 0);
    let stopped = look(&lab, usual()).stopped;
    // The lab has no fargate-bridge.
    for interface in ["docker+", "br-+", "ecs-bridge"] {
        let packets: u64 = stopped
            .iter()
            .filter(|(rule, _)| rule.iif.as_ref().unwrap().to_string() == interface)
            .map(|(_, packets)| packets)
            .sum();
        assert!(packets > 0, "{interface}: {stopped:?}");
    }
}

#[test]
fn no_other_process_can_change_it() {
    let lab = Lab::new();
    let _seal = sealed(&lab, usual());
    for tampering in [
        "nft delete table inet ecs_netguard",
        "nft flush table inet ecs_netguard",
        "nft flush chain inet ecs_netguard forward",
        "nft insert rule inet ecs_netguard forward accept",
        "nft add chain inet ecs_netguard mine",
        "nft 'add table inet ecs_netguard { flags dormant; }'",
    ] {
        let error = lab.host.try_run(tampering).unwrap_err();
        assert!(
            error.contains("Operation not permitted"),
            "{tampering}: {error}"
        );
    }
    let before = list(&lab);
    lab.host.sh("nft flush ruleset");
    assert_eq!(list(&lab), before);
    assert_eq!(look(&lab, usual()).rules, usual());
}

#[test]
fn it_changes_in_one_step_and_goes_on_counting() {
    let lab = Lab::new();
    let seal = sealed(&lab, usual());
    assert!(lab.docker.role_credentials_v1(lab::imds::IMDS).is_err());
    let counted = |reading: &SealReading| reading.stopped.iter().map(|(_, n)| n).sum::<u64>();
    let before = counted(&look(&lab, usual()));
    assert!(before > 0);
    let fewer = rules(&["docker+"]);
    let wanted = fewer.clone();
    let seal = lab.host.run(move || {
        let mut seal = seal;
        assert!(seal.keep(&wanted, Around::NOTHING).unwrap());
        seal
    });
    let after = look(&lab, fewer.clone());
    assert_eq!(after.rules, fewer);
    assert_eq!(counted(&after), before);
    assert!(
        look(&lab, usual()).rules.is_empty(),
        "it is not what it was"
    );
    lab.host.run(move || {
        let mut seal = seal;
        assert!(seal.keep(&[], Around::NOTHING).unwrap());
    });
    assert_eq!(list(&lab), "");
}

#[test]
fn with_its_socket_closed_a_table_stays_and_is_adopted() {
    let lab = Lab::new();
    orphaned(&lab);
    assert_eq!(lab.counter().arrived().total(), 0);
    assert!(lab.docker.role_credentials_v1(lab::imds::IMDS).is_err());
    assert_eq!(lab.counter().arrived().total(), 0, "something got through");
    let orphan = look(&lab, usual());
    assert!(!orphan.rules.is_empty(), "no table stayed:\n{}", list(&lab));
    assert_eq!(orphan.state, SealState::Unowned);
    let _again = sealed(&lab, usual());
    let adopted = look(&lab, usual());
    assert!(adopted.state.is_owned(), "{:?}", adopted.state);
    assert_eq!(adopted.rules, usual());
}

#[test]
fn a_copy_of_the_socket_keeps_it_owned_and_changeable() {
    let lab = Lab::new();
    let seal = sealed(&lab, usual());
    let copy = seal.as_fd().try_clone_to_owned().unwrap();
    let before = look(&lab, usual());
    drop(seal);
    assert_eq!(look(&lab, usual()), before);
    let error = lab.host.try_run("nft delete table inet ecs_netguard");
    assert!(error.unwrap_err().contains("Operation not permitted"));
    let _seal = lab.host.run(move || {
        let mut seal = Seal::open(Some(copy)).unwrap();
        assert!(
            !seal.keep(&usual(), Around::NOTHING).unwrap(),
            "it was whole"
        );
        assert!(seal.keep(&rules(&["docker+"]), Around::NOTHING).unwrap());
        seal
    });
    assert_eq!(look(&lab, usual()).rules, []);
}

#[test]
fn a_table_that_another_owns_is_named_and_left() {
    let lab = Lab::new();
    let _theirs = sealed(&lab, usual());
    let error = lab.host.run(|| {
        let mut mine = Seal::open(None).unwrap();
        mine.keep(&rules(&["docker+"]), Around::NOTHING)
            .unwrap_err()
    });
    assert!(
        matches!(error, Error::Taken { port, .. } if port != 0),
        "{error}"
    );
    assert!(
        lab.host
            .run(|| seal::remove_all(&mut Socket::open().unwrap()).is_err())
    );
}

#[test]
fn an_orphan_that_another_program_altered_is_repaired() {
    let lab = Lab::new();
    for tampering in [
        "nft flush chain inet ecs_netguard forward",
        "nft insert rule inet ecs_netguard forward accept",
        "nft 'add chain inet ecs_netguard mine { type filter hook input priority 0; policy drop; }'",
        "nft 'chain inet ecs_netguard prerouting { policy drop; }'",
        "nft delete table inet ecs_netguard",
        "nft 'delete table inet ecs_netguard; add table inet ecs_netguard { chain forward { type filter hook forward priority 90; }; }'",
    ] {
        orphaned(&lab);
        if let Err(error) = lab.host.try_run(tampering) {
            panic!("{tampering}: {error}");
        }
        assert_ne!(look(&lab, usual()).rules, usual(), "{tampering}");
        let seal = sealed(&lab, usual());
        assert_eq!(look(&lab, usual()).rules, usual(), "{tampering}");
        orphan(&lab, seal);
        assert!(
            lab.host
                .run(|| seal::remove_all(&mut Socket::open().unwrap()).unwrap())
                .contains(&"ecs_netguard")
        );
        assert_eq!(list(&lab), "");
    }
}

#[test]
fn a_docker_restart_without_a_daemon_opens_nothing() {
    for backend in Backend::ALL {
        let lab = Lab::new();
        orphaned(&lab);
        lab.tamper(backend).aws_documented_block();
        lab.tamper(backend).docker25_restart();
        for container in lab.containers() {
            assert!(container.role_credentials_v1(lab::imds::IMDS).is_err());
        }
        assert_eq!(lab.counter().arrived().total(), 0);
    }
}

/// What is no chain of the seal's could lead packets past them.
#[test]
fn a_table_in_which_anything_else_stands_is_not_intact() {
    let lab = Lab::new();
    orphaned(&lab);
    for more in [
        "nft add chain inet ecs_netguard more",
        "nft add set inet ecs_netguard more '{ type ipv4_addr; }'",
        "nft add map inet ecs_netguard more '{ type ipv4_addr : verdict; }'",
        "nft add counter inet ecs_netguard more",
        "nft insert rule inet ecs_netguard forward ip daddr '{ 192.0.2.1, 192.0.2.2 }' drop",
    ] {
        assert_eq!(look(&lab, usual()).state, SealState::Unowned, "{more}");
        lab.host.sh(more);
        assert_eq!(look(&lab, usual()).state, SealState::Missing, "{more}");
        orphaned(&lab);
    }
}
