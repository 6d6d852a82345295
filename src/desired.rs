//! What this host should hold: posture, settings and facts as rules, claims and sysctls. Pure.

use std::collections::BTreeMap;

use crate::config::settings::{Mode, OpenInput, Privileged, RawFrames, RouteLocalnet, Settings};
use crate::facts::{Facts, PrivilegedContainer};
use crate::guarantee::EdgeRules;
use crate::guarantee::{Guarantee, Rules, Scope, TaskCgroup, interface};
use crate::posture::Posture;
use crate::prove::Claim;
use crate::ruleset::{Family, IfacePattern};

/// What should be there, and what is to be proved of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The families that are covered.
    pub families: Vec<Family>,
    /// The rules and sysctls of every layer.
    pub rules: Rules,
    /// What should be true of packets then.
    pub claims: Vec<(Guarantee, Claim)>,
    /// What cannot be known to be true.
    pub undecidable: Vec<Undecidable>,
    /// Whether an ACCEPT may be added where INPUT drops what goes to the agent.
    pub may_open_input: bool,
    /// Whether sysctls are set and restored.
    pub sysctls: bool,
    /// Bridges on which `route_localnet` is to be set when they appear.
    pub new_bridges: Vec<IfacePattern>,
    /// Whether the settings ask for the seal.
    pub sealed: bool,
    /// Whether a task that can write raw frames where no edge stands is accepted.
    pub raw_frames_accepted: bool,
    /// What an operator should know of it.
    pub notes: Vec<String>,
    /// The bridges that only the edge covers.
    pub uncovered: Vec<String>,
}

/// A claim that no ruleset can decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecidable {
    /// Whose claim it is.
    pub guarantee: Guarantee,
    /// The claim as a sentence.
    pub claim: String,
    /// Why it cannot be decided.
    pub why: String,
}

impl Desired {
    /// What `posture` means on a host of which these are the facts.
    #[must_use]
    pub fn here(settings: &Settings, posture: &Posture, facts: &Facts) -> Self {
        let scope = scope(settings, facts);
        let mut desired = Self::of(settings, posture, &scope);
        desired.notes.clone_from(&facts.problems);
        if posture.requires(Guarantee::ImdsBlock) {
            desired.uncovered = uncovered(facts, &scope);
            if settings.tasks.privileged == Privileged::Undecided {
                desired
                    .undecidable
                    .extend(facts.privileged.iter().map(escape));
            }
        }
        if posture.requires(Guarantee::HostImdsBlock) {
            let note = facts.task_cgroup.as_ref().and_then(TaskCgroup::note);
            desired.notes.extend(note);
        }
        desired
    }

    /// What `posture` means in a scope, of whatever host.
    #[must_use]
    pub fn of(settings: &Settings, posture: &Posture, scope: &Scope) -> Self {
        let required = posture.required();
        let claims = required.iter().flat_map(|&guarantee| {
            let claims = guarantee.claims(scope).into_iter();
            claims.map(move |claim| (guarantee, claim))
        });
        let claims = claims.collect();
        let mut rules = Rules::of(&required, scope);
        if !settings.seal.enabled {
            rules.native.clear();
        }
        if !settings.edge.enabled {
            rules.edge = EdgeRules::default();
        }
        let on_bridges = required.contains(&Guarantee::TaskCredentials)
            && scope.route_localnet == RouteLocalnet::Bridges;
        let mut undecidable: Vec<Undecidable> = beyond_rules(posture, scope).into_iter().collect();
        undecidable.extend(
            rules
                .unprintable
                .iter()
                .map(|(guarantee, error)| Undecidable {
                    guarantee: *guarantee,
                    claim: format!("every rule of {guarantee} is in place"),
                    why: error.to_string(),
                }),
        );
        Self {
            families: scope.families.clone(),
            rules,
            claims,
            undecidable,
            may_open_input: settings.credentials.open_input == OpenInput::WhenNeeded,
            sysctls: true,
            new_bridges: if on_bridges {
                scope.interfaces.clone()
            } else {
                Vec::new()
            },
            sealed: settings.seal.enabled,
            raw_frames_accepted: settings.edge.raw_frames == RawFrames::Accept,
            notes: Vec::new(),
            uncovered: Vec::new(),
        }
    }

