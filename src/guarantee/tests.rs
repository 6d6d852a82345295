use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::config::settings::RouteLocalnet;
use crate::prove::PacketClass;
use crate::ruleset::{Family, IfacePattern, Net};

fn net(text: &str) -> Net {
    Net::parse(Family::V4, text).unwrap()
}

/// A usual host, with everything.
fn usual() -> Scope {
    Scope {
        interfaces: ["docker+", "br-+", "ecs-bridge"].map(interface).into(),
        families: vec![Family::V4, Family::V6],
        default_bridge: Some("docker0".to_owned()),
        bridges: BTreeMap::from([
            ("docker0".to_owned(), vec![net("172.17.0.0/16")]),
            ("ecs-bridge".to_owned(), Vec::new()),
        ]),
        route_localnet: RouteLocalnet::All,
        ipv6_only: false,
        allowed: None,
        host_tasks: Some(TaskCgroup::Present(Cgroup {
            path: "ecstasks.slice".to_owned(),
            id: 4711,
        })),
    }
}

/// One without IPv6, without a default bridge, and with the sysctl on bridges alone.
fn spare() -> Scope {
    Scope {
        interfaces: vec![interface("br-+")],
        families: vec![Family::V4],
        default_bridge: None,
        bridges: BTreeMap::from([
            (
                "br-1".to_owned(),
                vec![net("10.1.0.0/24"), net("10.2.0.0/24")],
            ),
            ("br-2".to_owned(), Vec::new()),
        ]),
        route_localnet: RouteLocalnet::Bridges,
        ipv6_only: false,
        allowed: None,
        host_tasks: None,
    }
}

#[test]
fn a_route_to_the_credentials_is_wanted_where_there_is_no_default_route() {
    let routes = |ipv6_only| {
        let scope = Scope {
            ipv6_only,
            ..usual()
        };
        let rules = Rules::of(&Guarantee::ALL, &scope);
        let objects = rules.routes.iter().map(|route| route_object(route.to));
        objects.collect::<Vec<_>>()
    };
    assert_eq!(routes(false), Vec::<String>::new());
    assert_eq!(routes(true), ["route 169.254.170.2/32 dev lo"]);
}

/// Everything that the guarantees say in a scope.
fn said(scope: &Scope) -> String {
    let mut text = String::new();
    for guarantee in Guarantee::ALL {
        writeln!(text, "{guarantee}").unwrap();
        let rules = guarantee.rules(scope);
        assert_eq!(rules.unprintable, []);
        for rule in rules.iptables {
            assert_eq!(rule.guarantee, guarantee);
            let WantedRule {
                family,
                table,
                chain,
                listed,
                ..
            } = rule;
            writeln!(text, "  {family} {table} {chain} {}", listed.text).unwrap();
        }
        for sysctl in rules.sysctls {
            assert_eq!(sysctl.guarantee, guarantee);
            writeln!(text, "  route_localnet of {}", sysctl.interface).unwrap();
        }
        for rule in rules.native {
            assert_eq!(rule.guarantee, guarantee);
            writeln!(text, "  {:?} {rule}", rule.hook).unwrap();
        }
        for claim in guarantee.claims(scope) {
            assert_eq!(claim.guarantee, guarantee.name());
            let PacketClass {
                family,
                moment,
                turned,
                ..
            } = claim.packets;
            let also = if turned { ", turned there or not" } else { "" };
            writeln!(text, "  {family} {moment:?}: {claim}{also}").unwrap();
        }
    }
    text
}

#[test]
fn a_usual_host_gets_these_rules_and_claims() {
    insta::assert_snapshot!(said(&usual()));
}

#[test]
fn a_host_with_little_gets_these_rules_and_claims() {
    insta::assert_snapshot!(said(&spare()));
}

