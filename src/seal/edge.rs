//! The edge in the kernel: `table netdev ecs_netguard`, with a chain for every interface by which a
//! packet can leave the machine.
//!
//! Owned and with a twin as the seal is, by a socket of its own: also the sentinel writes to it, as
//! interfaces come and go.

mod reading;
mod shared;
mod tables;
pub mod task;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use self::reading::{EdgeReading, look};
pub use self::shared::SharedEdge;
use self::tables::{FAMILY, Found, OWN, ROUTED, added, base, chains};
use super::abilities::is_unsupported;
use super::tables::{Change, Draft, TABLE};
use super::{ATTEMPTS, Error, Lacking, PROBE, failed, settle, supported_flags};
use crate::guarantee::EdgeRules;
use crate::guarantee::edge::{Interface, edges};
use crate::os::links::Interfaces;
use crate::os::nft::{self, Chain, CommitError, OWNER, PERSIST, RawRule, Socket};

/// What kernels before 5.16 lack.
const EGRESS: &str = "the egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS)";

/// The edge, kept through one socket.
#[derive(Debug)]
pub struct Edge {
    socket: Socket,
    /// What is not to be tried though this kernel may support it.
    lacking: Option<Lacking>,
    /// Those that this kernel supports; found out at the first table that is made.
    flags: Option<u32>,
    /// What this kernel was found to lack.
    lacks: Option<Problem>,
    /// What the tables were found to hold, or made to.
    held: Option<Held>,
}

/// What both tables hold.
#[derive(Debug)]
struct Held {
    rules: EdgeRules,
    /// The interfaces that have a chain, in the order of their numbers.
    at: Vec<Interface>,
}

/// Why the edge is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// This kernel cannot have one.
    #[error("{0}")]
    Unsupported(String),
    /// This attempt failed.
    #[error("{0}")]
    Failed(String),
}

/// What a look at the edge's tables, and a change of them, came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether anything had to be done.
    pub changed: bool,
    /// The tables that another program had altered or removed; there is none where they are made for
    /// the first time.
    pub altered: Vec<&'static str>,
}

