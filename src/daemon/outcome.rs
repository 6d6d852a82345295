//! What comes of a pass.

use crate::events::Passed;
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
    pub(super) first: bool,
    pub(super) new_wish: bool,
}

impl News {
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
