//! What the kernel holds, read for what is desired, and what follows from it.

use super::Host;
use super::dead::dead;
use super::edge::{self, EdgeLook};
use super::layers::{Absent, Layers};
use super::proof::{Opened, prove, to_be_opened};
use super::seal::SealLook;
use crate::desired::Desired;
use crate::guarantee::{Guarantee, TaskCgroup, task_credentials};
use crate::os::exec::{meanwhile, side_by_side};
use crate::os::nft::Moment;
use crate::os::routes::Routes;
use crate::os::{facts, sysctl};
use crate::plan::{ChainId, Plan, Snapshot, openings, plan, stands};
use crate::prove::HostView;
use crate::ruleset::Family;
use crate::seal::edge::Problem;
use crate::state::{State, Store};
use crate::verdict::{Proof, Verdict};

/// What is there.
pub(super) struct Reading {
    layers: Layers,
    view: HostView,
    pub(super) snapshot: Snapshot,
    /// What could not be read, and why.
    pub(super) unread: Vec<String>,
}

impl Reading {
    pub(super) fn take(desired: &Desired, host: &Host, state: &State, absent: Absent) -> Self {
        let view = || facts::host_view(host.facts.task_cgroup.as_ref());
        let ((mut view, mut unread), layers) =
            meanwhile(&view, || Layers::read(desired, host, absent));
        view.native.clone_from(&layers.native);
        match layers.ipsets() {
            Ok(sets) => view.ipsets = sets,
            Err(error) => unread.push(format!("list the sets of ipset: {error}")),
        }
        let mut snapshot = Snapshot {
            rulesets: layers.own.clone(),
            ..Snapshot::default()
        };
        if desired.sysctls {
            snapshot.previous.clone_from(&state.route_localnet);
        }
        let ipv4 = layers
            .native
            .iter()
            .filter(|table| table.family == Family::V4);
        snapshot.openings = openings(ipv4);
        let wanted = desired.rules.sysctls.iter().map(|wish| &wish.interface);
        for interface in wanted.chain(snapshot.previous.keys()) {
            match sysctl::route_localnet(interface) {
                Ok(value) => drop(snapshot.route_localnet.insert(interface.clone(), value)),
                Err(error) => unread.push(error.to_string()),
            }
        }
        match Routes::open().and_then(|mut routes| routes.by_loopback()) {
            Ok(routes) => snapshot.routes = routes,
            Err(error) => unread.push(format!("list the guard's routes: {error}")),
        }
        unread.extend(layers.unread.iter().cloned());
        unread.dedup();
        Self {
            layers,
            view,
            snapshot,
            unread,
        }
    }

    /// What is missing, with what is to be opened, but for the `paused` chains.
    pub(super) fn plan(&self, desired: &Desired, opened: &Opened, paused: &[ChainId]) -> Plan {
        let mut wanted = desired.rules.clone();
        wanted.openings.clone_from(&opened.native);
        if opened.iptables {
            wanted
                .iptables
                .extend(task_credentials::open_input().iptables);
        }
        plan(&wanted, &self.snapshot, paused)
    }

    /// Each claim with its verdict, the families at the same time.
    pub(super) fn prove(&self, desired: &Desired, host: &Host) -> Vec<Proof> {
        let proved = side_by_side(&[Family::V4, Family::V6], |family| {
            let claims: Vec<_> = desired.claims_of(*family).cloned().collect();
            let of = |family| (self.layers.of(family), self.layers.sealed(family));
            prove(&claims, of, &self.view)
        });
        let mut proofs = proved.concat();
        proofs.extend(host.tasks.proofs());
        edge::weigh(&mut proofs, &self.layers.edge, desired, host);
        proofs.extend(desired.undecidable.iter().map(Proof::from));
        proofs
    }

    /// What there is to say of rules for a cgroup that is no more.
    pub(super) fn beside(&self, host: &Host) -> Vec<String> {
        let known = host.facts.task_cgroup.as_ref().and_then(TaskCgroup::known);
        known.map_or_else(Vec::new, |(path, now)| {
            dead(self.snapshot.rulesets.values(), &path, now)
        })
    }

    /// Whether the seal keeps its part of a guarantee; `None` where it has no part in it.
    pub(super) fn sealed(&self, desired: &Desired, guarantee: Guarantee) -> Option<bool> {
        self.layers.seal.holds(&desired.rules.native, guarantee)
    }

    /// The host, as it was read without any rules.
    pub(super) fn host(&self) -> HostView {
        HostView {
            native: Vec::new(),
            ..self.view.clone()
        }
    }

    pub(super) fn seal(&self, desired: &Desired, problem: Option<String>) -> SealLook {
        SealLook::new(&self.layers.seal, desired, problem)
    }

    pub(super) fn edge(&self, desired: &Desired, problem: Option<Problem>) -> EdgeLook {
        EdgeLook::new(&self.layers.edge, desired, problem)
    }

    /// Whether no other program changed nf_tables since. Of iptables-legacy nothing tells.
    pub(super) fn is_current(&self) -> bool {
        let then = self.layers.moment.as_ref();
        then.is_none_or(|then| Moment::read().is_ok_and(|now| now == *then))
    }

    pub(super) fn moment(&self) -> Option<Moment> {
        self.layers.moment.clone()
    }

    /// What stands open now.
    pub(super) fn opened(&self) -> Opened {
        let rules = task_credentials::open_input();
        let mut rules = rules.iptables.iter();
        let native = self.snapshot.openings.iter();
        Opened {
            iptables: rules.all(|rule| stands(rule, &self.snapshot)),
            native: native.map(|opening| opening.place.clone()).collect(),
        }
    }

    /// What has to be open. What is proved already spares most hosts the question.
    pub(super) fn to_be_opened(&self, desired: &Desired, proofs: &[Proof]) -> Opened {
        let credentials = |proof: &&Proof| proof.guarantee == Guarantee::TaskCredentials;
        let held = proofs
            .iter()
            .filter(credentials)
            .all(|proof| proof.verdict == Verdict::Held);
        let asked = desired.may_open_input && (!held || self.opened() != Opened::default());
        if asked {
            to_be_opened(desired, &self.layers.of(Family::V4), &self.view)
        } else {
            Opened::default()
        }
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

    /// A value that has been restored, by the guard or by another program, is not the guard's to put
    /// back any more.
    pub(super) fn forget_undone(&self, desired: &Desired, memory: &mut Store) -> Option<String> {
        if !desired.sysctls {
            return None;
        }
        let before = memory.state.route_localnet.len();
        memory.state.route_localnet.retain(|interface, _| {
            let wanted = desired
                .rules
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
