//! `introspection-shield`: the agent's introspection API (TCP 51678, on every address, without
//! authentication) answers only the host itself and the default bridge.
//!
//! The two rules are those that ecs-init installs; the ACCEPT stands above the DROP.

use super::{Guarantee, Rules, Scope};

const PORT: u16 = 51678;

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let input = ("filter", "INPUT");
    for &family in &scope.families {
        let mut add = |interface: &str, verdict: &str| {
            let matches = format!("{interface} -p tcp -m tcp --dport {PORT}");
            rules.add(
                Guarantee::IntrospectionShield,
                family,
                input,
                (&matches, verdict),
            );
        };
        if let Some(bridge) = &scope.default_bridge {
            add(&format!("-i {bridge}"), "ACCEPT");
        }
        add("! -i lo", "DROP");
    }
    rules
}
