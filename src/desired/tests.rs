use std::collections::BTreeMap;

use super::*;
use crate::guarantee::{Cgroup, EdgePass, NativeHook, NativeVerdict};
use crate::ruleset::{Net, Target};
use crate::tasks::Power;

fn settings(text: &str) -> Settings {
    Settings::parse("config.toml".as_ref(), text).unwrap()
}

/// A posture that requires these alone; `impossible` is a reason why host-imds-block cannot be.
fn posture(required: &[Guarantee], impossible: Option<&str>) -> Posture {
    let decisions = Guarantee::ALL.map(|guarantee| {
        serde_json::json!({
            "guarantee": guarantee,
            "required": required.contains(&guarantee),
            "reason": "test",
            "impossible": impossible.filter(|_| guarantee == Guarantee::HostImdsBlock),
        })
    });
    serde_json::from_value(serde_json::json!(decisions)).unwrap()
}

fn net(text: &str) -> Net {
    Net::parse(Family::V4, text).unwrap()
}

fn facts() -> Facts {
    Facts {
        ipv6: true,
        bridges: BTreeMap::from([
            ("docker0".to_owned(), vec![net("172.17.0.0/16")]),
            ("virbr0".to_owned(), Vec::new()),
        ]),
        default_bridge: Some("docker0".to_owned()),
        ..Facts::default()
    }
}

fn slice() -> TaskCgroup {
    TaskCgroup::Present(Cgroup {
        path: "ecstasks.slice".to_owned(),
        id: 7,
    })
}

const TASKS: &str = "ecstasks.slice";

fn absent() -> TaskCgroup {
    let path = TASKS.to_owned();
    TaskCgroup::Absent { path }
}

fn useless() -> TaskCgroup {
    TaskCgroup::Useless {
        path: TASKS.to_owned(),
        why: "no cgroups".to_owned(),
    }
}

fn everything(settings: &Settings, facts: &Facts) -> Desired {
    Desired::here(settings, &posture(&Guarantee::ALL, None), facts)
}

#[test]
fn ipv6_is_covered_where_it_exists_or_the_settings_say_so() {
    for (mode, exists, covered) in [
        ("auto", true, true),
        ("auto", false, false),
        ("always", false, true),
        ("never", true, false),
    ] {
        let settings = settings(&format!("[imds]\nipv6 = \"{mode}\""));
        let facts = Facts {
            ipv6: exists,
            ..facts()
        };
        let desired = everything(&settings, &facts);
        let families = [Family::V4, Family::V6];
        let expected = if covered {
            &families[..]
        } else {
            &families[..1]
        };
        assert_eq!(desired.families, expected, "{mode} {exists}");
        assert_eq!(desired.wants(Family::V6, "filter"), covered);
        assert_eq!(desired.claims_of(Family::V6).count() > 0, covered);
    }
}

#[test]
fn containers_come_by_the_interfaces_of_the_settings_and_by_dockers_default_bridge() {
    let named = settings("[imds]\ninterfaces = [\"docker+\", \"br-1\"]");
    for (bridge, interfaces) in [
        (None, "docker+ br-1"),
        (Some("docker0"), "docker+ br-1"),
        (Some("br-1"), "docker+ br-1"),
        (Some("br-10"), "docker+ br-1 br-10"),
        (Some("cni0"), "docker+ br-1 cni0"),
    ] {
        let facts = Facts {
            default_bridge: bridge.map(str::to_owned),
            ..facts()
        };
        let scope = scope(&named, &facts);
        let names: Vec<String> = scope.interfaces.iter().map(ToString::to_string).collect();
        assert_eq!(names.join(" "), interfaces, "{bridge:?}");
        assert_eq!(scope.default_bridge, facts.default_bridge);
    }
}

#[test]
fn a_scope_is_the_settings_and_the_facts() {
    let localnet = settings("[credentials]\nroute_localnet = \"bridges\"");
    let facts = Facts {
        task_cgroup: Some(slice()),
        ..facts()
    };
    let scope = scope(&localnet, &facts);
    // virbr0 carries no containers that are known of.
    let bridges = BTreeMap::from([("docker0".to_owned(), vec![net("172.17.0.0/16")])]);
    assert_eq!(scope.bridges, bridges);
    assert_eq!(scope.route_localnet, RouteLocalnet::Bridges);
    assert_eq!(scope.host_tasks, facts.task_cgroup);
}

#[test]
fn only_what_is_required_is_wanted_and_claimed() {
    let facts = Facts {
        task_cgroup: Some(slice()),
        ..facts()
    };
    for guarantee in Guarantee::ALL {
        let posture = posture(&[guarantee], None);
        let desired = Desired::here(&Settings::default(), &posture, &facts);
        let scope = scope(&Settings::default(), &facts);
        assert_eq!(desired.rules, guarantee.rules(&scope));
        let claims = guarantee.claims(&scope).into_iter();
        let claims: Vec<(Guarantee, Claim)> = claims.map(|claim| (guarantee, claim)).collect();
        assert_eq!(desired.claims, claims);
        assert_eq!(desired.undecidable, []);
    }
    let nothing = Desired::here(&Settings::default(), &posture(&[], None), &facts);
    assert_eq!(nothing.rules, Rules::default());
    assert_eq!(nothing.claims, []);
    assert!(nothing.sysctls);
    assert_eq!(Desired::default().rules, Rules::default());
}

