use std::collections::BTreeSet;

use super::*;
use crate::config::settings::RouteLocalnet;
use crate::guarantee::{Scope, interface};
use crate::ruleset::{Table, parse_listing};

mod sysctls;

fn plan(wanted: &Rules, actual: &Snapshot) -> Plan {
    super::plan(wanted, actual, &[])
}

fn scope() -> Scope {
    Scope {
        interfaces: ["docker+", "br-+"].map(interface).into(),
        families: vec![Family::V4],
        default_bridge: Some("docker0".into()),
        bridges: BTreeMap::from([("docker0".into(), Vec::new())]),
        route_localnet: RouteLocalnet::All,
        ipv6_only: false,
        allowed: None,
        host_tasks: None,
    }
}

fn wanted(required: &[Guarantee]) -> Rules {
    Rules::of(required, &scope())
}

const EMPTY_FILTER: &str = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n";
const EMPTY_NAT: &str =
    "-P PREROUTING ACCEPT\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n";

fn table(name: &str, text: &str) -> Table {
    parse_listing(Family::V4, name, text).unwrap()
}

/// A host that holds these rules (without their `-P` lines) and this value of `route_localnet`.
fn host(filter: &str, nat: &str, route_localnet: &str) -> Snapshot {
    let mut ruleset = Ruleset::new(Family::V4);
    ruleset.tables.insert(
        "filter".into(),
        table("filter", &format!("{EMPTY_FILTER}{filter}")),
    );
    ruleset
        .tables
        .insert("nat".into(), table("nat", &format!("{EMPTY_NAT}{nat}")));
    Snapshot {
        rulesets: BTreeMap::from([(Family::V4, ruleset)]),
        route_localnet: BTreeMap::from([("all".into(), Some(route_localnet.into()))]),
        ..Snapshot::default()
    }
}

/// The wanted rules of a chain as a listing prints them.
fn listing(required: &[Guarantee], chain: &str) -> String {
    let rules = wanted(required).iptables;
    let lines = rules.iter().filter(|rule| rule.chain == chain);
    lines
        .map(|rule| format!("-A {chain} {}\n", rule.listed.text))
        .collect()
}

fn kinds(plan: &Plan) -> Vec<DriftKind> {
    plan.drifts.iter().map(|drift| drift.kind).collect()
}

fn steps(plan: &Plan) -> String {
    let text = |step: &Step| match step {
        Step::Restore { input, .. } => input.clone(),
        other => format!("{other}\n"),
    };
    plan.steps.iter().map(text).collect()
}

const BLOCK: [Guarantee; 1] = [Guarantee::ImdsBlock];
const ALL: [Guarantee; Guarantee::ALL.len()] = Guarantee::ALL;

#[test]
fn on_the_way_in_the_sysctl_comes_last() {
    insta::assert_snapshot!(steps(&plan(&wanted(&ALL), &host("", "", "0"))));
}

#[test]
fn on_the_way_out_the_sysctl_comes_first() {
    let filter = listing(&ALL, "INPUT") + &listing(&ALL, "FORWARD");
    let nat = listing(&ALL, "PREROUTING") + &listing(&[Guarantee::TaskCredentials], "OUTPUT");
    let mut snapshot = host(&filter, &nat, "1");
    snapshot.previous.insert("all".into(), "0".into());
    insta::assert_snapshot!(steps(&plan(&Rules::default(), &snapshot)));
}

#[test]
fn a_paused_chain_is_left_alone_and_no_other() {
    let actual = host("", "", "1");
    let chain = |family, table: &str, chain: &str| ChainId {
        family,
        table: table.to_owned(),
        chain: chain.to_owned(),
    };
    let drifts = |paused: &[ChainId]| {
        let plan = super::plan(&wanted(&ALL), &actual, paused);
        let chains = plan.drifts.iter();
        let chains: BTreeSet<String> = chains
            .map(|drift| drift.object.split(':').next().unwrap().to_owned())
            .collect();
        (chains, steps(&plan))
    };
    let (all, _) = drifts(&[]);
    let forward = "IPv4 filter FORWARD";
    assert!(all.contains(forward), "{all:?}");
    let (left, steps) = drifts(&[chain(Family::V4, "filter", "FORWARD")]);
    assert_eq!(all.difference(&left).collect::<Vec<_>>(), [forward]);
    assert!(!steps.contains("-I FORWARD") && steps.contains("-I INPUT"));
    for other in [
        chain(Family::V6, "filter", "FORWARD"),
        chain(Family::V4, "mangle", "FORWARD"),
        chain(Family::V4, "filter", "DOCKER"),
    ] {
        assert_eq!(drifts(&[other]).0, all);
    }
}

