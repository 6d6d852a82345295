//! The seal: a native table that holds what no other program may change.
//!
//! The kernel lets only the socket that owns a table change it; everybody else gets EPERM, and
//! `nft flush ruleset` passes it by. What becomes of it when that socket closes depends on the
//! kernel: with the `persist` flag (since 6.9) it stays and anybody may delete it; before that it
//! vanishes, so that a second table, owned by nobody, holds the same drops; without the `owner` flag
//! (before 5.12) the only table is such a one. Flags are tried and read back, never assumed.

mod asked;
mod build;
mod found;
pub mod task;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use serde::Serialize;

pub use self::asked::{OpenChain, as_made, open_chains, standing};
pub use self::build::place;
use self::build::{build, new_table, plan_twin, remove};
use self::found::{Found, find};
use super::batch::{Batch, Refused};
use super::socket::Socket;
use crate::guarantee::NativeRule;

/// The table's name, in the family inet.
pub const TABLE: &str = "ecs_netguard";
/// The name of the table that stays where the kernel takes the owned one away with its socket.
pub const TWIN: &str = "ecs_netguard_twin";

/// A table that is made for a moment, to see what this kernel knows.
const PROBE: &str = "ecs_netguard_probe";

/// `NFT_TABLE_F_DORMANT`, `…_OWNER`, `…_PERSIST`.
const DORMANT: u32 = 1;
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// How often a change is tried again because somebody committed in between.
const ATTEMPTS: usize = 50;

/// Who may change the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Only this daemon; when it is gone the table stays.
    OwnedPersistent,
    /// Only this daemon; when it is gone the twin stays.
    Owned,
    /// Anybody: this kernel knows no owner. The sentinel guards it.
    Unowned,
}

/// What an older kernel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lacking {
    /// Before 6.9: an owned table goes with its socket.
    Persist,
    /// Before 5.12: nobody can own a table.
    Owner,
}

/// Why the seal is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or its nf_tables module is not there, or does not let us.
    #[error("nftables table inet {table}: {operation}: {source}")]
    Kernel {
        /// Which table.
        table: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another program owns a table of that name.
    #[error(
        "nftables table inet {TABLE} is owned by the netlink socket {port} of another process: stop \
         that process (`ss -f netlink -p` names it), or the ecs-netguard that it is"
    )]
    Taken {
        /// The owner's port.
        port: u32,
    },
}

/// What a look at the seal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The drops and redirections that are in force for certain: those of a table that is awake and
    /// holds exactly what it should. Empty where there is none.
    pub rules: Vec<NativeRule>,
    /// Who may change it; `None` where it is not there, or not whole.
    pub hold: Option<Hold>,
    /// Whether an owned table would leave nothing when its socket closes: the twin is not there, or
    /// not whole.
    pub twinless: bool,
    /// The port of the socket that owns it; 0 where none does.
    pub owner: u32,
    /// Packets stopped so far, for each drop.
    pub stopped: Vec<(NativeRule, u64)>,
}

/// The seal, kept through one socket.
#[derive(Debug)]
pub struct Seal {
    socket: Socket,
    /// The flags that this kernel takes; found out at the first table that is made.
    flags: Option<u32>,
    /// Why credentials are not redirected natively, where this kernel cannot.
    no_nat: Option<String>,
    /// Why the cgroup of a socket is not asked for, where this kernel cannot.
    no_cgroup: Option<String>,
}

impl Seal {
    /// Begins, with the socket that an earlier run of the daemon left where there is one.
    pub fn open(inherited: Option<OwnedFd>) -> io::Result<Self> {
        let socket = match inherited {
            Some(fd) => Socket::from_fd(fd)?,
            None => Socket::open()?,
        };
        Ok(Self {
            socket,
            flags: None,
            no_nat: None,
            no_cgroup: None,
        })
    }

    /// Why credentials are not redirected natively, where this kernel cannot.
    #[must_use]
    pub fn without_nat(&self) -> Option<&str> {
        self.no_nat.as_deref()
    }

    /// Why the cgroup of a socket is not asked for, where this kernel cannot (before 5.13).
    #[must_use]
    pub fn without_cgroup(&self) -> Option<&str> {
        self.no_cgroup.as_deref()
    }

