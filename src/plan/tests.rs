use super::*;
use crate::config::settings::RouteLocalnet;
use crate::guarantee::{Scope, WantedSysctl, interface};
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
    // IPv4's rules in IPv6's FORWARD, and those of FORWARD in INPUT, are in nobody's place.
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

/// `route_localnet` of docker0, with these values now, wanted or not, and once before.
fn of_docker0(now: Option<&str>, wanted: bool, before: Option<&str>) -> String {
    let mut snapshot = host("", "", "0");
    let value = now.map(str::to_owned);
    snapshot.route_localnet = BTreeMap::from([("docker0".to_owned(), value)]);
    let before = before.map(|value| ("docker0".to_owned(), value.to_owned()));
    snapshot.previous.extend(before);
    let mut rules = Rules::default();
    rules.sysctls.extend(wanted.then(|| WantedSysctl {
        guarantee: Guarantee::TaskCredentials,
        interface: "docker0".to_owned(),
    }));
    let plan = plan(&rules, &snapshot);
    let drifts = plan
        .drifts
        .iter()
        .map(|d| format!("{} {}", d.kind, d.object));
    let steps = plan.steps.iter().map(|step| match step {
        Step::RouteLocalnet { undo: true, .. } => format!("{step}, as before"),
        step => step.to_string(),
    });
    drifts.chain(steps).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_sysctl_is_set_where_it_is_wanted_and_restored_where_it_is_not() {
    let to = |value| format!("set net.ipv4.conf.docker0.route_localnet={value}");
    let name = "net.ipv4.conf.docker0.route_localnet=1";
    let set = format!("missing {name}; {}", to("1"));
    let restored = format!("no longer wanted {name}; {}, as before", to("0"));
    for (now, wanted, before, expected) in [
        (Some("0"), true, None, set.as_str()),
        (Some("0"), true, Some("0"), &set),
        (Some("1"), true, None, ""),
        // Nor is what is wanted restored.
        (Some("1"), true, Some("0"), ""),
        // No such interface.
        (None, true, None, ""),
        (Some("1"), false, Some("0"), &restored),
        // It was 1 before, is not 1 any more, or was never changed.
        (Some("1"), false, Some("1"), ""),
        (Some("0"), false, Some("0"), ""),
        (None, false, Some("0"), ""),
        (Some("1"), false, None, ""),
    ] {
        let found = of_docker0(now, wanted, before);
        assert_eq!(found, expected, "{now:?} {wanted} {before:?}");
    }
}

#[test]
fn a_sysctl_that_was_not_read_is_left() {
    let mut snapshot = host("", "", "0");
    snapshot.route_localnet.clear();
    snapshot.previous.insert("all".into(), "0".into());
    for rules in [Rules::default(), wanted(&[Guarantee::TaskCredentials])] {
        let plan = plan(&rules, &snapshot);
        assert!(!steps(&plan).contains("route_localnet"), "{}", steps(&plan));
    }
}

#[test]
fn the_sysctl_is_set_once_every_ipv4_table_of_a_rule_can_be_read() {
    let table = |snapshot: &mut Snapshot, family, name: &str, shown| {
        let ruleset = snapshot.rulesets.get_mut(&family).unwrap();
        ruleset.tables.get_mut(name).unwrap().shown = shown;
    };
    let sets = |snapshot: &Snapshot, rules: &Rules| {
        let steps = plan(rules, snapshot).steps;
        steps.contains(&Step::RouteLocalnet {
            interface: "all".to_owned(),
            value: "1".to_owned(),
            undo: false,
        })
    };
    let rules = wanted_in_both(&ALL);
    let fresh = || both(host("", "", "0"), "");
    assert!(sets(&fresh(), &rules));

    let mut no_rules = fresh();
    no_rules.rulesets.remove(&Family::V4);
    assert!(!sets(&no_rules, &rules));

    for (family, shown, set) in [
        (Family::V4, Shown::Unreadable("x".into()), false),
        (Family::V4, Shown::Partly("x".into()), true),
        // IPv6 has no part in it.
        (Family::V6, Shown::Unreadable("x".into()), true),
    ] {
        let mut snapshot = fresh();
        table(&mut snapshot, family, "filter", shown.clone());
        assert_eq!(sets(&snapshot, &rules), set, "{family} {shown:?}");
    }

    // No wanted rule stands in INPUT's table where the shield is not required.
    let credentials = wanted(&[Guarantee::TaskCredentials]);
    let mut snapshot = fresh();
    table(
        &mut snapshot,
        Family::V4,
        "filter",
        Shown::Unreadable("x".into()),
    );
    assert!(sets(&snapshot, &credentials));
}

#[test]
fn only_what_sends_packets_to_loopback_needs_the_sysctl() {
    let dnat = |to: &str| format!("-A PREROUTING -p tcp -j DNAT --to-destination {to}\n");
    let own = listing(&[Guarantee::TaskCredentials], "PREROUTING");
    for (nat, needed) in [
        (String::new(), false),
        (own, false),
        (dnat("127.0.0.1:51679"), true),
        (dnat("127.0.0.1"), true),
        (dnat("126.255.255.255-127.0.0.0"), true),
        (dnat("127.255.255.255-128.0.0.0"), true),
        (dnat("10.0.0.1:80"), false),
        (dnat("127.0.0.1 --unheard-of"), true),
        (dnat("10.0.0.1 --unheard-of"), false),
        (
            "-A PREROUTING -p tcp -j REDIRECT --to-ports 1\n".to_owned(),
            false,
        ),
    ] {
        let mut snapshot = host("", &nat, "1");
        snapshot.previous.insert("all".into(), "0".into());
        let plan = plan(&Rules::default(), &snapshot);
        let restores = steps(&plan).contains("route_localnet=0");
        assert_eq!(restores, !needed, "{nat}");
    }
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
    // A table that nobody has used yet.
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
