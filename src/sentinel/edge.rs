//! The edge, as interfaces come and go and as other programs change what they can of it.

use std::time::{Instant, SystemTime};

use super::report::Report;
use crate::events::Displacement;
use crate::guarantee::Guarantee;
use crate::guarantee::edge::Interface;
use crate::os::links::LinkChange;
use crate::os::nft::Commit;
use crate::os::process;
use crate::plan::{Drift, DriftKind};
use crate::seal::edge::{Problem, SharedEdge};

/// The edge, and the interfaces at which it was last brought up to date.
pub(super) struct Follower {
    edge: SharedEdge,
    at: Vec<Interface>,
}

impl Follower {
    pub(super) const fn new(edge: SharedEdge, at: Vec<Interface>) -> Self {
        Self { edge, at }
    }

    /// Follows interfaces that have changed; what there is to report of it. Most events change nothing
    /// that matters here. An interface that went and came again has lost its chain.
    pub(super) fn changed(
        &mut self,
        changes: &[LinkChange],
        interfaces: Vec<Interface>,
        noticed: Instant,
    ) -> Option<Report> {
        let moved = |change: &LinkChange| !matches!(change, LinkChange::Changed(_));
        if interfaces == self.at && !changes.iter().any(moved) {
            return None;
        }
        self.at = interfaces;
        follow(&self.edge, &self.at, None, noticed)
    }

    /// Repairs what commits of other programs may have changed.
    pub(super) fn committed(&self, by: Option<&Commit>, noticed: Instant) -> Option<Report> {
        let follow = || follow(&self.edge, &self.at, by, noticed);
        self.edge.is_open().then(follow).flatten()
    }
}

fn follow(
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