    /// The same seal as on a kernel that lacks this: to see on a newer one what happens there.
    #[must_use]
    pub fn lacking(self, lacking: Lacking) -> Self {
        let flags = match lacking {
            Lacking::Persist => OWNER,
            Lacking::Owner => 0,
        };
        Self {
            flags: Some(flags),
            ..self
        }
    }

    /// Sees to it that the tables hold exactly `rules`, in one transaction; without rules there are
    /// none. Returns whether anything had to be done. Packets counted so far stay counted.
    ///
    /// `before_change` is called before anything is changed: the sentinel guards tables that nobody
    /// owns, and must not take this for somebody else's doing.
    pub fn keep(&mut self, rules: &[NativeRule], before_change: &dyn Fn()) -> Result<bool, Error> {
        let mut changed = false;
        let flags = match rules {
            [] => 0,
            _ => self.flags()?,
        };
        for _ in 0..ATTEMPTS {
            let wanted = self.possible(rules);
            let (generation, (own, twin)) = self
                .socket
                .steady(ATTEMPTS, |socket| {
                    Ok((find(socket, TABLE)?, find(socket, TWIN)?))
                })
                .map_err(kernel(TABLE, "read"))?;
            let mut batch = Batch::default();
            self.plan_own(&mut batch, flags, own.as_ref(), &wanted)?;
            plan_twin(&mut batch, twin.as_ref(), flags, &wanted);
            if batch.is_empty() {
                return Ok(changed);
            }
            before_change();
            match batch.commit(&mut self.socket, Some(generation)) {
                // What was taken is read back: a kernel may have taken it and not heeded it.
                Ok(()) => changed = true,
                Err(Refused::Stale) => {}
                // A kernel without NAT in this family: the drops are still to be had.
                Err(Refused::Kernel(error)) if wanted.iter().any(|rule| rule.hook.is_nat()) => {
                    self.no_nat = Some(error.to_string());
                }
                // It was not NAT, then: one that knows nothing of a socket's cgroup.
                Err(Refused::Kernel(error)) if wanted.iter().any(|rule| rule.cgroup.is_some()) => {
                    self.no_cgroup = Some(error.to_string());
                    self.no_nat = None;
                }
                Err(Refused::Kernel(error)) => return Err(kernel(TABLE, "write")(error)),
            }
        }
        let error = io::Error::other("it was changed again and again while it was being written");
        Err(kernel(TABLE, "write")(error))
    }

    fn possible(&self, rules: &[NativeRule]) -> Vec<NativeRule> {
        let possible = |rule: &&NativeRule| {
            (self.no_nat.is_none() || !rule.hook.is_nat())
                && (self.no_cgroup.is_none() || rule.cgroup.is_none())
        };
        rules.iter().filter(possible).cloned().collect()
    }

    /// The flags that this kernel takes and heeds: tried and read back, once.
    fn flags(&mut self) -> Result<u32, Error> {
        if let Some(flags) = self.flags {
            return Ok(flags);
        }
        for _ in 0..ATTEMPTS {
            if let Some(flags) = self.try_flags()? {
                return Ok(*self.flags.insert(flags));
            }
        }
        Err(kernel(TABLE, "make")(Refused::Stale.into()))
    }

