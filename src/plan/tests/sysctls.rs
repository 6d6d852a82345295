//! `route_localnet`, and what it depends on; routes by the loopback interface.

use super::*;
use std::net::Ipv4Addr;

use crate::guarantee::{WantedRoute, WantedSysctl};

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
fn a_sysctl_that_another_program_restored_is_left() {
    let mut snapshot = host("", "", "0");
    snapshot.previous.insert("all".into(), "0".into());
    assert_eq!(plan(&Rules::default(), &snapshot), Plan::default());
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
fn a_route_is_added_where_it_is_missing_and_removed_where_it_is_not_wanted() {
    let to = Ipv4Addr::new(169, 254, 170, 2);
    let of = |wanted: bool, there: bool| {
        let mut snapshot = host("", "", "0");
        snapshot.routes.extend(there.then_some(to));
        let mut rules = Rules::default();
        let guarantee = Guarantee::TaskCredentials;
        rules
            .routes
            .extend(wanted.then_some(WantedRoute { guarantee, to }));
        let plan = plan(&rules, &snapshot);
        let drifts = plan
            .drifts
            .iter()
            .map(|d| format!("{} {}", d.kind, d.object));
        let steps = plan.steps.iter().map(Step::to_string);
        drifts.chain(steps).collect::<Vec<_>>().join("; ")
    };
    let name = "route 169.254.170.2/32 dev lo";
    assert_eq!(of(true, false), format!("missing {name}; add {name}"));
    assert_eq!(
        of(false, true),
        format!("no longer wanted {name}; remove {name}")
    );
    assert_eq!(of(true, true), "");
    assert_eq!(of(false, false), "");
}
