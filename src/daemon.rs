//! The slow side: waits for a reason to look, takes a turn, says what happened, and tells the
//! sentinel what to keep.

mod changes;
mod passes;
mod signals;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tokio::sync::mpsc;

use self::changes::Changes;
use self::passes::{Cause, Guard};
use self::signals::{Signals, Wish};
use crate::config::settings::Backend as BackendChoice;
use crate::events;
use crate::events::drifts::Witness;
use crate::events::{Event, Kind};
use crate::inputs::InputPaths;
use crate::os::inherited::Inherited;
use crate::os::sched::{self, Scheduling};
use crate::os::watch::Watch;
use crate::seal::{Lacking, Seal};
use crate::sentinel::{Report, Sentinel};
use crate::status::hub::Hub;
use crate::systemd;
use crate::tasks::worker_client::{Report as OfTasks, WorkerClient};

/// The name under which systemd stores the seal's socket.
const SEAL: &str = "seal";

/// How many reports of the sentinel may wait. One is a few hundred bytes.
const REPORTS: usize = 1024;

/// How long after a turn its own last use of iptables-legacy's lock may still be told.
const OWN_USE: Duration = Duration::from_millis(100);

/// What the daemon was started with.
#[derive(Debug)]
pub struct Options {
    /// Where the inputs are.
    pub inputs: InputPaths,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// The backend, where the command line forces one.
    pub backend: Option<BackendChoice>,
    /// What of the kernel's abilities is not to be used.
    pub lacking: Option<Lacking>,
    /// Where what is found and what happens is put up.
    pub board: Arc<Hub>,
    /// The process that goes into tasks' namespaces; none where they are to be left alone.
    pub keeper: Option<WorkerClient>,
    /// What an operator should know of how the daemon was started.
    pub problem: Option<String>,
}

/// Runs until SIGTERM or SIGINT. The rules stay in place.
pub async fn run(mut options: Options, inherited: &mut Inherited) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    let watch = Watch::new(options.inputs.files())?;
    let (told, mut reports) = mpsc::channel(REPORTS);
    // A report that nobody has room for is lost; the next turn sees the last state anyway.
    let sentinel = Sentinel::start(move |report| drop(told.try_send(report)))?;
    let lacking = options.lacking;
    // Where nf_tables is not to be had every turn tries again, and says so.
    let seal = Seal::open(inherited.named(SEAL)).ok();
    let seal = seal.map(|seal| match lacking {
        Some(lacking) => seal.lacking(lacking),
        None => seal,
    });
    let mut listener = Listener::new(Arc::clone(&options.board));
    if let Some(problem) = inherited.problem() {
        listener.warn(problem);
    }
    if let Some(problem) = options.problem.take() {
        listener.warn(problem);
    }
    let (told, mut of_tasks) = mpsc::unbounded_channel();
    if let Some(keeper) = &options.keeper {
        // Where nobody hears it any more, the daemon is leaving.
        keeper.listen(move |report| drop(told.send(report)))?;
    }
    let mut guard = Guard::new(options, seal, sentinel);
    let mut cause = Cause::Start;
    let mut tasks = None;
    loop {
        // A turn waits for iptables; what the sentinel tells is heard meanwhile, while the processes
        // it tells of are still there.
        let may_repair = listener.may_repair(Instant::now());
        listener.own_use = None;
        let mut turn = tokio::task::spawn_blocking(move || {
            let taken = guard.turn(cause, may_repair);
            (guard, taken)
        });
        let taken;
        (guard, taken) = loop {
            tokio::select! {
                done = &mut turn => break done.map_err(io::Error::other)?,
                Some(report) = reports.recv() => listener.hear(report),
                Some(report) = of_tasks.recv() => listener.hear_of_tasks(report)?,
            }
        };
        // What is told of iptables-legacy's lock until then may be the turn's own doing.
        listener.own_use = Some(Instant::now() + OWN_USE);
        if taken {
            let (took, generation) = guard.last();
            let now = Instant::now();
            listener.changes.turn_ended(now, took, generation);
            if guard.again {
                listener.changes.noticed(None, now);
            }
        }
        listener.told(tell_systemd(cause, &mut guard));
        guard.rest();
        if let Err(error) = watch_tasks(&mut tasks, &guard) {
            listener.warn(error.to_string());
        }
        // Before it was watched, or during the turn.
        let moved = guard.task_cgroup_moved();
        cause = loop {
            let watchdog = systemd::watchdog_interval();
            let safety_net = watchdog.map_or(guard.interval(), |w| w.min(guard.interval()));
            tokio::select! {
                biased;
                wish = signals.next() => match wish {
                    Wish::Leave => {
                        listener.leave();
                        return systemd::stopping();
                    }
                    Wish::ReadAgain => break Cause::Hangup,
                    Wish::SlowDown => listener.slow_down(),
                },
                () = std::future::ready(()), if moved => break Cause::TaskCgroup,
                () = changed(tasks.as_ref()) => {
                    if guard.task_cgroup_moved() {
                        break Cause::TaskCgroup;
                    }
                }
                Some(report) = reports.recv() => listener.hear(report),
                Some(report) = of_tasks.recv() => listener.hear_of_tasks(report)?,
                () = watch.changed() => break Cause::Inputs,
                () = until(listener.changes.settles()) => break Cause::Changes,
                () = until(listener.witness.due()) => listener.sum_up(),
                () = tokio::time::sleep(safety_net) => {
                    if !guard.unchanged() {
                        break Cause::Interval;
                    }
                    guard.still_holds();
                    listener.told(systemd::watchdog());
                }
            }
        };
    }
}

