//! What comes of a pass.

use crate::events::{Event, Kind, Passed};
use crate::reconcile::Pass;
use crate::schedule::Ended;
use crate::status::hub::Publishing;

/// What came of a pass.
pub(super) struct Outcome {
    /// What the schedule needs to know.
    pub(super) ended: Ended,
    /// What is new; `None` where the pass found that there is nothing to look at.
    pub(super) news: Option<News>,
    /// What failed besides.
    pub(super) troubles: Vec<String>,
}

/// A pass, and what it is to be read with.
pub(super) struct News {
    pub(super) pass: Pass,
    pub(super) publishing: Publishing,
    /// What changed in the inputs since they were read before; `None` where they were not read again.
    pub(super) reloaded: Option<Vec<String>>,
    pub(super) first: bool,
    pub(super) new_wish: bool,
}

impl News {
    /// That the configuration was read again, where it was.
    pub(super) fn reload(&self) -> Option<Event> {
        let changes = self.reloaded.as_ref()?;
        let message = match changes.as_slice() {
            [] => "configuration reloaded: no change".to_owned(),
            changes => format!("configuration reloaded: {}", changes.join("; ")),
        };
        Some(Event::new(Kind::Reloaded, message))
    }

    /// What there is to say of it.
    pub(super) fn passed(&self) -> Passed<'_> {
        Passed {
            report: &self.pass.report,
            left: &self.pass.left,
            held_before: &self.pass.held_before,
            first: self.first,
            new_wish: self.new_wish,
        }
    }
}
