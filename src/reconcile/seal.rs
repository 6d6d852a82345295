//! The seal as a turn sees it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::desired::Desired;
use crate::guarantee::{Guarantee, NativeRule, as_rulesets};
use crate::os::nft::seal::{Hold, Seal, Standing, standing};
use crate::os::nft::{Socket, seal};
use crate::ruleset::{Family, Ruleset};

/// How the native layer stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealState {
    /// `enabled = false` under `[seal]`.
    Off,
    /// Nothing that is required has a native counterpart.
    NotNeeded,
    /// Only the daemon can change it, and it stays without the daemon.
    OwnedPersistent,
    /// Only the daemon can change it; without the daemon the twin stays.
    Owned,
    /// It is whole, and any root process could change it: this kernel knows no owner, or no daemon
    /// runs.
    Unowned,
    /// It is not there, or not whole.
    #[default]
    Missing,
}

impl SealState {
    /// Whether it holds everything that it should.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::OwnedPersistent | Self::Owned | Self::Unowned)
    }
}

impl fmt::Display for SealState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off ([seal] enabled = false in config.toml)",
            Self::NotNeeded => "not needed",
            Self::OwnedPersistent => "whole, owned, and stays without its owner",
            Self::Owned => "whole and owned; its twin stays without the owner",
            Self::Unowned => "whole, but any root process could change it",
            Self::Missing => "MISSING",
        })
    }
}

/// Packets that were stopped, by where they came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Whose drops.
    pub guarantee: Guarantee,
    /// The interface or pattern, as iptables writes it; `host tasks` for tasks on the host's network.
    pub interface: String,
    /// The family.
    pub family: Family,
    /// How many since the seal was made.
    pub packets: u64,
}

/// What there is to say of the seal at the end of a turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SealReport {
    /// How it stands.
    pub state: SealState,
    /// Why it is no better, where there is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether nothing would stay of it if the daemon ended now.
    #[serde(skip)]
    pub twinless: bool,
    /// What it has stopped.
    pub stopped: Vec<Stopped>,
}

/// The seal as it was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct SealReading {
    standing: Standing,
    why: Option<String>,
    /// Whether some of its rules are for a cgroup that is no more.
    dead: bool,
    /// The rules in force, as a layer for the proof.
    rulesets: BTreeMap<Family, Ruleset>,
}

impl SealReading {
    pub(super) fn take(desired: &Desired) -> Self {
        if desired.rules.native.is_empty() {
            return Self::default();
        }
        let read = Socket::open()
            .map_err(|error| format!("nf_tables is not to be had: {error}"))
            .and_then(|mut socket| {
                look(&mut socket, &desired.rules.native).map_err(|error| error.to_string())
            });
        match read {
            Ok((standing, dead)) => Self {
                rulesets: as_rulesets(&standing.rules),
                standing,
                why: dead.then(|| {
                    "some of its rules are for a cgroup that was deleted, and made again since; they \
                     match nobody"
                        .to_owned()
                }),
                dead,
            },
            Err(why) => Self {
                why: Some(why),
                ..Self::default()
            },
        }
    }

    /// The rules in force, for the proof.
    pub(crate) fn ruleset(&self, family: Family) -> Option<&Ruleset> {
        self.rulesets.get(&family)
    }

    /// Whether a chain is one of the seal's own, and known to hold what it should.
    pub(super) fn accounts_for(&self, chain: &str) -> bool {
        let own = [seal::TABLE, seal::TWIN].map(|table| format!("inet {table} "));
        self.standing.hold.is_some() && own.iter().any(|table| chain.starts_with(table))
    }

    /// Whether every native rule of a guarantee is in force.
    pub(super) fn holds(&self, desired: &Desired, guarantee: Guarantee) -> Option<bool> {
        let mut of_it = desired
            .rules
            .native
            .iter()
            .filter(|rule| rule.guarantee == guarantee)
            .peekable();
        of_it.peek()?;
        Some(of_it.all(|rule| self.standing.rules.contains(rule)))
    }

    pub(super) fn report(&self, desired: &Desired, problem: Option<String>) -> SealReport {
        let state = match self.standing.hold {
            _ if !desired.sealed => SealState::Off,
            _ if desired.rules.native.is_empty() => SealState::NotNeeded,
            _ if self.dead => SealState::Missing,
            Some(Hold::OwnedPersistent) => SealState::OwnedPersistent,
            Some(Hold::Owned) => SealState::Owned,
            Some(Hold::Unowned) => SealState::Unowned,
            None => SealState::Missing,
        };
        SealReport {
            state,
            why: problem.or_else(|| self.why.clone()),
            twinless: self.standing.twinless,
            stopped: stopped(&self.standing),
        }
    }
}

/// How the seal stands; where it is not what is wanted, how it stands as it was made, and whether
/// that was for a cgroup that is no more.
fn look(socket: &mut Socket, wanted: &[NativeRule]) -> Result<(Standing, bool), seal::Error> {
    let now = standing(socket, wanted)?;
    if now.hold.is_none()
        && let Some(made) = seal::as_made(socket, wanted)?
    {
        let then = standing(socket, &made)?;
        if then.hold.is_some() {
            return Ok((then, true));
        }
    }
    Ok((now, false))
}

/// What stands in the place of an interface for tasks that have none of their own.
pub(crate) const HOST_TASKS: &str = "host tasks";

/// What the seal has stopped, by interface, family and guarantee.
#[must_use]
pub fn stopped(standing: &Standing) -> Vec<Stopped> {
    let mut stopped: Vec<Stopped> = Vec::new();
    for (rule, packets) in &standing.stopped {
        let interface = match (&rule.iif, &rule.cgroup) {
            (Some(interface), _) => interface.to_string(),
            (None, Some(_)) => HOST_TASKS.to_owned(),
            (None, None) => "+".to_owned(),
        };
        let same = stopped.iter_mut().find(|known| {
            known.interface == interface
                && known.family == rule.family
                && known.guarantee == rule.guarantee
        });
        match same {
            Some(known) => known.packets += packets,
            None => stopped.push(Stopped {
                guarantee: rule.guarantee,
                interface,
                family: rule.family,
                packets: *packets,
            }),
        }
    }
    stopped
}

/// Brings the seal about, also where that cannot wait for a whole turn. Returns whether it changed, or what
/// is wrong: for [`super::Hands::sealed`].
pub(crate) fn keep(
    slot: &mut Option<Seal>,
    desired: &Desired,
    before_change: &dyn Fn(),
) -> Result<bool, String> {
    let seal = match slot {
        Some(seal) => seal,
        // What was never needed is not opened only to be empty; but an earlier run may have left one.
        None => {
            let opened = Seal::open(None);
            let opened = opened.map_err(|error| format!("nf_tables is not to be had: {error}"))?;
            slot.insert(opened)
        }
    };
    let changed = seal
        .keep(&desired.rules.native, before_change)
        .map_err(|error| error.to_string())?;
    let wants = |what: fn(&NativeRule) -> bool| desired.rules.native.iter().any(what);
    if let Some(why) = seal.without_nat()
        && wants(|rule| rule.hook.is_nat())
    {
        return Err(format!(
            "this kernel does not redirect credentials natively ({why}); the visible rules do"
        ));
    }
    if let Some(why) = seal.without_cgroup()
        && wants(|rule| rule.cgroup.is_some())
    {
        return Err(format!(
            "this kernel's nf_tables cannot tell the cgroup of a socket ({why}); tasks on the host's \
             network are stopped by the visible rules alone"
        ));
    }
    Ok(changed)
}
