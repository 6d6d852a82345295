//! Pass after pass: what is kept between them, and what the sentinel is ordered to keep.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::light::Light;
use super::options::{EDGE, Options, SEAL};
use super::outcome::{News, Outcome};
use super::seen::Seen;
use crate::desired::Desired;
use crate::guarantee::{Guarantee, Rules, TaskCgroup};
use crate::inputs::Inputs;
use crate::os::cgroup;
use crate::os::containers;
use crate::os::exec::{LIMIT, meanwhile};
use crate::os::facts;
use crate::os::iptables::{Tool, legacy_tables};
use crate::os::memory;
use crate::os::nft::{self, Moment};
use crate::os::sysctl;
use crate::plan::ChainId;
use crate::posture::Posture;
use crate::reconcile::{self, Hands, Host, Pass, Tools};
use crate::ruleset::Family;
use crate::schedule::{Cause, Ended};
use crate::seal::edge::SharedEdge;
use crate::seal::{self, Around, Seal};
use crate::sentinel::{Orders, Sentinel};
use crate::state::Store;
use crate::status::hub::Publishing;
use crate::systemd;
use crate::tasks::{self, Tasks, worker_client::WorkerClient};
use crate::verdict::Standing;

/// What the loop keeps from pass to pass: nothing that the kernel or the files could tell.
pub(super) struct Reconciler {
    options: Options,
    inputs: Option<Inputs>,
    store: Store,
    seal: Option<Seal>,
    edge: SharedEdge,
    /// Whether systemd keeps a copy of its socket.
    stored: bool,
    sentinel: Sentinel,
    /// The orders that the sentinel has.
    ordered: Option<Wish>,
    last_wanted: Option<Rules>,
    /// The cgroup of the tasks as the last pass found it.
    task_cgroup: Option<TaskCgroup>,
    /// The tasks that the last pass knew of.
    tasks: Tasks,
    light: Light,
    /// What made the last orders light, until the next pass: to close it at once would take as long as the kernel
    /// needs to destroy what was replaced, and let nobody commit meanwhile.
    lightened: Option<nft::Socket>,
    /// What the last pass found, where another one would find the same as long as this stands.
    seen: Option<Seen>,
}

/// What the sentinel's orders were made from: other tools keep other rules.
#[derive(Debug, PartialEq)]
struct Wish {
    wanted: Rules,
    opened_input: bool,
    tools: Vec<Tool>,
}

impl Reconciler {
    /// Before the first pass; with what is wrong with the state on disk.
    pub(super) fn new(
        options: Options,
        (seal, edge): (Option<Seal>, SharedEdge),
        sentinel: Sentinel,
    ) -> (Self, Option<String>) {
        let (store, problem) = Store::open(&options.state_dir);
        let reconciler = Self {
            options,
            inputs: None,
            store,
            seal,
            edge,
            stored: false,
            sentinel,
            ordered: None,
            last_wanted: None,
            task_cgroup: None,
            tasks: Tasks::default(),
            light: Light::Untried,
            lightened: None,
            seen: None,
        };
        (reconciler, problem)
    }

    /// Looks at everything and repairs what is not as it should be, unless there proves to be no
    /// cause.
    pub(super) fn pass(&mut self, cause: &Cause) -> Outcome {
        if cause.quiet && self.unchanged() {
            self.options.hub.verified_again();
            let generation = self.seen.as_ref().map(|seen| seen.moment.generation);
            tracing::debug!("pass skipped: nothing changed since generation {generation:?}");
            return self.outcome(true, generation, false, None);
        }
        let inputs = self.read_inputs();
        if self.is_nothing_new(cause, &inputs) {
            tracing::debug!("pass skipped: the inputs say what they said before");
            return self.outcome(false, None, false, None);
        }
        let (news, again) = self.look(cause, inputs);
        let generation = news.pass.generation();
        let guarantees = news.pass.report.guarantees.iter();
        let proofs: usize = guarantees.map(|of| of.claims.len()).sum();
        tracing::debug!(
            "pass: compared {} rules at generation {:?}: {} differed, {} changes, {} failures, {} proofs, \
             in {:.3} s",
            news.pass.report.rules.len(),
            generation,
            news.pass.report.drifts.len(),
            news.pass.report.changes.len(),
            news.pass.report.failures.len(),
            proofs,
            news.pass.report.verification.duration,
        );
        let mut outcome = self.outcome(true, generation, again, Some(news));
        // A socket that is not stored is no reason to be taken for not ready.
        let stored = self.store_seal().err();
        outcome
            .troubles
            .extend(stored.map(|error| error.to_string()));
        memory::give_back();
        // What the sentinel runs on is mapped again before it matters.
        self.sentinel.resume();
        outcome
    }

