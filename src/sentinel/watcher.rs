//! The thread: what it waits for, and what it does when it wakes up.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use super::backoff::Backoff;
use super::chains::{Found, Hand};
use super::edge::Follower;
use super::orders::{Order, Orders};
use super::report::Report;
use crate::events::Displacement;
use crate::os::inotify::Watches;
use crate::os::links::{Link, LinkChange, Links};
use crate::os::nft::{ChainName, Commit, Commits};
use crate::os::poll::{Waiter, Waker};
use crate::os::sysctl::RouteLocalnet;
use crate::os::{process, sched};
use crate::plan::{Drift, DriftKind};
use crate::seal;
use crate::seal::edge::SharedEdge;

type Tell = Box<dyn Fn(Report) + Send>;

/// The lock of every iptables-legacy since 1.8.0 (iptables(8), XTABLES_LOCKFILE).
const LOCK: &str = "/run/xtables.lock";

pub(super) struct Watcher {
    inbox: mpsc::Receiver<Order>,
    waker: Waker,
    tell: Tell,
    waiter: Waiter,
    /// `None` where this kernel has no nf_tables.
    nftables: Option<(Commits, Hand)>,
    links: Links,
    edge: Follower,
    sysctls: Watches,
    orders: Orders,
    open: Vec<RouteLocalnet>,
    lock: Watches,
    fights: Backoff<ChainName>,
    /// Until when the slow side changes the visible layer.
    held: Option<Instant>,
    /// Until when it changes the seal.
    native_held: Option<Instant>,
    /// When everything is to be looked at again though nothing happens.
    due: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(
        inbox: mpsc::Receiver<Order>,
        waker: Waker,
        tell: Tell,
        edge: SharedEdge,
    ) -> io::Result<Self> {
        let waiter = Waiter::new()?;
        let links = Links::open()?;
        let interfaces = links.interfaces();
        let sysctls = Watches::new()?;
        let lock = Watches::new()?;
        waiter.add(&waker)?;
        waiter.add(&links)?;
        waiter.add(&sysctls)?;
        waiter.add(&lock)?;
        let mut watcher = Self {
            inbox,
            waker,
            tell,
            waiter,
            nftables: None,
            links,
            edge: Follower::new(edge, interfaces),
            sysctls,
            orders: Orders::default(),
            open: Vec::new(),
            lock,
            fights: Backoff::default(),
            held: None,
            native_held: None,
            due: None,
        };
        match Commits::listen().and_then(|commits| Ok((commits, Hand::open()?))) {
            Ok((commits, hand)) => {
                watcher.waiter.add(&commits)?;
                watcher.nftables = Some((commits, hand));
            }
            Err(error) => watcher.trouble(format!(
                "listen to nf_tables: {error}; changes are seen at the next verification"
            )),
        }
        Ok(watcher)
    }

    pub(super) fn run(mut self) {
        (self.tell)(Report::Began(sched::realtime(), nix::unistd::gettid()));
        loop {
            let limit = self.limit();
            if let Err(error) = self.waiter.wait(limit) {
                self.trouble(format!("wait: {error}; the sentinel ends"));
                return;
            }
            let noticed = Instant::now();
            let (mut look, leave) = self.hear_orders();
            if leave {
                return;
            }
            let commits = self.hear_commits(&mut look);
            // First, since a new interface may carry packets already.
            self.look_at_links(noticed);
            if look {
                self.look(author(&commits), noticed);
            }
            if !commits.is_empty() {
                let report = self.edge.committed(author(&commits), noticed);
                report.into_iter().for_each(&self.tell);
            }
            self.look_at_sysctls(noticed);
            self.look_at_lock();
            if let Some(commit) = commits.last() {
                (self.tell)(Report::Changed(commit.generation));
            }
        }
    }

    /// How long there is nothing to do if nothing happens.
    fn limit(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let holds = self.held.into_iter().chain(self.native_held);
        self.due = holds.chain(self.fights.next(now)).min();
        Some(self.due?.saturating_duration_since(now))
    }

