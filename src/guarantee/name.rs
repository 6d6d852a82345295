//! The names of the guarantees, and the tags by which their rules are known.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ruleset::{Match, Rule, cgroup_noted};

/// What every tag starts with. The tag is the ownership: rules without it are another program's.
pub const TAG_PREFIX: &str = "ecs-netguard: ";

/// One promise about the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Containers cannot reach the instance metadata service.
    ImdsBlock,
    /// Tasks with a network interface of their own cannot either.
    AwsvpcImdsBlock,
    /// `route_localnet=1` does not open the host's loopback services to the network.
    LoopbackShield,
    /// The agent's introspection port answers only the host and the default bridge.
    IntrospectionShield,
    /// Tasks reach the agent's credentials endpoint.
    TaskCredentials,
    /// Tasks on the host's own network cannot reach the instance metadata service.
    HostImdsBlock,
}

impl Guarantee {
    /// All guarantees, in the order in which their rules stand in a shared chain: what blocks comes
    /// before what lets through.
    pub const ALL: [Self; 6] = [
        Self::ImdsBlock,
        Self::AwsvpcImdsBlock,
        Self::HostImdsBlock,
        Self::LoopbackShield,
        Self::IntrospectionShield,
        Self::TaskCredentials,
    ];

    /// The name used in tags, output, logs and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImdsBlock => "imds-block",
            Self::AwsvpcImdsBlock => "awsvpc-imds-block",
            Self::LoopbackShield => "loopback-shield",
            Self::IntrospectionShield => "introspection-shield",
            Self::TaskCredentials => "task-credentials",
            Self::HostImdsBlock => "host-imds-block",
        }
    }

    /// The guarantee whose tag this rule comment is; `None` for a comment that is not a tag of ours.
    #[must_use]
    pub fn from_tag(comment: &str) -> Option<Self> {
        let tag = comment.strip_prefix(TAG_PREFIX)?;
        // It may note the cgroup that its rule was made for.
        let name = match tag.split_once(" (cgroup ") {
            Some((name, _)) if cgroup_noted(comment).is_some() => name,
            _ => tag,
        };
        Self::ALL
            .into_iter()
            .find(|guarantee| guarantee.name() == name)
    }

    /// What it means for the host that the guarantee does not hold.
    #[must_use]
    pub const fn broken(self) -> &'static str {
        match self {
            Self::ImdsBlock => "Containers can reach the instance metadata service",
            Self::HostImdsBlock => {
                "Tasks on the host's network can reach the instance metadata service"
            }
            Self::AwsvpcImdsBlock => {
                "A task in awsvpc mode can reach the instance metadata service"
            }
            Self::TaskCredentials => "Requests for task credentials do not arrive at the ECS agent",
            Self::LoopbackShield => "The network can reach 127.0.0.0/8 of this host",
            Self::IntrospectionShield => {
                "The network or containers can reach the ECS agent's introspection port"
            }
        }
    }

    /// The guarantee whose tag the rule bears. None of ours has a comment that goes over lines, and one that
    /// has would be more than one command to iptables-restore.
    #[must_use]
    pub fn owning(rule: &Rule) -> Option<Self> {
        let over_lines =
            |one: &Match| matches!(one, Match::Comment(text) if text.contains(['\n', '\r']));
        if rule.matches.iter().any(over_lines) {
            return None;
        }
        rule.comment().and_then(Self::from_tag)
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