#[test]
fn tasks_with_an_interface_of_their_own_have_a_rule_in_their_namespace() {
    let drops = awsvpc_imds_block::drops();
    let shown: Vec<String> = drops
        .iter()
        .map(|rule| format!("{} {:?} {rule}", rule.guarantee, rule.hook))
        .collect();
    assert_eq!(
        shown,
        [
            "awsvpc-imds-block Postrouting ip daddr 169.254.169.254 drop",
            "awsvpc-imds-block Postrouting ip6 daddr fd00:ec2::254 drop",
        ]
    );
}

#[test]
fn input_is_opened_for_what_nat_sent_to_the_agent() {
    let rules = task_credentials::open_input();
    let [rule] = rules.iptables.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!(
        rule.listed.text,
        "-d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -m conntrack --ctstate DNAT \
         -m comment --comment \"ecs-netguard: task-credentials\" -j ACCEPT"
    );
    let place = (rule.family, rule.table, rule.chain);
    assert_eq!(place, (Family::V4, "filter", "INPUT"));
    assert_eq!(
        rule.object(),
        "IPv4 filter INPUT: -d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -m conntrack \
         --ctstate DNAT -j ACCEPT"
    );
}

/// Scopes of every kind: what any host and any settings may lead to.
fn scopes() -> Vec<Scope> {
    let interfaces = [vec![], vec!["docker+"], vec!["a", "b-+", "c.1", "+"]];
    let families = [vec![Family::V4], vec![Family::V4, Family::V6]];
    let path = || "a/b-c.slice".to_owned();
    let tasks = [
        None,
        Some(TaskCgroup::Present(Cgroup {
            path: path(),
            id: u64::MAX,
        })),
        Some(TaskCgroup::Absent { path: path() }),
        Some(TaskCgroup::Useless {
            path: path(),
            why: String::new(),
        }),
    ];
    let mut scopes = Vec::new();
    for names in &interfaces {
        for families in &families {
            for host_tasks in &tasks {
                for route_localnet in [RouteLocalnet::All, RouteLocalnet::Bridges] {
                    for default_bridge in [None, Some("docker0".to_owned())] {
                        scopes.push(Scope {
                            interfaces: names.iter().map(|name| interface(name)).collect(),
                            families: families.clone(),
                            default_bridge,
                            route_localnet,
                            host_tasks: host_tasks.clone(),
                            ..usual()
                        });
                    }
                }
            }
        }
    }
    scopes
}

#[test]
fn every_rule_of_every_guarantee_can_be_written_and_reads_back_as_the_same() {
    for scope in scopes() {
        let rules = Rules::of(&Guarantee::ALL, &scope);
        assert_eq!(rules.unprintable, [], "{scope:?}");
        for rule in rules.iptables {
            let WantedRule {
                family,
                table,
                chain,
                listed,
                ..
            } = rule;
            let listing = format!("-P {chain} ACCEPT\n-A {chain} {}\n", listed.text);
            let read = crate::ruleset::parse_listing(family, table, listing).unwrap();
            let [read] = read.chains[chain].rules.as_slice() else {
                panic!("{listed:?}");
            };
            assert_eq!(read.text, listed.text);
            assert!(read.rule.same_as(&listed.rule), "{}", listed.text);
            assert_eq!(Guarantee::owning(&read.rule), Some(rule.guarantee));
        }
    }
}

#[test]
fn what_cannot_be_written_is_named_and_the_rest_is_wanted() {
    let scope = Scope {
        interfaces: vec![interface("docker 0"), interface("br-+")],
        ..spare()
    };
    let rules = Rules::of(&[Guarantee::ImdsBlock], &scope);
    assert_eq!((rules.iptables.len(), rules.native.len()), (1, 4));
    let [(guarantee, error)] = rules.unprintable.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!(*guarantee, Guarantee::ImdsBlock);
    let words = "a rule with `-i docker 0` cannot be written for iptables";
    assert_eq!(error.to_string(), words);
}

