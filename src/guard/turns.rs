//! Turn after turn: what is kept between them, and what the sentinel is told.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::Options;
use crate::guarantee::{Guarantee, Rules};
use crate::inputs::Inputs;
use crate::kernel::exec::LIMIT;
use crate::kernel::facts::{Facts, host_view};
use crate::kernel::legacy;
use crate::kernel::nftables::generation;
use crate::kernel::nftables::seal::Seal;
use crate::posture::Posture;
use crate::prove::HostView;
use crate::report::Reporter;
use crate::ruleset::Family;
use crate::sentinel::{Orders, Sentinel};
use crate::state::Store;
use crate::systemd;
use crate::turn::{self, Hands, SealState, Target, Turn};

/// Why a turn is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Start,
    Interval,
    Inputs,
    Hangup,
    /// Somebody changed something; the sentinel has put right what was displaced.
    Changes,
}

/// What the loop keeps from turn to turn: nothing that the kernel or the files could tell.
pub(super) struct Guard {
    options: Options,
    inputs: Option<Inputs>,
    store: Store,
    reporter: Reporter,
    seal: Option<Seal>,
    sentinel: Sentinel,
    /// What the sentinel was told to keep.
    ordered: Option<(Rules, bool)>,
    last_wanted: Option<Rules>,
    light: Light,
    /// What the last turn found, where another one would find the same as long as this stands.
    seen: Option<Seen>,
    took: Duration,
    /// Whether the next turn should not wait for a reason.
    pub(super) again: bool,
}

/// Whether this iptables recognises rules whose comment is the kernel's own kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Light {
    Untried,
    /// They were put in; the next turn sees what iptables makes of them.
    Tried,
    Recognised,
    /// It does not; the rules stay as iptables made them.
    NotRecognised,
}

impl Light {
    /// What a turn says of it that looked at rules nobody else had touched.
    fn learn(self, turn: &Turn) -> Self {
        match self {
            Self::Tried if turn.drifts.is_empty() => Self::Recognised,
            Self::Tried => Self::NotRecognised,
            other => other,
        }
    }
}

/// Everything that a turn reads and that no event tells of.
#[derive(Debug, PartialEq)]
struct Seen {
    generation: u32,
    inputs: Inputs,
    facts: Facts,
    host: HostView,
}

impl Guard {
    pub(super) fn new(options: Options, seal: Option<Seal>, sentinel: Sentinel) -> Self {
        let (store, warning) = Store::open(&options.state_dir);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Self {
            options,
            inputs: None,
            store,
            reporter: Reporter::default(),
            seal,
            sentinel,
            ordered: None,
            last_wanted: None,
            light: Light::Untried,
            seen: None,
            took: Duration::ZERO,
            again: false,
        }
    }

    /// How often everything is looked at though nothing seems to have changed.
    pub(super) fn interval(&self) -> Duration {
        let inputs = self.inputs.as_ref();
        inputs.map_or(Duration::from_secs(60), |i| i.settings.verify.interval)
    }

    /// How long the last turn took, and the generation of nf_tables that it read.
    pub(super) fn last(&self) -> (Duration, Option<u32>) {
        (self.took, self.seen.as_ref().map(|seen| seen.generation))
    }

    /// Gives systemd a copy of the seal's socket to keep.
    pub(super) fn store_seal(&self, name: &str) -> io::Result<()> {
        let seal = self.seal.as_ref();
        seal.map_or(Ok(()), |seal| systemd::store(seal.as_fd(), name))
    }

    /// Whether a turn now would find what the last one found, all of it held. nf_tables numbers its
    /// commits, so that the same number means the same rules; iptables-legacy numbers nothing.
    pub(super) fn unchanged(&self) -> bool {
        let Some(seen) = self.seen.as_ref().filter(|_| self.sentinel.lives()) else {
            return false;
        };
        let families = [Family::V4, Family::V6];
        generation().is_ok_and(|now| now == seen.generation)
            && families.into_iter().all(|f| legacy::tables(f).is_empty())
            && self.look(seen.generation) == *seen
    }

    fn read_inputs(&self) -> Inputs {
        let asked = self.store.state.asked.as_ref();
        Inputs::read_or_keep(&self.options.inputs, self.inputs.as_ref(), asked)
    }

