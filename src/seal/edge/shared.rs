//! The edge as the passes and the sentinel share it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Edge, Kept, Problem, listed};
use crate::guarantee::EdgeRules;
use crate::guarantee::edge::Interface;
use crate::seal::{Lacking, unavailable};

/// The edge in two hands: a pass says what is wanted, and the sentinel follows the interfaces.
#[derive(Debug, Clone, Default)]
pub struct SharedEdge(Arc<Mutex<Hand>>);

#[derive(Debug, Default)]
struct Hand {
    edge: Option<Edge>,
    /// `None` until a pass has said it.
    rules: Option<EdgeRules>,
    lacking: Option<Lacking>,
}

impl SharedEdge {
    /// Begins, with the socket that an earlier run of the daemon left where there is one. Without
    /// nf_tables every pass tries again, and reports it.
    #[must_use]
    pub fn open(inherited: Option<OwnedFd>, lacking: Option<Lacking>) -> Self {
        let edge = Edge::open(inherited).ok();
        Self(Arc::new(Mutex::new(Hand {
            edge: edge.map(|edge| edge.lacking(lacking)),
            rules: None,
            lacking,
        })))
    }

    /// Brings it about that it stops this, from now on.
    pub fn keep(&self, rules: &EdgeRules) -> Result<Kept, Problem> {
        // Before the sentinel would have to wait for it.
        let interfaces = listed()?;
        let Hand {
            edge,
            rules: wanted,
            lacking,
        } = &mut *self.hand();
        *wanted = Some(rules.clone());
        let edge = match edge {
            Some(edge) => edge,
            None => {
                let opened = Edge::open(None).map_err(|e| Problem::Failed(unavailable(e)))?;
                edge.insert(opened.lacking(*lacking))
            }
        };
        edge.follow(rules, &interfaces)
    }

    /// Brings it about at these interfaces, which the kernel's events tell of.
    pub fn follow(&self, known: &[Interface]) -> Result<Kept, Problem> {
        let Hand { edge, rules, .. } = &mut *self.hand();
        match (edge, rules) {
            (Some(edge), Some(rules)) => edge.follow(rules, known),
            _ => Ok(Kept::default()),
        }
    }

    /// Whether any root process can change what is kept.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let hand = self.hand();
        hand.rules.as_ref().is_some_and(|rules| !rules.is_empty())
            && hand.edge.as_ref().is_some_and(Edge::is_open)
    }

    /// Forgets what this kernel was found not to support. False where nothing was found.
    #[must_use]
    pub fn retry_unsupported(&self) -> bool {
        let mut hand = self.hand();
        hand.edge.as_mut().is_some_and(Edge::retry_unsupported)
    }

    /// A copy of the socket that owns the tables.
    #[must_use]
    pub fn socket(&self) -> Option<OwnedFd> {
        use std::os::fd::AsFd as _;
        let hand = self.hand();
        hand.edge.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        // What a panic left half done is in the kernel, and read again before anything is changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
