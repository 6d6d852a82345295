//! From a route to what the daemon answers, read from the hub.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::hub::Hub;
use crate::log;
use crate::os::self_usage::SelfUsage;
use crate::report::{Daemon, Report, SCHEMA};
use crate::verdict::Overall;

/// `/v1/status`: the last report with what only the daemon knows.
#[must_use]
pub fn status(hub: &Hub) -> Report {
    let now = SystemTime::now();
    let (state, stale) = hub.overall();
    let report = hub.report().map(Arc::unwrap_or_clone);
    let mut report = report.unwrap_or_else(|| Report::new(now, Vec::new()));
    report.verification.count = hub.verifications();
    report.warnings.extend(hub.unwritten());
    let usage = SelfUsage::read();
    Report {
        time: now,
        state,
        stale,
        recent_drifts: hub.drifts().into_iter().map(Arc::unwrap_or_clone).collect(),
        last_event: hub.last_event(),
        daemon: Some(Daemon {
            pid: std::process::id(),
            started: hub.started,
            uptime_seconds: hub.uptime().as_secs_f64(),
            memory_bytes: usage.map(|usage| usage.memory),
            cpu_seconds: usage.map(|usage| usage.cpu),
            log_dropped: log::dropped(),
        }),
        ..report
    }
}

/// `/v1/guarantees`: how they stand.
#[must_use]
pub fn guarantees(hub: &Hub) -> Value {
    let report = hub.report();
    let guarantees = report.as_ref().map(|report| &report.guarantees);
    json!({
        "schema": SCHEMA,
        "state": hub.overall().0,
        "guarantees": guarantees.map_or(&[][..], Vec::as_slice),
    })
}

/// `/v1/posture`: what is required and why, and what misleads in the inputs.
#[must_use]
pub fn posture(hub: &Hub) -> Value {
    let report = hub.report();
    let report = report.as_deref();
    let decisions = report.map_or(&[][..], |report| &report.guarantees);
    let decisions: Vec<Value> = decisions
        .iter()
        .map(|of| {
            let mut decision =
                json!({ "guarantee": of.name, "required": of.required, "reason": of.reason });
            if let Some(why) = &of.impossible {
                decision["impossible"] = json!(why);
            }
            decision
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "decisions": decisions,
        "traps": report.map_or(&[][..], |report| &report.traps),
        "warnings": report.map_or(&[][..], |report| &report.input_warnings),
    })
}

/// `/v1/rules`: what the guard keeps in the kernel.
#[must_use]
pub fn rules(hub: &Hub) -> Value {
    let report = hub.report();
    let rules = report.as_ref().map(|report| &report.rules);
    json!({ "schema": SCHEMA, "rules": rules.map_or(&[][..], Vec::as_slice) })
}

/// `/healthz`: whether all is well, and in a line what is not.
#[must_use]
pub fn health(hub: &Hub) -> (bool, String) {
    let (state, stale) = hub.overall();
    let well = matches!(state, Overall::Protected | Overall::ImdsOpen);
    let problem = || hub.report().and_then(|report| report.first_problem());
    let open = || hub.report().and_then(|report| report.imds_open.clone());
    let why = stale.or_else(|| match state {
        Overall::Protected => None,
        Overall::ImdsOpen => open(),
        Overall::NotProtected | Overall::Undecided => problem(),
    });
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    (well, format!("{}{why}\n", state.name()))
}
