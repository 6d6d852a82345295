//! What the host's routes and sysctls say of packets before any rule does.

use super::claim::{Claim, Expect};
use super::class::{Destination, HostView, Origin, PacketClass};
use super::hook::Hook;
use super::walk::{End, Outcome, Step, Walk};
use crate::ruleset::Net;

impl HostView {
    /// Why packets with a route of their own may get around a block: the kernel shows most rules the
    /// address of the next hop, and puts in the last one behind FORWARD (ip_forward_options(), seg6).
    pub(super) fn source_routed(&self, class: &PacketClass) -> Option<String> {
        let Origin::Interface(ifaces) = &class.from else {
            return None;
        };
        let mut accepting = self.source_routed.iter();
        let (_, name, sysctl) =
            accepting.find(|(family, name, _)| *family == class.family && ifaces.fits(name))?;
        Some(format!(
            "{name} accepts packets that carry their own route, which rules do not see: set {sysctl}=0"
        ))
    }

    /// The end of what the host sends to an address that it has no route to, where that should be delivered.
    pub(super) fn unroutable(&self, claim: &Claim) -> Option<Walk> {
        let class = &claim.packets;
        let to = match (&class.from, &class.dst, claim.expect) {
            (Origin::Host, Destination::Net(net), Expect::Delivered { .. }) => {
                let mut unroutable = self.unroutable.iter();
                *unroutable.find(|to| Net::host(**to) == *net)?
            }
            _ => return None,
        };
        let step = Step {
            hook: Hook::Output,
            table: "route".to_owned(),
            chain: "main".to_owned(),
            rule: None,
            text: format!("this host has no route to {to}"),
            outcome: Outcome::Matched,
            note: String::new(),
        };
        Some(Walk {
            steps: vec![step],
            ends: vec![End::Dropped],
            ..Walk::default()
        })
    }
}
