//! The visible layer where it is kept by iptables-legacy.
//!
//! The kernel tells nobody of changes there; what can be heard is that somebody let go of the lock
//! that every iptables takes. Then the entries are read and compared, and where something is missing
//! `iptables-restore` is started and not waited for: its own letting go of the lock is the next
//! event. Until it is done, the seal keeps packets out.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use super::backoff::{Backoff, Pause};
use super::report::Displacement;
use crate::config::sanitize_message;
use crate::guarantee::Guarantee;
use crate::os::inotify::Watches;
use crate::os::iptables::Tool;
use crate::os::legacy::Tables;
use crate::plan::{Drift, DriftKind};
use crate::prove::Hook;
use crate::ruleset::Family;

/// The lock of every iptables since 1.8.0 (iptables(8), XTABLES_LOCKFILE).
const LOCK: &str = "/run/xtables.lock";

/// How often a running iptables-restore is looked at. It lets go of the lock just before it ends, so
/// that this event mostly comes too early to see the end.
const PATIENCE: Duration = Duration::from_millis(1);

/// A chain of iptables-legacy whose first rules are the guard's.
#[derive(Debug, Clone)]
pub struct LegacyChain {
    /// By which program it is put right.
    pub tool: Tool,
    /// The table.
    pub table: &'static str,
    /// The built-in chain.
    pub chain: &'static str,
    /// The same for the kernel.
    pub hook: Hook,
    /// The rules, in their order.
    pub rules: Vec<LegacyRule>,
    /// Whether the seal does the same.
    pub sealed: bool,
}

/// A rule of iptables-legacy.
#[derive(Debug, Clone)]
pub struct LegacyRule {
    /// Whose rule it is.
    pub guarantee: Guarantee,
    /// What it is, for a person.
    pub object: String,
    /// The rule in iptables' words.
    pub spec: String,
    /// As the kernel holds it.
    pub bytes: Vec<u8>,
}

type Key = (Family, &'static str, &'static str);

impl LegacyChain {
    const fn key(&self) -> Key {
        (self.tool.family, self.table, self.chain)
    }

    fn in_place(&self, held: &[Vec<u8>]) -> bool {
        let wanted = self.rules.iter().map(|rule| &rule.bytes);
        held.len() >= self.rules.len() && wanted.zip(held).all(|(wanted, held)| wanted == held)
    }

    fn drifts(&self, held: &[Vec<u8>]) -> Vec<Drift> {
        let wrong = |(place, rule): (usize, &LegacyRule)| {
            if held.get(place) == Some(&rule.bytes) {
                return None;
            }
            Some(Drift {
                guarantee: rule.guarantee,
                kind: if held.contains(&rule.bytes) {
                    DriftKind::Displaced
                } else {
                    DriftKind::Missing
                },
                object: rule.object.clone(),
            })
        };
        self.rules.iter().enumerate().filter_map(wrong).collect()
    }

    /// What iptables-restore is to be fed: every copy out, then the rules on top.
    fn input(&self, held: &[Vec<u8>]) -> String {
        use std::fmt::Write as _;
        let mut input = format!("*{}\n", self.table);
        let chain = self.chain;
        for rule in &self.rules {
            let copies = held.iter().filter(|bytes| **bytes == rule.bytes).count();
            for _ in 0..copies {
                let _infallible = writeln!(input, "-D {chain} {}", rule.spec);
            }
        }
        for (place, rule) in self.rules.iter().enumerate() {
            let _infallible = writeln!(input, "-I {chain} {} {}", place + 1, rule.spec);
        }
        input + "COMMIT\n"
    }
}

/// A repair under way.
#[derive(Debug)]
struct Repair {
    child: Child,
    /// Which of the chains.
    chain: usize,
    noticed: Instant,
    at: SystemTime,
    drifts: Vec<Drift>,
}

#[derive(Debug)]
pub(super) struct Legacy {
    lock: Watches,
    chains: Vec<LegacyChain>,
    tables: Vec<(Family, Tables)>,
    repair: Option<Repair>,
    fights: Backoff<Key>,
    troubles: Vec<String>,
}

