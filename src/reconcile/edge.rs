//! What is reported of the edge, and what it means for the proofs.

use super::host::Host;
use crate::desired::Desired;
use crate::guarantee::{EdgeRules, Guarantee, imds_block};
use crate::report::{EdgeReport, Layer, RuleReport};
use crate::ruleset::Family;
use crate::seal::edge::{EdgeReading, Problem};
use crate::seal::{SealState, TABLE};
use crate::tasks::{Power, way_out};
use crate::verdict::{Proof, Verdict};

/// How the edge stands at the end of a pass.
#[derive(Debug, Clone, Default)]
pub(super) struct EdgeLook {
    state: SealState,
    /// Why it is no better, where there is a reason.
    why: Option<String>,
    interfaces: Vec<String>,
    /// Those of them at which it does not stand.
    uncovered: Vec<String>,
    /// Whether nothing would remain of it if the daemon ended now.
    twinless: bool,
    /// Whether this kernel cannot have one, so that there is nothing to try again soon.
    unsupported: bool,
}

impl EdgeLook {
    /// What a reading comes to, with the `problem` that a change met.
    pub(super) fn new(reading: &EdgeReading, desired: &Desired, problem: Option<Problem>) -> Self {
        Self {
            state: if desired.rules.edge.is_empty() {
                SealState::NotNeeded
            } else {
                reading.state
            },
            unsupported: matches!(problem, Some(Problem::Unsupported(_))),
            why: problem
                .map(|problem| problem.to_string())
                .or_else(|| reading.why.clone()),
            interfaces: reading.interfaces.clone(),
            uncovered: reading.uncovered.clone(),
            twinless: reading.twinless,
        }
    }

    /// What the report says of it; nothing where it is off or nothing needs it.
    pub(super) fn report(&self) -> Option<EdgeReport> {
        let there = self.state != SealState::NotNeeded;
        there.then(|| EdgeReport {
            state: self.state,
            stored: false,
            explanation: match &self.why {
                Some(why) => format!("{}: {why}", self.state),
                None => self.state.to_string(),
            },
            interfaces: self.interfaces.clone(),
            uncovered: self.uncovered.clone(),
        })
    }

    /// What it should hold at each interface.
    pub(super) fn rules(&self, wanted: &EdgeRules) -> Vec<RuleReport> {
        let at = |interface: &String, family: &Family| {
            let but = match wanted.routed.contains(family) {
                true => "not sent by the host's IP stack for a socket of the host",
                false => "without a route",
            };
            RuleReport {
                guarantee: wanted.guarantee(),
                layer: Layer::Edge,
                family: *family,
                place: format!("nftables netdev {TABLE}, egress of {interface}"),
                rule: format!("to {} and {but}: drop", imds_block::address(*family)),
                in_place: Some(self.holds()),
            }
        };
        let interfaces = self.interfaces.iter();
        let rules =
            interfaces.flat_map(|name| wanted.raw.iter().map(move |family| at(name, family)));
        rules.collect()
    }

    /// Whether it drops packets at every interface.
    pub(super) const fn holds(&self) -> bool {
        self.state.holds()
    }

    /// What is wrong with it, as a warning.
    pub(super) fn problem(&self) -> Option<String> {
        let why = self.why.as_deref();
        let why = why.unwrap_or("it was never made, or does not hold what it should");
        (self.state == SealState::Missing).then(|| {
            format!(
                "the edge is missing; raw frames, and containers on interfaces that [imds] interfaces \
                 does not name, can reach the metadata service: {why}"
            )
        })
    }

    /// Whether there is nothing to try again soon.
    pub(super) const fn is_settled(&self) -> bool {
        let worse = matches!(self.state, SealState::Missing | SealState::Twin) || self.twinless;
        self.unsupported || !worse
    }
}

/// What the edge means for what was proved without it. Where it stands, no packet to the service leaves the
/// machine that the host's own IP stack did not send for a socket of the host; where it does not, a task on
/// the host's network that can write raw frames is a way through.
pub(super) fn weigh(
    proofs: &mut Vec<Proof>,
    reading: &EdgeReading,
    desired: &Desired,
    host: &Host,
) {
    let holds = !desired.rules.edge.is_empty() && reading.holds();
    if holds && !desired.rules.edge.routed.is_empty() {
        let blocked = |proof: &&mut Proof| proof.guarantee == Guarantee::ImdsBlock;
        for proof in proofs.iter_mut().filter(blocked) {
            proof.verdict = Verdict::Held;
        }
        let mut claim =
            "whatever interface it leaves by, no packet reaches the metadata service that the \
            host's own IP stack did not send for a socket of the host"
                .to_owned();
        if desired.rules.edge.pass.is_some() {
            claim += ", but what comes from the interfaces of [edge] allow";
        }
        proofs.push(Proof {
            guarantee: Guarantee::ImdsBlock,
            claim,
            verdict: Verdict::Held,
            // It is no claim about the visible rules.
            visible: true,
        });
    }
    if !holds && !desired.raw_frames_accepted {
        let tasks = host.facts.host_tasks.iter();
        let raw = tasks.filter(|task| Power::of(task.capabilities).contains(&Power::NetRaw));
        proofs.extend(raw.map(|task| way_through(Guarantee::HostImdsBlock, &task.id)));
    }
    if !desired.raw_frames_accepted {
        let tasks = host.tasks.running.iter();
        let raw = tasks.filter(|task| !task.frames_stopped && task.powers.contains(&Power::NetRaw));
        proofs.extend(raw.map(|task| way_through(Guarantee::AwsvpcImdsBlock, &task.id)));
    }
}

/// A task that can write raw frames where nothing stops them.
fn way_through(guarantee: Guarantee, task: &str) -> Proof {
    Proof {
        guarantee,
        claim: format!("no raw frame of the task {task} reaches the metadata service"),
        verdict: Verdict::Violated {
            walk: way_out(task, RAW_FRAMES.to_owned()),
        },
        visible: true,
    }
}

/// Why a task is a way through, and what to do.
const RAW_FRAMES: &str = "it can write raw frames (CAP_NET_RAW), which no rule of iptables stops, and the \
    edge, which would, does not stand; drop the capability in the task definition \
    (linuxParameters.capabilities.drop), use a newer kernel, or accept the risk with [edge] raw_frames = \
    \"accept\"";
