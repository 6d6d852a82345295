//! Whether the senders of the packets at hand are in the cgroup that a rule asks for.

use super::class::Origin;
use super::engine::Engine;
use super::hook::Hook;
use crate::ruleset::{Rule, Test};

/// What a match on a cgroup says of the packets at hand, `!` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// All meet it.
    Member,
    /// None does.
    Stranger,
    /// None does, because the cgroup that the rule was made for is no more; another one may bear its
    /// name.
    Dead,
    /// Some may, or all, or none.
    Unknown,
}

impl Engine<'_> {
    /// The kernel compares cgroups by a number that it looked up when the rule was made. Which one that
    /// was only the rule's comment can tell (`… (cgroup 4711)`); where it does not, the match may be
    /// dead.
    pub(super) fn membership(&self, rule: &Rule, test: &Test<String>) -> Membership {
        let answer = |met: bool| match met != test.negated {
            true => Membership::Member,
            false => Membership::Stranger,
        };
        let own = match &self.from {
            Origin::Cgroup(own) => own,
            // A packet without a socket meets it neither way (cgroup_mt_v2()); one that came in may have found its
            // socket by INPUT.
            Origin::Interface(_) if self.hook != Hook::Input => return Membership::Stranger,
            Origin::Interface(_) | Origin::Host => return Membership::Unknown,
        };
        let asked = &test.value;
        if !contains(asked, own) {
            // Of those in a cgroup some may be in one below it, and some not.
            return match contains(own, asked) {
                true => Membership::Unknown,
                false => answer(false),
            };
        }
        // The root is there for ever.
        if asked.is_empty() {
            return answer(true);
        }
        match (rule.cgroup_noted(), self.host.cgroups.get(asked)) {
            (Some(noted), Some(now)) if *now == Some(noted) => answer(true),
            (Some(_), Some(_)) if test.negated => Membership::Member,
            (Some(_), Some(_)) => Membership::Dead,
            _ => Membership::Unknown,
        }
    }
}

/// Whether a cgroup is the other one or above it.
fn contains(cgroup: &str, other: &str) -> bool {
    match other.strip_prefix(cgroup) {
        Some(rest) => cgroup.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}