#[test]
fn what_stands_in_its_place_needs_nothing() {
    let filter = listing(&BLOCK, "FORWARD") + "-A FORWARD -j ACCEPT\n";
    assert_eq!(
        plan(&wanted(&BLOCK), &host(&filter, "", "0")),
        Plan::default()
    );
}

#[test]
fn a_rule_above_the_block_displaces_it() {
    let filter = "-A FORWARD -i docker0 -j ACCEPT\n".to_owned() + &listing(&BLOCK, "FORWARD");
    let plan = plan(&wanted(&BLOCK), &host(&filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Displaced, DriftKind::Displaced]);
    insta::assert_snapshot!(steps(&plan));
}

#[test]
fn a_rule_within_the_block_displaces_what_is_below() {
    let block = listing(&BLOCK, "FORWARD");
    let filter = block.replacen('\n', "\n-A FORWARD -j ACCEPT\n", 1);
    let plan = plan(&wanted(&BLOCK), &host(&filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Displaced]);
}

#[test]
fn a_doubled_rule_is_taken_out_as_often_as_it_is_there() {
    let filter = listing(&BLOCK, "FORWARD") + &listing(&BLOCK, "FORWARD");
    let plan = plan(&wanted(&BLOCK), &host(&filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Doubled, DriftKind::Doubled]);
    assert_eq!(steps(&plan).matches("-D FORWARD").count(), 4);
    assert_eq!(steps(&plan).matches("-I FORWARD").count(), 2);
}

#[test]
fn a_tagged_rule_that_is_not_wanted_is_stray_wherever_it_is() {
    let filter = "-A INPUT -i eth0 -m comment --comment \"ecs-netguard: imds-block\" -j DROP\n";
    let plan = plan(&Rules::default(), &host(filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Stray]);
}

#[test]
fn rules_without_the_tag_are_never_touched() {
    let filter = "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n\
                  -A FORWARD -m comment --comment \"ecs-netguard: something else\" -j DROP\n\
                  -A FORWARD -m comment --comment \"not ecs-netguard: imds-block\" -j DROP\n\
                  -A FORWARD -m comment --comment \"ecs-netguard: imds-block\" -m comment --comment \"\nCOMMIT\n\" -j DROP\n";
    let plan = plan(&wanted(&BLOCK), &host(filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Missing, DriftKind::Missing]);
    assert!(!steps(&plan).contains("-D "), "{}", steps(&plan));
}

#[test]
fn what_the_steps_leave_needs_no_steps() {
    // Loads each transaction into the model as iptables-restore would, and plans again.
    let before = "-A FORWARD -j DOCKER-USER\n".to_owned() + &listing(&BLOCK, "FORWARD");
    let filter = format!("-N DOCKER-USER\n{before}");
    let mut snapshot = host(&filter, "", "0");
    let planned = plan(&wanted(&BLOCK), &snapshot);
    let mut rules: Vec<String> = before
        .lines()
        .map(|line| line.replacen("-A FORWARD ", "", 1))
        .collect();
    for line in steps(&planned).lines() {
        if let Some(spec) = line.strip_prefix("-D FORWARD ") {
            let at = rules.iter().position(|rule| rule == spec).unwrap();
            rules.remove(at);
        } else if let Some(rest) = line.strip_prefix("-I FORWARD ") {
            let (place, spec) = rest.split_once(' ').unwrap();
            rules.insert(place.parse::<usize>().unwrap() - 1, spec.to_owned());
        }
    }
    let after: String = rules
        .iter()
        .map(|rule| format!("-A FORWARD {rule}\n"))
        .collect();
    let text = format!("{EMPTY_FILTER}-N DOCKER-USER\n{after}");
    let ruleset = snapshot.rulesets.get_mut(&Family::V4).unwrap();
    ruleset
        .tables
        .insert("filter".into(), table("filter", &text));
    assert_eq!(plan(&wanted(&BLOCK), &snapshot), Plan::default());
}