    /// Tries them on the seal's own table where there is none, and leaves it there: after a table is
    /// deleted, whoever next closes a netlink socket waits for it to be gone, some 10 ms
    /// (nft_rcv_nl_event() in net/netfilter/nf_tables_api.c). Else on a table made for it. `None`
    /// where somebody else changed something meanwhile.
    fn try_flags(&mut self) -> Result<Option<u32>, Error> {
        let (generation, own) = self
            .socket
            .steady(ATTEMPTS, |socket| find(socket, TABLE))
            .map_err(kernel(TABLE, "read"))?;
        let table = if own.is_none() { TABLE } else { PROBE };
        for flags in [OWNER | PERSIST, OWNER] {
            let mut batch = Batch::default();
            new_table(&mut batch, table, flags);
            match batch.commit(&mut self.socket, Some(generation)) {
                Ok(()) => {}
                Err(Refused::Stale) => return Ok(None),
                Err(Refused::Kernel(error))
                    if matches!(
                        error.raw_os_error().map(Errno::from_raw),
                        Some(Errno::EOPNOTSUPP | Errno::EINVAL)
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(kernel(table, "make")(error.into())),
            }
            let found = find(&mut self.socket, table).map_err(kernel(table, "read"))?;
            if table == PROBE {
                let mut batch = Batch::default();
                remove(&mut batch, PROBE);
                batch
                    .commit(&mut self.socket, None)
                    .map_err(|error| kernel(PROBE, "delete")(error.into()))?;
            }
            return Ok(Some(found.map_or(0, |table| table.flags & flags)));
        }
        Ok(Some(0))
    }

    /// Adds what makes the owned table right.
    fn plan_own(
        &self,
        batch: &mut Batch,
        flags: u32,
        found: Option<&Found>,
        wanted: &[NativeRule],
    ) -> Result<(), Error> {
        let Some(table) = found else {
            build(batch, TABLE, flags, &[], wanted);
            return Ok(());
        };
        let mine = table.flags & OWNER != 0 && table.owner == self.socket.port();
        if table.owner != 0 && !mine {
            return Err(Error::Taken { port: table.owner });
        }
        let right = !wanted.is_empty() && table.holds(TABLE, wanted);
        let orphan = table.flags & OWNER != 0 && table.owner == 0;
        // As the trial of the flags left it.
        let bare = mine && table.chains.is_empty();
        if right && (mine || flags & OWNER == 0) {
            return Ok(());
        }
        if right && orphan {
            // It was left whole: it is adopted as it is.
            new_table(batch, TABLE, flags);
        } else if bare && table.flags == flags && !wanted.is_empty() {
            build(batch, TABLE, flags, &[], wanted);
        } else {
            remove(batch, TABLE);
            build(batch, TABLE, flags, &table.counted(wanted), wanted);
        }
        Ok(())
    }

    /// How the seal stands.
    pub fn standing(&mut self, rules: &[NativeRule]) -> Result<Standing, Error> {
        let wanted = self.possible(rules);
        standing(&mut self.socket, &wanted)
    }
}

impl AsFd for Seal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes both tables out. Tables that are not there are no error. Returns what was removed.
pub fn remove_all(socket: &mut Socket) -> Result<Vec<&'static str>, Error> {
    let mut removed = Vec::new();
    for table in [TABLE, TWIN] {
        for attempt in 0..ATTEMPTS {
            let generation = socket.generation().map_err(kernel(table, "read"))?;
            let Some(found) = find(socket, table).map_err(kernel(table, "read"))? else {
                break;
            };
            if found.flags & OWNER != 0 && found.owner != 0 && found.owner != socket.port() {
                return Err(Error::Taken { port: found.owner });
            }
            let mut batch = Batch::default();
            remove(&mut batch, table);
            match batch.commit(socket, Some(generation)) {
                Ok(()) => {
                    removed.push(table);
                    break;
                }
                Err(Refused::Stale) if attempt + 1 < ATTEMPTS => {}
                Err(Refused::Stale) => {
                    let error = io::Error::other("nf_tables changed again and again");
                    return Err(kernel(table, "delete")(error));
                }
                Err(Refused::Kernel(error)) => return Err(kernel(table, "delete")(error)),
            }
        }
    }
    Ok(removed)
}

fn kernel(table: &'static str, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Kernel {
        table,
        operation,
        source,
    }
}

fn drops(rules: &[NativeRule]) -> Vec<NativeRule> {
    let drops = rules.iter().filter(|rule| !rule.hook.is_nat());
    drops.cloned().collect()
}

/// The rules, and what of them is to be had where the kernel knows nothing of a socket's cgroup. Of
/// no rules nothing.
fn possible_on_older(rules: &[NativeRule]) -> Vec<Vec<NativeRule>> {
    let without = rules.iter().filter(|rule| rule.cgroup.is_none());
    let mut possible = vec![rules.to_vec(), without.cloned().collect()];
    possible.dedup();
    possible.retain(|rules| !rules.is_empty());
    possible
}
