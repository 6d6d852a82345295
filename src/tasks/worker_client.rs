//! The daemon's side of the process that goes into tasks' namespaces: starting it, giving up what
//! only it needs, telling it what is wanted, hearing what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::model::{Task, Tasks};
use super::protocol::{Order, Told};
use super::supervisor::SUPERVISOR;
use super::task_events::Report;
use super::task_netns::Wish;
use crate::os::capabilities::{
    self, CAP_NET_BROADCAST, CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_PTRACE,
};
use crate::os::channel::Channel;
use crate::os::confine;
use crate::os::process;

/// How long a look at everything may take before the daemon goes on without its result.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process, from the daemon's side. It ends with the daemon, whose end of the channel it waits
/// at.
#[derive(Debug)]
pub struct WorkerClient {
    channel: Arc<Channel>,
    known: Arc<Known>,
    /// Why the last order could not be given.
    not_asked: Option<String>,
}

/// What is known of the tasks.
#[derive(Debug, Default)]
struct Known {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The last that was given.
    order: Order,
    tasks: BTreeMap<u64, Task>,
    /// Those of an earlier worker that the one that runs has not seen yet.
    unseen: BTreeSet<u64>,
    troubles: Vec<String>,
    /// The last order that was carried out.
    complete: u64,
    ended: bool,
}

impl WorkerClient {
    /// Starts the process. To be called while there is one thread: it ends with that one.
    pub fn start() -> io::Result<Self> {
        let (own, other) = Channel::pair()?;
        // Not waited for: it ends with this process, and its end is seen at the channel.
        let _child = Command::new("/proc/self/exe")
            .arg(SUPERVISOR)
            .env_clear()
            .stdin(Stdio::from(other.into_fd()))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self {
            channel: Arc::new(own),
            known: Arc::default(),
            not_asked: None,
        })
    }

    /// Begins to hear what it reports; what the daemon's loop has to know goes to `reports`.
    pub fn listen(&self, reports: mpsc::Sender<Report>) -> io::Result<()> {
        let (channel, known) = (Arc::clone(&self.channel), Arc::clone(&self.known));
        // This thread waits where the loop has no room, and the worker in turn: nothing is lost.
        let tell = move |report| drop(reports.blocking_send(report));
        let hear = move || {
            loop {
                match channel.receive::<Told>() {
                    Ok(Some(told)) => {
                        // A worker that begins anew has no orders. Where it is gone again the next one says so.
                        if let (Told::Restarted(_), Some(order)) = (&told, known.order()) {
                            let _gone = channel.send(&order);
                        }
                        if let Some(report) = known.learn(told) {
                            tell(report);
                        }
                    }
                    Ok(None) => break,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tell(Report::Trouble(format!(
                            "what the process that enters tasks' network namespaces said was not \
                             understood: {error}"
                        )));
                    }
                    Err(_) => break,
                }
            }
            known.lock().ended = true;
            known.news.notify_all();
            tell(Report::Ended);
        };
        thread::Builder::new()
            .name("tasks".to_owned())
            .spawn(hear)
            .map(drop)
    }

    /// Says what is wanted; with `look`, everything is looked at also if that is nothing new. Does not wait for it.
    pub fn want(&mut self, wish: Wish, look: bool) {
        let last = self.known.lock().order;
        let first = last.number == 0;
        // To find nothing to take out once is enough.
        let look = look && wish != Wish::Nothing;
        let asked = if first || look || wish != last.wish {
            self.ask(wish)
        } else {
            Ok(())
        };
        self.not_asked = asked
            .err()
            .map(|error| format!("ask the process that goes into tasks' namespaces: {error}"));
    }

    /// What is known once that is done, for which it waits.
    #[must_use]
    pub fn settled(&self) -> Tasks {
        let mut tasks = self.known.settled();
        tasks.unknown.extend(self.not_asked.clone());
        tasks
    }

    /// Has everything looked at, without waiting for it. Returns what is known so far; `None` where
    /// nothing is wanted.
    pub fn nudge(&mut self) -> Option<Tasks> {
        let wish = self.known.lock().order.wish;
        if wish == Wish::Nothing {
            return None;
        }
        // Where no receiver is left, the daemon's loop is notified.
        let _ended = self.ask(wish);
        Some(self.known.now())
    }

    fn ask(&mut self, wish: Wish) -> io::Result<()> {
        let order = {
            let mut state = self.known.lock();
            state.order = Order {
                number: state.order.number + 1,
                wish,
            };
            state.order
        };
        self.channel.send(&order)
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last order; `None` before the first, when nothing is known to be wanted or not.
    fn order(&self) -> Option<Order> {
        Some(self.lock().order).filter(|order| order.number > 0)
    }

    /// Takes note of what was reported; what the loop has to know of it.
    fn learn(&self, told: Told) -> Option<Report> {
        let mut state = self.lock();
        let changed = match told {
            Told::Task(task) => {
                let netns = task.netns?;
                state.unseen.remove(&netns);
                state.tasks.insert(netns, task);
                true
            }
            Told::Gone(netns) => state.tasks.remove(&netns).is_some(),
            Told::Complete { number, troubles } => {
                let unseen = std::mem::take(&mut state.unseen);
                state.tasks.retain(|netns, _| !unseen.contains(netns));
                let news = state.troubles != troubles || !unseen.is_empty();
                state.complete = number;
                state.troubles = troubles;
                self.news.notify_all();
                news
            }
            Told::Restarted(why) => {
                state.unseen = state.tasks.keys().copied().collect();
                return Some(Report::Restarted(format!(
                    "the process that enters tasks' network namespaces ended ({why}) and was started again"
                )));
            }
            Told::Happened(happened) => {
                let task = happened.netns().and_then(|netns| state.tasks.get(&netns));
                let task = task.cloned();
                drop(state);
                return Some(Report::Happened(Box::new(
                    happened.event(task.as_ref(), process::who),
                )));
            }
        };
        changed.then_some(Report::Changed)
    }

    /// What is known once the last order is carried out.
    fn settled(&self) -> Tasks {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        let number = state.order.number;
        while state.complete < number && !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let mut tasks = state.tasks();
                tasks.unknown.push(format!(
                    "the look at all network namespaces takes longer than {} s",
                    PATIENCE.as_secs()
                ));
                return tasks;
            }
            let waited = self.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.tasks()
    }

    fn now(&self) -> Tasks {
        self.lock().tasks()
    }
}

