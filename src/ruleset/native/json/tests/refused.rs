//! Texts that are no list of nft.

use serde_json::{Value, json};

use super::super::parse;
use super::saved;

#[test]
fn what_is_no_list_of_nft_is_refused_with_its_reason() {
    let within = |kind: &str, more: Value| {
        let mut object = json!({"family": "ip", "table": "filter", "name": "n", "handle": 1});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        saved("ip", &[json!({ kind: object })])
            .unwrap_err()
            .to_string()
    };
    let error = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    let deep = format!("{{\"nftables\": {}", "[".repeat(100_000));
    let mut said = vec![
        error("{"),
        error("{\"nftables\": [{\"table\": {\"family\": \"ip\", "),
        error("{\"nftables\": {}}"),
        error("{\"nftables\": []} x"),
        error(&deep),
        error("{\"nftables\": []}"),
        error("{\"ruleset\": []}"),
        error("{\"nftables\": [5]}"),
        error("{\"nftables\": [{\"metainfo\": {\"json_schema_version\": 2}}]}"),
        error("{\"nftables\": [{\"add\": {\"table\": {\"family\": \"ip\"}}}]}"),
        error("{\"nftables\": [{\"table\": {\"family\": \"ip\", \"name\": \"a b\"}}]}"),
        error("{\"nftables\": [{\"chain\": {\"family\": \"ip\", \"table\": \"a\"}}]}"),
        within("later", json!({})),
        within("chain", json!({"later": 1})),
        within(
            "chain",
            json!({"type": "later", "hook": "input", "prio": 0}),
        ),
        within(
            "chain",
            json!({"type": "filter", "hook": "later", "prio": 0}),
        ),
        within(
            "chain",
            json!({"type": "filter", "hook": "input", "prio": "filter"}),
        ),
        within(
            "chain",
            json!({"type": "filter", "hook": "input", "prio": 0, "policy": "later"}),
        ),
        within("element", json!({"elem": []})),
        within("rule", json!({"chain": "later", "expr": []})),
        within("rule", json!({"chain": "FORWARD"})),
    ];
    let many: Vec<Value> = (0..500_000).map(|_| json!(0)).collect();
    said.push(within("set", json!({"type": "mark", "elem": many})));
    insta::assert_snapshot!(said.join("\n"));
}