#[test]
fn without_the_seal_there_are_no_native_rules() {
    for (enabled, native) in [(true, true), (false, false)] {
        let settings = settings(&format!("[seal]\nenabled = {enabled}"));
        let desired = everything(&settings, &facts());
        assert_eq!(desired.sealed, enabled);
        assert_eq!(!desired.rules.native.is_empty(), native);
        assert!(!desired.rules.iptables.is_empty());
    }
}

#[test]
fn input_may_be_opened_unless_the_settings_forbid_it() {
    for (text, may) in [("when-needed", true), ("never", false)] {
        let settings = settings(&format!("[credentials]\nopen_input = \"{text}\""));
        assert_eq!(everything(&settings, &facts()).may_open_input, may);
    }
}

#[test]
fn new_bridges_get_the_sysctl_where_it_is_set_bridge_by_bridge() {
    for (value, required, any) in [
        ("bridges", Guarantee::TaskCredentials, true),
        ("all", Guarantee::TaskCredentials, false),
        ("bridges", Guarantee::ImdsBlock, false),
    ] {
        let settings = settings(&format!("[credentials]\nroute_localnet = \"{value}\""));
        let desired = Desired::here(&settings, &posture(&[required], None), &facts());
        let scope = scope(&settings, &facts());
        let expected = if any { scope.interfaces } else { Vec::new() };
        assert_eq!(desired.new_bridges, expected, "{value} {required}");
    }
}

#[test]
fn a_bridge_that_no_pattern_fits_is_named() {
    let note = |required, bridges: &[&str]| {
        let named = bridges.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let facts = Facts {
            bridges: named.collect(),
            problems: vec!["a problem".to_owned()],
            ..Facts::default()
        };
        let posture = posture(&[required], None);
        let desired = Desired::here(&Settings::default(), &posture, &facts);
        assert_eq!(desired.notes, ["a problem"]);
        desired.uncovered
    };
    let imds = Guarantee::ImdsBlock;
    assert_eq!(note(imds, &["docker0", "br-1"]), [""; 0]);
    assert_eq!(
        note(imds, &["docker0", "virbr0", "xenbr0"]),
        ["virbr0", "xenbr0"]
    );
    assert_eq!(note(Guarantee::LoopbackShield, &["virbr0"]), [""; 0]);
}

/// What is undecidable of tasks on the host's network, and the notes.
fn of_host_tasks(
    required: bool,
    cgroup: Option<TaskCgroup>,
    impossible: Option<&str>,
) -> (Vec<String>, usize) {
    let facts = Facts {
        task_cgroup: cgroup,
        ..Facts::default()
    };
    let required = if required {
        &[Guarantee::HostImdsBlock][..]
    } else {
        &[]
    };
    let posture = posture(required, impossible);
    let desired = Desired::here(&Settings::default(), &posture, &facts);
    let all = desired.undecidable.into_iter().map(|undecidable| {
        assert_eq!(undecidable.guarantee, Guarantee::HostImdsBlock);
        assert_eq!(undecidable.claim, useless().to_string());
        undecidable.why
    });
    (all.collect(), desired.notes.len())
}

#[test]
fn tasks_on_the_hosts_network_that_no_rule_tells_apart_are_undecided() {
    let none = Vec::<String>::new();
    let because = |why: &str| vec![why.to_owned()];
    let limit = Some("no task cgroups");
    for (cgroup, impossible, undecided, notes) in [
        (None, None, none.clone(), 0),
        (None, limit, none.clone(), 0),
        (Some(slice()), None, none.clone(), 0),
        (Some(absent()), None, none.clone(), 1),
        (Some(useless()), None, because("no cgroups"), 0),
        (Some(slice()), limit, because("no task cgroups"), 0),
        (Some(useless()), limit, because("no task cgroups"), 0),
    ] {
        let found = of_host_tasks(true, cgroup.clone(), impossible);
        assert_eq!(found, (undecided, notes), "{cgroup:?} {impossible:?}");
        assert_eq!(of_host_tasks(false, cgroup, impossible), (none.clone(), 0));
    }
}

#[test]
fn a_rule_that_cannot_be_written_makes_its_guarantee_undecided() {
    let facts = Facts {
        default_bridge: Some("docker 0".to_owned()),
        ..facts()
    };
    let posture = posture(&[Guarantee::IntrospectionShield], None);
    let desired = Desired::here(&Settings::default(), &posture, &facts);
    assert!(
        desired
            .rules
            .iptables
            .iter()
            .all(|rule| rule.listed.rule.target == Target::Drop)
    );
    let undecidable = Undecidable {
        guarantee: Guarantee::IntrospectionShield,
        claim: "every rule of introspection-shield is in place".to_owned(),
        why: "a rule with `-i docker 0` cannot be written for iptables".to_owned(),
    };
    // One a family.
    assert_eq!(desired.undecidable, vec![undecidable; 2]);
}

