//! The seal: native tables that hold what no other program may change.
//!
//! The kernel lets only the socket that owns a table change it; everybody else gets EPERM, and
//! `nft flush ruleset` skips it. What becomes of it when that socket closes depends on the kernel:
//! with the `persist` flag (since 6.9) it remains and anybody may delete it; before that it vanishes,
//! so that a second table, without an owner, holds the same drops; without the `owner` flag (before
//! 5.12) the only table is such a one. Flags are tried and read back, never assumed.

mod abilities;
pub mod edge;
mod reading;
mod state;
mod tables;
pub mod task;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::abilities::{Lacks, is_unsupported};
pub use self::reading::{OpenChain, SealReading, look, open_chains};
pub use self::state::SealState;
use self::tables::{Draft, FAMILY, chains, change, drops};
pub use self::tables::{TABLE, TWIN, place};
use crate::guarantee::NativeRule;
use crate::os::nft::{self, Batch, CommitError, OWNER, PERSIST, Proto, Socket, Table};

/// A table that is made for a moment, to learn what this kernel supports.
const PROBE: &str = "ecs_netguard_probe";

/// The owned table.
const OWN: (Proto, &str) = (FAMILY, TABLE);

/// How often a change is tried again because of another commit in between.
const ATTEMPTS: usize = 50;

/// What an older kernel lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lacking {
    /// Before 6.9: an owned table goes with its socket.
    Persist,
    /// Before 5.12: no socket can own a table.
    Owner,
}

/// Why the seal is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or nf_tables changed again and again.
    #[error("nftables table {family} {table}: {operation}: {source}")]
    Kernel {
        /// The table's family.
        family: &'static str,
        /// Which table.
        table: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: nft::Error,
    },
    /// Another process owns a table of that name.
    #[error(
        "nftables table {family} {TABLE} is owned by the netlink socket {port} of another process: stop \
         that process (`ss -f netlink -p` names it), or the ecs-netguard that it is"
    )]
    Taken {
        /// The table's family.
        family: &'static str,
        /// The owner's port.
        port: u32,
    },
}

impl Error {
    /// Whether this kernel has no nf_tables.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Kernel { source: nft::Error::Kernel(error), .. } if is_unsupported(error))
    }
}

/// What happens around a change of the tables: the sentinel, which guards tables that anybody may
/// change, must not take it for another program's.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Called before anything is changed.
    pub before: &'a dyn Fn(),
    /// Called afterwards, also where the change failed; not called where nothing was to be changed.
    pub after: &'a dyn Fn(),
}

impl Around<'_> {
    /// For a host without a sentinel.
    pub const NOTHING: Self = Self {
        before: &|| {},
        after: &|| {},
    };
}

