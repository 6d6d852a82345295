//! The guarantees: each is a pair of the rules that bring it about and the claims that prove it.
//!
//! One file a guarantee. Everything here is a value computed from [`Scope`]; nothing outside this
//! folder knows what the instance metadata service is.

pub mod awsvpc_imds_block;
pub mod edge;
pub mod host_imds_block;
pub mod imds_block;
pub mod introspection_shield;
pub mod loopback_shield;
mod name;
mod native;
mod rules;
mod scope;
mod task_cgroup;
pub mod task_credentials;

pub use self::name::{Guarantee, TAG_PREFIX};
pub use self::native::{EdgePass, NativeHook, NativeRule, NativeVerdict, as_rulesets};
pub use self::rules::{
    EdgeRules, PLACES, Rules, WantedRoute, WantedRule, WantedSysctl, object, route_object,
};
pub use self::scope::{Scope, interface};
use self::scope::{claim, from_outside, packets};
pub use self::task_cgroup::{Cgroup, TaskCgroup};
use crate::prove::Claim;

impl Guarantee {
    /// What this guarantee says of packets.
    #[must_use]
    pub fn claims(self, scope: &Scope) -> Vec<Claim> {
        match self {
            Self::ImdsBlock => imds_block::claims(scope),
            // What holds in tasks' namespaces no ruleset of the host tells; see crate::tasks.
            Self::AwsvpcImdsBlock => Vec::new(),
            Self::LoopbackShield => loopback_shield::claims(),
            Self::IntrospectionShield => introspection_shield::claims(scope),
            Self::TaskCredentials => task_credentials::claims(scope),
            Self::HostImdsBlock => host_imds_block::claims(scope),
        }
    }

    /// The rules that bring this guarantee about.
    #[must_use]
    pub fn rules(self, scope: &Scope) -> Rules {
        match self {
            Self::ImdsBlock => imds_block::rules(scope),
            Self::AwsvpcImdsBlock => Rules::default(),
            Self::LoopbackShield => loopback_shield::rules(scope),
            Self::IntrospectionShield => introspection_shield::rules(scope),
            Self::TaskCredentials => task_credentials::rules(scope),
            Self::HostImdsBlock => host_imds_block::rules(scope),
        }
    }
}

impl Rules {
    /// Everything that the `required` guarantees want, in chain order.
    #[must_use]
    pub fn of(required: &[Guarantee], scope: &Scope) -> Self {
        let mut all = Self::default();
        for guarantee in Guarantee::ALL.into_iter().filter(|g| required.contains(g)) {
            let Self {
                iptables,
                sysctls,
                routes,
                native,
                openings,
                edge,
                unprintable,
            } = guarantee.rules(scope);
            all.iptables.extend(iptables);
            all.sysctls.extend(sysctls);
            all.routes.extend(routes);
            all.native.extend(native);
            all.openings.extend(openings);
            all.edge.extend(edge);
            all.unprintable.extend(unprintable);
        }
        all
    }
}

#[cfg(test)]
mod tests;