    fn outcome(
        &self,
        verified: bool,
        generation: Option<u32>,
        again: bool,
        news: Option<News>,
    ) -> Outcome {
        let inputs = self.inputs.as_ref();
        let settings = inputs.map(|inputs| inputs.settings.verify.interval);
        Outcome {
            ended: Ended {
                verified,
                generation,
                settled: self.seen.is_some(),
                again,
                interval: settings.unwrap_or_default(),
            },
            news,
            troubles: Vec::new(),
        }
    }

    /// Whether only inputs or the cgroup of the tasks may have changed, and did not.
    fn is_nothing_new(&self, cause: &Cause, inputs: &Inputs) -> bool {
        let may_be_nothing = Cause {
            inputs: cause.inputs,
            task_cgroup: cause.task_cgroup,
            paused: cause.paused.clone(),
            ..Cause::default()
        };
        *cause == may_be_nothing
            && (cause.inputs || cause.task_cgroup)
            && self.inputs.as_ref() == Some(inputs)
            && !self.task_cgroup_moved()
    }

    /// Gives systemd a copy of the seal's socket to keep, once there is one.
    fn store_seal(&mut self) -> io::Result<()> {
        if let Some(seal) = self.seal.as_ref().filter(|_| !self.stored) {
            systemd::store(seal.as_fd(), SEAL)?;
            if let Some(edge) = self.edge.socket() {
                systemd::store(edge.as_fd(), EDGE)?;
            }
            self.stored = systemd::listens();
        }
        Ok(())
    }

    /// Whether a pass now would find what the last one found, all of it held. iptables-legacy has nothing
    /// that would tell.
    fn unchanged(&mut self) -> bool {
        // What it finds is heard as news.
        let tasks = self.options.worker.as_mut().and_then(WorkerClient::nudge);
        if tasks.is_some_and(|tasks| tasks != self.tasks) {
            return false;
        }
        let Some(seen) = self.seen.as_ref().filter(|_| self.sentinel.lives()) else {
            return false;
        };
        let families = [Family::V4, Family::V6];
        Moment::read().is_ok_and(|now| now == seen.moment)
            && families.into_iter().all(|f| legacy_tables(f).is_empty())
            && seen.stands(&self.read_inputs())
    }

    fn read_inputs(&self) -> Inputs {
        let remembered = &self.store.state.inputs;
        Inputs::read_or_keep(&self.options.inputs, self.inputs.as_ref(), remembered)
    }

