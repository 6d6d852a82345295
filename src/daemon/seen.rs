//! What a pass reads and no event tells of.

use crate::facts::Facts;
use crate::inputs::Inputs;
use crate::os::facts::{self, host_view};
use crate::os::ipset;
use crate::os::nft::Moment;
use crate::prove::HostView;

/// Everything of that kind, as the last pass found it.
pub(super) struct Seen {
    pub(super) moment: Moment,
    pub(super) inputs: Inputs,
    pub(super) facts: Facts,
    pub(super) host: HostView,
}

impl Seen {
    /// Whether all of it is there now, with these inputs and at the same moment of nf_tables.
    pub(super) fn stands(&self, inputs: &Inputs) -> bool {
        let facts = facts::read(&inputs.settings);
        let (host, _) = host_view(facts.task_cgroup.as_ref());
        let sets = ipset::read_again(&self.host.ipsets);
        let host = sets.map(|ipsets| HostView { ipsets, ..host });
        self.inputs == *inputs && self.facts == facts && host.is_ok_and(|host| host == self.host)
    }
}
