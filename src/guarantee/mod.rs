//! The guarantees: each is a pair of the rules that bring it about and the claims that prove it.
//!
//! One file a guarantee. Everything here is a value computed from [`Scope`]; nothing outside this
//! folder knows what the instance metadata service is.

pub mod awsvpc_imds_block;
pub mod host_imds_block;
pub mod imds_block;
pub mod introspection_shield;
pub mod loopback_shield;
mod native;
pub mod task_credentials;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::host_imds_block::{Cgroup, TaskCgroup};
pub use self::native::{NativeHook, NativeRule, NativeVerdict, as_rulesets};
use crate::config::settings::RouteLocalnet;
use crate::prove::{Addrs, Claim, Destination, Expect, Ifaces, Moment, Origin, PacketClass};
use crate::ruleset::{
    Family, IfacePattern, Listed, Match, Net, Rule, Target, Unprintable, cgroup_noted,
};

/// What every tag starts with. The tag is the ownership: rules without it are somebody else's.
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

    /// The guarantee whose tag the rule bears.
    #[must_use]
    pub fn owning(rule: &Rule) -> Option<Self> {
        rule.comment().and_then(Self::from_tag)
    }

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

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What of the host and the settings the guarantees depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Container interfaces.
    pub interfaces: Vec<IfacePattern>,
    /// The families to cover; IPv6 only where the kernel has it.
    pub families: Vec<Family>,
    /// The default Docker bridge's name, `None` where Docker was told to have none.
    pub default_bridge: Option<String>,
    /// The bridges that exist now and match `interfaces`, each with its IPv4 networks.
    pub bridges: BTreeMap<String, Vec<Net>>,
    /// Where `route_localnet` is set.
    pub route_localnet: RouteLocalnet,
    /// The cgroup of the tasks, where those on the host's network are to be told apart.
    pub host_tasks: Option<TaskCgroup>,
}

impl Scope {
    /// Whether containers may come by this interface.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.interfaces.iter().any(|pattern| pattern.fits(name))
    }

    /// The interfaces that claims are made for: each pattern in general, also for bridges yet to
    /// come, and each bridge that exists now.
    fn claimed(&self) -> impl Iterator<Item = IfacePattern> {
        let named = self.bridges.keys().map(|name| interface(name));
        let more = named.filter(|name| !self.interfaces.contains(name));
        self.interfaces.iter().cloned().chain(more)
    }
}

/// What a name or pattern of iptables stands for. One that iptables could not be given is an interface
/// of that name.
#[must_use]
pub fn interface(name: &str) -> IfacePattern {
    IfacePattern::parse(name).unwrap_or_else(|| IfacePattern::Exact(name.to_owned()))
}

/// First packets of every kind, from anywhere to `dst`: what a guarantee's own class narrows.
fn packets(family: Family, from: Origin, dst: Destination) -> PacketClass {
    PacketClass {
        family,
        from,
        out: None,
        src: Addrs::default(),
        dst,
        protocol: None,
        sport: None,
        dport: None,
        moment: Moment::First,
        turned: false,
    }
}

/// Every interface but `lo` and those named.
fn from_outside(except: Option<&String>) -> Origin {
    let names = ["lo"].into_iter().chain(except.map(String::as_str));
    Origin::Interface(Ifaces {
        pattern: IfacePattern::Prefix(String::new()),
        except: names
            .map(|name| IfacePattern::Exact(name.to_owned()))
            .collect(),
    })
}

/// An iptables rule that belongs at the top of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRule {
    /// Whose rule it is.
    pub guarantee: Guarantee,
    /// iptables or ip6tables.
    pub family: Family,
    /// The iptables table.
    pub table: &'static str,
    /// The built-in chain.
    pub chain: &'static str,
    /// The rule, tag included, as iptables prints it.
    pub listed: Listed,
}

impl WantedRule {
    /// What it is, for a person: `IPv4 filter FORWARD: -d 169.254.169.254/32 …`.
    #[must_use]
    pub fn object(&self) -> String {
        let Self {
            family,
            table,
            chain,
            listed,
            ..
        } = self;
        object((*family, table, chain), listed)
    }
}

/// A rule in its chain. It is shown as the documentation has it: the guarantee is named beside it anyway.
#[must_use]
pub fn object((family, table, chain): (Family, &str, &str), listed: &Listed) -> String {
    let untagged = listed.rule.without_comment().print(family);
    let text = untagged.as_ref().unwrap_or(&listed.text);
    format!("{family} {table} {chain}: {text}")
}

/// `net.ipv4.conf.<interface>.route_localnet` that belongs at 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSysctl {
    /// Whose wish it is.
    pub guarantee: Guarantee,
    /// `all`, or the name of a bridge.
    pub interface: String,
}

/// What a guarantee puts into the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The iptables rules, in the order in which they stand.
    pub iptables: Vec<WantedRule>,
    /// The sysctls.
    pub sysctls: Vec<WantedSysctl>,
    /// What the seal holds.
    pub native: Vec<NativeRule>,
    /// What cannot be written as an iptables rule, so that it is not among them.
    pub unprintable: Vec<(Guarantee, Unprintable)>,
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
                native,
                unprintable,
            } = guarantee.rules(scope);
            all.iptables.extend(iptables);
            all.sysctls.extend(sysctls);
            all.native.extend(native);
            all.unprintable.extend(unprintable);
        }
        all
    }

    fn add(
        &mut self,
        guarantee: Guarantee,
        family: Family,
        place: (&'static str, &'static str),
        matches: Vec<Match>,
        target: Target,
    ) {
        self.add_noting("", guarantee, family, place, matches, target);
    }

    /// The same where the tag says more than the guarantee's name.
    fn add_noting(
        &mut self,
        noted: &str,
        guarantee: Guarantee,
        family: Family,
        (table, chain): (&'static str, &'static str),
        mut matches: Vec<Match>,
        target: Target,
    ) {
        matches.push(Match::Comment(format!("{TAG_PREFIX}{guarantee}{noted}")));
        let rule = Rule { matches, target };
        match rule.print(family) {
            Ok(text) => self.iptables.push(WantedRule {
                guarantee,
                family,
                table,
                chain,
                listed: Listed { rule, text },
            }),
            Err(error) => self.unprintable.push((guarantee, error)),
        }
    }
}

fn claim(guarantee: Guarantee, packets: PacketClass, expect: Expect) -> Claim {
    Claim {
        guarantee: guarantee.name().to_owned(),
        packets,
        expect,
    }
}

#[cfg(test)]
mod tests;