    fn look(&self, generation: u32) -> Seen {
        Seen {
            generation,
            inputs: self.read_inputs(),
            facts: Facts::read(),
            host: host_view().0,
        }
    }

    /// Takes a turn. `may_repair` is false while somebody fights over the visible layer.
    pub(super) fn turn(&mut self, cause: Cause, may_repair: bool) {
        let inputs = self.read_inputs();
        if cause == Cause::Inputs && self.inputs.as_ref() == Some(&inputs) {
            return;
        }
        let posture = inputs.posture();
        let target = Target::resolve(&inputs.settings, self.options.backend, &posture);
        self.reporter.inputs(&inputs, &posture);
        self.store.state.asked = inputs.asked();
        self.inputs = Some(inputs);
        let same_wish = self.last_wanted.as_ref() == Some(&target.wanted);
        let mut turn = if may_repair || !same_wish {
            self.apply(&target, &posture)
        } else {
            turn::check(&target, &posture, &self.store.state)
        };
        turn.notes.extend(self.store.save());
        if same_wish && may_repair {
            self.reporter.drift(&turn);
        } else if !same_wish {
            self.reporter.installed(&turn);
        }
        self.reporter.standing(&turn, cause == Cause::Start);
        self.took = turn.elapsed;
        self.light = self.light.learn(&turn);
        self.again = !self.order(&target, &turn);
        self.seen = turn
            .generation
            .filter(|_| turn.settled() && self.store.is_saved())
            .map(|generation| self.look(generation));
        self.last_wanted = Some(target.wanted);
    }

    fn apply(&mut self, target: &Target, posture: &Posture) -> Turn {
        let sentinel = &self.sentinel;
        let hands = &mut Hands {
            seal: &mut self.seal,
            // Longer than any single tool may take; new orders end it.
            before_change: &|| sentinel.hold(LIMIT * 2),
        };
        turn::apply(target, posture, &mut self.store, hands)
    }

    /// Tells the sentinel what to keep, where that is new or it was told to hold. False where
    /// somebody changed the rules before they could be read back.
    fn order(&mut self, target: &Target, turn: &Turn) -> bool {
        let wish = (target.wanted.clone(), turn.opened_input);
        if turn.done.is_empty() && turn.in_place && self.ordered.as_ref() == Some(&wish) {
            return true;
        }
        if !turn.in_place && self.ordered.as_ref() == Some(&wish) && turn.done.is_empty() {
            // A check during a fight: the sentinel knows what it has to keep.
            return true;
        }
        let sealed = |guarantee| {
            let mut outcomes = turn.outcomes.iter();
            outcomes.any(|o| o.guarantee == guarantee && o.sealed == Some(true))
        };
        let read = match turn.generation.filter(|_| turn.in_place) {
            Some(generation) => self.read_back(target, turn.opened_input, generation, sealed),
            None => Orders::without_nftables(target, turn.in_place, turn.opened_input, sealed)
                .map(|orders| (orders, true)),
        };
        match read {
            Ok((orders, settled)) => {
                self.sentinel.keep(orders);
                self.ordered = Some(wish);
                settled
            }
            Err(error) => {
                // What cannot be known to be right is not kept; the next turn looks again.
                self.sentinel.keep(Orders::default());
                self.ordered = None;
                error.kind() != io::ErrorKind::Interrupted
            }
        }
    }
}

impl Guard {
    /// What stands there, made quick to put back. With it whether that is settled: where it was tried
    /// for the first time a turn has to see what iptables makes of it.
    fn read_back(
        &mut self,
        target: &Target,
        open_input: bool,
        generation: u32,
        sealed: impl Fn(Guarantee) -> bool,
    ) -> io::Result<(Orders, bool)> {
        let mut orders = Orders::read_back(target, open_input, generation, sealed)?;
        if self.light == Light::NotRecognised || !orders.lighten(generation)? {
            return Ok((orders, true));
        }
        if self.light == Light::Untried {
            self.light = Light::Tried;
        }
        Ok((orders, self.light == Light::Recognised))
    }
}

impl Turn {
    /// Whether nothing is left to be done, so that the same rules mean the same result.
    fn settled(&self) -> bool {
        let seal = self.seal.state != SealState::Missing;
        self.in_place && self.failures.is_empty() && self.unread.is_empty() && seal
    }
}