#[test]
fn rules_come_in_the_order_of_the_guarantees_whatever_that_of_the_wishes() {
    let scope = usual();
    let mut backwards = Guarantee::ALL;
    backwards.reverse();
    let rules = Rules::of(&backwards, &scope);
    assert_eq!(rules, Rules::of(&Guarantee::ALL, &scope));
    let mut order: Vec<Guarantee> = rules.iptables.iter().map(|rule| rule.guarantee).collect();
    order.dedup();
    let in_host = Guarantee::ALL.into_iter();
    let in_host = in_host.filter(|guarantee| *guarantee != Guarantee::AwsvpcImdsBlock);
    assert!(order.into_iter().eq(in_host));
    let some = Rules::of(&[Guarantee::TaskCredentials], &scope);
    assert_eq!(some, task_credentials::rules(&scope));
}

#[test]
fn a_scope_covers_what_a_pattern_fits() {
    let scope = usual();
    for (name, covered) in [
        ("docker0", true),
        ("docker", true),
        ("br-0f3a", true),
        ("ecs-bridge", true),
        ("ecs-bridge0", false),
        ("eth0", false),
        ("", false),
    ] {
        assert_eq!(scope.covers(name), covered, "{name}");
    }
}

#[test]
fn a_name_that_iptables_cannot_be_given_is_still_an_interface() {
    let exact = |name: &str| IfacePattern::Exact(name.to_owned());
    assert_eq!(
        interface("docker+"),
        IfacePattern::Prefix("docker".to_owned())
    );
    assert_eq!(interface("docker0"), exact("docker0"));
    assert_eq!(interface("docker 0"), exact("docker 0"));
}

#[test]
fn names_are_padded() {
    assert_eq!(format!("{:>11}|", Guarantee::ImdsBlock), " imds-block|");
}

#[test]
fn a_tagged_rule_that_stands_is_kept_once_where_its_guarantee_is_one_of_these() {
    use Family::{V4, V6};
    use Guarantee::{ImdsBlock, TaskCredentials};
    let (none, block) = (Rules::default(), Rules::of(&[ImdsBlock], &spare()));
    let standing = block.iptables[0].listed.clone();
    let mut untagged = standing.clone();
    untagged.rule = untagged.rule.without_comment();
    for (rules, of, family, chain, listed, kept) in [
        (&none, ImdsBlock, V4, "FORWARD", &standing, true),
        (&none, TaskCredentials, V4, "FORWARD", &standing, false),
        (&none, ImdsBlock, V4, "FORWARD", &untagged, false),
        (&block, ImdsBlock, V4, "FORWARD", &standing, false),
        (&block, ImdsBlock, V6, "FORWARD", &standing, true),
        (&block, ImdsBlock, V4, "OUTPUT", &standing, true),
    ] {
        let mut after = rules.clone();
        after.keep_standing(&[of], family, ("filter", chain), listed);
        let new = kept.then(|| WantedRule {
            guarantee: of,
            family,
            table: "filter",
            chain,
            listed: listed.clone(),
        });
        let wanted: Vec<_> = rules.iptables.iter().cloned().chain(new).collect();
        assert_eq!(after.iptables, wanted, "{of} {family} {chain}");
    }
}

#[test]
fn a_sysctl_is_shown_as_it_is_set() {
    let sysctl = WantedSysctl {
        guarantee: Guarantee::TaskCredentials,
        interface: "br-1".to_owned(),
    };
    assert_eq!(sysctl.object(), "net.ipv4.conf.br-1.route_localnet=1");
}

#[test]
fn the_edge_is_the_blocks_and_that_of_host_tasks_where_it_stops_raw_frames_alone() {
    let (all, raw) = (
        EdgeRules::sockets_only(&[Family::V4]),
        EdgeRules::no_raw_frames(&[Family::V4]),
    );
    assert_eq!(all.guarantee(), Guarantee::ImdsBlock);
    assert_eq!(raw.guarantee(), Guarantee::HostImdsBlock);
}