#[test]
fn rules_for_a_cgroup_are_left_out_of_one_family() {
    let facts = Facts {
        task_cgroup: Some(slice()),
        ..facts()
    };
    let before = everything(&Settings::default(), &facts);
    let mut after = before.clone();
    after.leave_out_cgroups(Family::V4);
    let left = |rule: &&crate::guarantee::WantedRule| {
        rule.guarantee == Guarantee::HostImdsBlock && rule.family == Family::V4
    };
    let out: Vec<_> = before.rules.iptables.iter().filter(left).collect();
    assert_eq!(out.len(), 1);
    let mut expected = before.clone();
    expected.rules.iptables.retain(|rule| !left(&rule));
    assert_eq!(after, expected);
}

#[test]
fn a_table_is_wanted_where_a_rule_stands_in_it() {
    let desired = everything(&Settings::default(), &facts());
    for (family, table, wanted) in [
        (Family::V4, "filter", true),
        (Family::V4, "nat", true),
        (Family::V6, "filter", true),
        (Family::V6, "nat", false),
        (Family::V4, "raw", false),
    ] {
        assert_eq!(desired.wants(family, table), wanted, "{family} {table}");
    }
    let all = desired.claims.iter();
    let of_v4 = all.filter(|(_, claim)| claim.packets.family == Family::V4);
    assert!(desired.claims_of(Family::V4).eq(of_v4));
    assert!(desired.claims_of(Family::V6).count() < desired.claims.len());
}

#[test]
fn a_privileged_container_is_beyond_the_block_only_where_the_settings_say_so() {
    let router = PrivilegedContainer {
        id: "0123456789abcdef".repeat(4),
        name: Some("router".into()),
        task: None,
        powers: vec![Power::NetAdmin, Power::SysAdmin],
    };
    let facts = Facts {
        privileged: vec![router],
        ..facts()
    };
    let undecided = |text: &str, required: &[Guarantee]| {
        let desired = Desired::here(&settings(text), &posture(required, None), &facts);
        desired.undecidable
    };
    let strict = "[tasks]\nprivileged = \"undecided\"";
    assert_eq!(undecided("", &[Guarantee::ImdsBlock]), []);
    assert_eq!(undecided(strict, &[Guarantee::TaskCredentials]), []);
    let found = undecided(strict, &[Guarantee::ImdsBlock]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].guarantee, Guarantee::ImdsBlock);
    assert!(
        found[0]
            .why
            .starts_with("container router (0123456789ab) has CAP_NET_ADMIN, CAP_SYS_ADMIN in"),
        "{}",
        found[0].why
    );
}

#[test]
fn the_edge_stops_what_the_required_guarantees_ask_for() {
    let facts = Facts {
        task_cgroup: Some(slice()),
        ..facts()
    };
    let both = vec![Family::V4, Family::V6];
    for (required, text, routed, raw) in [
        (&[Guarantee::ImdsBlock][..], "", &both[..], &both[..]),
        (&[Guarantee::HostImdsBlock], "", &[], &both),
        (
            &[Guarantee::HostImdsBlock, Guarantee::ImdsBlock],
            "",
            &both,
            &both,
        ),
        (&[Guarantee::TaskCredentials], "", &[], &[]),
        (&[Guarantee::ImdsBlock], "[edge]\nenabled = false", &[], &[]),
    ] {
        let edge = Desired::here(&settings(text), &posture(required, None), &facts)
            .rules
            .edge;
        assert_eq!(
            (&edge.routed[..], &edge.raw[..]),
            (routed, raw),
            "{required:?}"
        );
        assert_eq!(edge.is_empty(), raw.is_empty());
    }
}

#[test]
fn what_is_allowed_is_marked_by_the_seal_and_known_at_the_edge() {
    let pass = EdgePass {
        mark: 1,
        priority: 2,
    };
    let settings = settings("[edge]\nallow = [\"proxy+\"]");
    let rules = |pass| {
        let facts = Facts { pass, ..facts() };
        Desired::here(&settings, &posture(&[Guarantee::ImdsBlock], None), &facts).rules
    };
    let marks = |rules: &Rules| {
        let native = rules.native.iter();
        let marks = native.filter(|rule| rule.verdict == NativeVerdict::Mark(pass));
        let shown = marks.map(|rule| (rule.hook, rule.family, rule.iif.clone()));
        shown.collect::<Vec<_>>()
    };
    assert_eq!((marks(&rules(None)), rules(None).edge.pass), (vec![], None));
    let found = rules(Some(pass));
    let proxies = IfacePattern::parse("proxy+");
    assert_eq!(
        marks(&found),
        [Family::V4, Family::V6].map(|family| (NativeHook::Forward, family, proxies.clone()))
    );
    assert_eq!(found.edge.pass, Some(pass));
}

#[test]
fn raw_frames_are_accepted_only_where_the_settings_say_so() {
    for (text, accepted) in [("", false), ("[edge]\nraw_frames = \"accept\"", true)] {
        let desired = everything(&settings(text), &facts());
        assert_eq!(desired.raw_frames_accepted, accepted, "{text}");
    }
}