#[test]
fn a_rule_for_an_earlier_cgroup_is_replaced() {
    let of = |id| {
        let path = "ecstasks.slice".to_owned();
        let cgroup = crate::guarantee::Cgroup { path, id };
        let scope = Scope {
            host_tasks: Some(crate::guarantee::TaskCgroup::Present(cgroup)),
            ..scope()
        };
        Rules::of(&[Guarantee::HostImdsBlock], &scope)
    };
    let held = format!("-A OUTPUT {}\n", of(7).iptables[0].listed.text);
    let snapshot = host(&held, "", "0");
    assert_eq!(plan(&of(7), &snapshot), Plan::default());
    let plan = plan(&of(8), &snapshot);
    assert_eq!(kinds(&plan), [DriftKind::Missing, DriftKind::Stray]);
    let steps = steps(&plan);
    assert!(steps.contains("-D OUTPUT") && steps.contains("-I OUTPUT 1"));
    assert!(
        steps.contains("(cgroup 7)") && steps.contains("(cgroup 8)"),
        "{steps}"
    );
}

/// The same host with IPv6 rules too.
fn both(mut snapshot: Snapshot, filter: &str) -> Snapshot {
    let mut ruleset = Ruleset::new(Family::V6);
    let text = format!("{EMPTY_FILTER}{filter}");
    let filter = parse_listing(Family::V6, "filter", text).unwrap();
    ruleset.tables.insert("filter".into(), filter);
    snapshot.rulesets.insert(Family::V6, ruleset);
    snapshot
}

fn wanted_in_both(required: &[Guarantee]) -> Rules {
    let families = vec![Family::V4, Family::V6];
    let scope = Scope {
        families,
        ..scope()
    };
    Rules::of(required, &scope)
}

fn names(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::to_string).collect()
}

#[test]
fn filters_come_before_nat_and_ipv4_before_ipv6() {
    let everything = wanted_in_both(&ALL);
    let steps = plan(&everything, &both(host("", "", "0"), ""));
    let sysctl = "set net.ipv4.conf.all.route_localnet=1";
    assert_eq!(
        names(&steps),
        [
            "rebuild IPv4 filter",
            "rebuild IPv6 filter",
            "rebuild IPv4 nat",
            sysctl
        ]
    );
    let about = |step: &Step| (step.family(), step.object().to_owned());
    let about: Vec<(Family, String)> = steps.steps.iter().map(about).collect();
    let place = |family, object: &str| (family, object.to_owned());
    assert_eq!(
        about,
        [
            place(Family::V4, "filter"),
            place(Family::V6, "filter"),
            place(Family::V4, "nat"),
            place(Family::V4, "route_localnet"),
        ]
    );
}

#[test]
fn on_the_way_out_everything_goes_in_reverse() {
    let in_chain = |chain: &'static str, family| {
        let rules = wanted_in_both(&ALL).iptables.into_iter();
        let rules = rules.filter(move |rule| rule.chain == chain && rule.family == family);
        let lines = rules.map(|rule| format!("-A {chain} {}\n", rule.listed.text));
        lines.collect::<String>()
    };
    let filter = in_chain("FORWARD", Family::V4);
    let nat = in_chain("PREROUTING", Family::V4);
    let mut snapshot = both(host(&filter, &nat, "1"), &in_chain("FORWARD", Family::V6));
    snapshot.previous.insert("all".into(), "0".into());
    assert_eq!(
        names(&plan(&Rules::default(), &snapshot)),
        [
            "set net.ipv4.conf.all.route_localnet=0",
            "rebuild IPv4 nat",
            "rebuild IPv6 filter",
            "rebuild IPv4 filter",
        ]
    );
}

