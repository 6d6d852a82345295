//! `host-imds-block`: what tasks on the host's own network send to the instance metadata service is
//! dropped, what the ECS agent and the host's own programs send is not.
//!
//! Such a task's packets look like any other of the host; what tells them apart is the cgroup in which
//! their socket was made. The ECS agent keeps all tasks below one cgroup, and itself outside.
//!
//! The kernel knows a cgroup by a number that is never given again. A rule asks for the number that
//! its path had when the rule was made: once the cgroup is deleted, and made again under the same
//! name, the rule matches no process and looks as before. So the tag of the visible rule notes the number,
//! and a rule with another one is not the rule that is wanted.

use super::{
    EdgeRules, Guarantee, NativeHook, NativeRule, NativeVerdict, Rules, Scope, TaskCgroup, claim,
    imds_block, packets,
};
use crate::prove::{Claim, Destination, Expect, Moment, Origin, PacketClass};
use crate::ruleset::{Match, Net, Side, Target, Test};

/// The rules.
pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let Some(TaskCgroup::Present(cgroup)) = &scope.host_tasks else {
        // iptables refuses a rule for a cgroup that is not there.
        return rules;
    };
    rules.edge = EdgeRules::no_raw_frames(&scope.families);
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

/// Every protocol, both families; also packets that another program's DNAT turns towards the service.
pub(super) fn claims(scope: &Scope) -> Vec<Claim> {
    let Some(TaskCgroup::Present(cgroup)) = &scope.host_tasks else {
        return Vec::new();
    };
    let claim = |family| {
        let dst = Destination::Net(Net::host(imds_block::address(family)));
        let class = PacketClass {
            moment: Moment::Any,
            turned: true,
            ..packets(family, Origin::Cgroup(cgroup.path.clone()), dst)
        };
        claim(Guarantee::HostImdsBlock, class, Expect::Dropped)
    };
    scope.families.iter().copied().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Cgroup;
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
}
