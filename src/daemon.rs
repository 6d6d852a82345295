//! The daemon's one loop: it waits for signals, events, the running pass and the schedule's deadline,
//! and does what the schedule says. Passes run on a thread of their own; nothing here waits for one.

mod light;
mod options;
mod outcome;
mod reconciler;
mod seen;
mod signals;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Level;

pub use self::options::Options;
use self::options::{EDGE, SEAL};
use self::outcome::Outcome;
use self::reconciler::Reconciler;
use self::signals::Signals;
use crate::events::{Event, Kind, Reporter};
use crate::os::inherited::Inherited;
use crate::os::sched::{self, Scheduling};
use crate::os::watch::Watch;
use crate::schedule::{self, Action, Cause, Schedule};
use crate::seal::Seal;
use crate::seal::edge::SharedEdge;
use crate::sentinel::{self, Sentinel};
use crate::status::hub::Hub;
use crate::systemd;
use crate::tasks::task_events;

/// How many reports of the sentinel or the worker may wait. One is a few hundred bytes.
const REPORTS: usize = 1024;

/// Runs until SIGTERM or SIGINT. The rules stay in place.
pub async fn run(options: Options, inherited: &mut Inherited) -> io::Result<()> {
    let mut daemon = Daemon::start(options, inherited)?;
    let mut events = vec![schedule::Event::Tick];
    loop {
        for event in events {
            if daemon.handle(event) {
                let message =
                    "stopped; the rules stay in place (`ecs-netguard release` removes them)";
                daemon.hub.record(Event::new(Kind::Stopped, message));
                return systemd::stopping();
            }
        }
        events = daemon.next().await?;
    }
}

/// The running pass.
type Running = JoinHandle<(Reconciler, Outcome)>;

struct Daemon {
    hub: Arc<Hub>,
    schedule: Schedule,
    reporter: Reporter,
    signals: Signals,
    inputs: Watch,
    task_cgroup: Option<Watch>,
    sentinel: mpsc::Receiver<sentinel::Report>,
    worker: mpsc::Receiver<task_events::Report>,
    /// The sentinel's thread, while it is a realtime one.
    realtime: Option<Pid>,
    /// Here while no pass runs.
    reconciler: Option<Reconciler>,
    running: Option<Running>,
}

impl Daemon {
    fn start(mut options: Options, inherited: &mut Inherited) -> io::Result<Self> {
        let signals = Signals::listen()?;
        let inputs = Watch::new(options.inputs.files())?;
        let hub = Arc::clone(&options.hub);
        let (sender, sentinel_reports) = mpsc::channel(REPORTS);
        // A report that finds no room is lost; the next pass sees the last state anyway.
        let lacking = options.lacking;
        let edge = SharedEdge::open(inherited.named(EDGE), lacking);
        let tell = move |report| drop(sender.try_send(report));
        let sentinel = Sentinel::start(tell, edge.clone())?;
        // Without nf_tables every pass tries again, and reports it.
        let seal = Seal::open(inherited.named(SEAL)).ok();
        let seal = seal.map(|seal| match lacking {
            Some(lacking) => seal.lacking(lacking),
            None => seal,
        });
        let mut problems = std::mem::take(&mut options.problems);
        problems.extend(inherited.problem().map(str::to_owned));
        let (sender, worker) = mpsc::channel(REPORTS);
        if let Some(worker) = &options.worker {
            worker.listen(sender)?;
        }
        let (reconciler, problem) = Reconciler::new(options, (seal, edge), sentinel);
        for problem in problems.into_iter().chain(problem) {
            hub.record(Event::new(Kind::Warning, problem));
        }
        Ok(Self {
            hub,
            schedule: Schedule::new(systemd::watchdog_interval(), Instant::now()),
            reporter: Reporter::default(),
            signals,
            inputs,
            task_cgroup: None,
            sentinel: sentinel_reports,
            worker,
            realtime: None,
            reconciler: Some(reconciler),
            running: None,
        })
    }

    /// Waits for something to happen; what that means for the schedule.
    async fn next(&mut self) -> io::Result<Vec<schedule::Event>> {
        use schedule::Event::{Inputs, TaskCgroup, Tick};
        let deadline = self.schedule.deadline();
        Ok(tokio::select! {
            biased;
            signal = self.signals.next() => vec![signal],
            ended = ended(&mut self.running) => {
                let (reconciler, outcome) = ended?;
                self.ended(reconciler, outcome)
            }
            Some(report) = self.sentinel.recv() => self.hear_sentinel(report),
            Some(report) = self.worker.recv() => self.hear_worker(report)?,
            () = self.inputs.changed() => vec![Inputs],
            () = changed(self.task_cgroup.as_ref()) => vec![TaskCgroup],
            () = until(deadline) => vec![Tick],
        })
    }

    /// Does what the schedule says of an event. True where the daemon is to leave.
    fn handle(&mut self, event: schedule::Event) -> bool {
        let now = Instant::now();
        let woken = tracing::enabled!(Level::DEBUG).then(|| format!("{event:?}"));
        let actions = self.schedule.on(event, now);
        if let Some(woken) = woken {
            tracing::debug!("woken by {woken}: {actions:?}");
        }
        for action in actions {
            match action {
                Action::Pass(cause) => self.pass(cause),
                Action::Ready => self.notify(systemd::ready()),
                Action::FeedWatchdog => self.notify(systemd::watchdog()),
                Action::SumUp => {
                    let events = self.reporter.sum_up(now);
                    self.record(events);
                }
                Action::Demote => self.demote(),
                Action::Leave => return true,
            }
        }
        false
    }

