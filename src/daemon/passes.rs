//! Turn after turn: what is kept between them, and what the sentinel is told.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use crate::events::{self, Reporter};
use crate::events::{Event, Kind};
use crate::guarantee::{Guarantee, Rules, TaskCgroup};
use crate::inputs::Inputs;
use crate::os::cgroup;
use crate::os::exec::LIMIT;
use crate::os::facts::{Facts, host_view};
use crate::os::iptables::Tool;
use crate::os::legacy;
use crate::os::memory;
use crate::os::nft::{self, generation};
use crate::posture::Posture;
use crate::prove::HostView;
use crate::reconcile::{self, Hands, Target, Turn};
use crate::ruleset::Family;
use crate::seal::{self, Around, Seal, SealState};
use crate::sentinel::{Orders, Sentinel};
use crate::state::Store;
use crate::status::published::{Published, Sealed};
use crate::systemd;
use crate::tasks::{self, Tasks, worker_client::WorkerClient};

/// How often is tried again what could not be done, or not be read.
const RETRY: Duration = Duration::from_secs(5);

/// Why a turn is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Start,
    Interval,
    Inputs,
    Hangup,
    /// The cgroup of the tasks came or went.
    TaskCgroup,
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
    /// Whether systemd keeps a copy of its socket.
    stored: bool,
    sentinel: Sentinel,
    /// What the sentinel was told to keep.
    ordered: Option<Wish>,
    last_wanted: Option<Rules>,
    /// The cgroup of the tasks as the last turn found it.
    task_cgroup: Option<TaskCgroup>,
    /// The tasks that the last turn knew of.
    tasks: Tasks,
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

