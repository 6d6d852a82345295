//! The reader by value: what is not understood, what two rules have in common, and texts that are none.

use serde_json::{Value, json};

use super::super::{At, Condition, NativeRule, Statement, Verdict};
use super::*;
use crate::ruleset::{Family, Reach};

mod random;
mod refused;

/// A table with a chain at forward, and more.
fn saved(family: &str, more: &[Value]) -> Result<Saved, JsonError> {
    let mut items = vec![
        json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        json!({"table": {"family": family, "name": "filter", "handle": 1}}),
        json!({"chain": {"family": family, "table": "filter", "name": "FORWARD", "handle": 1,
            "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}),
    ];
    items.extend(more.iter().cloned());
    parse(json!({ "nftables": items }).to_string().as_bytes())
}

fn item(family: &str, statements: Value) -> Value {
    json!({"rule": {"family": family, "table": "filter", "chain": "FORWARD", "handle": 2, "expr": statements}})
}

fn rules(saved: &Saved, family: Family) -> Vec<NativeRule> {
    let mut tables = saved.decode(family, false);
    let mut table = tables.remove(0);
    table.chains.remove("FORWARD").unwrap().rules
}

/// What a rule of table inet means for packets of IPv4.
fn statements(rule: Value) -> Vec<Statement> {
    let saved = saved("inet", &[item("inet", rule)]).unwrap();
    rules(&saved, Family::V4).remove(0).statements
}

fn unknown(text: &str) -> Statement {
    Statement::Test(Condition::Unknown(text.to_owned()))
}

fn anything(text: &str) -> Statement {
    Statement::Effect(text.to_owned(), Reach::Anywhere)
}

#[test]
fn what_is_not_understood_to_its_last_attribute_is_unknown() {
    let meets =
        |left: Value, right: Value| json!([{"match": {"op": "==", "left": left, "right": right}}]);
    let saddr = json!({"payload": {"protocol": "ip", "field": "saddr"}});
    let cases = [
        // Matches.
        (
            meets(json!({"meta": {"key": "later"}}), json!(1)),
            unknown("meta later 1"),
        ),
        (
            meets(json!({"meta": {"key": "mark", "more": 1}}), json!(1)),
            unknown("meta mark more 1 1"),
        ),
        (
            meets(json!({"meta": {"key": "mark"}}), json!("a-name")),
            unknown("meta mark a-name"),
        ),
        (
            meets(json!({"meta": {"key": "mark"}}), json!(4_294_967_296_u64)),
            unknown("meta mark 4294967296"),
        ),
        (
            meets(json!({"meta": {"key": "iif"}}), json!(7)),
            unknown("meta iif 7"),
        ),
        (
            meets(json!({"meta": {"key": "iifname"}}), json!("a\\*")),
            unknown("meta iifname a\\*"),
        ),
        (
            meets(json!({"meta": {"key": "l4proto"}}), json!("later")),
            unknown("meta l4proto later"),
        ),
        (
            meets(saddr.clone(), json!("host")),
            unknown("ip saddr host"),
        ),
        (
            meets(saddr.clone(), json!("@later")),
            unknown("ip saddr @later"),
        ),
        (
            meets(
                saddr.clone(),
                json!({"prefix": {"addr": "10.0.0.1", "len": 8}}),
            ),
            unknown("ip saddr prefix addr 10.0.0.1 len 8"),
        ),
        (
            meets(
                saddr.clone(),
                json!({"prefix": {"addr": "10.0.0.0", "len": 33}}),
            ),
            unknown("ip saddr prefix addr 10.0.0.0 len 33"),
        ),
        (
            meets(saddr.clone(), json!({"range": ["10.0.0.9", "10.0.0.1"]})),
            unknown("ip saddr range 10.0.0.9 10.0.0.1"),
        ),
        (
            meets(saddr.clone(), json!({"set": ["10.0.0.1", 5]})),
            unknown("ip saddr set 10.0.0.1 5"),
        ),
        (
            meets(
                saddr.clone(),
                json!({"set": [{"elem": {"val": "10.0.0.1", "timeout": 5}}]}),
            ),
            unknown("ip saddr set elem 10.0.0.1 timeout 5"),
        ),
        (
            meets(json!({"concat": [saddr.clone()]}), json!({"set": []})),
            unknown("concat ip saddr set"),
        ),
        (
            json!([{"match": {"op": "~", "left": saddr.clone(), "right": "10.0.0.1"}}]),
            unknown("ip saddr ~ 10.0.0.1"),
        ),
        (
            json!([{"match": {"op": "in", "left": saddr.clone(), "right": "10.0.0.1"}}]),
            unknown("ip saddr 10.0.0.1"),
        ),
        (
            json!([{"match": {"op": "==", "left": saddr.clone(), "right": "10.0.0.1", "more": 1}}]),
            unknown("ip saddr 10.0.0.1"),
        ),
        // Statements.
        (json!(["accept"]), anything("accept")),
        (
            json!([{"accept": null, "drop": null}]),
            anything("accept drop"),
        ),
        (json!([{"accept": 1}]), anything("accept 1")),
        (
            json!([{"jump": {"target": "a", "more": 1}}]),
            anything("jump target a more 1"),
        ),
        (json!([{"later": null}]), anything("later")),
        (
            json!([{"counter": {"map": {"key": saddr.clone(), "data": "@m"}}}]),
            anything("counter map ip saddr @m"),
        ),
        (
            json!([{"vmap": {"key": saddr.clone(), "data": "@later"}}]),
            anything("vmap ip saddr @later"),
        ),
        (
            json!([{"vmap": {"key": saddr.clone(), "data": {"set": [["10.0.0.1", {"later": null}]]}}}]),
            anything("vmap ip saddr set 10.0.0.1 later"),
        ),
        (
            json!([{"vmap": {"key": saddr.clone(), "data": {"set": ["10.0.0.1"]}}}]),
            anything("vmap ip saddr set 10.0.0.1"),
        ),
        (
            json!([{"mangle": {"key": saddr.clone(), "value": "10.0.0.1"}}]),
            anything("ip saddr set 10.0.0.1"),
        ),
        (
            json!([{"mangle": {"key": {"meta": {"key": "later"}}, "value": 1}}]),
            anything("meta later set 1"),
        ),
        (
            json!([{"dnat": {"addr": "10.0.0.1"}}]),
            anything("dnat addr 10.0.0.1"),
        ),
        (
            json!([{"dnat": {"family": "ip", "addr": "10.0.0.1", "later": 1}}]),
            anything("dnat family ip addr 10.0.0.1 later 1"),
        ),
        (
            json!([{"masquerade": {"addr": "10.0.0.1"}}]),
            anything("masquerade addr 10.0.0.1"),
        ),
        (
            json!([{"flow": {"op": "add", "flowtable": "@f"}}]),
            anything("flow add flowtable @f"),
        ),
    ];
    for (rule, expected) in cases {
        let found = statements(rule.clone());
        let rest = found
            .iter()
            .filter(|one| !matches!(one, Statement::Test(Condition::Has(_))));
        assert_eq!(rest.cloned().collect::<Vec<_>>(), [expected], "{rule}");
    }
}

#[test]
fn the_rest_of_a_rule_stays_what_it_is() {
    let odd = json!({"rule": {"family": "inet", "table": "filter", "chain": "FORWARD", "handle": 2,
        "later": true, "expr": [{"drop": null}]}});
    let read = rules(&saved("inet", &[odd]).unwrap(), Family::V4);
    assert_eq!(
        read[0].statements,
        [anything("later"), Statement::Verdict(Verdict::Drop)]
    );
    let found = statements(json!([
        {"match": {"op": "==", "left": {"ct": {"key": "later"}}, "right": 1}},
        {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "later"}}, "right": 1}},
        {"drop": null}
    ]));
    assert!(found.contains(&Statement::Test(Condition::Bits {
        key: super::super::Key::Protocol,
        mask: 0xff,
        value: 6
    })));
    assert_eq!(found.last(), Some(&Statement::Verdict(Verdict::Drop)));
    let rule = json!([{"match": {"op": "==", "left": {"ct": {"key": "later"}}, "right": 1}}]);
    let saved = saved("inet", &[item("inet", rule)]).unwrap();
    assert!(
        rules(&saved, Family::V4)[0].tracks,
        "it asks for a connection"
    );
}