    /// A whole pass. With it whether another should follow at once.
    fn look(&mut self, cause: &Cause, inputs: Inputs) -> (News, bool) {
        self.lightened = None;
        let (settings, backend) = (&inputs.settings, self.options.backend);
        let mut facts = facts::without_containers(settings);
        let posture = inputs.posture(&facts);
        let early = (cause.task_cgroup || cause.start).then(|| {
            let desired = Desired::here(settings, &posture, &facts);
            let sealed = self.seal_at_once(&desired);
            // What is wrong with the edge the pass reports.
            drop(self.edge.keep(&desired.rules.edge));
            sealed
        });
        // Repaired where that is new or due, while the rest of the host is looked at.
        if let Some(worker) = &mut self.options.worker {
            worker.want(tasks::wish(settings, &posture), cause.everything());
        }
        let tools = || Tools::find(settings, backend);
        let (tools, privileged) = meanwhile(&tools, containers::privileged);
        facts.privileged = privileged;
        let unknown = inputs.unknown();
        let known = (facts, tools);
        let (desired, mut host) = reconcile::resolve(settings, &posture, known, &unknown);
        let same_wish = self.last_wanted.as_ref() == Some(&desired.rules);
        let retry = cause.retry_unsupported && self.retry_unsupported();
        let sealed = (!same_wish || retry).then(|| {
            let early = early.filter(|early| early.is_ok() && !retry);
            early.unwrap_or_else(|| self.seal_at_once(&desired))
        });
        host.tasks = self.tasks(&posture);
        self.store.state.inputs = inputs.remembered();
        let mut pass = if same_wish {
            self.verify(&desired, &host, &posture, &cause.paused)
        } else {
            self.apply(&desired, &host, &posture, sealed, &cause.paused)
        };
        inputs.describe(&mut pass.report);
        pass.report.warnings.extend(self.store.save());
        if let Some(seal) = &mut pass.report.seal {
            seal.stored = self.stored && seal.state.is_owned();
        }
        if let Some(edge) = &mut pass.report.edge {
            edge.stored = self.stored && edge.state.is_owned();
        }
        self.light = self.light.learn(&pass);
        // What is said to be held is guarded from then on.
        let guarded = self.order(&desired, &host, &pass);
        // A shield that only `route_localnet` asked for goes with it, and not a pass earlier.
        let restored =
            !host.facts.route_localnet.is_empty() && sysctl::routes_localnet().is_empty();
        let again = !guarded || restored;
        let moment = pass.moment.clone();
        self.seen = moment
            .filter(|_| pass.settled() && self.store.is_saved())
            .map(|moment| Seen {
                moment,
                inputs: inputs.clone(),
                facts: host.facts.clone(),
                host: pass.host.clone(),
            });
        let changed = self.inputs.as_ref().map(|last| inputs.changes_since(last));
        let reloaded = changed.filter(|changed| cause.hangup || !changed.is_empty());
        let news = News {
            reloaded,
            publishing: Publishing {
                interval: settings.verify.interval,
                textfile: settings.metrics.textfile.clone(),
                inventory: settings.fleet.ssm_inventory.clone(),
            },
            pass,
            first: cause.start,
            new_wish: !same_wish,
        };
        self.inputs = Some(inputs);
        self.last_wanted = Some(desired.rules.clone());
        self.task_cgroup.clone_from(&host.facts.task_cgroup);
        self.tasks.clone_from(&host.tasks);
        self.options.hub.count(desired.rules, host);
        (news, again)
    }

    /// Forgets what the kernel was found not to support. False where nothing was.
    fn retry_unsupported(&mut self) -> bool {
        let seal = self.seal.as_mut().is_some_and(Seal::retry_unsupported);
        self.edge.retry_unsupported() || seal
    }

    /// Stops packets before anything else is looked at: tasks may take their time to answer, and the
    /// first process of a new cgroup is about to begin.
    fn seal_at_once(&mut self, desired: &Desired) -> Result<bool, String> {
        let native = &desired.rules.native;
        let around = Around {
            before: &|| self.sentinel.hold_native(LIMIT),
            after: &|| self.sentinel.keep_native(native),
        };
        seal::keep(&mut self.seal, native, around)
    }

    /// Where the cgroup of the tasks is, or will be; `None` where that does not matter.
    pub(super) fn task_cgroup_directory(&self) -> Option<PathBuf> {
        cgroup::directory(self.task_cgroup.as_ref()?.path())
    }

    /// Whether the cgroup of the tasks is another one than the last pass found.
    pub(super) fn task_cgroup_moved(&self) -> bool {
        let known = self.task_cgroup.as_ref();
        known.is_some_and(|found| cgroup::tasks(found.path()) != *found)
    }

