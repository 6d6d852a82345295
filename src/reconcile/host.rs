//! The host as a reconcile finds it: its facts, its tools, its tasks.

use std::collections::BTreeSet;

use crate::config::settings::{Backend as BackendChoice, Settings};
use crate::desired::Desired;
use crate::facts::Facts;
use crate::guarantee::{Guarantee, PLACES, Rules, WantedRule};
use crate::os::exec::side_by_side;
use crate::os::iptables::{Backend, Error, Tool};
use crate::os::nft::{generation, wake};
use crate::posture::Posture;
use crate::ruleset::Family;
use crate::tasks::Tasks;

/// What a reconcile has to work with.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// What was found of it.
    pub facts: Facts,
    /// iptables, and ip6tables where IPv6 is covered.
    pub tools: Vec<Tool>,
    /// The families without a tool, and why.
    pub toolless: Vec<(Family, String)>,
    /// The tasks, as they were found in their own network namespaces.
    pub tasks: Tasks,
}

/// The programs of both families, or why there is none.
#[derive(Debug)]
pub struct Tools(Vec<(Family, Result<Tool, Error>)>);

impl Tools {
    /// Finds those that the settings name; `backend`, from the command line, wins over them.
    #[must_use]
    pub fn find(settings: &Settings, backend: Option<BackendChoice>) -> Self {
        Self::of(backend.unwrap_or(settings.iptables.backend))
    }

    fn of(choice: BackendChoice) -> Self {
        let families = [Family::V4, Family::V6];
        let found = side_by_side(&families, |family| Tool::find(*family, choice));
        Self(families.into_iter().zip(found).collect())
    }
}

/// A host of which these are the facts and the tools, and what `posture` means on it. Of the guarantees of
/// which it is `unknown` whether they are asked for, the rules that stand are wanted too.
#[must_use]
pub fn resolve(
    settings: &Settings,
    posture: &Posture,
    (facts, tools): (Facts, Tools),
    unknown: &[Guarantee],
) -> (Desired, Host) {
    let mut desired = Desired::here(settings, posture, &facts);
    let host = Host::new(&desired.families, tools, facts);
    host.spare_legacy(&mut desired);
    if !unknown.is_empty() {
        host.keep_standing(unknown, &mut desired.rules);
    }
    (desired, host)
}

/// Nothing at all, in every backend that is installed: what leaving works towards. One of them a
/// backend, since a reconcile changes one ruleset a family. The system's own comes first and restores
/// the sysctls and routes, also where no iptables is installed: that is where ecs-init's rules are that
/// may need them, and the shield must not go before.
#[must_use]
pub fn nothing() -> Vec<(Desired, Host)> {
    use BackendChoice::{Auto, Legacy, Nft};
    let found = [Auto, Nft, Legacy].map(|choice| {
        let desired = Desired {
            sysctls: choice == Auto,
            ..Desired::default()
        };
        let families = [Family::V4, Family::V6];
        (
            desired,
            Host::new(&families, Tools::of(choice), Facts::default()),
        )
    });
    let installed = found
        .into_iter()
        .filter(|(desired, host)| desired.sysctls || !host.tools.is_empty());
    let without = installed.map(|(desired, host)| {
        let toolless = Vec::new();
        (desired, Host { toolless, ..host })
    });
    without.collect()
}

impl Host {
    fn new(families: &[Family], tools: Tools, facts: Facts) -> Self {
        let mut host = Self {
            facts,
            ..Self::default()
        };
        for (family, tool) in tools.0 {
            match tool {
                _ if !families.contains(&family) => {}
                Ok(tool) => host.tools.push(tool),
                Err(error) => host.toolless.push((family, error.to_string())),
            }
        }
        host
    }

    /// The tool of a family, where there is one.
    #[must_use]
    pub fn tool(&self, family: Family) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.family == family)
    }

    /// Leaves rules for a cgroup out of iptables-legacy where the seal holds their like.
    ///
    /// iptables-legacy replaces a table whole, and the kernel then looks up every rule's cgroup again:
    /// once that is gone every change of the table, Docker's included, fails (EINVAL) before the rule is
    /// out.
    fn spare_legacy(&self, desired: &mut Desired) {
        if !desired.sealed || generation().is_err() {
            return;
        }
        let legacy = self.tools.iter().filter(|t| t.backend == Backend::Legacy);
        for tool in legacy {
            desired.leave_out_cgroups(tool.family);
        }
    }

    /// Adds the rules that stand with a tag of these. A table that cannot be listed is not changed either.
    fn keep_standing(&self, of: &[Guarantee], wanted: &mut Rules) {
        for tool in &self.tools {
            for place in PLACES {
                let Ok(table) = tool.list(place.0) else {
                    continue;
                };
                let chain = table.chains.get(place.1);
                for listed in chain.into_iter().flat_map(|chain| &chain.rules) {
                    wanted.keep_standing(of, tool.family, place, listed);
                }
            }
        }
    }

    /// Wakes the tables in nf_tables that the wanted rules stand in, where they are dormant: `nft add
    /// table ip filter '{ flags dormant; }'`. Returns what an operator should know.
    #[must_use]
    pub fn wake(&self, wanted: &Rules) -> Vec<String> {
        let in_nftables = |rule: &&WantedRule| {
            let tool = self.tool(rule.family);
            tool.is_some_and(|tool| tool.backend == Backend::Nft)
        };
        let rules = wanted.iptables.iter().filter(in_nftables);
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
}
