//! `imds-block`: what containers send to the instance metadata service is dropped.
//!
//! AWS documents one rule, `iptables --insert FORWARD 1 --in-interface docker+ --destination
//! 169.254.169.254/32 --jump DROP` ("Amazon ECS container instance IAM role", ECS developer guide).
//! It misses user-defined networks (`br-<id>`), awsvpc tasks' way through the host (`ecs-bridge`)
//! and IPv6; the same rule is put in for those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    EdgeRules, Guarantee, NativeHook, NativeRule, NativeVerdict, Rules, Scope, claim, packets,
};
use crate::prove::{Claim, Destination, Expect, Ifaces, Moment, Origin, PacketClass};
use crate::ruleset::{Family, IfacePattern, Match, Net, Side, Target, Test};

/// The address of the instance metadata service in each family (EC2 user guide, "Instance metadata
/// and user data"). The IPv6 one answers on Nitro instances only.
#[must_use]
pub const fn address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    }
}

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules {
        edge: EdgeRules {
            pass: scope.allowed.as_ref().map(|(_, pass)| *pass),
            ..EdgeRules::sockets_only(&scope.families)
        },
        ..Rules::default()
    };
    for &family in &scope.families {
        let native = |hook, interface: &IfacePattern, verdict| NativeRule {
            guarantee: Guarantee::ImdsBlock,
            hook,
            family,
            iif: Some(interface.clone()),
            cgroup: None,
            dst: address(family),
            tcp_port: None,
            verdict,
        };
        if let Some((interfaces, pass)) = &scope.allowed {
            let mark = |of| native(NativeHook::Forward, of, NativeVerdict::Mark(*pass));
            rules.native.extend(interfaces.iter().map(mark));
        }
        for interface in &scope.interfaces {
            let matches = vec![
                Match::Addr(Side::Dst, Test::is(Net::host(address(family)))),
                Match::In(Test::is(interface.clone())),
            ];
            rules.add(
                Guarantee::ImdsBlock,
                family,
                ("filter", "FORWARD"),
                matches,
                Target::Drop,
            );
            let drop = |hook| native(hook, interface, NativeVerdict::Drop);
            let hooks = [NativeHook::Prerouting, NativeHook::Forward];
            rules.native.extend(hooks.map(drop));
        }
    }
    rules
}

/// Where the service can be: not behind the interfaces that carry containers. What leaves by one of
/// those goes to a container, and what that sends on is claimed of again.
fn beyond(scope: &Scope) -> Ifaces {
    Ifaces::all_but(scope.claimed().collect())
}

/// Every protocol, both families, each container interface; also packets that another program's DNAT turns
/// towards the service.
pub(super) fn claims(scope: &Scope) -> Vec<Claim> {
    let mut claims = Vec::new();
    for &family in &scope.families {
        for interface in scope.claimed() {
            let from = Origin::Interface(Ifaces::from(interface));
            let dst = Destination::Net(Net::host(address(family)));
            let class = PacketClass {
                out: Some(beyond(scope)),
                moment: Moment::Any,
                turned: true,
                ..packets(family, from, dst)
            };
            claims.push(claim(Guarantee::ImdsBlock, class, Expect::Dropped));
        }
    }
    claims
}
