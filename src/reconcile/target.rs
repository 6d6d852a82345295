//! What a turn works towards, on this host as it is now.

use std::collections::{BTreeMap, BTreeSet};

use super::Proof;
use crate::config::settings::{Backend as BackendChoice, Mode, OpenInput, RouteLocalnet, Settings};
use crate::guarantee::{Guarantee, Rules, Scope, TaskCgroup, WantedRule, covers};
use crate::os::exec::side_by_side;
use crate::os::facts::Facts;
use crate::os::iptables::{Backend, Tool};
use crate::os::nft::{generation, wake};
use crate::posture::Posture;
use crate::prove::Claim;
use crate::ruleset::{Family, IfacePattern, Net};
use crate::tasks::Tasks;

/// The rules that are wanted, what they are to prove, and the tools to bring them about.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// What should be there.
    pub wanted: Rules,
    /// What should be true of packets then.
    pub claims: Vec<(Guarantee, Claim)>,
    /// What nobody can know.
    pub undecidable: Vec<Proof>,
    /// What was found of the host.
    pub facts: Facts,
    /// Whether an ACCEPT may be added where INPUT drops what goes to the agent.
    pub may_open_input: bool,
    /// Whether the sysctls are this target's business: where there are several targets, of one only.
    pub sysctls: bool,
    /// Bridges on which `route_localnet` is to be set when they appear.
    pub new_bridges: Vec<IfacePattern>,
    /// Whether the settings ask for the seal.
    pub sealed: bool,
    /// The tasks, as they were found in their own network namespaces.
    pub tasks: Tasks,
    /// iptables, and ip6tables where IPv6 is covered.
    pub tools: Vec<Tool>,
    /// The families without a tool, and why.
    pub toolless: Vec<(Family, String)>,
    /// What an operator should know about how this was found.
    pub notes: Vec<String>,
}

impl Target {
    /// What `posture` means on this host. `backend`, from the command line, wins over the settings.
    #[must_use]
    pub fn resolve(settings: &Settings, backend: Option<BackendChoice>, posture: &Posture) -> Self {
        let facts = Facts::read(settings);
        let scope = scope(settings, &facts);
        let choice = backend.unwrap_or(settings.iptables.backend);
        let mut target = Self {
            notes: facts.problems.clone(),
            sysctls: true,
            ..Self::of(settings, posture, &scope)
        };
        let found = side_by_side(&scope.families, |family| Tool::find(*family, choice));
        for (family, tool) in scope.families.iter().zip(found) {
            match tool {
                Ok(tool) => target.tools.push(tool),
                Err(error) => target.toolless.push((*family, error.to_string())),
            }
        }
        if posture.requires(Guarantee::ImdsBlock) {
            target.notes.extend(uncovered(&facts.bridges, &scope));
        }
        if posture.requires(Guarantee::HostImdsBlock) {
            let note = facts.task_cgroup.as_ref().and_then(TaskCgroup::note);
            target.notes.extend(note);
        }
        target.spare_legacy();
        Self { facts, ..target }
    }

    /// Leaves rules for a cgroup out of iptables-legacy where the seal holds their like.
    ///
    /// iptables-legacy replaces a table whole, and the kernel then looks up every rule's cgroup anew:
    /// once that is gone nobody, Docker included, can change anything in the table any more (EINVAL)
    /// before the rule is out.
    fn spare_legacy(&mut self) {
        if !self.sealed || generation().is_err() {
            return;
        }
        let mut rules = std::mem::take(&mut self.wanted.iptables);
        rules.retain(|rule| {
            let tool = self.tool(rule.family);
            rule.guarantee != Guarantee::HostImdsBlock
                || tool.is_none_or(|tool| tool.backend != Backend::Legacy)
        });
        self.wanted.iptables = rules;
    }

    /// What `posture` means in a scope, without any host.
    pub(crate) fn of(settings: &Settings, posture: &Posture, scope: &Scope) -> Self {
        let required = posture.required();
        let claims = required
            .iter()
            .flat_map(|&guarantee| {
                guarantee
                    .claims(scope)
                    .into_iter()
                    .map(move |c| (guarantee, c))
            })
            .collect();
        let mut wanted = Rules::of(&required, scope);
        if !settings.seal.enabled {
            wanted.native.clear();
        }
        let on_bridges = required.contains(&Guarantee::TaskCredentials)
            && scope.route_localnet == RouteLocalnet::Bridges;
        let new_bridges = if on_bridges {
            let patterns = scope.interfaces.iter();
            patterns
                .filter_map(|name| IfacePattern::parse(name))
                .collect()
        } else {
            Vec::new()
        };
        Self {
            wanted,
            new_bridges,
            claims,
            undecidable: undecidable(posture, scope).into_iter().collect(),
            sealed: settings.seal.enabled,
            may_open_input: settings.credentials.open_input == OpenInput::WhenNeeded,
            ..Self::default()
        }
    }