#[test]
fn where_nft_prints_two_rules_alike_both_readings_hold() {
    let open = |family: &str, header: &str, packets| {
        let rule = json!([
            {"match": {"op": "==", "left": {"payload": {"protocol": header, "field": "type"}}, "right": 8}},
            {"accept": null}
        ]);
        let rule = if header == "tcp" {
            json!([
                {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}},
                {"accept": null}
            ])
        } else {
            rule
        };
        let saved = saved(family, &[item(family, rule)]).unwrap();
        let statements = rules(&saved, packets).remove(0).statements;
        statements.iter().find_map(|statement| match statement {
            Statement::Test(Condition::Unknown(text)) => Some(text.clone()),
            _ => None,
        })
    };
    let nothing = None;
    assert_eq!(open("inet", "icmp", Family::V4), nothing);
    assert_eq!(
        open("inet", "icmp", Family::V6).as_deref(),
        Some("meta nfproto ipv4")
    );
    assert_eq!(
        open("inet", "icmpv6", Family::V4).as_deref(),
        Some("meta nfproto ipv6")
    );
    assert_eq!(open("inet", "icmpv6", Family::V6), nothing);
    assert_eq!(open("ip", "icmp", Family::V4), nothing);
    assert_eq!(open("inet", "tcp", Family::V6), nothing);
    assert_eq!(open("ip", "tcp", Family::V4), nothing);
    assert_eq!(
        open("ip6", "tcp", Family::V6).as_deref(),
        Some("ip6 nexthdr tcp")
    );
}

