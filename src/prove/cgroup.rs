//! Whether the senders of the packets at hand are in the cgroup that a rule asks for.

use super::engine::Engine;
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
        let answer = |met| answer(test, met);
        let Some(own) = &self.cgroup else {
            return Membership::Unknown;
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

    /// What a match on a class says. Each cgroup below has its own; one that is not known has that of the
    /// one it was made in.
    pub(super) fn bearing(&self, test: &Test<u32>) -> Membership {
        let Some(own) = &self.cgroup else {
            return Membership::Unknown;
        };
        let all = &self.host.classes;
        let above = all.iter().filter(|(cgroup, _)| contains(cgroup, own));
        let Some((_, nearest)) = above.max_by_key(|(cgroup, _)| cgroup.len()) else {
            return Membership::Unknown;
        };
        let below = all.iter().filter(|(cgroup, _)| contains(own, cgroup));
        let meets = |class: &u32| *class == test.value;
        let mut others = below.map(|(_, class)| class);
        match others.all(|class| meets(class) == meets(nearest)) {
            true => answer(test, meets(nearest)),
            false => Membership::Unknown,
        }
    }
}

/// What is said of a test that all meet, or none does.
const fn answer<T>(test: &Test<T>, met: bool) -> Membership {
    match met != test.negated {
        true => Membership::Member,
        false => Membership::Stranger,
    }
}

/// Whether a cgroup is the other one or above it.
fn contains(cgroup: &str, other: &str) -> bool {
    match other.strip_prefix(cgroup) {
        Some(rest) => cgroup.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}