    /// The tasks, once what was said last to be wanted of them is done.
    fn tasks(&self, posture: &Posture) -> Tasks {
        let worker = self.options.worker.as_ref();
        let found = worker.map(WorkerClient::settled);
        match found {
            _ if !posture.requires(Guarantee::AwsvpcImdsBlock) => Tasks::default(),
            Some(tasks) => tasks,
            None => Tasks {
                running: Vec::new(),
                unknown: vec![
                    "the daemon was started with awsvpc = \"never\" and dropped the capabilities to \
                     enter task namespaces; restart it: systemctl restart ecs-netguard"
                        .to_owned(),
                ],
            },
        }
    }

    /// Looks first: what the sentinel keeps it repairs by itself, and quicker. Only what it does not
    /// is changed here, and only if what was read is known to have stood there at one moment: under
    /// attack a pass would be in the way.
    fn verify(
        &mut self,
        desired: &Desired,
        host: &Host,
        posture: &Posture,
        paused: &[ChainId],
    ) -> Pass {
        if self.sentinel.lives() && self.ordered.is_some() {
            let woken = host.wake(&desired.rules);
            let mut pass = reconcile::check(desired, host, posture, &self.store.state);
            pass.report.warnings.extend(woken);
            if pass.settled() || !pass.unread.is_empty() {
                return pass;
            }
        }
        self.apply(desired, host, posture, None, paused)
    }

    fn apply(
        &mut self,
        desired: &Desired,
        host: &Host,
        posture: &Posture,
        sealed: Option<Result<bool, String>>,
        paused: &[ChainId],
    ) -> Pass {
        let sentinel = &self.sentinel;
        let hands = &mut Hands {
            seal: &mut self.seal,
            edge: &self.edge,
            // Longer than any single tool may take; new orders end it.
            before_change: &|| sentinel.hold(LIMIT * 2),
            around_seal: Around {
                before: &|| sentinel.hold_native(LIMIT),
                after: &|| sentinel.keep_native(&desired.rules.native),
            },
            // Only what is missing though it was there before is a drift to report.
            prove_before: self.last_wanted.as_ref() == Some(&desired.rules),
            sealed,
            paused,
        };
        reconcile::apply(desired, host, posture, &mut self.store, hands)
    }

    /// Tells the sentinel what to keep, where that is new or it is on hold. False where
    /// another program changed the rules before they could be read back.
    fn order(&mut self, desired: &Desired, host: &Host, pass: &Pass) -> bool {
        let wish = Wish {
            wanted: desired.rules.clone(),
            opened_input: pass.open_input,
            tools: host.tools.clone(),
        };
        let same = self.ordered.as_ref() == Some(&wish);
        if same && pass.report.changes.is_empty() {
            // It knows what to keep, though it may hold back or be under attack now.
            self.sentinel.resume();
            return true;
        }
        let sealed = |guarantee| {
            let of = pass.report.guarantee(guarantee);
            of.is_some_and(|of| of.layers.sealed == Some(Standing::Held))
        };
        let read = match pass.generation().filter(|_| pass.left.is_empty()) {
            Some(generation) => self.read_back(desired, host, pass.open_input, generation, sealed),
            None if pass.left.is_empty() => Ok((Orders::without_nftables(desired, host), true)),
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
                // What cannot be known to be right is not kept; the next pass looks again.
                self.sentinel.keep(Orders::default());
                self.ordered = None;
                !matches!(error, nft::Error::Stale)
            }
        }
    }

    /// What stands there, made quick to restore. With it whether that is settled: where it was tried
    /// for the first time a pass has to see what iptables makes of it.
    fn read_back(
        &mut self,
        desired: &Desired,
        host: &Host,
        open_input: bool,
        generation: u32,
        sealed: impl Fn(Guarantee) -> bool,
    ) -> Result<(Orders, bool), nft::Error> {
        let mut orders = Orders::read_back(desired, host, open_input, generation, sealed)?;
        if self.light == Light::NotRecognised {
            return Ok((orders, true));
        }
        self.lightened = orders.lighten(generation)?;
        if self.lightened.is_none() {
            return Ok((orders, true));
        }
        if self.light == Light::Untried {
            self.light = Light::Tried;
        }
        Ok((orders, self.light == Light::Recognised))
    }
}
