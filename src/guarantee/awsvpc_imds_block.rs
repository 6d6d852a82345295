//! `awsvpc-imds-block`: a task with a network interface of its own does not reach the instance
//! metadata service by that interface.
//!
//! Its packets never meet the host's FORWARD chain. The ECS agent adds a blackhole route for the
//! service's address in the task's network namespace, once, at the task's start. Two things keep
//! that from being enough: the task's root may delete it; and any process of the task, without any
//! privilege, goes past a blackhole by a socket that names its interface (SO_BINDTODEVICE since Linux
//! 5.7, IP_PKTINFO always): for IPv4 the kernel then takes the destination to be on the link
//! (ip_route_output_key_hash_rcu() in net/ipv4/route.c), for IPv6 it takes the next best route by
//! that interface (rt6_score_route() in net/ipv6/route.c). So beside the routes a native rule drops
//! what leaves for the service, whatever way it was routed.

use super::{Guarantee, NativeHook, NativeRule, NativeVerdict, imds_block};
use crate::ruleset::Family;

/// The bridges of the ECS agent's CNI plugins, by which awsvpc tasks reach the host: the agent's
/// (aws/amazon-ecs-cni-plugins, plugins/ecs-bridge), and that of managed instances, which also carries their
/// daemons (aws/amazon-ecs-agent, ecs-agent/netlib/platform/cniconf_linux.go).
pub const BRIDGES: [&str; 2] = ["ecs-bridge", "fargate-bridge"];

/// The rules of the native table in a task's network namespace: both families, since a namespace
/// may have IPv6 any moment.
#[must_use]
pub fn drops() -> Vec<NativeRule> {
    let drop = |family| NativeRule {
        cgroup: None,
        guarantee: Guarantee::AwsvpcImdsBlock,
        hook: NativeHook::Postrouting,
        family,
        iif: None,
        dst: imds_block::address(family),
        tcp_port: None,
        verdict: NativeVerdict::Drop,
    };
    [Family::V4, Family::V6].map(drop).into()
}
