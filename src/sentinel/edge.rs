//! The edge, as interfaces come and go and as other programs change what they can of it.

use std::time::{Instant, SystemTime};

use super::report::Report;
use crate::events::Displacement;
use crate::guarantee::Guarantee;
use crate::guarantee::edge::Interface;
use crate::os::nft::Commit;
use crate::os::process;
use crate::plan::{Drift, DriftKind};
use crate::seal::edge::{Problem, SharedEdge};

/// Brings the edge to each of these interfaces by which packets leave; what there is to report of it.
pub(super) fn follow(
    edge: &SharedEdge,
    interfaces: &[Interface],
    by: Option<&Commit>,
    noticed: Instant,
) -> Option<Report> {
    let kept = match edge.follow(interfaces) {
        Ok(kept) => kept,
        // A pass has reported it.
        Err(Problem::Unsupported(_)) => return None,
        Err(error) => {
            return Some(Report::Trouble(format!(
                "the edge could not follow the network interfaces: {error}; the next verification tries \
                 again"
            )));
        }
    };
    let table = kept.altered.first()?;
    Some(Report::Displaced(Box::new(Displacement {
        at: SystemTime::now(),
        drifts: vec![Drift {
            guarantee: Guarantee::ImdsBlock,
            kind: DriftKind::Missing,
            object: format!("nftables netdev {table}"),
        }],
        by: by.map(|commit| process::who(commit.pid, &commit.comm)),
        repaired: Ok(noticed.elapsed()),
        // The owned table stands before it.
        sealed: Some(true),
        held: false,
        paused: Vec::new(),
    })))
}
