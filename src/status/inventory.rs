//! What the SSM agent reads: a custom inventory document, `Custom:EcsNetguard`. Pure.
//!
//! The limits are the agent's and PutInventory's (agent/plugins/inventory/gatherers/custom in
//! aws/amazon-ssm-agent; the API reference's InventoryItem): a schema version `N.N`, at most 50
//! attributes an entry, names of at most 64 bytes, values that are strings of at most 4,096. An entry
//! a guarantee, so that a fleet can be asked "where is imds-block violated".

use serde::Serialize;

use crate::events::Event;
use crate::guarantee::Guarantee;
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
    changed_by: String,
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
        changed_by: changed_by(report, of.name),
        host_state: report.state.name().to_owned(),
        seal: seal.unwrap_or_default().to_owned(),
        edge: edge.unwrap_or_default().to_owned(),
        privileged_containers: report.privileged.len().to_string(),
        version: report.version.clone(),
        kernel: cut(report.kernel.as_deref().unwrap_or_default()),
        config_traps: report.traps.len().to_string(),
    }
}

/// The program that changed last what is kept for a guarantee, of the drifts that the report has; without
/// numbers of processes, which would make a new document of each.
fn changed_by(report: &Report, guarantee: Guarantee) -> String {
    let about = |event: &&Event| event.guarantee == Some(guarantee) && event.by.is_some();
    let last = report.recent_drifts.iter().rev().find(about);
    let Some(by) = last.and_then(|event| event.by.as_ref()) else {
        return String::new();
    };
    let parent = by.parent_comm();
    let parent = parent.map_or_else(String::new, |parent| format!(", started by {parent}"));
    let unit = by.unit.as_deref();
    let unit = unit.map_or_else(String::new, |unit| format!(", {unit}"));
    cut(&format!("{}{parent}{unit}", by.comm))
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VALUE);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::events::{By, Kind};
    use crate::posture::Posture;
    use crate::verdict::{Overall, Standing};

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

    /// As `make snippets-check` asks it the documented query.
    #[test]
    fn a_document_whole() {
        let posture = Posture::everything("test");
        let guarantees = GuaranteeReport::all(&posture, &[], |_| None);
        let mut report = Report::new(SystemTime::UNIX_EPOCH, guarantees);
        report.version = "0.0.0".to_owned();
        report.state = Overall::NotProtected;
        for of in &mut report.guarantees {
            of.standing = Standing::Held;
            of.since = Some(SystemTime::UNIX_EPOCH);
        }
        report.guarantees[0].standing = Standing::Violated;
        report.guarantees[0].problems = vec!["Containers can reach 169.254.169.254".to_owned()];
        let by = By {
            comm: "iptables".to_owned(),
            ..By::default()
        };
        report.recent_drifts.push(Event {
            by: Some(by),
            ..Event::new(Kind::NotRepaired, "").about(Guarantee::ImdsBlock)
        });
        let document = serde_json::to_string_pretty(&Document::new(&report)).unwrap();
        insta::assert_snapshot!(document);
    }

    #[test]
    fn an_entry_names_the_program_that_changed_its_rules_last() {
        let drift = |guarantee, by: Option<By>| Event {
            by,
            ..Event::new(Kind::Drift, "").about(guarantee)
        };
        let by = |comm: &str, parent: Option<&str>, unit: Option<&str>| By {
            pid: 4711,
            comm: comm.to_owned(),
            parent: parent.map(str::to_owned),
            unit: unit.map(str::to_owned),
            ..By::default()
        };
        let mut report = Report::new(SystemTime::UNIX_EPOCH, Vec::new());
        let mut said = |guarantee, of| {
            report.recent_drifts.push(drift(guarantee, of));
            [Guarantee::ImdsBlock, Guarantee::TaskCredentials].map(|of| changed_by(&report, of))
        };
        use Guarantee::{ImdsBlock, TaskCredentials};
        assert_eq!(said(ImdsBlock, Some(by("nft", None, None))), ["nft", ""]);
        let iptables = by(
            "iptables",
            Some("dockerd (pid 812)"),
            Some("docker.service"),
        );
        let iptables_said = "iptables, started by dockerd, docker.service";
        assert_eq!(
            said(TaskCredentials, Some(iptables)),
            ["nft", iptables_said]
        );
        assert_eq!(said(TaskCredentials, None), ["nft", iptables_said]);
    }
}
