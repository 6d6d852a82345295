//! What the kernel holds, read for a target, and what follows from it.

use std::collections::BTreeMap;

use super::dead::dead;
use super::layers::Layers;
use super::proof::{Proof, open_input_is_needed, prove};
use super::{SealReport, Target};
use crate::guarantee::{CLASS, Guarantee, TaskCgroup, task_credentials};
use crate::os::{facts, sysctl};
use crate::plan::{Plan, Snapshot, plan, stands};
use crate::prove::{HostView, Verdict};
use crate::ruleset::Family;
use crate::state::{State, Store};

/// What is there.
pub(super) struct Reading {
    layers: Layers,
    host: HostView,
    pub(super) snapshot: Snapshot,
    /// What could not be read, and why.
    pub(super) unread: Vec<String>,
}

impl Reading {
    pub(super) fn take(target: &Target, state: &State) -> Self {
        let layers = Layers::read(target);
        let (mut host, mut unread) = facts::host_view(target.facts.task_cgroup.as_ref());
        host.foreign.clone_from(&layers.foreign);
        // One that somebody else gave a class of theirs keeps it.
        let without = host.classes.iter().filter(|(_, class)| **class == 0);
        let mut snapshot = Snapshot {
            rulesets: layers.own.clone(),
            classless: without.map(|(cgroup, _)| cgroup.clone()).collect(),
            ..Snapshot::default()
        };
        if target.sysctls {
            snapshot.previous.clone_from(&state.route_localnet);
        }
        let wanted = target.wanted.sysctls.iter().map(|wish| &wish.interface);
        for interface in wanted.chain(snapshot.previous.keys()) {
            match sysctl::route_localnet(interface) {
                Ok(value) => drop(snapshot.route_localnet.insert(interface.clone(), value)),
                Err(error) => unread.push(error.to_string()),
            }
        }
        unread.extend(layers.unread.iter().cloned());
        unread.dedup();
        Self {
            layers,
            host,
            snapshot,
            unread,
        }
    }

    /// What is missing, with or without the ACCEPT in INPUT.
    pub(super) fn plan(&self, target: &Target, open_input: bool) -> Plan {
        let mut wanted = target.wanted.clone();
        if open_input {
            wanted
                .iptables
                .extend(task_credentials::open_input().iptables);
        }
        plan(&wanted, &self.snapshot)
    }

    /// Each claim with its verdict.
    pub(super) fn prove(&self, target: &Target) -> Vec<Proof> {
        let of = |family| (self.layers.of(family), self.layers.sealed(family));
        let mut proofs = prove(&target.claims, of, &self.host);
        proofs.extend(target.undecidable.iter().cloned());
        proofs.extend(target.tasks.proofs());
        proofs
    }

    /// What is to be said of rules for a cgroup that is no more, and of cgroups that bear another class
    /// than that of tasks.
    pub(super) fn beside(&self, target: &Target) -> Vec<String> {
        let known = target
            .facts
            .task_cgroup
            .as_ref()
            .and_then(TaskCgroup::known);
        let mut lines = known.map_or_else(Vec::new, |(path, now)| {
            dead(self.snapshot.rulesets.values(), &path, now)
        });
        let others = self.host.classes.iter();
        let others = others.filter(|(_, class)| ![0, CLASS].contains(*class));
        lines.extend(others.map(|(cgroup, class)| {
            format!(
                "somebody gave cgroup {cgroup} the class {class:#x}, which the guard leaves alone: by it \
                 nobody can tell that these are tasks; write 0 into its net_cls.classid"
            )
        }));
        lines
    }

    /// Whether the seal keeps each guarantee; those that it has no part in are left out.
    pub(super) fn sealed(&self, target: &Target) -> BTreeMap<Guarantee, bool> {
        let holds = |guarantee| {
            Some((
                guarantee,
                self.layers.seal.holds(&target.wanted.native, guarantee)?,
            ))
        };
        Guarantee::ALL.into_iter().filter_map(holds).collect()
    }

    /// The host, as it was read without any rules.
    pub(super) fn host(&self) -> HostView {
        HostView {
            foreign: Vec::new(),
            ..self.host.clone()
        }
    }

    pub(super) fn seal_report(&self, target: &Target, problem: Option<String>) -> SealReport {
        SealReport::new(&self.layers.seal, target, problem)
    }

    pub(super) const fn generation(&self) -> Option<u32> {
        self.layers.generation
    }

    /// Whether the ACCEPT in INPUT stands there now.
    pub(super) fn input_is_open(&self) -> bool {
        let opened = task_credentials::open_input();
        opened
            .iptables
            .iter()
            .all(|rule| stands(rule, &self.snapshot))
    }

    /// Whether it has to stand there. What is proved already spares most hosts the question.
    pub(super) fn needs_open_input(&self, target: &Target, proofs: &[Proof]) -> bool {
        let credentials = |proof: &&Proof| proof.guarantee == Guarantee::TaskCredentials;
        let held = proofs
            .iter()
            .filter(credentials)
            .all(|proof| proof.verdict == Verdict::Held);
        target.may_open_input
            && (!held || self.input_is_open())
            && open_input_is_needed(target, &self.layers.of(Family::V4), &self.host)
    }

    /// Writes down what stood in a sysctl, before it is changed. Returns what the operator should
    /// know if that failed.
    pub(super) fn remember(&self, interface: &str, memory: &mut Store) -> Option<String> {
        let current = self.snapshot.route_localnet.get(interface)?.clone()?;
        if memory.state.route_localnet.contains_key(interface) {
            return None;
        }
        memory
            .state
            .route_localnet
            .insert(interface.to_owned(), current);
        memory.save()
    }

    /// A value that has been put back, by the guard or by somebody else, is not the guard's to put
    /// back any more.
    pub(super) fn forget_undone(&self, target: &Target, memory: &mut Store) -> Option<String> {
        if !target.sysctls {
            return None;
        }
        let before = memory.state.route_localnet.len();
        memory.state.route_localnet.retain(|interface, _| {
            let wanted = target
                .wanted
                .sysctls
                .iter()
                .any(|wish| wish.interface == *interface);
            let current = self
                .snapshot
                .route_localnet
                .get(interface)
                .cloned()
                .flatten();
            wanted || current.as_deref() == Some("1")
        });
        if memory.state.route_localnet.len() == before {
            None
        } else {
            memory.save()
        }
    }
}
