//! From a route to what the daemon answers, read from the board.

use std::sync::Arc;
use std::time::SystemTime;

use super::hub::Hub;
use super::model::{Daemon, Guarantees, Overall, Posture, Rules, SCHEMA, Status, Verification};
use super::self_usage::{self, Own};

/// `/v1/status`.
#[must_use]
pub fn status(board: &Hub) -> Status {
    let (state, stale) = board.overall();
    let published = board.published();
    let published = published.as_deref();
    let own = Own::read();
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: self_usage::host_name(),
        kernel: self_usage::kernel(),
        time: SystemTime::now(),
        state,
        stale,
        guarantees: published.map_or_else(Vec::new, |p| p.guarantees.clone()),
        tasks: published.map_or_else(Vec::new, |p| p.tasks.clone()),
        backends: published.map_or_else(Vec::new, |p| p.backends.clone()),
        seal: published.and_then(|p| p.seal.clone()),
        drifts: board
            .drifts()
            .into_iter()
            .map(Arc::unwrap_or_clone)
            .collect(),
        traps: published.map_or_else(Vec::new, |p| p.traps.clone()),
        warnings: published.map_or_else(Vec::new, |p| p.warnings().cloned().collect()),
        verification: Verification {
            count: board.verifications(),
            last: published.map(|p| p.at),
            duration: published.map_or(0.0, |p| p.duration.as_secs_f64()),
            interval: published.map_or(0.0, |p| p.interval.as_secs_f64()),
        },
        daemon: Daemon {
            pid: std::process::id(),
            started: board.started,
            uptime_seconds: board.uptime().as_secs_f64(),
            memory_bytes: own.map(|own| own.memory),
            cpu_seconds: own.map(|own| own.cpu),
        },
        last_event: board.last_event(),
    }
}

/// `/v1/guarantees`.
#[must_use]
pub fn guarantees(board: &Hub) -> Guarantees {
    let published = board.published();
    Guarantees {
        schema: SCHEMA,
        state: board.overall().0,
        guarantees: published.map_or_else(Vec::new, |p| p.guarantees.clone()),
    }
}

/// `/v1/posture`.
#[must_use]
pub fn posture(board: &Hub) -> Posture {
    let published = board.published();
    let published = published.as_deref();
    Posture {
        schema: SCHEMA,
        decisions: published.map_or_else(Vec::new, |p| p.decisions.clone()),
        traps: published.map_or_else(Vec::new, |p| p.traps.clone()),
        warnings: published.map_or_else(Vec::new, |p| p.input_warnings.clone()),
    }
}

/// `/v1/rules`.
#[must_use]
pub fn rules(board: &Hub) -> Rules {
    Rules {
        schema: SCHEMA,
        rules: board.published().map_or_else(Vec::new, |p| p.rules.clone()),
    }
}

/// `/healthz`: whether all is well, and in a line what is not.
#[must_use]
pub fn health(board: &Hub) -> (bool, String) {
    let (state, stale) = board.overall();
    let well = matches!(state, Overall::Protected | Overall::NotRequired);
    let mut line = state.name().to_owned();
    if let Some(why) = stale {
        line.push_str(": ");
        line.push_str(&why);
    } else if let Some(published) = board.published().filter(|_| !well) {
        let problem = published.guarantees.iter().find_map(|status| {
            let problem = status.problems.first()?;
            Some(format!(": {}: {problem}", status.name))
        });
        line.push_str(&problem.unwrap_or_default());
    }
    line.push('\n');
    (well, line)
}
