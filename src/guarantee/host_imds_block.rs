//! `host-imds-block`: what tasks on the host's own network send to the instance metadata service is
//! dropped, what the ECS agent and the host's own programs send is not.
//!
//! Such a task's packets look like any other of the host; what tells them apart is the cgroup in which
//! their socket was made. The ECS agent keeps all tasks below one cgroup, and itself outside.
//!
//! The kernel knows a cgroup by a number that is never given again. A rule asks for the number that
//! its path had when the rule was made: once the cgroup is deleted, and made again under the same
//! name, the rule matches nobody and looks as before. So the tag of the visible rule notes the number,
//! and a rule with another one is not the rule that is wanted.

use std::fmt;

use super::{
    Guarantee, NativeHook, NativeRule, NativeVerdict, Rules, Scope, claim, imds_block, packets,
};
use crate::prove::{Claim, Destination, Expect, Origin, PacketClass};
use crate::ruleset::{Match, Net, Side, Target, Test};

/// A cgroup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path from the hierarchy's root, without a `/` at either end.
    pub path: String,
    /// The kernel's number for it.
    pub id: u64,
}

impl Cgroup {
    /// The match on its processes' sockets, and what is to be noted of the rule.
    pub(super) fn sockets(&self) -> (Match, String) {
        let path = Match::Cgroup(Test::is(self.path.clone()));
        (path, format!(" (cgroup {})", self.id))
    }

    /// How far below the root it is: 1 for the root's children.
    #[must_use]
    pub fn level(&self) -> u32 {
        let deeper = self.path.bytes().filter(|&byte| byte == b'/').count();
        u32::try_from(deeper).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// The cgroup below which all tasks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskCgroup {
    /// It is there.
    Present(Cgroup),
    /// It is not there: no task runs.
    Absent {
        /// Where it will be.
        path: String,
    },
    /// Tasks cannot be told apart by it on this host.
    Useless {
        /// The one that was asked for.
        path: String,
        /// Why not, as a clause.
        why: String,
    },
}

impl TaskCgroup {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Present(cgroup) => &cgroup.path,
            Self::Absent { path } | Self::Useless { path, .. } => path,
        }
    }

    /// Its path with its number, or with none where it is not there; `None` where that is not known.
    #[must_use]
    pub fn known(&self) -> Option<(String, Option<u64>)> {
        match self {
            Self::Present(Cgroup { path, id }) => Some((path.clone(), Some(*id))),
            Self::Absent { path } => Some((path.clone(), None)),
            Self::Useless { .. } => None,
        }
    }

    /// What an operator should know of it, although nothing is wrong.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Self::Absent { path } = self else {
            return None;
        };
        Some(format!(
            "{}: there is no cgroup {path} now, so there is nothing to stop; it is covered when it \
             appears",
            Guarantee::HostImdsBlock
        ))
    }
}

impl fmt::Display for TaskCgroup {
    /// The claim as a whole, where it cannot be asked packet by packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "what processes in cgroup {} send to the instance metadata service is dropped",
            self.path()
        )
    }
}

/// The rules.
pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let Some(TaskCgroup::Present(cgroup)) = &scope.host_tasks else {
        // iptables refuses a rule for a cgroup that is not there.
        return rules;
    };
    for &family in &scope.families {
        let address = imds_block::address(family);
        let (sockets, noted) = cgroup.sockets();
        let service = Match::Addr(Side::Dst, Test::is(Net::host(address)));
        rules.add_noting(
            &noted,
            Guarantee::HostImdsBlock,
            family,
            ("filter", "OUTPUT"),
            vec![service, sockets],
            Target::Drop,
        );
        for hook in [NativeHook::Output, NativeHook::OutputTurned] {
            rules.native.push(NativeRule {
                guarantee: Guarantee::HostImdsBlock,
                hook,
                family,
                iif: None,
                cgroup: Some(cgroup.clone()),
                dst: address,
                tcp_port: None,
                verdict: NativeVerdict::Drop,
            });
        }
    }
    rules
}

/// Every protocol, both families; also packets that somebody's DNAT turns towards the service.
pub(super) fn claims(scope: &Scope) -> Vec<Claim> {
    let Some(TaskCgroup::Present(cgroup)) = &scope.host_tasks else {
        return Vec::new();
    };
    let claim = |family| {
        let dst = Destination::Net(Net::host(imds_block::address(family)));
        let class = PacketClass {
            turned: true,
            ..packets(family, Origin::Cgroup(cgroup.path.clone()), dst)
        };
        claim(Guarantee::HostImdsBlock, class, Expect::Dropped)
    };
    scope.families.iter().copied().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::Family;

    fn scope(host_tasks: Option<TaskCgroup>) -> Scope {
        Scope {
            families: vec![Family::V4, Family::V6],
            host_tasks,
            ..Scope::default()
        }
    }

    fn slice(id: u64) -> TaskCgroup {
        TaskCgroup::Present(Cgroup {
            path: "ecstasks.slice".to_owned(),
            id,
        })
    }

    #[test]
    fn a_rule_says_which_cgroup_it_is_for_and_whose_it_is() {
        let rules = rules(&scope(Some(slice(4711))));
        let specs: Vec<&str> = rules
            .iptables
            .iter()
            .map(|rule| rule.listed.text.as_str())
            .collect();
        let rest = "-m cgroup --path ecstasks.slice -m comment \
                    --comment \"ecs-netguard: host-imds-block (cgroup 4711)\" -j DROP";
        assert_eq!(
            specs,
            [
                format!("-d 169.254.169.254/32 {rest}"),
                format!("-d fd00:ec2::254/128 {rest}")
            ]
        );
        assert_eq!(rules.native.len(), 4);
        let whose = Guarantee::from_tag;
        let own = Some(Guarantee::HostImdsBlock);
        assert_eq!(whose("ecs-netguard: host-imds-block (cgroup 4711)"), own);
        assert_eq!(whose("ecs-netguard: host-imds-block"), own);
        for other in [
            "ecs-netguard: host-imds-block (cgroup x)",
            "ecs-netguard: host-imds-block (cgroup 1) more",
            "host-imds-block (cgroup 4711)",
        ] {
            assert_eq!(whose(other), None, "{other}");
        }
    }

    #[test]
    fn without_a_cgroup_there_is_nothing_to_stop() {
        let path = "ecstasks.slice".to_owned();
        let why = "of version 1".to_owned();
        for tasks in [
            None,
            Some(TaskCgroup::Absent { path: path.clone() }),
            Some(TaskCgroup::Useless { path, why }),
        ] {
            let scope = scope(tasks);
            assert_eq!(rules(&scope), Rules::default());
            assert_eq!(claims(&scope), []);
        }
    }

    #[test]
    fn levels_are_counted_from_the_root() {
        let level = |path: &str| {
            let path = path.to_owned();
            Cgroup { path, id: 1 }.level()
        };
        assert_eq!((level("a.slice"), level("a/b/c")), (1, 3));
    }
}
