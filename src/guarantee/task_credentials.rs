//! `task-credentials`: what tasks and the host send to 169.254.170.2:80 reaches the ECS agent's
//! credentials endpoint on 127.0.0.1:51679.
//!
//! The two NAT rules and the sysctl are those of the ECS developer guide and of ecs-init. The rule
//! in OUTPUT also serves Docker's awslogs driver, which asks for credentials from the host itself.

use super::{Guarantee, Rules, Scope, WantedSysctl};
use crate::config::settings::RouteLocalnet;
use crate::ruleset::Family;

const MATCHES: &str = "-d 169.254.170.2/32 -p tcp -m tcp --dport 80";
/// Where the ECS agent serves credentials and task metadata.
pub const AGENT_PORT: u16 = 51679;

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let mut add = |chain, verdict: String| {
        let place = ("nat", chain);
        rules.add(
            Guarantee::TaskCredentials,
            Family::V4,
            place,
            (MATCHES, &verdict),
        );
    };
    add(
        "PREROUTING",
        format!("DNAT --to-destination 127.0.0.1:{AGENT_PORT}"),
    );
    add("OUTPUT", format!("REDIRECT --to-ports {AGENT_PORT}"));

    let interfaces = match scope.route_localnet {
        RouteLocalnet::All => vec!["all".to_owned()],
        RouteLocalnet::Bridges => scope.bridges.clone(),
    };
    let guarantee = Guarantee::TaskCredentials;
    let wish = |interface| WantedSysctl {
        guarantee,
        interface,
    };
    rules.sysctls.extend(interfaces.into_iter().map(wish));
    rules
}