    /// Leaves the rules for a cgroup out of a family's iptables rules.
    pub fn leave_out_cgroups(&mut self, family: Family) {
        let for_a_cgroup = |of: Guarantee| of == Guarantee::HostImdsBlock;
        self.rules
            .iptables
            .retain(|rule| rule.family != family || !for_a_cgroup(rule.guarantee));
    }

    /// Whether a rule is wanted in a table.
    #[must_use]
    pub fn wants(&self, family: Family, table: &str) -> bool {
        let mut rules = self.rules.iptables.iter();
        rules.any(|rule| rule.family == family && rule.table == table)
    }

    /// What is to be proved of a family's packets.
    pub fn claims_of(&self, family: Family) -> impl Iterator<Item = &(Guarantee, Claim)> {
        let claims = self.claims.iter();
        claims.filter(move |(_, claim)| claim.packets.family == family)
    }
}

/// The claim about tasks on the host's own network, where no rule can tell them apart.
fn beyond_rules(posture: &Posture, scope: &Scope) -> Option<Undecidable> {
    let cgroup = scope.host_tasks.as_ref()?;
    let mut decisions = posture.decisions().iter();
    let asked = decisions.find(|d| d.required && d.guarantee == Guarantee::HostImdsBlock)?;
    let useless = match cgroup {
        TaskCgroup::Useless { why, .. } => Some(why),
        TaskCgroup::Present(_) | TaskCgroup::Absent { .. } => None,
    };
    Some(Undecidable {
        guarantee: asked.guarantee,
        claim: cgroup.to_string(),
        why: asked.impossible.as_ref().or(useless)?.clone(),
    })
}

/// What cannot be known of a privileged container.
fn escape(container: &PrivilegedContainer) -> Undecidable {
    Undecidable {
        guarantee: Guarantee::ImdsBlock,
        claim: format!("{container} undoes nothing on the host"),
        why: format!(
            "{container} has {} in the host's user namespace: it can move the host's interfaces ([tasks] \
             privileged = \"undecided\")",
            container.capabilities()
        ),
    }
}

/// The bridges that may carry containers and that the settings do not name.
fn uncovered(facts: &Facts, scope: &Scope) -> Vec<String> {
    let bridges = facts.bridges.keys();
    bridges
        .filter(|name| !scope.covers(name))
        .cloned()
        .collect()
}

/// What of a host the guarantees depend on.
#[must_use]
pub fn scope(settings: &Settings, facts: &Facts) -> Scope {
    let ipv6 = match settings.imds.ipv6 {
        Mode::Always => true,
        Mode::Auto => facts.ipv6,
        Mode::Never => false,
    };
    let named = settings.imds.interfaces.iter();
    let mut scope = Scope {
        interfaces: named.map(|name| interface(name)).collect(),
        families: if ipv6 {
            vec![Family::V4, Family::V6]
        } else {
            vec![Family::V4]
        },
        default_bridge: facts.default_bridge.clone(),
        bridges: BTreeMap::new(),
        route_localnet: settings.credentials.route_localnet,
        ipv6_only: facts.ipv6_only,
        allowed: facts.pass.map(|pass| {
            let names = settings.edge.allow.iter();
            (names.map(|name| interface(name)).collect(), pass)
        }),
        host_tasks: facts.task_cgroup.clone(),
    };
    // Docker's default bridge carries containers whatever its name is.
    if let Some(bridge) = &facts.default_bridge
        && !scope.covers(bridge)
    {
        scope.interfaces.push(IfacePattern::Exact(bridge.clone()));
    }
    let mut bridges = facts.bridges.clone();
    bridges.retain(|name, _| scope.covers(name));
    Scope { bridges, ..scope }
}

#[cfg(test)]
mod tests;