impl State {
    fn tasks(&self) -> Tasks {
        let mut tasks = Tasks {
            running: self.tasks.values().cloned().collect(),
            unknown: self.troubles.clone(),
        };
        if self.ended {
            let why = "the process that goes into tasks' namespaces has ended";
            tasks.unknown.push(why.to_owned());
        }
        tasks
    }
}

/// Gives up what only that process needs, and every way to more power than is left, for this process and all
/// that it starts. Returns what an operator should know where that could not be done whole.
pub fn give_up_powers() -> io::Result<Option<String>> {
    let given_up = [
        CAP_SYS_ADMIN,
        CAP_SYS_PTRACE,
        CAP_NET_BROADCAST,
        CAP_SETPCAP,
    ];
    let narrowed = capabilities::keep_only(|capability| !given_up.contains(&capability))?;
    confine::confine_daemon()?;
    Ok((!narrowed).then(|| {
        "without CAP_SETPCAP the bounding set keeps CAP_SYS_ADMIN, CAP_SYS_PTRACE and \
         CAP_NET_BROADCAST, which the programs that the daemon starts may get back"
            .to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Mode;
    use crate::verdict::Standing;

    fn task(netns: u64) -> Told {
        Told::Task(Task {
            id: netns.to_string(),
            mode: Mode::Awsvpc,
            netns: Some(netns),
            standing: Standing::Held,
            problems: Vec::new(),
            notes: Vec::new(),
            frames_stopped: true,
            powers: Vec::new(),
        })
    }

    fn complete() -> Told {
        Told::Complete {
            number: 1,
            troubles: Vec::new(),
        }
    }

    #[test]
    fn before_the_first_order_a_worker_that_begins_anew_is_given_none() {
        let known = Known::default();
        // `Wish::Nothing` would take out what an earlier daemon put into tasks' namespaces.
        assert_eq!(known.order(), None);
        let order = Order {
            number: 1,
            wish: Wish::Keep,
        };
        known.lock().order = order;
        assert_eq!(known.order(), Some(order));
    }

    #[test]
    fn tasks_are_known_until_a_worker_that_begins_anew_has_looked_for_them() {
        let known = Known::default();
        let running = |known: &Known| {
            let tasks = known.now().running.into_iter();
            tasks.filter_map(|task| task.netns).collect::<Vec<_>>()
        };
        known.learn(task(7));
        known.learn(task(8));
        let report = known.learn(Told::Restarted("signal: 9".to_owned()));
        assert!(
            matches!(&report, Some(Report::Restarted(why)) if why.contains("ended (signal: 9)")),
            "{report:?}"
        );
        assert_eq!(running(&known), [7, 8]);
        known.learn(task(8));
        assert_eq!(known.learn(complete()), Some(Report::Changed));
        assert_eq!(running(&known), [8]);
        assert_eq!(known.learn(complete()), None);
    }
}