/// Watches for the cgroup of the tasks to come and go, where that matters.
fn watch_tasks(watch: &mut Option<Watch>, guard: &Guard) -> io::Result<()> {
    let directory = guard.task_cgroup_directory();
    let watched = watch.as_ref().and_then(|watch| watch.files().first());
    if watched != directory.as_ref() {
        *watch = directory.map(Watch::of_directory).transpose()?;
    }
    Ok(())
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Readiness is told after the first proof, the watchdog fed after each.
fn tell_systemd(cause: Cause, guard: &mut Guard) -> io::Result<()> {
    // A socket that is not stored is no reason to be taken for not ready.
    let stored = guard.store_seal(SEAL);
    if matches!(cause, Cause::Start | Cause::Hangup) {
        systemd::ready()?;
    }
    systemd::watchdog()?;
    stored
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Hears what the sentinel tells.
#[derive(Debug)]
struct Listener {
    board: Arc<Hub>,
    changes: Changes,
    witness: Witness,
    /// The sentinel's thread, while it is a realtime one.
    realtime: Option<Pid>,
    /// Until when the visible layer is left alone, since somebody fights over it.
    pause: Option<Instant>,
    /// Until when a use of iptables-legacy's lock is taken for a turn's own; during a turn there is
    /// no end to it.
    own_use: Option<Instant>,
}

impl Listener {
    fn new(board: Arc<Hub>) -> Self {
        Self {
            board,
            changes: Changes::default(),
            witness: Witness::default(),
            realtime: None,
            pause: None,
            own_use: None,
        }
    }

    fn hear(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Began(Scheduling::Realtime, thread) => self.realtime = Some(thread),
            Report::Began(Scheduling::Normal { reason }, _) => self.warn(format!(
                "the sentinel is scheduled like any other thread: {reason}; a busy host delays its \
                 repairs"
            )),
            Report::Changed(generation) => self.changes.noticed(Some(generation), now),
            Report::LockUsed => {
                if self.own_use.is_some_and(|until| until <= now) {
                    self.changes.noticed(None, now);
                }
            }
            Report::Links => self.changes.noticed(None, now),
            Report::Displaced(displacement) => {
                self.changes.noticed(None, now);
                self.pause = displacement.pause.map(|p| p.until).or(self.pause);
                for event in self.witness.saw(&displacement, now) {
                    events::tell(&self.board, event);
                }
            }
            Report::Trouble(trouble) => self.warn(trouble),
        }
    }

    /// The daemon ends with the process that goes into tasks' namespaces: one that has lost it would
    /// go on and look alive. The rules stay, and systemd starts a whole daemon again.
    fn hear_of_tasks(&mut self, report: OfTasks) -> io::Result<()> {
        match report {
            OfTasks::Changed => self.changes.noticed(None, Instant::now()),
            OfTasks::Happened(event) => drop(events::tell(&self.board, *event)),
            OfTasks::Ended => {
                return Err(io::Error::other(
                    "the process that goes into tasks' network namespaces ended unexpectedly",
                ));
            }
        }
        Ok(())
    }

    fn sum_up(&mut self) {
        for event in self.witness.sum_up(Instant::now()) {
            events::tell(&self.board, event);
        }
    }

    fn warn(&self, message: impl Into<String>) {
        events::tell(&self.board, Event::new(Kind::Warning, message));
    }

    /// What systemd was told, or why not.
    fn told(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.warn(error.to_string());
        }
    }

    fn leave(&self) {
        let message = "leaving; the rules stay in place (`ecs-netguard release` removes them)";
        events::tell(&self.board, Event::new(Kind::Stopped, message));
    }

    fn may_repair(&self, now: Instant) -> bool {
        self.pause.is_none_or(|until| until <= now)
    }

    /// The sentinel ran for too long without sleeping: it goes on like any other thread.
    fn slow_down(&mut self) {
        let Some(thread) = self.realtime.take() else {
            return;
        };
        let limit = sched::OVERRUN.as_millis();
        match sched::demote(thread) {
            Ok(()) => self.warn(format!(
                "the sentinel ran for {limit} ms without a pause; it is a normal thread from now on, \
                 so that others get their turn"
            )),
            Err(error) => self.warn(format!("take realtime from the sentinel: {error}")),
        }
    }
}
