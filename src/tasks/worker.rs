//! The process that goes into tasks' namespaces: one thread, one loop, no clock but for holding back.
//!
//! It looks at everything when the daemon says so, at what is new when the host's interfaces,
//! the namespaces known to the host, or Docker's handles change, and at one task when something
//! changed in its namespace. While nothing is wanted it waits for the daemon and hears nothing else.

mod repairs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use self::repairs::Repairs;
use super::discovery::{News, Survey};
use super::place::HANDLES;
use super::protocol::{Happened, Order, Told};
use super::task_netns::Wish;
use crate::os::channel::Channel;
use crate::os::inotify::Watches;
use crate::os::memory;
use crate::os::netns_events::{Event, NetnsEvents};
use crate::os::note::Note;
use crate::os::sched::cpu_time;
use crate::os::watch::existing;

/// How long changes on the host are gathered before new namespaces are looked for everywhere: to make an interface and
/// a bridge's port of it is several, and what is behind the agent's bridges is looked for at once. What a look is too
/// early for, the next one finds after a rest.
const GATHER: Duration = Duration::from_millis(2);

/// A handle is mounted a moment after its file was made, and no event reports the mount.
const MOUNTED: Duration = Duration::from_millis(50);

/// When a look that failed as a whole is tried again, since the interfaces may have changed during each reading,
/// or one at what is new and unclear.
const AGAIN: Duration = Duration::from_millis(200);

/// How long after a container's network namespace appears Docker may write down which container's it is.
const WRITTEN: Duration = Duration::from_secs(5);

/// How much longer than a look for new namespaces takes a processor the rest after it is, so that such looks take at
/// most a quarter of one. What a look waits for other programs that change interfaces does not count.
const REST: u32 = 3;

/// No such rest is longer: a task that starts meanwhile has no block.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Runs until the daemon is gone; says why the one before it `ended`. What it has in hand it notes, and the
/// namespaces that are aside it leaves alone.
pub fn run(
    channel: &Channel,
    ended: Option<String>,
    (in_hand, aside): (Note, BTreeSet<u64>),
) -> io::Result<()> {
    let mut survey = Survey::open()?.watched(in_hand, aside);
    if let Some(why) = ended {
        tell(channel, Told::Restarted(why))?;
    }
    loop {
        let Some(order) = hear(channel)? else {
            return Ok(());
        };
        if order.wish == Wish::Nothing {
            release(channel, &mut survey, order)?;
        } else if !Worker::open(channel, &mut survey, order)?.keep()? {
            return Ok(());
        }
    }
}

/// How long there is no other look for new namespaces after one that took so much of a processor.
fn rest_after(took: Duration) -> Duration {
    (took * REST).min(LONGEST_REST)
}

/// What there is to tell of a look that failed as a whole.
fn failed(error: io::Error) -> News {
    News {
        troubles: vec![format!("look for the network namespaces of tasks: {error}")],
        ..News::default()
    }
}

/// Takes out what the guard put into tasks' namespaces, and forgets them.
fn release(channel: &Channel, survey: &mut Survey, order: Order) -> io::Result<()> {
    let mut news = survey.pass(Wish::Nothing, true).unwrap_or_else(failed);
    for object in std::mem::take(&mut news.released) {
        tell(channel, Told::Happened(Happened::Released(object)))?;
    }
    for netns in survey.forget() {
        tell(channel, Told::Gone(netns))?;
    }
    complete(channel, order, news.troubles)
}

/// Tells the daemon. What is told is bounded, so that no task makes it too long.
fn tell(channel: &Channel, told: Told) -> io::Result<()> {
    channel.send(&told.bounded())
}

/// Waits for what the daemon says; `None` where it is gone. What makes no sense is a trouble.
fn hear(channel: &Channel) -> io::Result<Option<Order>> {
    loop {
        match channel.receive() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let trouble = format!("what the daemon said was not understood: {error}");
                tell(channel, Told::Happened(Happened::Trouble(trouble)))?;
            }
            heard => return heard,
        }
    }
}

fn complete(channel: &Channel, order: Order, troubles: Vec<String>) -> io::Result<()> {
    let number = order.number;
    tell(channel, Told::Complete { number, troubles })?;
    memory::give_back();
    Ok(())
}