    /// Whether to look at everything, and whether to leave.
    fn hear_orders(&mut self) -> (bool, bool) {
        self.waker.clear();
        let now = Instant::now();
        let mut look = self.due.is_some_and(|due| due <= now);
        self.held.take_if(|until| *until <= now);
        self.native_held.take_if(|until| *until <= now);
        while let Ok(order) = self.inbox.try_recv() {
            match order {
                Order::Keep(orders) => {
                    (self.held, self.native_held) = (None, None);
                    self.take_on(*orders);
                    self.watch_lock();
                    look = true;
                }
                Order::Hold(until) => self.held = Some(until),
                Order::HoldNative(until) => self.native_held = Some(until),
                Order::KeepNative(native) => {
                    self.native_held = None;
                    let visible = self.orders.chains.extract_if(.., |chain| !chain.whole);
                    self.orders.chains = native.into_iter().chain(visible).collect();
                    look = true;
                }
                Order::Resume => {
                    (self.held, self.native_held) = (None, None);
                    self.watch_lock();
                    look = true;
                }
                Order::Leave => return (false, true),
            }
        }
        (look, false)
    }

    fn take_on(&mut self, orders: Orders) {
        self.orders = orders;
        self.open.clear();
        for interface in self.orders.route_localnet.clone() {
            self.watch_sysctl(&interface);
        }
    }

    fn watch_sysctl(&mut self, interface: &str) {
        if self.open.iter().any(|open| open.interface == interface) {
            return;
        }
        match RouteLocalnet::open(interface) {
            Ok(open) => {
                if let Err(error) = self.sysctls.written(&open.path()) {
                    let path = open.path();
                    self.trouble(format!(
                        "watch {}: {error}; changes are seen at the next verification",
                        path.display()
                    ));
                }
                self.open.push(open);
            }
            // The interface went away meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// Watching the lock again is harmless, and needed where another file has taken its place.
    fn watch_lock(&mut self) {
        if !self.orders.legacy {
            return;
        }
        match self.lock.used(Path::new(LOCK)) {
            // iptables-legacy has not run since the boot, also not for the guard.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.trouble(format!(
                "watch {LOCK}: {error}; changes by iptables-legacy are noticed at the next verification"
            )),
            Ok(()) => {}
        }
    }

    /// The commits of others; sets `look` where there were any, or where some were lost.
    fn hear_commits(&mut self, look: &mut bool) -> Vec<Commit> {
        let Some((commits, hand)) = &mut self.nftables else {
            return Vec::new();
        };
        match commits.drain() {
            Ok(mut heard) => {
                if heard.lost {
                    // What was lost is not known: the last state is what counts.
                    hand.generation = 0;
                    *look = true;
                } else if let Some(last) = heard.commits.last() {
                    hand.generation = last.generation;
                }
                heard.commits.retain(|commit| commit.port != hand.port());
                *look |= !heard.commits.is_empty();
                heard.commits
            }
            Err(error) => {
                self.trouble(format!(
                    "hear of commits to nf_tables: {error}; changes are seen at the next \
                     verification"
                ));
                Vec::new()
            }
        }
    }

    /// Looks at the chains and repairs them. While the slow side changes the visible layer it looks
    /// at the seal's alone, and the other way round.
    fn look(&mut self, by: Option<&Commit>, noticed: Instant) {
        let Some((_, hand)) = self.nftables.as_mut() else {
            return;
        };
        let (mut displaced, mut troubles) = (Vec::new(), Vec::new());
        // An un-owned seal that went with the rest did not hold meanwhile. Its chains come first.
        let mut seal_fell = false;
        for chain in &self.orders.chains {
            let visible = !chain.whole;
            let held = if visible { self.held } else { self.native_held };
            if held.is_some() {
                continue;
            }
            let paused = visible && chain.sealed && self.fights.paused(&chain.name, noticed);
            let found = match hand.keep(chain, !paused) {
                Ok(found) => found,
                Err(error) => {
                    hand.generation = 0;
                    troubles.push(format!(
                        "read {} {}: {error}; it is looked at again at the next change",
                        chain.name.table, chain.name.chain
                    ));
                    continue;
                }
            };
            let (drifts, repaired) = match found {
                Found::Right | Found::Left => continue,
                Found::Repaired(drifts) => (drifts, Ok(noticed.elapsed())),
                Found::Failed(drifts, why) => (drifts, Err(why)),
            };
            seal_fell |= chain.whole && chain.name.table == seal::TABLE;
            let comm = by.map(|commit| commit.comm.as_str());
            let pause = if visible && chain.sealed {
                self.fights.repaired(&chain.name, comm, noticed)
            } else {
                None
            };
            gather(
                &mut displaced,
                Displacement {
                    at: SystemTime::now(),
                    drifts,
                    by: None,
                    repaired,
                    sealed: Some(chain.sealed && !seal_fell),
                    held: false,
                    paused: pause
                        .and_then(|p| Some((chain.name.in_iptables()?, p)))
                        .into_iter()
                        .collect(),
                },
            );
        }
        if !displaced.is_empty() {
            // After the repair, which does not wait for it, and at once: the process may be about to
            // end.
            let by = by.map(|commit| process::who(commit.pid, &commit.comm));
            for displacement in displaced {
                let by = by.clone();
                let displacement = Box::new(Displacement { by, ..displacement });
                (self.tell)(Report::Displaced(displacement));
            }
        }
        for trouble in troubles {
            self.trouble(trouble);
        }
    }

