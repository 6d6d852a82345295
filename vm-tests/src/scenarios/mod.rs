//! What happens to the machines, written once for all of them.

mod awsvpc_tasks;
mod clock;
mod crash;
mod debian;
mod docker;
mod ecs_config;
mod edge;
mod first_boot;
mod first_release;
mod flush;
mod host_tasks;
mod image;
mod legacy;
mod power;
mod probe;
mod repositories;
mod stop;
mod strict;
mod upgrade;

use anyhow::Result;

use crate::host::Host;
use crate::machine::{Ability, Kind, OLDEST};

/// Something that happens to a host with the guard on it, and what must be so afterwards.
pub(crate) struct Scenario {
    /// Its name, as `--only` takes it.
    pub(crate) name: &'static str,
    /// What it shows, in a few words.
    pub(crate) about: &'static str,
    /// Whether it is one of those that every change has to pass (`--set core`).
    pub(crate) core: bool,
    /// Whether it begins without the guard; on others the package may already be there.
    pub(crate) bare: bool,
    /// On which machines it runs: no more of the emulated ones than it needs, which are ten times as slow.
    pub(crate) on: On,
    /// What a machine must be able to do; others skip it.
    pub(crate) needs: &'static [Ability],
    /// Does it. An error is a failure.
    pub(crate) run: fn(&mut Host<'_>) -> Result<Report>,
}

/// On which machines a scenario runs, by what it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The guard alone: one machine in namespaces.
    OneMachine,
    /// The programs around it (systemd, Docker, dnf, apt): every machine in namespaces.
    EveryTree,
    /// And how a machine boots, or what only the oldest kernel lacks: also the virtual machine with that one.
    OldestKernel,
    /// And what kernels do differently: every machine.
    EveryKernel,
    /// A disk that loses what was not yet written: the virtual machine with the oldest kernel.
    Disk,
}

impl On {
    /// Whether it runs on these machines.
    pub(crate) fn has(self, kind: &dyn Kind) -> bool {
        let oldest = kind.suite() == OLDEST;
        match (self, kind.tier()) {
            (Self::OneMachine, 1) | (Self::OldestKernel | Self::Disk, 2) => oldest,
            (Self::EveryTree | Self::OldestKernel, 1) | (Self::EveryKernel, _) => true,
            _ => false,
        }
    }
}

/// What a scenario found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Packets of containers that arrived at the metadata service; `None` where none was sent.
    pub(crate) packets: Option<u64>,
    /// What was measured: a name and a value with its unit.
    pub(crate) measured: Vec<(String, String)>,
}

impl Report {
    /// That of a host which at the end is as it must be ([`Host::finish`]).
    fn finished(host: &Host<'_>) -> Result<Self> {
        Ok(Self {
            packets: Some(host.finish()?),
            ..Self::default()
        })
    }
}

/// All scenarios, in the order in which they run.
pub(crate) const ALL: &[Scenario] = &[
    first_boot::SCENARIO,
    docker::SCENARIO,
    flush::SCENARIO,
    crash::SCENARIO,
    stop::SCENARIO,
    upgrade::SCENARIO,
    first_release::SCENARIO,
    debian::SCENARIO,
    debian::IMAGE,
    repositories::SCENARIO,
    power::SCENARIO,
    clock::SCENARIO,
    ecs_config::SCENARIO,
    strict::SCENARIO,
    strict::GATE,
    legacy::SCENARIO,
    host_tasks::SCENARIO,
    awsvpc_tasks::SCENARIO,
    edge::SCENARIO,
    probe::SCENARIO,
    image::SCENARIO,
    crash::OUT_OF_MEMORY,
];
