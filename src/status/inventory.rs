//! What the SSM agent reads: a custom inventory document, `Custom:EcsNetguard`. Pure.
//!
//! The limits are the agent's and PutInventory's (agent/plugins/inventory/gatherers/custom in
//! aws/amazon-ssm-agent; the API reference's InventoryItem): a schema version `N.N`, at most 50
//! attributes an entry, names of at most 64 bytes, values that are strings of at most 4,096. An entry
//! a guarantee, so that a fleet can be asked "where is imds-block violated".

use serde::Serialize;

use crate::report::{GuaranteeReport, Report};
use crate::timestamp;

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
    edge: String,
    privileged_containers: String,
    version: String,
    kernel: String,
    config_traps: String,
}

impl Document {
    pub(super) fn new(report: &Report) -> Self {
        Self {
            schema_version: "1.0",
            type_name: "Custom:EcsNetguard",
            content: report
                .guarantees
                .iter()
                .map(|guarantee| entry(report, guarantee))
                .collect(),
        }
    }
}

fn entry(report: &Report, of: &GuaranteeReport) -> Entry {
    let seal = report.seal.as_ref().map(|seal| seal.state.name());
    let edge = report.edge.as_ref().map(|edge| edge.state.name());
    Entry {
        guarantee: of.name.name().to_owned(),
        standing: of.standing.name().to_owned(),
        required: of.required.to_string(),
        reason: cut(&of.reason),
        since: of
            .since
            .map_or_else(String::new, |since| timestamp::seconds(since).to_string()),
        problem: cut(&of.problems.join("; ")),
        host_state: report.state.name().to_owned(),
        seal: seal.unwrap_or_default().to_owned(),
        edge: edge.unwrap_or_default().to_owned(),
        privileged_containers: report.privileged.len().to_string(),
        version: report.version.clone(),
        kernel: cut(report.kernel.as_deref().unwrap_or_default()),
        config_traps: report.traps.len().to_string(),
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
    use crate::posture::Posture;
    use crate::verdict::Standing;

    /// The checks of the SSM agent's own gatherer, in its order.
    #[test]
    fn the_document_is_within_the_agents_limits() {
        let posture = Posture::everything(&"é".repeat(10_000));
        let mut report = Report::new(
            SystemTime::UNIX_EPOCH,
            GuaranteeReport::all(&posture, &[], |_| None),
        );
        for of in &mut report.guarantees {
            of.standing = Standing::Violated;
            of.problems = vec!["x".repeat(3_000); 3];
        }
        let document = serde_json::to_value(Document::new(&report)).unwrap();
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
