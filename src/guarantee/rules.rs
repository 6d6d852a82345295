//! What a guarantee puts into the kernel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::name::{Guarantee, TAG_PREFIX};
use super::native::{EdgePass, NativeRule};
use crate::ruleset::native::ChainPlace;
use crate::ruleset::{Family, Listed, Match, Rule, Target, Unprintable};

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

impl WantedSysctl {
    /// What it is, for a person: `net.ipv4.conf.all.route_localnet=1`.
    #[must_use]
    pub fn object(&self) -> String {
        format!("net.ipv4.conf.{}.route_localnet=1", self.interface)
    }
}

/// A route to one address by the loopback interface that belongs into the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRoute {
    /// Whose wish it is.
    pub guarantee: Guarantee,
    /// The address.
    pub to: Ipv4Addr,
}

/// What such a route is, for a person: `route 169.254.170.2/32 dev lo`.
#[must_use]
pub fn route_object(to: Ipv4Addr) -> String {
    format!("route {to}/32 dev lo")
}

/// What a guarantee puts into the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The iptables rules, in the order in which they stand.
    pub iptables: Vec<WantedRule>,
    /// The sysctls.
    pub sysctls: Vec<WantedSysctl>,
    /// The routes.
    pub routes: Vec<WantedRoute>,
    /// What the seal holds.
    pub native: Vec<NativeRule>,
    /// The native chains of others that are opened for what the agent is sent.
    pub openings: BTreeSet<ChainPlace>,
    /// What the edge stops.
    pub edge: EdgeRules,
    /// What cannot be written as an iptables rule, so that it is not among them.
    pub unprintable: Vec<(Guarantee, Unprintable)>,
}

/// Whose packets the edge stops, by family; nothing where there is to be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeRules {
    /// Those of everything but the host's own sockets.
    pub routed: Vec<Family>,
    /// Raw frames.
    pub raw: Vec<Family>,
    /// What routed packets bear that still pass.
    pub pass: Option<EdgePass>,
}

impl EdgeRules {
    /// Only the host's own sockets reach the service.
    #[must_use]
    pub fn sockets_only(families: &[Family]) -> Self {
        Self {
            routed: families.to_vec(),
            ..Self::no_raw_frames(families)
        }
    }

    /// No raw frame reaches the service.
    #[must_use]
    pub fn no_raw_frames(families: &[Family]) -> Self {
        Self {
            raw: families.to_vec(),
            ..Self::default()
        }
    }

    /// Whose rules they are.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        match self.routed[..] {
            [] => Guarantee::HostImdsBlock,
            _ => Guarantee::ImdsBlock,
        }
    }

    /// Whether it stops nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Stops what `other` stops too.
    pub fn extend(&mut self, other: Self) {
        let add = |to: &mut Vec<Family>, from: &[Family]| {
            to.extend(from);
            to.sort_unstable();
            to.dedup();
        };
        add(&mut self.routed, &other.routed);
        add(&mut self.raw, &other.raw);
        self.pass = self.pass.or(other.pass);
    }
}

/// The tables and built-in chains of iptables in which the guard keeps rules (iptables(8), TABLES).
pub const PLACES: [(&str, &str); 5] = [
    ("filter", "FORWARD"),
    ("filter", "INPUT"),
    ("filter", "OUTPUT"),
    ("nat", "PREROUTING"),
    ("nat", "OUTPUT"),
];

impl Rules {
    /// Adds a rule that stands in a chain, where it bears the tag of one of these and is not wanted already.
    pub fn keep_standing(
        &mut self,
        of: &[Guarantee],
        family: Family,
        (table, chain): (&'static str, &'static str),
        listed: &Listed,
    ) {
        let place = (family, table, chain);
        let wanted = self.iptables.iter().any(|wish| {
            (wish.family, wish.table, wish.chain) == place && wish.listed.rule.same_as(&listed.rule)
        });
        if let Some(guarantee) = Guarantee::owning(&listed.rule)
            && of.contains(&guarantee)
            && !wanted
        {
            self.iptables.push(WantedRule {
                guarantee,
                family,
                table,
                chain,
                listed: listed.clone(),
            });
        }
    }

    pub(super) fn add(
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
    pub(super) fn add_noting(
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
