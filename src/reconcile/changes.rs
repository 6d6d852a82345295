//! What a pass changes, step by step, and what it meets on the way.

use super::hands::Hands;
use super::host::Host;
use super::proof::Opened;
use super::reading::Reading;
use crate::desired::Desired;
use crate::os::nft::open_native;
use crate::os::routes::Routes;
use crate::os::{iptables, sysctl};
use crate::plan::{Drift, Step};
use crate::report::Failure;
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
            let mut hopeless = false;
            for step in &plan.steps {
                match self.take_step(step, host, after.as_ref().unwrap_or(reading), memory) {
                    Ok(()) => self.done.push(step.to_string()),
                    Err(refusal) => {
                        hopeless |= refusal.hopeless;
                        self.failures.push(Failure {
                            family: step.family(),
                            object: step.object().to_owned(),
                            message: format!("{step}: {}", refusal.why),
                        });
                    }
                }
            }
            let now = Reading::take(desired, host, &memory.state);
            plan = now.plan(desired, opened, hands.paused);
            after = Some(now);
            if hopeless {
                break;
            }
        }
        after
    }

    /// Takes a step, unless one before it of the same family failed: the plan's order is what keeps
    /// `route_localnet=1` from standing without its shield.
    fn take_step(
        &mut self,
        step: &Step,
        host: &Host,
        reading: &Reading,
        memory: &mut Store,
    ) -> Result<(), Refusal> {
        let mut failures = self.failures.iter();
        if failures.any(|failure| failure.family == step.family()) {
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
                    self.notes.extend(reading.remember(interface, memory));
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