impl Edge {
    /// Begins, with the socket that an earlier run of the daemon left where there is one.
    pub fn open(inherited: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            socket: match inherited {
                Some(fd) => Socket::from_fd(fd)?,
                None => Socket::open()?,
            },
            lacking: None,
            flags: None,
            lacks: None,
            held: None,
        })
    }

    /// The same edge as on a kernel that lacks this. One without owners is older than the egress hook.
    #[must_use]
    pub fn lacking(self, lacking: Option<Lacking>) -> Self {
        Self { lacking, ..self }
    }

    /// Forgets what this kernel was found not to support. False where nothing was found.
    pub fn retry_unsupported(&mut self) -> bool {
        let lacked = self.lacks.take().is_some();
        self.flags
            .take_if(|flags| *flags != OWNER | PERSIST)
            .is_some()
            || lacked
    }

    /// Whether any root process can change one of its tables.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.flags.is_some_and(|flags| flags != OWNER | PERSIST)
    }

    /// Makes the tables hold a chain for each interface by which packets leave, in one transaction; for
    /// nothing there are none. Packets counted so far stay counted.
    pub fn keep(&mut self, rules: &EdgeRules) -> Result<Kept, Problem> {
        let interfaces = listed()?;
        self.follow(rules, &interfaces)
    }

    /// The same for interfaces that are known already. A chain at an interface that is newer stays.
    ///
    /// To list the interfaces takes the kernel's lock on them (RTNL), which a program that makes an interface
    /// holds for milliseconds longer: by then it may have carried packets.
    pub fn follow(&mut self, rules: &EdgeRules, known: &[Interface]) -> Result<Kept, Problem> {
        if let Some(lacks) = self.lacks.as_ref().filter(|_| !rules.is_empty()) {
            return Err(lacks.clone());
        }
        if self.lacking == Some(Lacking::Owner) {
            let why = format!("this kernel does not support {EGRESS}");
            return Err(Problem::Unsupported(why));
        }
        let mut kept = Kept {
            changed: self.add_new(rules, known),
            ..Kept::default()
        };
        let held = self.held.take();
        if kept.changed && held.as_ref().is_some_and(|held| held.at == hooked(known)) {
            self.held = held;
            return Ok(kept);
        }
        let mut known = known.to_vec();
        let mut tried = None;
        for _ in 0..ATTEMPTS {
            let (generation, found) = Found::read(&mut self.socket).map_err(text)?;
            let flags = match rules.is_empty() {
                true => 0,
                false => self.flags().map_err(text)?,
            };
            let interfaces = found.interfaces_and(&known);
            let wanted = |table: &str| chains(table, rules, &interfaces);
            let draft = found.draft(wanted, flags, self.socket.port());
            let draft = draft.map_err(text)?;
            if draft.batch.is_empty() {
                self.held = Some(Held {
                    rules: rules.clone(),
                    at: hooked(&interfaces),
                });
                return Ok(kept);
            }
            match draft.batch.commit(&mut self.socket, Some(generation)) {
                // It is read back: a kernel may have accepted what it does not heed.
                Ok(()) => {
                    kept.changed = true;
                    kept.altered.extend(found.altered(rules, flags));
                }
                Err(CommitError::Stale) => {}
                // An interface may have gone meanwhile.
                Err(CommitError::Kernel { .. }) if tried.as_ref() != Some(&interfaces) => {
                    tried = Some(interfaces);
                    known = listed()?;
                }
                Err(CommitError::Kernel { source, .. }) => return Err(self.refused(source)),
            }
        }
        Err(text(failed(OWN, "write")(nft::Error::Stale)))
    }

    /// Adds the chains of those interfaces that have none, if that is known, without a look at the tables:
    /// their contents take the longer to read the more interfaces there are. False where nothing was added.
    fn add_new(&mut self, rules: &EdgeRules, known: &[Interface]) -> bool {
        let flags = self.flags;
        let held = self.held.as_mut().filter(|held| held.rules == *rules);
        let (Some(held), Some(flags)) = (held, flags) else {
            return false;
        };
        let mut new = hooked(known);
        new.retain(|interface| !held.at.iter().any(|at| at.index == interface.index));
        let draft = added(rules, &new, flags);
        let added = !draft.batch.is_empty() && draft.batch.commit(&mut self.socket, None).is_ok();
        if added {
            held.at.extend(new);
            held.at.sort_by_key(|at| at.index);
        }
        added
    }

    /// What the kernel's refusal means.
    fn refused(&mut self, source: io::Error) -> Problem {
        if !is_unsupported(&source) {
            return text(failed(OWN, "write")(source.into()));
        }
        let lacks = Problem::Unsupported(self.what_is_missing(&source));
        self.lacks.insert(lacks).clone()
    }

    /// Tries one after the other what the edge needs, each in a transaction that leaves nothing.
    fn what_is_missing(&mut self, refusal: &io::Error) -> String {
        let none = Chain {
            name: ROUTED.to_owned(),
            base: None,
            accepts: true,
            flags: 0,
            rules: Vec::new(),
        };
        let with = |rule: RawRule| Chain {
            rules: vec![rule],
            ..none.clone()
        };
        let at_lo = Chain {
            base: Some(base(TABLE, b"lo")),
            ..none.clone()
        };
        let needs = [
            (
                "nf_tables' family netdev (CONFIG_NF_TABLES_NETDEV)",
                none.clone(),
            ),
            (
                "the class of a socket (CONFIG_CGROUP_NET_CLASSID)",
                with(RawRule::accepting_sockets()),
            ),
            (
                "the realm of a route (CONFIG_IP_ROUTE_CLASSID)",
                with(RawRule::accepting_routed()),
            ),
            (EGRESS, at_lo),
        ];
        for (what, chain) in needs {
            let mut draft = Draft::default();
            let place = (FAMILY, PROBE, 0);
            draft.add(Change::Make, place, None, &[chain]);
            draft.add(Change::Remove, place, None, &[]);
            if let Err(CommitError::Kernel { source, .. }) =
                draft.batch.commit(&mut self.socket, None)
            {
                return format!("this kernel does not support {what}: {source}");
            }
        }
        format!("this kernel does not support what the edge needs: {refusal}")
    }

    fn flags(&mut self) -> Result<u32, Error> {
        if let Some(flags) = self.flags {
            return Ok(flags);
        }
        let allowed = match self.lacking {
            Some(Lacking::Persist) => OWNER,
            Some(Lacking::Owner) | None => OWNER | PERSIST,
        };
        let flags = supported_flags(&mut self.socket, FAMILY, allowed)?;
        Ok(*self.flags.insert(flags))
    }
}

impl AsFd for Edge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Removes both tables. Returns what was removed.
pub fn remove_all(socket: &mut Socket) -> Result<Vec<&'static str>, Error> {
    let removed = settle(socket, (OWN, "delete"), |socket| {
        let (generation, found) = Found::read(socket)?;
        let draft = found.draft(|_| Vec::new(), 0, socket.port())?;
        Ok((generation, draft, found.names()))
    });
    Ok(removed?.unwrap_or_default())
}

fn text(error: Error) -> Problem {
    Problem::Failed(error.to_string())
}

/// Those that get a chain, in the order of their numbers.
fn hooked(interfaces: &[Interface]) -> Vec<Interface> {
    let mut at: Vec<_> = edges(interfaces).into_iter().cloned().collect();
    at.sort_by_key(|interface| interface.index);
    at
}

/// The interfaces that there are now in the calling thread's network namespace.
fn listed() -> Result<Vec<Interface>, Problem> {
    let read = Interfaces::open().and_then(|mut interfaces| interfaces.read());
    read.map_err(unread)
}

fn unread(error: impl std::fmt::Display) -> Problem {
    Problem::Failed(format!("list the network interfaces: {error}"))
}