    fn pass(&mut self, cause: Cause) {
        // The schedule starts none while one runs, which is where it would be missing.
        self.running = self.reconciler.take().map(|mut reconciler| {
            tokio::task::spawn_blocking(move || {
                let outcome = reconciler.pass(&cause);
                (reconciler, outcome)
            })
        });
    }

    /// Publishes what a pass found.
    fn ended(&mut self, reconciler: Reconciler, outcome: Outcome) -> Vec<schedule::Event> {
        let now = Instant::now();
        self.running = None;
        if let Some(news) = outcome.news {
            self.record(news.reload());
            let events = self.reporter.pass(news.passed(), now);
            self.hub.publish(news.pass.report, news.publishing);
            self.record(events);
        }
        for trouble in outcome.troubles {
            self.trouble(trouble);
        }
        if let Err(error) = self.watch_task_cgroup(&reconciler) {
            self.trouble(error.to_string());
        }
        let mut events = vec![schedule::Event::Ended(outcome.ended)];
        // Before it was watched, or during the pass.
        if reconciler.task_cgroup_moved() {
            events.push(schedule::Event::TaskCgroup);
        }
        events.extend(self.held_back());
        self.reconciler = Some(reconciler);
        events
    }

    fn hear_sentinel(&mut self, report: sentinel::Report) -> Vec<schedule::Event> {
        use sentinel::Report;
        let now = Instant::now();
        let mut events = Vec::new();
        match report {
            Report::Began(Scheduling::Realtime, thread) => self.realtime = Some(thread),
            Report::Began(Scheduling::Normal { reason }, _) => self.trouble(format!(
                "the sentinel is scheduled like any other thread: {reason}; a busy host delays its \
                 repairs"
            )),
            Report::Changed(generation) => events.push(schedule::Event::Committed(generation)),
            Report::LockUsed => events.push(schedule::Event::LockUsed),
            Report::Links => events.push(schedule::Event::Changed),
            Report::Displaced(displacement) => {
                events.push(schedule::Event::Changed);
                let paused = displacement.paused.iter();
                let paused = paused
                    .map(|(chain, pause)| schedule::Event::Paused(chain.clone(), pause.until));
                events.extend(paused);
                let recorded = self.reporter.displaced(&displacement, now);
                self.record(recorded);
            }
            Report::Trouble(trouble) => self.trouble(trouble),
        }
        events.extend(self.held_back());
        events
    }

    /// The daemon ends with the worker: one that lost it would go on and look alive. The rules stay,
    /// and systemd starts a whole daemon again.
    fn hear_worker(&mut self, report: task_events::Report) -> io::Result<Vec<schedule::Event>> {
        use task_events::Report;
        match report {
            Report::Changed => Ok(vec![schedule::Event::Changed]),
            Report::Happened(event) => {
                self.hub.record(*event);
                Ok(Vec::new())
            }
            Report::Trouble(trouble) => {
                self.trouble(trouble);
                Ok(Vec::new())
            }
            Report::Restarted(trouble) => {
                self.hub.worker_restarted();
                self.trouble(trouble);
                Ok(Vec::new())
            }
            Report::Ended => Err(io::Error::other(
                "the process that enters tasks' network namespaces ended unexpectedly",
            )),
        }
    }

    /// Watches for the cgroup of the tasks to come and go, where that matters.
    fn watch_task_cgroup(&mut self, reconciler: &Reconciler) -> io::Result<()> {
        let directory = reconciler.task_cgroup_directory();
        let watched = self.task_cgroup.as_ref();
        let watched = watched.and_then(|watch| watch.files().first());
        if watched != directory.as_ref() {
            self.task_cgroup = directory.map(Watch::of_directory).transpose()?;
        }
        Ok(())
    }

    /// The sentinel ran for too long without sleeping: it goes on like any other thread.
    fn demote(&mut self) {
        let Some(thread) = self.realtime.take() else {
            return;
        };
        let limit = sched::OVERRUN.as_millis();
        self.trouble(match sched::demote(thread) {
            Ok(()) => format!(
                "the sentinel ran for {limit} ms without a pause; it is a normal thread from now on, \
                 so that other programs get the processor"
            ),
            Err(error) => format!("take realtime scheduling from the sentinel: {error}"),
        });
    }

    fn notify(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.trouble(error.to_string());
        }
    }

    fn trouble(&mut self, trouble: String) {
        let event = self.reporter.trouble(trouble, Instant::now());
        self.record(event);
    }

    fn record(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.hub.record(event);
        }
    }

    fn held_back(&self) -> Option<schedule::Event> {
        self.reporter.due().map(schedule::Event::HeldBack)
    }
}

/// Waits for the running pass; for ever where none runs.
async fn ended(running: &mut Option<Running>) -> io::Result<(Reconciler, Outcome)> {
    match running {
        Some(running) => running.await.map_err(io::Error::other),
        None => std::future::pending().await,
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