/// The seal, kept through one socket.
#[derive(Debug)]
pub struct Seal {
    socket: Socket,
    /// The flags that may be tried.
    allowed: u32,
    /// Those that this kernel supports; found out at the first table that is made.
    flags: Option<u32>,
    lacks: Lacks,
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
            allowed: OWNER | PERSIST,
            flags: None,
            lacks: Lacks::default(),
        })
    }

    /// The same seal as on a kernel that lacks this: to see on a newer one what happens there.
    #[must_use]
    pub fn lacking(self, lacking: Lacking) -> Self {
        let allowed = match lacking {
            Lacking::Persist => OWNER,
            Lacking::Owner => 0,
        };
        Self { allowed, ..self }
    }

    /// Forgets what this kernel was found not to support, so that the next [`Seal::keep`] tries it
    /// again: a module may have been loaded since. False where nothing was found.
    pub fn retry_unsupported(&mut self) -> bool {
        let lacked = std::mem::take(&mut self.lacks) != Lacks::default();
        self.flags.take_if(|flags| *flags != self.allowed).is_some() || lacked
    }

    /// What is lost of these rules because this kernel does not support it, with the consequence.
    #[must_use]
    pub fn unsupported(&self, rules: &[NativeRule]) -> Option<String> {
        self.lacks.consequence(rules)
    }

    /// Makes the tables hold exactly `rules`, in one transaction; without rules there are none.
    /// Returns whether anything had to be done. Packets counted so far stay counted.
    pub fn keep(&mut self, rules: &[NativeRule], around: Around<'_>) -> Result<bool, Error> {
        let mut begun = false;
        let result = self.bring_about(rules, &mut || {
            begun = true;
            (around.before)();
        });
        if begun {
            (around.after)();
        }
        result
    }

    fn bring_about(
        &mut self,
        rules: &[NativeRule],
        before: &mut dyn FnMut(),
    ) -> Result<bool, Error> {
        let mut changed = false;
        let flags = match rules {
            [] => 0,
            _ => self.flags()?,
        };
        for _ in 0..ATTEMPTS {
            let wanted = self.lacks.possible(rules);
            let (generation, found) = Found::read(&mut self.socket)?;
            let draft = found.draft(&wanted, flags, self.socket.port())?;
            if draft.batch.is_empty() {
                return Ok(changed);
            }
            before();
            match draft.batch.commit(&mut self.socket, Some(generation)) {
                // It is read back: a kernel may have accepted what it does not heed.
                Ok(()) => changed = true,
                Err(CommitError::Stale) => {}
                Err(CommitError::Kernel { message, source }) => {
                    let ability = draft.needed_by(message);
                    if !ability.is_some_and(|ability| self.lacks.learn(ability, &source)) {
                        return Err(failed(OWN, "write")(source.into()));
                    }
                }
            }
        }
        Err(failed(OWN, "write")(nft::Error::Stale))
    }

    /// The flags that this kernel supports and heeds: tried and read back, once.
    fn flags(&mut self) -> Result<u32, Error> {
        if let Some(flags) = self.flags {
            return Ok(flags);
        }
        let flags = supported_flags(&mut self.socket, FAMILY, self.allowed)?;
        Ok(*self.flags.insert(flags))
    }
}

/// Those of the `allowed` flags that this kernel supports and heeds for tables of a family.
fn supported_flags(socket: &mut Socket, family: Proto, allowed: u32) -> Result<u32, Error> {
    for _ in 0..ATTEMPTS {
        if let Some(flags) = try_flags(socket, family, allowed)? {
            return Ok(flags);
        }
    }
    Err(failed((family, TABLE), "make")(nft::Error::Stale))
}

/// Tries them on the own table where there is none, and leaves it there: after a table is
/// deleted, the next process that closes a netlink socket waits until it is gone, some 10 ms
/// (nft_rcv_nl_event() in net/netfilter/nf_tables_api.c). Else on a table made for it. `None`
/// where nf_tables changed meanwhile.
fn try_flags(socket: &mut Socket, family: Proto, allowed: u32) -> Result<Option<u32>, Error> {
    let read = |socket: &mut Socket, table| Table::read(socket, family, table);
    let (generation, own) = socket
        .steady(|socket| read(socket, TABLE))
        .map_err(failed((family, TABLE), "read"))?;
    let table = if own.is_none() { TABLE } else { PROBE };
    let at = (family, table);
    let tried = [OWNER | PERSIST, OWNER].into_iter();
    for flags in tried.filter(|flags| flags & allowed == *flags) {
        let mut batch = Batch::default();
        batch.table(family, table, flags);
        match batch.commit(socket, Some(generation)) {
            Ok(()) => {}
            Err(CommitError::Stale) => return Ok(None),
            Err(CommitError::Kernel { source, .. }) if is_unsupported(&source) => continue,
            Err(error) => return Err(failed(at, "make")(error.into())),
        }
        let found = read(socket, table).map_err(failed(at, "read"))?;
        if table == PROBE {
            let mut batch = Batch::default();
            batch.delete_table(family, PROBE);
            let deleted = batch.commit(socket, None);
            deleted.map_err(|error| failed(at, "delete")(error.into()))?;
        }
        return Ok(Some(found.map_or(0, |table| table.flags & flags)));
    }
    Ok(Some(0))
}

