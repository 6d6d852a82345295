//! What the SSM agent is told: a custom inventory document, `Custom:EcsNetguard`. Pure.
//!
//! The limits are the agent's and PutInventory's (agent/plugins/inventory/gatherers/custom in
//! aws/amazon-ssm-agent; the API reference's InventoryItem): a schema version `N.N`, at most 50
//! attributes an entry, names of at most 64 bytes, values that are strings of at most 4,096. An entry
//! a guarantee, so that a fleet can be asked "where is imds-block violated".

use serde::Serialize;

use super::model::{GuaranteeStatus, Status};

/// The most that a value may be, in bytes.
const MAX_VALUE: usize = 4096;

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Document {
    schema_version: &'static str,
    type_name: &'static str,
    content: Vec<Entry>,
}

/// One guarantee of this host. Times of verification and counts are left out: the agent uploads the
/// document again whenever it differs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    guarantee: String,
    standing: String,
    required: String,
    reason: String,
    since: String,
    problem: String,
    host_state: String,
    seal: String,
    version: String,
    kernel: String,
    config_traps: String,
}

impl Document {
    pub(super) fn new(status: &Status) -> Self {
        Self {
            schema_version: "1.0",
            type_name: "Custom:EcsNetguard",
            content: status
                .guarantees
                .iter()
                .map(|guarantee| entry(status, guarantee))
                .collect(),
        }
    }
}

fn entry(status: &Status, guarantee: &GuaranteeStatus) -> Entry {
    let seal = status.seal.as_ref().map(|seal| seal.state.name());
    Entry {
        guarantee: guarantee.name.name().to_owned(),
        standing: guarantee.standing.name().to_owned(),
        required: guarantee.required.to_string(),
        reason: cut(&guarantee.reason),
        since: humantime::format_rfc3339_seconds(guarantee.since).to_string(),
        problem: cut(&guarantee.problems.join("; ")),
        host_state: status.state.name().to_owned(),
        seal: seal.unwrap_or_default().to_owned(),
        version: status.version.clone(),
        kernel: cut(&status.kernel),
        config_traps: status.traps.len().to_string(),
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VALUE);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::guarantee::Guarantee;
    use crate::reconcile::Standing;
    use crate::status::hub::Hub;
    use crate::status::model::Layers;

    /// The checks of the SSM agent's own gatherer, in its order.
    #[test]
    fn the_document_is_within_the_agents_limits() {
        let mut status = crate::status::answer::status(&Hub::new());
        status.guarantees = Guarantee::ALL
            .map(|name| GuaranteeStatus {
                name,
                standing: Standing::Violated,
                required: true,
                reason: "é".repeat(10_000),
                since: SystemTime::now(),
                problems: vec!["x".repeat(3_000); 3],
                layers: Layers {
                    visible: Standing::Violated,
                    sealed: None,
                },
                stopped: Vec::new(),
            })
            .into();
        let document = serde_json::to_value(Document::new(&status)).unwrap();
        let name = document["TypeName"].as_str().unwrap();
        assert!(name.starts_with("Custom:") && name.len() <= 100);
        assert_eq!(document["SchemaVersion"], "1.0");
        let entries = document["Content"].as_array().unwrap();
        assert_eq!(entries.len(), Guarantee::ALL.len());
        for entry in entries {
            let entry = entry.as_object().unwrap();
            assert!(entry.len() <= 50);
            for (name, value) in entry {
                assert!(!name.is_empty() && name.len() <= 64);
                assert!(value.as_str().unwrap().len() <= 4096, "{name}");
            }
        }
        assert_eq!(entries[0]["Guarantee"], "imds-block");
        assert_eq!(entries[0]["Standing"], "violated");
    }
}