#[test]
fn a_set_that_changes_or_does_more_than_match_is_unknown() {
    let set = |more: Value| {
        let mut set = json!({"family": "inet", "table": "filter", "name": "s", "type": "ipv4_addr",
            "handle": 3, "elem": ["10.0.0.1"]});
        let more = more.as_object().unwrap().clone();
        set.as_object_mut().unwrap().extend(more);
        json!({ "set": set })
    };
    let saddr = json!({"payload": {"protocol": "ip", "field": "saddr"}});
    let asks = json!({"match": {"op": "==", "left": saddr, "right": "@s"}});
    let found = |set: Value, more: &[Value]| {
        let mut items = vec![set, item("inet", json!([asks]))];
        items.extend(more.iter().cloned());
        let saved = saved("inet", &items).unwrap();
        rules(&saved, Family::V4).remove(0).statements.remove(0)
    };
    assert!(matches!(
        found(set(json!({})), &[]),
        Statement::Test(Condition::Shared(_))
    ));
    let comment = json!({"elem": [{"elem": {"val": "10.0.0.1", "comment": "c"}}]});
    assert!(matches!(
        found(set(comment), &[]),
        Statement::Test(Condition::Shared(_))
    ));
    let changes = unknown("@s changes by itself");
    for more in [
        json!({"timeout": 60}),
        json!({"flags": ["timeout"]}),
        json!({"flags": "dynamic"}),
        json!({"stmt": [{"counter": null}]}),
    ] {
        assert_eq!(found(set(more.clone()), &[]), changes, "{more}");
    }
    let more =
        json!({"elem": [{"elem": {"val": "10.0.0.1", "counter": {"packets": 0, "bytes": 0}}}]});
    assert_eq!(
        found(set(more), &[]),
        unknown("@s has elements that do more than match")
    );
    let update = json!([{"set": {"op": "add", "elem": saddr, "set": "@s"}}]);
    assert_eq!(found(set(json!({})), &[item("inet", update)]), changes);
    assert_eq!(
        found(set(json!({"type": "later"})), &[]),
        unknown("ip saddr @s")
    );
    assert_eq!(
        found(set(json!({"type": "inet_service"})), &[]),
        unknown("ip saddr @s")
    );
    let element =
        json!({"element": {"family": "inet", "table": "filter", "name": "s", "elem": ["later"]}});
    assert_eq!(
        found(set(json!({})), &[element]),
        unknown("@s has elements that do more than match")
    );
}

#[test]
fn what_xtables_does_makes_a_table_unknown_and_a_comment_does_not() {
    let comment = json!({"xt": {"type": "match", "name": "comment"}});
    let other = json!({"xt": {"type": "match", "name": "conntrack"}});
    let of = |statement: &Value| {
        let rules = [
            item("ip", json!([{"drop": null}])),
            item("ip", json!([statement, {"drop": null}])),
        ];
        saved("ip", &rules).unwrap()
    };
    assert_eq!(
        rules(&of(&comment), Family::V4)[1].statements,
        [Statement::Verdict(Verdict::Drop)]
    );
    for statement in [other, json!({"xt": null})] {
        let saved = of(&statement);
        let found = rules(&saved, Family::V4);
        let [Statement::Effect(why, Reach::Anywhere)] = found[0].statements.as_slice() else {
            panic!("{found:?}");
        };
        assert!(why.contains("iptables-save") && found.len() == 1, "{why}");
        assert_eq!(
            saved.decode(Family::V4, true),
            [],
            "iptables' own listing is beside it"
        );
        assert_eq!(saved.decode(Family::V6, false), []);
    }
}

#[test]
fn a_table_that_sleeps_meets_no_packet() {
    let table = |flags: Value| {
        let items = [
            json!({"table": {"family": "ip", "name": "filter", "handle": 1, "flags": flags}}),
            json!({"chain": {"family": "ip", "table": "filter", "name": "c", "handle": 1, "type": "filter",
                "hook": "forward", "prio": -5, "policy": "drop"}}),
        ];
        saved("ip", &items).unwrap().decode(Family::V4, false)
    };
    assert_eq!(table(json!("dormant")), []);
    assert_eq!(table(json!(["owner", "dormant"])), []);
    let awake = table(json!(["owner", "persist"]));
    let chain = &awake[0].chains["c"];
    assert_eq!(
        chain.base.as_ref().map(|base| (base.at, base.priority)),
        Some((At::Forward, -5))
    );
    assert_eq!(chain.rules, []);
    // nft 1.0.6 prints any bytes.
    let perhaps = table(json!("nd"));
    let expected = [
        unknown("the table is dormant, which nft does not print"),
        Statement::Verdict(Verdict::Accept),
    ];
    assert_eq!(perhaps[0].chains["c"].rules[0].statements, expected);
}
