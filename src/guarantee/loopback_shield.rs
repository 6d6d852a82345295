//! `loopback-shield`: with `route_localnet=1` the kernel accepts packets for 127.0.0.0/8 from the
//! network (CVE-2020-8558); those that no NAT rule of the host sent there are dropped.
//!
//! The rule is the one that ecs-init installs. It must stand before `route_localnet` is set, and go
//! only after that is restored. IPv6 needs none: `::1` is never routed.

use super::{Guarantee, Rules, Scope, claim, from_outside, packets};
use crate::prove::{Addrs, Claim, Destination, Expect, PacketClass};
use crate::ruleset::{CtStates, Family, Match, Net, Side, Target, Test};

pub(super) fn rules(_scope: &Scope) -> Rules {
    let loopback = Net::loopback(Family::V4);
    let answers = CtStates::RELATED.with(CtStates::ESTABLISHED);
    let matches = vec![
        Match::Addr(Side::Src, Test::not(loopback)),
        Match::Addr(Side::Dst, Test::is(loopback)),
        Match::State(Test::not(answers.with(CtStates::DNAT))),
    ];
    let mut rules = Rules::default();
    rules.add(
        Guarantee::LoopbackShield,
        Family::V4,
        ("filter", "INPUT"),
        matches,
        Target::Drop,
    );
    rules
}

/// Sources in 127.0.0.0/8 are left out: the kernel itself refuses those from outside as martians
/// (fib_validate_source() in net/ipv4/fib_frontend.c, unless `accept_local` is set).
pub(super) fn claims() -> Vec<Claim> {
    let loopback = Net::loopback(Family::V4);
    let class = PacketClass {
        src: Addrs {
            any_of: Vec::new(),
            except: vec![loopback],
        },
        ..packets(Family::V4, from_outside(None), Destination::Net(loopback))
    };
    vec![claim(Guarantee::LoopbackShield, class, Expect::Dropped)]
}
