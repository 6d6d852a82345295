//! What this kernel's nf_tables can do, found out by trying.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;

use crate::guarantee::NativeRule;

/// What a native rule may need of the kernel besides what every kernel with nf_tables has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ability {
    /// NAT in the family inet (Linux 5.2).
    Nat,
    /// A match on the cgroup of a socket (Linux 5.13).
    Cgroup,
}

impl Ability {
    const ALL: [Self; 2] = [Self::Nat, Self::Cgroup];

    /// What a rule needs.
    const fn of(rule: &NativeRule) -> Option<Self> {
        if rule.hook.is_nat() {
            Some(Self::Nat)
        } else if rule.cgroup.is_some() {
            Some(Self::Cgroup)
        } else {
            None
        }
    }
}

/// The abilities that this kernel was found to lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lacks(BTreeMap<Ability, String>);

impl Lacks {
    /// Whatever a kernel may lack, from nothing to everything.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let subsets = 0..1_u8 << Ability::ALL.len();
        subsets.map(|subset| {
            let lacking = Ability::ALL.into_iter().enumerate();
            let lacking = lacking.filter(|(bit, _)| subset & 1 << bit != 0);
            Self(
                lacking
                    .map(|(_, ability)| (ability, String::new()))
                    .collect(),
            )
        })
    }

    /// The rules that are possible without these abilities.
    pub(super) fn possible(&self, rules: &[NativeRule]) -> Vec<NativeRule> {
        let lacking = |rule: &&NativeRule| {
            !Ability::of(rule).is_some_and(|ability| self.0.contains_key(&ability))
        };
        rules.iter().filter(lacking).cloned().collect()
    }

    /// Learns from the kernel's refusal of a rule or chain that needs this ability. False where the
    /// refusal says nothing of abilities, or of one that is already known to be lacking.
    pub(super) fn learn(&mut self, ability: Ability, refusal: &io::Error) -> bool {
        is_unsupported(refusal) && self.0.insert(ability, refusal.to_string()).is_none()
    }

    /// What these rules lose, with the consequence.
    pub(super) fn consequence(&self, rules: &[NativeRule]) -> Option<String> {
        let mut needed = rules.iter().filter_map(Ability::of);
        let ability = needed.find(|ability| self.0.contains_key(ability))?;
        let why = self.0.get(&ability)?;
        Some(match ability {
            Ability::Nat => format!(
                "this kernel's nf_tables cannot redirect credentials ({why}); the iptables rules \
                 redirect them"
            ),
            Ability::Cgroup => format!(
                "this kernel's nf_tables cannot match the cgroup of a socket ({why}); only the \
                 iptables rules stop tasks on the host's network"
            ),
        })
    }
}

/// Whether these are the kernel's words for what it does not support. Everything else (no memory, no
/// permission, a timeout) is a failure of this attempt alone.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::EOPNOTSUPP, Errno::ENOENT, Errno::EINVAL];
    let errno = error.raw_os_error().map(Errno::from_raw);
    errno.is_some_and(|errno| unsupported.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cgroup, drop, nat};
    use super::*;

    #[test]
    fn only_the_words_for_not_supported_mean_that() {
        for (errno, unsupported) in [
            (Errno::EOPNOTSUPP, true),
            (Errno::ENOENT, true),
            (Errno::EINVAL, true),
            (Errno::ENOMEM, false),
            (Errno::ETIMEDOUT, false),
            (Errno::EAGAIN, false),
            (Errno::EPERM, false),
            (Errno::ENOBUFS, false),
            (Errno::EBUSY, false),
            (Errno::EEXIST, false),
        ] {
            assert_eq!(is_unsupported(&errno.into()), unsupported, "{errno}");
            let mut lacks = Lacks::default();
            assert_eq!(lacks.learn(Ability::Nat, &errno.into()), unsupported);
            assert_eq!(lacks != Lacks::default(), unsupported, "{errno}");
        }
        assert!(!is_unsupported(&io::Error::other("no answer")));
    }

    #[test]
    fn an_ability_that_is_lacking_takes_its_rules_and_no_others() {
        let rules = [drop(), cgroup(7), nat()];
        let mut lacks = Lacks::default();
        assert_eq!(lacks.possible(&rules), rules);
        assert_eq!(lacks.consequence(&rules), None);
        assert!(lacks.learn(Ability::Nat, &Errno::ENOENT.into()));
        assert_eq!(lacks.possible(&rules), [drop(), cgroup(7)]);
        let consequence = lacks.consequence(&rules).unwrap();
        assert!(
            consequence.contains("redirect credentials"),
            "{consequence}"
        );
        assert!(lacks.learn(Ability::Cgroup, &Errno::EOPNOTSUPP.into()));
        assert_eq!(lacks.possible(&rules), [drop()]);
        let consequence = lacks.consequence(&rules[1..2]).unwrap();
        assert!(consequence.contains("cgroup"), "{consequence}");
        assert_eq!(lacks.consequence(&rules[..1]), None);
        assert!(!lacks.learn(Ability::Nat, &Errno::ENOENT.into()), "known");
    }

    #[test]
    fn all_that_may_be_lacking() {
        let rules = [drop(), cgroup(7), nat()];
        let possible: Vec<usize> = Lacks::all()
            .map(|lacks| lacks.possible(&rules).len())
            .collect();
        assert_eq!(possible, [3, 2, 2, 1]);
    }
}