impl AsFd for Seal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Keeps `rules` through the seal in `slot`, which is opened where it is empty: an earlier run may
/// have left tables. Returns whether anything changed, or what is wrong.
pub fn keep(
    slot: &mut Option<Seal>,
    rules: &[NativeRule],
    around: Around<'_>,
) -> Result<bool, String> {
    let seal = match slot {
        Some(seal) => seal,
        None => slot.insert(Seal::open(None).map_err(unavailable)?),
    };
    let changed = seal
        .keep(rules, around)
        .map_err(|error| error.to_string())?;
    seal.unsupported(rules).map_or(Ok(changed), Err)
}

/// Removes both tables. Tables that are not there are no error. Returns what was removed.
pub fn remove_all(socket: &mut Socket) -> Result<Vec<&'static str>, Error> {
    let removed = settle(socket, (OWN, "delete"), |socket| {
        let (generation, found) = Found::read(socket)?;
        Ok((
            generation,
            found.draft(&[], 0, socket.port())?,
            found.names(),
        ))
    });
    Ok(removed?.unwrap_or_default())
}

/// Commits what is found to be needed, and looks again where another program committed in between. What
/// was found with it; `None` where nothing is needed.
fn settle<T>(
    socket: &mut Socket,
    (place, operation): ((Proto, &'static str), &'static str),
    needed: impl Fn(&mut Socket) -> Result<(u32, Draft, T), Error>,
) -> Result<Option<T>, Error> {
    for _ in 0..ATTEMPTS {
        let (generation, draft, found) = needed(socket)?;
        if draft.batch.is_empty() {
            return Ok(None);
        }
        match draft.batch.commit(socket, Some(generation)) {
            Ok(()) => return Ok(Some(found)),
            Err(CommitError::Stale) => {}
            Err(error) => return Err(failed(place, operation)(error.into())),
        }
    }
    Err(failed(place, operation)(nft::Error::Stale))
}

/// The tables as they are.
#[derive(Debug, Default)]
struct Found {
    own: Option<Table>,
    twin: Option<Table>,
}

impl Found {
    /// Reads both as they stood at one moment, and that moment's generation.
    fn read(socket: &mut Socket) -> Result<(u32, Self), Error> {
        socket.steady(Self::once).map_err(failed(OWN, "read"))
    }

    fn once(socket: &mut Socket) -> Result<Self, nft::Error> {
        Ok(Self {
            own: Table::read(socket, FAMILY, TABLE)?,
            twin: Table::read(socket, FAMILY, TWIN)?,
        })
    }

    /// The names of those that are there.
    fn names(&self) -> Vec<&'static str> {
        let own = self.own.is_some().then_some(TABLE);
        let twin = self.twin.is_some().then_some(TWIN);
        own.into_iter().chain(twin).collect()
    }

    /// What makes them hold these rules. The twin is there only where the owned table would vanish
    /// with its socket.
    fn draft(&self, wanted: &[NativeRule], flags: u32, port: u32) -> Result<Draft, Error> {
        let vanishes = flags & (OWNER | PERSIST) == OWNER;
        let behind = if vanishes { drops(wanted) } else { Vec::new() };
        let mut draft = Draft::default();
        for (name, flags, found, wanted) in [
            (TABLE, flags, self.own.as_ref(), chains(TABLE, wanted)),
            (TWIN, 0, self.twin.as_ref(), chains(TWIN, &behind)),
        ] {
            let change = change(found, &wanted, flags, port);
            let change = change.map_err(|port| taken(FAMILY, port))?;
            draft.add(change, (FAMILY, name, flags), found, &wanted);
        }
        Ok(draft)
    }
}

fn failed(
    (family, table): (Proto, &'static str),
    operation: &'static str,
) -> impl Fn(nft::Error) -> Error {
    move |source| Error::Kernel {
        family: family.name(),
        table,
        operation,
        source,
    }
}

fn taken(family: Proto, port: u32) -> Error {
    let family = family.name();
    Error::Taken { family, port }
}

fn unavailable(error: impl std::fmt::Display) -> String {
    format!("cannot open an nf_tables socket: {error}")
}
