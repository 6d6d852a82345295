//! What the kernel holds, read for a target, and what follows from it.

use super::layers::Layers;
use super::proof::{Proof, open_input_is_needed, prove};
use super::{Memory, Target};
use crate::guarantee::{Rules, task_credentials};
use crate::kernel::{facts, sysctl};
use crate::plan::{Plan, Snapshot, plan};
use crate::ruleset::Family;
use crate::state::State;

/// A snapshot and what it means for the target.
pub(super) struct Reading {
    pub(super) snapshot: Snapshot,
    pub(super) plan: Plan,
    /// Each claim with its verdict.
    pub(super) proofs: Vec<Proof>,
    /// What could not be read, and why.
    pub(super) unread: Vec<String>,
}

impl Reading {
    pub(super) fn take(target: &Target, state: &State) -> Self {
        let layers = Layers::read(target);
        let (mut host, mut unread) = facts::host_view();
        host.foreign.clone_from(&layers.foreign);
        let mut snapshot = Snapshot {
            rulesets: layers.own.clone(),
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

        let mut wanted = target.wanted.clone();
        let ipv4 = layers.of(Family::V4);
        if target.may_open_input && open_input_is_needed(target, &ipv4, &host) {
            let Rules { iptables, .. } = task_credentials::open_input();
            wanted.iptables.extend(iptables);
        }
        let proofs = prove(&target.claims, |family| layers.of(family), &host);
        let plan = plan(&wanted, &snapshot);
        Self {
            snapshot,
            plan,
            proofs,
            unread,
        }
    }

    /// Writes down what stood in a sysctl, before it is changed. Returns what the operator should
    /// know if that failed.
    pub(super) fn remember(&self, interface: &str, memory: &mut Memory<'_>) -> Option<String> {
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
    pub(super) fn forget_undone(&self, target: &Target, memory: &mut Memory<'_>) -> Option<String> {
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

impl Memory<'_> {
    fn save(&self) -> Option<String> {
        let error = self.state.save(self.dir).err()?;
        Some(format!(
            "{error}; the rules are not affected, but `release` will not know the sysctl's former \
             value: make the directory writable"
        ))
    }
}
