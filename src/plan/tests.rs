use super::*;
use crate::config::settings::RouteLocalnet;
use crate::guarantee::{Scope, interface};
use crate::ruleset::{Table, parse_listing};

fn scope() -> Scope {
    Scope {
        interfaces: ["docker+", "br-+"].map(interface).into(),
        families: vec![Family::V4],
        default_bridge: Some("docker0".into()),
        bridges: BTreeMap::from([("docker0".into(), Vec::new())]),
        route_localnet: RouteLocalnet::All,
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
fn a_tagged_rule_that_nobody_wants_is_stray_wherever_it_is() {
    let filter = "-A INPUT -i eth0 -m comment --comment \"ecs-netguard: imds-block\" -j DROP\n";
    let plan = plan(&Rules::default(), &host(filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Stray]);
}

#[test]
fn rules_without_the_tag_are_never_touched() {
    let filter = "-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP\n\
                  -A FORWARD -m comment --comment \"ecs-netguard: something else\" -j DROP\n\
                  -A FORWARD -m comment --comment \"not ecs-netguard: imds-block\" -j DROP\n";
    let plan = plan(&wanted(&BLOCK), &host(filter, "", "0"));
    assert_eq!(kinds(&plan), [DriftKind::Missing, DriftKind::Missing]);
    assert!(!steps(&plan).contains("-D "), "{}", steps(&plan));
}

#[test]
fn the_sysctl_is_not_set_where_the_shield_cannot_be_seen() {
    for unread in ["filter", "nat"] {
        let mut snapshot = host("", "", "0");
        let ruleset = snapshot.rulesets.get_mut(&Family::V4).unwrap();
        ruleset.tables.remove(unread);
        let plan = plan(&wanted(&ALL), &snapshot);
        assert!(kinds(&plan).contains(&DriftKind::Missing));
        assert!(!steps(&plan).contains("route_localnet"), "{}", steps(&plan));
    }
}

#[test]
fn the_sysctl_stays_while_a_foreign_nat_rule_needs_it() {
    let nat = "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679\n";
    let mut snapshot = host("", nat, "1");
    snapshot.previous.insert("all".into(), "0".into());
    assert_eq!(plan(&Rules::default(), &snapshot), Plan::default());
}

#[test]
fn a_sysctl_that_somebody_put_back_is_left() {
    let mut snapshot = host("", "", "0");
    snapshot.previous.insert("all".into(), "0".into());
    assert_eq!(plan(&Rules::default(), &snapshot), Plan::default());
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
