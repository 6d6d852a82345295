//! What a pass changes, step by step, and what it meets on the way.

use std::sync::{Mutex, PoisonError};

use super::hands::Hands;
use super::host::Host;
use super::layers::Absent;
use super::proof::Opened;
use super::reading::Reading;
use crate::desired::Desired;
use crate::guarantee::{Guarantee, TAG_PREFIX};
use crate::os::exec::side_by_side;
use crate::os::iptables::{Backend, Tool};
use crate::os::nft::{self, ChainName, Socket, open_native, packets_of};
use crate::os::routes::Routes;
use crate::os::{iptables, sysctl};
use crate::plan::{Drift, Step};
use crate::report::Failure;
use crate::ruleset::Family;
use crate::state::Store;

/// How often a pass starts over when another program changed the rules between its reading and
/// writing.
const ATTEMPTS: usize = 3;

#[derive(Default)]
pub(super) struct Changes {
    pub(super) drifts: Vec<Drift>,
    pub(super) done: Vec<String>,
    pub(super) failures: Vec<Failure>,
    pub(super) notes: Vec<String>,
}

impl Changes {
    /// Carries out what the reading lacks. Returns what is there then; `None` if nothing was lacking.
    pub(super) fn bring_about(
        &mut self,
        desired: &Desired,
        host: &Host,
        opened: &Opened,
        reading: &Reading,
        memory: &mut Store,
        hands: &Hands<'_>,
    ) -> Option<Reading> {
        let mut plan = reading.plan(desired, opened, hands.paused);
        if !plan.steps.is_empty() {
            (hands.before_change)();
        }
        self.drifts.append(&mut plan.drifts);
        let mut after: Option<Reading> = None;
        for _ in 0..ATTEMPTS {
            if plan.steps.is_empty() {
                break;
            }
            self.failures.clear();
            let hopeless = self.take_steps(
                &plan.steps,
                (desired, host),
                after.as_ref().unwrap_or(reading),
                memory,
            );
            let now = Reading::take(desired, host, &memory.state, Absent::Listed);
            plan = now.plan(desired, opened, hands.paused);
            after = Some(now);
            if hopeless {
                break;
            }
        }
        after
    }

    /// Takes steps, those of the two families side by side: nothing of one hangs on the other. Whether trying again at
    /// once makes no sense.
    fn take_steps(
        &mut self,
        steps: &[Step],
        (desired, host): (&Desired, &Host),
        reading: &Reading,
        memory: &mut Store,
    ) -> bool {
        let memory = Mutex::new(memory);
        let taken = side_by_side(&[Family::V4, Family::V6], |family| {
            let (mut changes, mut hopeless) = (Self::default(), false);
            for step in steps.iter().filter(|step| step.family() == *family) {
                match changes.take_step(step, (desired, host), reading, &memory) {
                    Ok(()) => changes.done.push(step.to_string()),
                    Err(refusal) => {
                        hopeless |= refusal.hopeless;
                        changes.failures.push(Failure {
                            family: step.family(),
                            object: step.object().to_owned(),
                            message: format!("{step}: {}", refusal.why),
                        });
                    }
                }
            }
            (changes, hopeless)
        });
        let mut any_hopeless = false;
        for (changes, hopeless) in taken {
            self.done.extend(changes.done);
            self.failures.extend(changes.failures);
            self.notes.extend(changes.notes);
            any_hopeless |= hopeless;
        }
        any_hopeless
    }

    /// Takes a step, unless one before it failed: the plan's order is what keeps `route_localnet=1` from standing
    /// without its shield.
    fn take_step(
        &mut self,
        step: &Step,
        (desired, host): (&Desired, &Host),
        reading: &Reading,
        memory: &Mutex<&mut Store>,
    ) -> Result<(), Refusal> {
        if !self.failures.is_empty() {
            return Err(Refusal {
                why: "not done, because the step before it failed".to_owned(),
                hopeless: false,
            });
        }
        match step {
            Step::Restore { family, input, .. } => {
                let Some(tool) = host.tool(*family) else {
                    return Ok(());
                };
                tool.restore(input).map_err(|error| {
                    use iptables::Error::{Busy, Run};
                    Refusal {
                        why: error.to_string(),
                        hopeless: matches!(error, Busy { .. } | Run { .. }),
                    }
                })
            }
            Step::RouteLocalnet {
                interface,
                value,
                undo,
            } => {
                if !undo {
                    let mut wanted = desired.rules.iptables.iter();
                    let shield = wanted.any(|rule| rule.guarantee == Guarantee::LoopbackShield);
                    if shield && let Some(tool) = host.tool(Family::V4) {
                        shielded(tool)?;
                    }
                    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                    self.notes.extend(reading.remember(interface, &mut memory));
                }
                sysctl::set_route_localnet(interface, value).map_err(Refusal::hopeless)
            }
            Step::Route { to, undo } => Routes::open()
                .and_then(|mut routes| match undo {
                    false => routes.add_by_loopback(*to),
                    true => routes.remove_by_loopback(*to),
                })
                .map_err(Refusal::hopeless),
            Step::Opening { place, undo } => open_native(place, !undo).map_err(Refusal::hopeless),
        }
    }
}

/// Refuses where the loopback shield is not there, or cannot be read.
fn shielded(tool: &Tool) -> Result<(), Refusal> {
    match holds_shield(tool) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::hopeless(
            "not done, because the loopback shield is not there, whatever iptables said",
        )),
        Err(error) => Err(Refusal {
            why: format!("not done, because the loopback shield could not be read: {error}"),
            hopeless: false,
        }),
    }
}

/// Whether the kernel holds the loopback shield.
fn holds_shield(tool: &Tool) -> Result<bool, String> {
    let (table, chain) = ("filter", "INPUT");
    match tool.backend {
        Backend::Nft => {
            let chain = ChainName::of_iptables(tool.family, table, chain);
            let tag = format!("{TAG_PREFIX}{}", Guarantee::LoopbackShield);
            let tagged = Socket::open().map_err(nft::Error::from);
            let tagged = tagged.and_then(|mut socket| packets_of(&mut socket, &chain, &tag));
            let tagged = tagged.map_err(|error| error.to_string())?;
            Ok(!tagged.is_empty())
        }
        Backend::Legacy => {
            let table = tool.list(table).map_err(|error| error.to_string())?;
            let chain = table.chains.get(chain);
            let rules = chain.into_iter().flat_map(|chain| &chain.rules);
            let mut owners = rules.filter_map(|listed| Guarantee::owning(&listed.rule));
            Ok(owners.any(|guarantee| guarantee == Guarantee::LoopbackShield))
        }
    }
}

/// Why a step was not taken.
struct Refusal {
    why: String,
    /// Whether trying again at once makes no sense.
    hopeless: bool,
}

impl Refusal {
    fn hopeless(error: impl ToString) -> Self {
        Self {
            why: error.to_string(),
            hopeless: true,
        }
    }
}