/// What is heard and kept while something is wanted.
struct Worker<'a> {
    channel: &'a Channel,
    survey: &'a mut Survey,
    order: Order,
    /// Where what happens in other namespaces cannot be heard, why.
    elsewhere: Result<NetnsEvents, String>,
    handles: Watches,
    /// When what is new behind the agent's bridges is to be looked for.
    welcome: Option<Instant>,
    /// When new namespaces are to be looked for everywhere.
    search: Option<Instant>,
    /// Whether events were lost: the search is for changes in every namespace.
    lost: bool,
    /// Not before then.
    rest: Instant,
    /// Nor that behind the agent's bridges before then.
    welcome_rest: Instant,
    /// The namespaces to be looked into: since when, and which program changed something there.
    dirty: BTreeMap<u64, (Instant, Option<(u32, String)>)>,
    repairs: Repairs,
    /// The sandboxes of which nothing told yet whether they are tasks', and until when they are new.
    unsure: (BTreeSet<String>, Instant),
}

impl<'a> Worker<'a> {
    fn open(channel: &'a Channel, survey: &'a mut Survey, order: Order) -> io::Result<Self> {
        // Heard first, looked afterwards: nothing is missed in between.
        let elsewhere = NetnsEvents::listen().map_err(|error| {
            format!(
                "changes in tasks' network namespaces are seen at the next verification only: \
                 listening there (needs CAP_NET_BROADCAST): {error}"
            )
        });
        let handles = Watches::new()?;
        let mut worker = Self {
            channel,
            survey,
            order,
            elsewhere,
            handles,
            welcome: None,
            search: None,
            lost: false,
            rest: Instant::now(),
            welcome_rest: Instant::now(),
            dirty: BTreeMap::new(),
            repairs: Repairs::default(),
            unsure: (BTreeSet::new(), Instant::now()),
        };
        worker.watch();
        worker.look_at_everything()?;
        Ok(worker)
    }

    /// False where the daemon is gone, true where nothing is wanted any more: the order for that is
    /// carried out.
    fn keep(mut self) -> io::Result<bool> {
        loop {
            let due = self.due();
            if self.wait(due)? {
                let Some(order) = hear(self.channel)? else {
                    return Ok(false);
                };
                self.order = order;
                if order.wish == Wish::Nothing {
                    release(self.channel, self.survey, order)?;
                    return Ok(true);
                }
                self.look_at_everything()?;
            }
            self.hear()?;
            self.tend()?;
            let now = Instant::now();
            let search = self.search.is_some_and(|due| due.max(self.rest) <= now);
            if self.welcome.take_if(|due| search || *due <= now).is_some() {
                self.welcome()?;
            }
            if search {
                self.look(self.lost)?;
            }
        }
    }

    /// When there is something to do though nothing happens.
    fn due(&self) -> Option<Instant> {
        let search = self.search.map(|due| due.max(self.rest));
        let rests = self.dirty.keys().map(|inode| self.rest_of(*inode));
        rests.chain(search).chain(self.welcome).min()
    }

    fn rest_of(&self, inode: u64) -> Instant {
        let began = self.dirty.get(&inode).map(|(since, _)| *since);
        let rest = self.repairs.rest(inode);
        rest.max(began).unwrap_or(self.rest)
    }

    /// Waits for something to happen; true where the daemon said something.
    fn wait(&mut self, due: Option<Instant>) -> io::Result<bool> {
        let closing = self.survey.close(Instant::now());
        let due = due.into_iter().chain(closing).min();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![
            readable(self.channel.as_fd()),
            readable(self.handles.as_fd()),
        ];
        if let Ok(elsewhere) = &self.elsewhere {
            fds.extend(elsewhere.fds().map(readable));
        }
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        match ppoll(&mut fds, left.map(TimeSpec::from), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.first().and_then(PollFd::any).unwrap_or(false))
    }

    /// Takes note of what happened.
    fn hear(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let events = match &mut self.elsewhere {
            Ok(elsewhere) => elsewhere.drain()?,
            Err(_) => Vec::new(),
        };
        for event in events {
            let (nsid, by) = match event {
                Event::Host => {
                    self.welcome.get_or_insert(now.max(self.welcome_rest));
                    self.search.get_or_insert(now + GATHER);
                    continue;
                }
                Event::Lost => {
                    self.lost = true;
                    self.search.get_or_insert(now);
                    continue;
                }
                Event::Network(nsid) => (nsid, None),
                Event::Commit(nsid, commit) => (nsid, Some((commit.pid, commit.comm))),
            };
            if let Some(inode) = self.survey.numbered(nsid) {
                let dirty = self.dirty.entry(inode).or_insert((now, None));
                dirty.1 = by
                    .filter(|(pid, _)| *pid != std::process::id())
                    .or(dirty.1.take());
            }
        }
        if self.handles.drain()? {
            self.watch();
            self.search.get_or_insert(now + MOUNTED);
        }
        Ok(())
    }