    /// Nothing at all, in every backend that is installed: what leaving works towards. One target
    /// a backend, since a turn changes one ruleset a family. The system's own comes first and puts
    /// the sysctls back: that is where ecs-init's rules are that may need them, and the shield must
    /// not go before.
    #[must_use]
    pub fn nothing() -> Vec<Self> {
        use BackendChoice::{Auto, Legacy, Nft};
        let target = |choice| {
            let find = |family| Tool::find(family, choice).ok();
            let tools = [Family::V4, Family::V6].into_iter().filter_map(find);
            Self {
                tools: tools.collect(),
                sysctls: choice == Auto,
                ..Self::default()
            }
        };
        let all = [Auto, Nft, Legacy].map(target);
        all.into_iter()
            .filter(|target| !target.tools.is_empty())
            .collect()
    }

    /// Wakes the tables in nf_tables that the wanted rules stand in, should somebody have put them to
    /// sleep: `nft add table ip filter '{ flags dormant; }'`. Returns what an operator should know.
    #[must_use]
    pub fn wake(&self) -> Vec<String> {
        let in_nftables = |rule: &&WantedRule| {
            let tool = self.tool(rule.family);
            tool.is_some_and(|tool| tool.backend == Backend::Nft)
        };
        let rules = self.wanted.iptables.iter().filter(in_nftables);
        let tables: BTreeSet<(Family, &str)> =
            rules.map(|rule| (rule.family, rule.table)).collect();
        if tables.is_empty() {
            return Vec::new();
        }
        match wake(&tables) {
            Ok(woken) => woken
                .into_iter()
                .map(|(family, table)| {
                    format!("the table {family} {table} was dormant, so that no packet met its rules; woken")
                })
                .collect(),
            Err(error) => vec![format!("look for dormant tables in nf_tables: {error}")],
        }
    }

    /// The tool of a family, where there is one.
    #[must_use]
    pub fn tool(&self, family: Family) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.family == family)
    }

    pub(super) fn wants(&self, family: Family, table: &str) -> bool {
        self.wanted
            .iptables
            .iter()
            .any(|rule| rule.family == family && rule.table == table)
    }

    pub(super) fn claims_of(&self, family: Family) -> impl Iterator<Item = &(Guarantee, Claim)> {
        self.claims
            .iter()
            .filter(move |(_, claim)| claim.packets.family == family)
    }
}

/// The claim about tasks on the host's own network, where nobody can know whether it holds.
fn undecidable(posture: &Posture, scope: &Scope) -> Option<Proof> {
    let cgroup = scope.host_tasks.as_ref()?;
    let mut decisions = posture.decisions().iter();
    let asked = decisions.find(|d| d.required && d.guarantee == Guarantee::HostImdsBlock)?;
    let useless = match cgroup {
        TaskCgroup::Useless { why, .. } => Some(why),
        TaskCgroup::Present(_) | TaskCgroup::Absent { .. } => None,
    };
    let why = asked.impossible.as_ref().or(useless)?;
    let claim = cgroup.to_string();
    Some(Proof::undecided(asked.guarantee, claim, why.clone()))
}

/// The bridges that may carry containers and that nobody told the guard to cover.
fn uncovered(bridges: &BTreeMap<String, Vec<Net>>, scope: &Scope) -> Option<String> {
    let names = bridges.keys().map(String::as_str);
    let left: Vec<&str> = names
        .filter(|name| !covers(&scope.interfaces, name))
        .collect();
    if left.is_empty() {
        return None;
    }
    Some(format!(
        "not covered by imds-block, since no name or pattern in [imds] interfaces fits: {}; if \
         containers are on it, add it there",
        left.join(", ")
    ))
}

/// What of a host the guarantees depend on.
pub(crate) fn scope(settings: &Settings, facts: &Facts) -> Scope {
    let mut interfaces = settings.imds.interfaces.clone();
    // Docker's default bridge carries containers whatever its name is.
    if let Some(bridge) = &facts.default_bridge
        && !covers(&interfaces, bridge)
    {
        interfaces.push(bridge.clone());
    }
    let mut bridges = facts.bridges.clone();
    bridges.retain(|name, _| covers(&interfaces, name));
    let ipv6 = match settings.imds.ipv6 {
        Mode::Always => true,
        Mode::Auto => facts.ipv6,
        Mode::Never => false,
    };
    Scope {
        interfaces,
        families: if ipv6 {
            vec![Family::V4, Family::V6]
        } else {
            vec![Family::V4]
        },
        default_bridge: facts.default_bridge.clone(),
        bridges,
        route_localnet: settings.credentials.route_localnet,
        host_tasks: facts.task_cgroup.clone(),
    }
}
