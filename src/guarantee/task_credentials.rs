//! `task-credentials`: what tasks and the host send to 169.254.170.2:80 reaches the ECS agent's
//! credentials endpoint on 127.0.0.1:51679.
//!
//! The two NAT rules and the sysctl are those of the ECS developer guide and of ecs-init. The rule
//! in OUTPUT also serves Docker's awslogs driver, which asks for credentials from the host itself.
//!
//! A host without an IPv4 default route has no route to the endpoint either, and what it sends there never comes to
//! OUTPUT. ecs-init adds one by the loopback interface where it starts and removes it where it stops
//! (ecs-init/routes/routes.go); the guard keeps one of its own.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Guarantee, NativeHook, NativeRule, NativeVerdict, Rules, Scope, WantedRoute, WantedSysctl,
    claim, interface, packets,
};
use crate::config::settings::RouteLocalnet;
use crate::prove::{Addrs, Claim, Destination, Expect, Ifaces, Origin, PacketClass};
use crate::ruleset::native::{Condition, Key, Presence, Statement, Verdict};
use crate::ruleset::{
    CtStates, Family, IfacePattern, Match, Net, Rewrite, Side, Target, Test, protocol,
};

/// Where tasks ask.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const ENDPOINT: IpAddr = IpAddr::V4(ADDRESS);
const ENDPOINT_PORT: u16 = 80;
const AGENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where the ECS agent serves credentials and task metadata.
const AGENT_PORT: u16 = 51679;
pub(crate) const AGENT_ENDPOINT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, AGENT_PORT);

pub(super) fn rules(scope: &Scope) -> Rules {
    let mut rules = Rules::default();
    let agent = Rewrite {
        addrs: Some((AGENT, AGENT)),
        ports: Some(AGENT_PORT.into()),
    };
    for (chain, target) in [
        ("PREROUTING", Target::Dnat(agent)),
        ("OUTPUT", Target::Redirect(Some(AGENT_PORT.into()))),
    ] {
        rules.add(
            Guarantee::TaskCredentials,
            Family::V4,
            ("nat", chain),
            tcp_to(ENDPOINT, ENDPOINT_PORT),
            target,
        );
    }

    for (hook, verdict) in [
        (
            NativeHook::NatPrerouting,
            NativeVerdict::Dnat(Ipv4Addr::LOCALHOST, AGENT_PORT),
        ),
        (NativeHook::NatOutput, NativeVerdict::Redirect(AGENT_PORT)),
    ] {
        rules.native.push(NativeRule {
            guarantee: Guarantee::TaskCredentials,
            hook,
            family: Family::V4,
            iif: None,
            cgroup: None,
            dst: ENDPOINT,
            tcp_port: Some(ENDPOINT_PORT),
            verdict,
        });
    }

    let interfaces = match scope.route_localnet {
        RouteLocalnet::All => vec!["all".to_owned()],
        RouteLocalnet::Bridges => scope.bridges.keys().cloned().collect(),
    };
    let guarantee = Guarantee::TaskCredentials;
    let wish = |interface| WantedSysctl {
        guarantee,
        interface,
    };
    rules.sysctls.extend(interfaces.into_iter().map(wish));
    let route = WantedRoute {
        guarantee,
        to: ADDRESS,
    };
    rules.routes.extend(scope.ipv6_only.then_some(route));
    rules
}

/// TCP to a port of an address.
fn tcp_to(address: IpAddr, port: u16) -> Vec<Match> {
    vec![
        Match::Addr(Side::Dst, Test::is(Net::host(address))),
        Match::Protocol(Test::is(protocol::TCP)),
        Match::Port(Side::Dst, Test::is(vec![port.into()])),
    ]
}

/// The networks that Docker and ECS give containers: private ones (RFC 1918), and the link-local one
/// of `ecs-bridge`.
const CONTAINER_NETWORKS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(169, 254, 172, 0), 22),
];

/// From each container interface and from the host itself. Of containers, sources of their bridge's
/// own networks are claimed: what a ban or an anti-spoofing rule does to strangers breaks no promise.
///
/// With `route_localnet` on the bridges alone nothing is claimed of bridges yet to come: they get
/// theirs at the pass that sees them.
pub(super) fn claims(scope: &Scope) -> Vec<Claim> {
    let containers: Vec<IfacePattern> = match scope.route_localnet {
        RouteLocalnet::All => scope.claimed().collect(),
        RouteLocalnet::Bridges => scope.bridges.keys().map(|name| interface(name)).collect(),
    };
    let bridges = containers.into_iter().map(|interface| {
        let src = Addrs {
            any_of: sources(scope, &interface),
            except: Vec::new(),
        };
        (Origin::Interface(Ifaces::from(interface)), src)
    });
    bridges
        .chain([(Origin::Host, Addrs::default())])
        .map(|(from, src)| {
            let class = PacketClass {
                src,
                protocol: Some(protocol::TCP),
                dport: Some(ENDPOINT_PORT.into()),
                ..packets(Family::V4, from, Destination::Net(Net::host(ENDPOINT)))
            };
            let delivered = Expect::Delivered {
                addr: AGENT,
                port: AGENT_PORT,
            };
            claim(Guarantee::TaskCredentials, class, delivered)
        })
        .collect()
}

/// The networks behind an interface, or all that containers are given where they are not known.
fn sources(scope: &Scope, interface: &IfacePattern) -> Vec<Net> {
    let own = match interface {
        IfacePattern::Exact(name) => scope.bridges.get(name).filter(|own| !own.is_empty()),
        IfacePattern::Prefix(_) => None,
    };
    own.cloned().unwrap_or_else(|| {
        let net = |(addr, prefix)| Net::new(IpAddr::V4(addr), prefix);
        CONTAINER_NETWORKS.into_iter().filter_map(net).collect()
    })
}

/// The one rule that lets the redirected packets through an INPUT chain that would drop them, as on
/// CIS-hardened images (policy DROP; aws/amazon-ecs-agent issue 2877). Only what a NAT rule of this
/// host sent to the agent's port has conntrack's state DNAT.
pub(crate) fn open_input() -> Rules {
    let mut matches = tcp_to(AGENT, AGENT_PORT);
    matches.push(Match::State(Test::is(CtStates::DNAT)));
    let mut rules = Rules::default();
    rules.add(
        Guarantee::TaskCredentials,
        Family::V4,
        ("filter", "INPUT"),
        matches,
        Target::Accept,
    );
    rules
}

/// The same for a chain of native nftables that would drop them, as the prover reads it.
#[must_use]
pub fn native_opening() -> Vec<Statement> {
    let equals = |key, width: u32, value: u128| {
        let mask = u128::MAX >> (128 - width);
        Statement::Test(Condition::Bits { key, mask, value })
    };
    let has = |presence| Statement::Test(Condition::Has(presence));
    vec![
        equals(
            Key::Addr(Side::Dst),
            32,
            u128::from(Ipv4Addr::LOCALHOST.to_bits()),
        ),
        has(Presence::Protocol),
        equals(Key::Protocol, 8, protocol::TCP.into()),
        has(Presence::Header),
        equals(Key::Port(Side::Dst), 16, AGENT_PORT.into()),
        has(Presence::Connection),
        Statement::Test(Condition::State(CtStates::DNAT)),
        Statement::Verdict(Verdict::Accept),
    ]
}

/// It, as nft prints it.
#[must_use]
pub fn native_opening_text() -> String {
    format!(
        "ip daddr {} tcp dport {AGENT_PORT} ct status dnat accept",
        Ipv4Addr::LOCALHOST
    )
}
