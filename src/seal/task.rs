//! The seal of a task: a native table in the task's own network namespace that drops what leaves for
//! the metadata service.
//!
//! No socket may own it: it would keep the namespace alive. So it is looked at and repaired.

use super::tables::{Change, Draft, FAMILY, TABLE, chains, change};
use super::{Error, failed, settle, taken};
use crate::guarantee::NativeRule;
use crate::os::nft::{Chain, Proto, Socket, Table};

/// The table in the calling thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskTable {
    /// It holds exactly the rules that it should.
    Intact,
    /// There is a table of that name, and it is something else; also one that a socket owns, with which
    /// it would vanish without an event.
    Altered,
    /// There is none.
    Missing,
}

/// Looks at it.
pub fn look(socket: &mut Socket, wanted: &[NativeRule]) -> Result<TaskTable, Error> {
    look_at(socket, FAMILY, &chains(TABLE, wanted))
}

/// Makes the table hold exactly these rules, in one transaction, in the place of whatever bears its
/// name; removes it where there are none. Packets counted so far stay counted. Returns whether
/// anything had to be done.
pub fn keep(socket: &mut Socket, wanted: &[NativeRule]) -> Result<bool, Error> {
    bring_about(socket, FAMILY, &chains(TABLE, wanted))
}

pub(super) fn look_at(
    socket: &mut Socket,
    family: Proto,
    wanted: &[Chain],
) -> Result<TaskTable, Error> {
    let (_, found) = read(socket, family)?;
    Ok(match change(found.as_ref(), wanted, 0, socket.port()) {
        Ok(Change::Nothing) => TaskTable::Intact,
        Ok(Change::Make) => TaskTable::Missing,
        Ok(_) | Err(_) => TaskTable::Altered,
    })
}

pub(super) fn bring_about(
    socket: &mut Socket,
    family: Proto,
    wanted: &[Chain],
) -> Result<bool, Error> {
    let done = settle(socket, ((family, TABLE), "write"), |socket| {
        let (generation, found) = read(socket, family)?;
        let change = change(found.as_ref(), wanted, 0, socket.port());
        let change = change.map_err(|port| taken(family, port))?;
        let mut draft = Draft::default();
        draft.add(change, (family, TABLE, 0), found.as_ref(), wanted);
        Ok((generation, draft, ()))
    });
    Ok(done?.is_some())
}

fn read(socket: &mut Socket, family: Proto) -> Result<(u32, Option<Table>), Error> {
    let read = socket.steady(|socket| Table::read(socket, family, TABLE));
    read.map_err(failed((family, TABLE), "read"))
}
