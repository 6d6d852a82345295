//! `imds-block`: what containers send to the instance metadata service is dropped.
//!
//! AWS documents one rule, `iptables --insert FORWARD 1 --in-interface docker+ --destination
//! 169.254.169.254/32 --jump DROP` ("Amazon ECS container instance IAM role", ECS developer guide).
//! It misses user-defined networks (`br-<id>`), awsvpc tasks' way through the host (`ecs-bridge`)
//! and IPv6; the same rule is put in for those.

use super::{Guarantee, Rules, Scope};
use crate::ruleset::Family;

/// The address of the instance metadata service in each family (EC2 user guide, "Instance metadata
/// and user data"). The IPv6 one answers on Nitro instances only.
#[must_use]
pub const fn address(family: Family) -> &'static str {
    match family {
        Family::V4 => "169.254.169.254",
        Family::V6 => "fd00:ec2::254",
    }
}

const fn prefix_length(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    for &family in &scope.families {
        for interface in &scope.interfaces {
            let matches = format!(
                "-d {}/{} -i {interface}",
                address(family),
                prefix_length(family)
            );
            rules.add(
                Guarantee::ImdsBlock,
                family,
                ("filter", "FORWARD"),
                (&matches, "DROP"),
            );
        }
    }
    rules
}