impl AsFd for Legacy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Legacy {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            lock: Watches::new()?,
            chains: Vec::new(),
            tables: Vec::new(),
            repair: None,
            fights: Backoff::default(),
            troubles: Vec::new(),
        })
    }

    pub(super) fn take_on(&mut self, chains: Vec<LegacyChain>) {
        self.chains = chains;
        // A repair that is under way ends by itself; what it was for is no longer known.
        self.reap_in_background();
    }

    /// When there is something to look at though nothing happens.
    pub(super) fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let running = self.repair.as_ref().map(|_| now + PATIENCE);
        running.into_iter().chain(self.fights.next(now)).min()
    }

    /// What came up that cannot be done.
    pub(super) fn troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }

    /// Whether somebody let go of the lock since the last time.
    pub(super) fn lock_was_used(&self) -> bool {
        !self.chains.is_empty() && self.lock.drain().unwrap_or(true)
    }

    /// Looks, if there is a reason to, and puts right what it can.
    pub(super) fn look(
        &mut self,
        noticed: Instant,
        touched: bool,
        anyway: bool,
    ) -> Vec<Displacement> {
        if self.chains.is_empty() {
            return Vec::new();
        }
        if !touched && !anyway && self.repair.is_none() {
            return Vec::new();
        }
        // Watching it again is harmless, and needed where somebody has put another file there.
        if let Err(error) = self.lock.closed(Path::new(LOCK)) {
            self.troubles.push(format!(
                "watch {LOCK}: {error}; changes by iptables-legacy are seen at the next verification"
            ));
        }
        let mut told = Vec::new();
        if let Some(ended) = self.repair_ended() {
            told.extend(ended);
        }
        if self.repair.is_none() {
            told.extend(self.begin_repair(noticed));
        }
        told
    }

    /// The result of the repair under way, once it has ended.
    fn repair_ended(&mut self) -> Option<Option<Displacement>> {
        let repair = self.repair.as_mut()?;
        let status = match repair.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => Ok(status),
            Err(error) => Err(error),
        };
        let mut repair = self.repair.take()?;
        let chain = self.chains.get(repair.chain)?.clone();
        let mut said = String::new();
        if let Some(stderr) = &mut repair.child.stderr {
            // What it wrote fits into the pipe, and it has ended.
            let _nothing_said = stderr.read_to_string(&mut said);
        }
        let repaired = match status {
            Ok(status) if status.success() => Ok(repair.noticed.elapsed()),
            Ok(status) => Err(format!(
                "{}-restore: {status}: {}",
                chain.tool.path,
                sanitize_message(&said)
            )),
            Err(error) => Err(format!("{}-restore: {error}", chain.tool.path)),
        };
        let pause = self.pause(&chain, repair.noticed);
        Some(Some(Displacement {
            at: repair.at,
            drifts: repair.drifts,
            // Many may have used the lock; which of them changed something nobody tells.
            by: None,
            repaired,
            sealed: chain.sealed,
            pause,
        }))
    }

    fn pause(&mut self, chain: &LegacyChain, now: Instant) -> Option<Pause> {
        if chain.sealed {
            self.fights.repaired(&chain.key(), None, now)
        } else {
            None
        }
    }

    /// Starts to put right the first chain that is not. What could not even be started is told.
    fn begin_repair(&mut self, noticed: Instant) -> Option<Displacement> {
        for index in 0..self.chains.len() {
            let chain = self.chains.get(index)?.clone();
            if chain.sealed && self.fights.paused(&chain.key(), noticed) {
                continue;
            }
            let held = match self.held(&chain, chain.rules.len()) {
                Ok(held) if chain.in_place(&held) => continue,
                Ok(_) => self.held(&chain, usize::MAX),
                Err(error) => Err(error),
            };
            let held = match held {
                Ok(held) => held,
                Err(error) => {
                    self.troubles
                        .push(format!("{error}; it is looked at again later"));
                    continue;
                }
            };
            let drifts = chain.drifts(&held);
            if drifts.is_empty() {
                continue;
            }
            let at = SystemTime::now();
            match chain.tool.begin_restore(&chain.input(&held)) {
                Ok(child) => {
                    self.repair = Some(Repair {
                        child,
                        chain: index,
                        noticed,
                        at,
                        drifts,
                    });
                    return None;
                }
                Err(error) => {
                    return Some(Displacement {
                        at,
                        drifts,
                        by: None,
                        repaired: Err(error.to_string()),
                        sealed: chain.sealed,
                        pause: None,
                    });
                }
            }
        }
        None
    }

    /// The first entries of a chain; none where its table does not exist.
    fn held(&mut self, chain: &LegacyChain, limit: usize) -> io::Result<Vec<Vec<u8>>> {
        let family = chain.tool.family;
        let known = self.tables.iter().position(|(known, _)| *known == family);
        let index = match known {
            Some(index) => index,
            None => {
                self.tables.push((family, Tables::open(family)?));
                self.tables.len() - 1
            }
        };
        let Some((_, tables)) = self.tables.get_mut(index) else {
            return Ok(Vec::new());
        };
        let held = tables.chain(chain.table, chain.hook, limit)?;
        Ok(held.unwrap_or_default())
    }

    /// Lets go of a repair under way without losing its process.
    fn reap_in_background(&mut self) {
        if let Some(mut repair) = self.repair.take() {
            std::thread::spawn(move || {
                let _ended = repair.child.wait();
            });
        }
    }
}
