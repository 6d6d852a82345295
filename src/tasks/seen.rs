//! What tells whether a look into a task's network namespace would find what the last one found.

use super::task_netns::{Sockets, Wish};
use crate::guarantee::edge::Interface;
use crate::guarantee::imds_block;
use crate::os::nft::Moment;
use crate::os::routes::Way;
use crate::ruleset::Family;

/// Everything on which a look depends, in a tenth of its requests. Taken before a look: what changes in between makes
/// the next one different, and is looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    wish: Wish,
    cookie: Option<u64>,
    moment: Moment,
    interfaces: Vec<Interface>,
    ways: [Way; 2],
}

impl Seen {
    /// Reads it, in the network namespace of the sockets; `None` where something cannot be read.
    pub(super) fn now(sockets: &mut Sockets, wish: Wish) -> Option<Self> {
        let interfaces = sockets.interfaces().ok()?;
        let routes = sockets.routes.as_mut().ok()?;
        let mut way = |family| routes.way(imds_block::address(family), None).ok();
        let ways = [way(Family::V4)?, way(Family::V6)?];
        // No table that a look finds intact has an owner.
        let moment = Moment::without_owners(sockets.tables.as_mut().ok()?).ok()?;
        Some(Self {
            wish,
            cookie: routes.cookie(),
            moment,
            interfaces,
            ways,
        })
    }
}