    /// Watches the directories of handles, or what is there of the way to them.
    fn watch(&self) {
        for directory in HANDLES.iter().filter_map(|path| existing(Path::new(path))) {
            // What is not heard, the daemon's looks at everything find.
            let _unheard = self.handles.entered(directory);
        }
    }

    /// Looks into the namespaces in which something changed.
    fn tend(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let inodes: Vec<u64> = self.dirty.keys().copied().collect();
        for inode in inodes {
            if self.rest_of(inode) > now {
                continue;
            }
            let Some((since, by)) = self.dirty.remove(&inode) else {
                continue;
            };
            let mut news = News::default();
            let began = Instant::now();
            if self.survey.tend(inode, self.order.wish, &mut news).is_err() {
                // It may be gone; a look for what is new and gone will tell.
                self.search.get_or_insert(now + GATHER);
            }
            for repair in &mut news.repairs {
                repair.took += began.duration_since(since);
            }
            self.tell(news, by.as_ref(), began.elapsed())?;
        }
        Ok(())
    }

    fn look_at_everything(&mut self) -> io::Result<()> {
        let mut troubles = self.look(true)?;
        troubles.extend(self.elsewhere.as_ref().err().cloned());
        for happened in self.repairs.counted() {
            tell(self.channel, Told::Happened(happened))?;
        }
        complete(self.channel, self.order, troubles)
    }

    /// Looks for new tasks where they appear. What goes wrong is left to the search, which follows.
    fn welcome(&mut self) -> io::Result<()> {
        let (began, used) = (Instant::now(), cpu_time());
        let news = self.survey.welcome(self.order.wish);
        self.tell(news, None, began.elapsed())?;
        // Half a processor at the most: these looks are short, and the first of two mostly comes too early.
        self.welcome_rest = Instant::now() + cpu_time().saturating_sub(used);
        Ok(())
    }

    fn look(&mut self, every: bool) -> io::Result<Vec<String>> {
        let (began, used) = (Instant::now(), cpu_time());
        let passed = self.survey.pass(self.order.wish, every);
        self.search = passed.is_err().then(|| began + AGAIN);
        self.lost &= passed.is_err();
        let mut news = passed.unwrap_or_else(failed);
        let troubles = std::mem::take(&mut news.troubles);
        self.wonder(std::mem::take(&mut news.unsure));
        for netns in &news.gone {
            self.repairs.forget(*netns);
            self.dirty.remove(netns);
        }
        self.tell(news, None, began.elapsed())?;
        self.rest = Instant::now() + rest_after(cpu_time().saturating_sub(used));
        Ok(troubles)
    }

    /// Looks again at what is new and unclear: Docker writes down where a container's network namespace is only
    /// once it has started, and no event reports that.
    fn wonder(&mut self, unsure: BTreeSet<String>) {
        let now = Instant::now();
        let (known, until) = &mut self.unsure;
        if !unsure.is_subset(known) {
            *until = now + WRITTEN;
        }
        *known = unsure;
        if !known.is_empty() && now < *until {
            self.search.get_or_insert(now + AGAIN);
        }
    }

    fn tell(&mut self, news: News, by: Option<&(u32, String)>, took: Duration) -> io::Result<()> {
        for netns in news.gone {
            tell(self.channel, Told::Gone(netns))?;
        }
        for task in news.changed {
            tell(self.channel, Told::Task(task))?;
        }
        for repair in news.repairs {
            for happened in self.repairs.note(repair, by, took, Instant::now()) {
                tell(self.channel, Told::Happened(happened))?;
            }
        }
        for message in news.troubles.into_iter().chain(news.warnings) {
            tell(self.channel, Told::Happened(Happened::Trouble(message)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_task_waits_for_no_long_rest_however_long_a_look_took() {
        for (took, rests) in [(1, 3), (100, 300), (333, 999), (334, 1000), (20_000, 1000)] {
            let rest = rest_after(Duration::from_millis(took));
            assert_eq!(rest, Duration::from_millis(rests), "after {took} ms");
        }
    }
}
