//! What a pass changes the host with.

use crate::plan::ChainId;
use crate::seal::edge::SharedEdge;
use crate::seal::{Around, Seal};

/// What a pass changes the host with, besides iptables.
pub struct Hands<'a> {
    /// The seal; opened by the first pass that needs it.
    pub seal: &'a mut Option<Seal>,
    /// The edge.
    pub edge: &'a SharedEdge,
    /// Called before iptables' rules are changed: the sentinel, which keeps them, should not step in.
    pub before_change: &'a dyn Fn(),
    /// What the sentinel does around a change of the seal.
    pub around_seal: Around<'a>,
    /// Whether it matters how the guarantees stood before the change: a proof of its own.
    pub prove_before: bool,
    /// What came of the seal, where it was brought about already.
    pub sealed: Option<Result<bool, String>>,
    /// Chains that are left as they are.
    pub paused: &'a [ChainId],
}