    fn look_at_links(&mut self, noticed: Instant) {
        let changes = match self.links.drain() {
            Ok(changes) => changes,
            Err(error) => {
                self.trouble(format!(
                    "hear of network interfaces: {error}; new ones are seen at the next \
                     verification"
                ));
                return;
            }
        };
        if changes.is_empty() {
            return;
        }
        let interfaces = self.links.interfaces();
        let report = self.edge.changed(&changes, interfaces, noticed);
        report.into_iter().for_each(&self.tell);
        let mut matters = false;
        for change in &changes {
            match change {
                LinkChange::Appeared(link) => {
                    if is_bridge(link) {
                        matters = true;
                        let wanted = self.orders.bridges.iter();
                        if wanted.clone().any(|pattern| pattern.fits(&link.name)) {
                            self.watch_sysctl(&link.name);
                        }
                    }
                }
                LinkChange::Gone(link) => {
                    if is_bridge(link) {
                        matters = true;
                        self.open.retain(|open| open.interface != link.name);
                    }
                }
                // A sysctl that is set by netlink comes as this.
                LinkChange::Changed(_) => {}
                LinkChange::Lost => matters = true,
            }
        }
        if matters {
            self.look_at_sysctls(noticed);
            (self.tell)(Report::Links);
        }
    }

    /// Asks every sysctl, whatever woke the thread: it is cheap, and notifications can go missing.
    fn look_at_sysctls(&mut self, noticed: Instant) {
        let written = self.sysctls.drain();
        if self.held.is_some() {
            return;
        }
        let mut troubles = Vec::new();
        if let Err(error) = written {
            troubles.push(format!("hear of writes to sysctls: {error}"));
        }
        for open in &self.open {
            let kept = match open.keep() {
                Ok(None) => continue,
                Err(error) if error.is_not_found() => continue,
                kept => kept,
            };
            (self.tell)(Report::Displaced(Box::new(Displacement {
                at: SystemTime::now(),
                drifts: vec![Drift::route_localnet(
                    DriftKind::Missing,
                    &open.interface,
                    "1",
                )],
                // The kernel does not report which program writes to a sysctl.
                by: None,
                repaired: match kept {
                    Ok(_) => Ok(noticed.elapsed()),
                    Err(error) => Err(error.to_string()),
                },
                sealed: Some(false),
                held: false,
                paused: Vec::new(),
            })));
        }
        for trouble in troubles {
            self.trouble(trouble);
        }
    }

    /// iptables-legacy reports no change; each of its programs that may make one opens and closes the
    /// lock.
    fn look_at_lock(&mut self) {
        match self.lock.drain() {
            Ok(false) => {}
            Ok(true) => (self.tell)(Report::LockUsed),
            Err(error) => self.trouble(format!(
                "read inotify events of {LOCK}: {error}; changes by iptables-legacy are noticed at the \
                 next verification"
            )),
        }
    }

    fn trouble(&self, trouble: String) {
        (self.tell)(Report::Trouble(trouble));
    }
}

/// What one commit displaced in several chains is one displacement, repaired when the last of them
/// was.
fn gather(displaced: &mut Vec<Displacement>, next: Displacement) {
    let same = displaced.iter_mut().find(|known| {
        known.sealed == next.sealed && known.repaired.is_ok() && next.repaired.is_ok()
    });
    match same {
        Some(known) => {
            known.drifts.extend(next.drifts);
            known.repaired = next.repaired;
            known.paused.extend(next.paused);
        }
        None => displaced.push(next),
    }
}

fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// Which program is to be named: the last, if all that were heard together have one name. Of several programs
/// which it was is not known.
fn author(commits: &[Commit]) -> Option<&Commit> {
    let last = commits.last()?;
    commits
        .iter()
        .all(|commit| commit.comm == last.comm)
        .then_some(last)
}