/// What the sentinel's orders were made from: other tools keep other rules.
#[derive(Debug, PartialEq)]
struct Wish {
    wanted: Rules,
    opened_input: bool,
    tools: Vec<Tool>,
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
            events::tell(&options.board, Event::new(Kind::Warning, warning));
        }
        Self {
            options,
            inputs: None,
            store,
            reporter: Reporter::default(),
            seal,
            stored: false,
            sentinel,
            ordered: None,
            last_wanted: None,
            task_cgroup: None,
            tasks: Tasks::default(),
            light: Light::Untried,
            seen: None,
            took: Duration::ZERO,
            again: false,
        }
    }

    /// How often everything is looked at though nothing seems to have changed; more often while
    /// something is not as it should be.
    pub(super) fn interval(&self) -> Duration {
        let inputs = self.inputs.as_ref();
        let usual = inputs.map_or(RETRY, |inputs| inputs.settings.verify.interval);
        if self.seen.is_some() {
            usual
        } else {
            usual.min(RETRY)
        }
    }

    /// How long the last turn took, and the generation of nf_tables that it read.
    pub(super) fn last(&self) -> (Duration, Option<u32>) {
        (self.took, self.seen.as_ref().map(|seen| seen.generation))
    }

    /// Gives back the memory that the turn needed.
    pub(super) fn rest(&self) {
        memory::give_back();
        // What the sentinel runs on is mapped again before it matters.
        self.sentinel.resume();
    }

    /// Gives systemd a copy of the seal's socket to keep, once there is one.
    pub(super) fn store_seal(&mut self, name: &str) -> io::Result<()> {
        if let Some(seal) = self.seal.as_ref().filter(|_| !self.stored) {
            systemd::store(seal.as_fd(), name)?;
            self.stored = systemd::listens();
        }
        Ok(())
    }

    /// Whether a turn now would find what the last one found, all of it held. nf_tables numbers its
    /// commits, so that the same number means the same rules; iptables-legacy numbers nothing.
    pub(super) fn unchanged(&mut self) -> bool {
        // What it finds is heard as news.
        let tasks = self.options.keeper.as_mut().and_then(WorkerClient::nudge);
        if tasks.is_some_and(|tasks| tasks != self.tasks) {
            return false;
        }
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
        let inputs = self.read_inputs();
        let facts = Facts::read(&inputs.settings);
        Seen {
            generation,
            host: host_view(facts.task_cgroup.as_ref()).0,
            inputs,
            facts,
        }
    }

    /// Takes a turn, unless it would be for inputs that say what they said before; false then: nothing
    /// was looked at. `may_repair` is false while somebody fights over the visible layer.
    pub(super) fn turn(&mut self, cause: Cause, may_repair: bool) -> bool {
        let inputs = self.read_inputs();
        if cause == Cause::Inputs && self.inputs.as_ref() == Some(&inputs) {
            return false;
        }
        let posture = inputs.posture();
        if cause == Cause::TaskCgroup {
            let facts = Facts::read(&inputs.settings);
            let scope = reconcile::scope(&inputs.settings, &facts);
            let early = Target::of(&inputs.settings, &posture, &scope);
            // What is wrong with it the turn says.
            drop(self.seal_at_once(&early));
        }
        let mut target = Target::resolve(&inputs.settings, self.options.backend, &posture);
        let same_wish = self.last_wanted.as_ref() == Some(&target.wanted);
        let retry =
            cause == Cause::Hangup && self.seal.as_mut().is_some_and(Seal::retry_unsupported);
        let sealed = (!same_wish || retry).then(|| self.seal_at_once(&target));
        target.tasks = self.look_at_tasks(&inputs, &posture, cause);
        let news = self.reporter.inputs(&inputs, &posture);
        self.tell(news);
        self.store.state.asked = inputs.asked();
        let mut turn = if same_wish {
            self.verify(&target, &posture, may_repair)
        } else {
            self.apply(&target, &posture, sealed)
        };
        turn.notes.extend(self.store.save());
        self.took = turn.elapsed;
        self.light = self.light.learn(&turn);
        // What is said to be held is guarded from then on.
        self.again = !self.order(&target, &turn);
        self.publish(&inputs, &posture, &target, &turn);
        let news = match (same_wish, may_repair) {
            (false, _) => self.reporter.installed(&turn),
            (true, true) => self.reporter.drift(&turn),
            (true, false) => Vec::new(),
        };
        self.tell(news);
        let news = self.reporter.standing(&turn, cause == Cause::Start);
        self.tell(news);
        self.seen = turn
            .generation
            .filter(|_| turn.settled() && self.store.is_saved())
            .map(|generation| Seen {
                generation,
                inputs: inputs.clone(),
                facts: target.facts.clone(),
                host: turn.host,
            });
        self.inputs = Some(inputs);
        self.last_wanted = Some(target.wanted);
        self.task_cgroup = target.facts.task_cgroup;
        self.tasks = target.tasks;
        true
    }

    /// Stops packets before anything else is looked at: tasks may take their time to answer, and the
    /// first process of a new cgroup is about to begin.
    fn seal_at_once(&mut self, target: &Target) -> Result<bool, String> {
        let native = &target.wanted.native;
        let around = Around {
            before: &|| self.sentinel.hold_native(LIMIT),
            after: &|| self.sentinel.keep_native(native),
        };
        seal::keep(&mut self.seal, native, around)
    }

    /// Where the cgroup of the tasks is, or will be; `None` where nobody wants to know.
    pub(super) fn task_cgroup_directory(&self) -> Option<PathBuf> {
        cgroup::directory(self.task_cgroup.as_ref()?.path())
    }

    /// Whether the cgroup of the tasks is another one than the last turn found.
    pub(super) fn task_cgroup_moved(&self) -> bool {
        let known = self.task_cgroup.as_ref();
        known.is_some_and(|found| cgroup::tasks(found.path()) != *found)
    }

    /// The tasks, made right where that is new or due.
    fn look_at_tasks(&mut self, inputs: &Inputs, posture: &Posture, cause: Cause) -> Tasks {
        let wish = tasks::wish(&inputs.settings, posture);
        let look = matches!(cause, Cause::Interval | Cause::Hangup);
        let found = self
            .options
            .keeper
            .as_mut()
            .map(|keeper| keeper.want(wish, look));
        match found {
            _ if !posture.requires(Guarantee::AwsvpcImdsBlock) => Tasks::default(),
            Some(tasks) => tasks,
            None => Tasks {
                running: Vec::new(),
                unknown: vec![
                    "the daemon was started with awsvpc = \"never\" and has no power over tasks: \
                     `systemctl restart ecs-netguard`"
                        .to_owned(),
                ],
            },
        }
    }

    /// Puts up what the turn found, for whoever asks.
    fn publish(&self, inputs: &Inputs, posture: &Posture, target: &Target, turn: &Turn) {
        let sealed = Sealed::of(target, turn, self.stored);
        let published = Published::new(inputs, posture, target, turn, sealed);
        self.options.board.publish(published);
        self.options.board.count(Arc::new(target.clone()));
    }

    /// Says that everything was looked at, and is as the last turn found it.
    pub(super) fn still_holds(&self) {
        self.options.board.still_holds();
    }

    fn tell(&self, events: Vec<Event>) {
        for event in events {
            events::tell(&self.options.board, event);
        }
    }

    /// Looks first: what the sentinel keeps it puts right by itself, and quicker. Only what it does not
    /// is changed here, and only if what was read is known to have stood there at one moment: under
    /// attack the slow side would be in the way.
    fn verify(&mut self, target: &Target, posture: &Posture, may_repair: bool) -> Turn {
        if self.sentinel.lives() && self.ordered.is_some() {
            let woken = target.wake();
            let mut turn = reconcile::check(target, posture, &self.store.state);
            turn.notes.extend(woken);
            let left = !turn.settled() && turn.unread.is_empty();
            if !left || !may_repair {
                return turn;
            }
        }
        self.apply(target, posture, None)
    }

    fn apply(
        &mut self,
        target: &Target,
        posture: &Posture,
        sealed: Option<Result<bool, String>>,
    ) -> Turn {
        let sentinel = &self.sentinel;
        let hands = &mut Hands {
            seal: &mut self.seal,
            // Longer than any single tool may take; new orders end it.
            before_change: &|| sentinel.hold(LIMIT * 2),
            around_seal: Around {
                before: &|| sentinel.hold_native(LIMIT),
                after: &|| sentinel.keep_native(&target.wanted.native),
            },
            // Only what is missing though it was there before is a drift to tell of.
            prove_found: self.last_wanted.as_ref() == Some(&target.wanted),
            sealed,
        };
        reconcile::apply(target, posture, &mut self.store, hands)
    }

    /// Tells the sentinel what to keep, where that is new or it was told to hold. False where
    /// somebody changed the rules before they could be read back.
    fn order(&mut self, target: &Target, turn: &Turn) -> bool {
        let wish = Wish {
            wanted: target.wanted.clone(),
            opened_input: turn.opened_input,
            tools: target.tools.clone(),
        };
        let same = self.ordered.as_ref() == Some(&wish);
        if same && turn.done.is_empty() {
            // It knows what to keep, though it may hold back or be under attack now.
            self.sentinel.resume();
            return true;
        }
        let sealed = |guarantee| {
            let mut outcomes = turn.outcomes.iter();
            outcomes.any(|o| o.guarantee == guarantee && o.sealed == Some(true))
        };
        let read = match turn.generation.filter(|_| turn.in_place) {
            Some(generation) => self.read_back(target, turn.opened_input, generation, sealed),
            None if turn.in_place => Orders::without_nftables(target, turn.opened_input, sealed)
                .map(|orders| (orders, true)),
            None => Ok((Orders::default(), true)),
        };
        match read {
            Ok((orders, settled)) => {
                self.sentinel.keep(orders);
                self.ordered = Some(wish);
                settled
            }
            Err(error) if same => {
                self.sentinel.resume();
                !matches!(error, nft::Error::Stale)
            }
            Err(error) => {
                // What cannot be known to be right is not kept; the next turn looks again.
                self.sentinel.keep(Orders::default());
                self.ordered = None;
                !matches!(error, nft::Error::Stale)
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
    ) -> Result<(Orders, bool), nft::Error> {
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
        let seal = self.seal.state;
        let seal = !matches!(seal, SealState::Missing | SealState::Twin) && !self.seal.twinless;
        self.in_place && self.failures.is_empty() && self.unread.is_empty() && seal
    }
}