#[test]
fn a_rule_belongs_to_its_family_table_and_chain() {
    // IPv4's rules in IPv6's FORWARD, and those of FORWARD in INPUT, are not misplaced.
    let block = wanted(&BLOCK).iptables;
    let elsewhere = |chain: &str| format!("-A {chain} {}\n", block[0].listed.text);
    let plan = plan(&wanted(&BLOCK), &host(&elsewhere("INPUT"), "", "0"));
    let kinds = kinds(&plan);
    assert_eq!(
        kinds,
        [DriftKind::Missing, DriftKind::Missing, DriftKind::Stray]
    );
    assert_eq!(
        plan.drifts[0].object,
        "IPv4 filter FORWARD: -d 169.254.169.254/32 -i docker+ -j DROP"
    );
}

#[test]
fn a_stray_rule_that_cannot_be_written_is_shown_as_it_was_read() {
    let rule = "-m set --match-set a src -m comment --comment \"ecs-netguard: imds-block\" -j DROP";
    let plan = plan(
        &Rules::default(),
        &host(&format!("-A INPUT {rule}\n"), "", "0"),
    );
    assert_eq!(plan.drifts[0].object, format!("IPv4 filter INPUT: {rule}"));
}

#[test]
fn a_rule_stands_wherever_it_is_in_its_chain() {
    let rule = &wanted(&BLOCK).iptables[0];
    let text = &rule.listed.text;
    for (filter, found) in [
        (String::new(), false),
        (format!("-A FORWARD {text}\n"), true),
        (format!("-A FORWARD -j ACCEPT\n-A FORWARD {text}\n"), true),
        (format!("-A FORWARD {text}\n-A FORWARD {text}\n"), true),
        (format!("-A INPUT {text}\n"), false),
        (
            "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n".to_owned(),
            false,
        ),
    ] {
        assert_eq!(stands(rule, &host(&filter, "", "0")), found, "{filter}");
    }
    let in_ipv6 = WantedRule {
        family: Family::V6,
        ..rule.clone()
    };
    let snapshot = host(&format!("-A FORWARD {text}\n"), "", "0");
    assert!(!stands(&in_ipv6, &snapshot));
    let in_nat = WantedRule {
        table: "nat",
        ..rule.clone()
    };
    assert!(!stands(&in_nat, &snapshot));
}

/// The rules of a chain, as texts, without the comments.
fn texts(chain: &Chain) -> Vec<String> {
    let rules = chain.rules.iter();
    rules
        .map(|listed| listed.rule.without_comment().print(Family::V4).unwrap())
        .collect()
}

#[test]
fn applied_is_what_the_steps_lead_to() {
    let block = wanted(&BLOCK);
    let stray = "-A FORWARD -m comment --comment \"ecs-netguard: imds-block\" -j DROP\n";
    let filter = format!(
        "-A FORWARD -i x -j ACCEPT\n{stray}{}",
        listing(&BLOCK, "FORWARD")
    );
    let snapshot = host(&filter, "", "0");
    let mut ruleset = applied(&block, &snapshot.rulesets[&Family::V4]);
    let chain = &ruleset.tables["filter"].chains["FORWARD"];
    assert_eq!(
        texts(chain),
        [
            "-d 169.254.169.254/32 -i docker+ -j DROP",
            "-d 169.254.169.254/32 -i br-+ -j DROP",
            "-i x -j ACCEPT",
        ]
    );
    ruleset.tables.remove("filter");
    // An unused table.
    let made = applied(&block, &ruleset);
    let chain = &made.tables["filter"].chains["FORWARD"];
    assert_eq!((chain.policy, chain.rules.len()), (Some(Policy::Accept), 2));
    // IPv4's rules are not put into IPv6's chains.
    assert_eq!(
        applied(&block, &Ruleset::new(Family::V6)),
        Ruleset::new(Family::V6)
    );
}

#[test]
fn what_is_wrong_is_one_word() {
    let kinds = [
        DriftKind::Missing,
        DriftKind::Displaced,
        DriftKind::Doubled,
        DriftKind::Stray,
    ];
    let words = kinds.map(|kind| format!("{kind:>10}"));
    assert_eq!(
        words,
        ["   missing", " displaced", "   doubled", "no longer wanted"]
    );
}
