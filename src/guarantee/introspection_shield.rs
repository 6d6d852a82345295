//! `introspection-shield`: the agent's introspection API (TCP 51678, on every address, without
//! authentication) answers only the host itself and the default bridge.
//!
//! The two rules are those that ecs-init installs; the ACCEPT stands above the DROP.

use super::{Guarantee, Rules, Scope, claim, from_outside, packets};
use crate::prove::{Claim, Destination, Expect, PacketClass};
use crate::ruleset::{IfacePattern, Match, Side, Target, Test, protocol};

const PORT: u16 = 51678;

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let input = ("filter", "INPUT");
    for &family in &scope.families {
        let mut add = |interface, target| {
            let matches = vec![
                Match::In(interface),
                Match::Protocol(Test::is(protocol::TCP)),
                Match::Port(Side::Dst, Test::is(vec![PORT.into()])),
            ];
            rules.add(
                Guarantee::IntrospectionShield,
                family,
                input,
                matches,
                target,
            );
        };
        if let Some(bridge) = &scope.default_bridge {
            let bridge = IfacePattern::Exact(bridge.clone());
            add(Test::is(bridge), Target::Accept);
        }
        let loopback = IfacePattern::Exact("lo".to_owned());
        add(Test::not(loopback), Target::Drop);
    }
    rules
}

pub(super) fn claims(scope: &Scope) -> Vec<Claim> {
    let from = from_outside(scope.default_bridge.as_ref());
    let class = |family| PacketClass {
        protocol: Some(protocol::TCP),
        dport: Some(PORT.into()),
        ..packets(family, from.clone(), Destination::ThisHost)
    };
    let dropped = |class| claim(Guarantee::IntrospectionShield, class, Expect::Dropped);
    scope
        .families
        .iter()
        .map(|&family| dropped(class(family)))
        .collect()
}
