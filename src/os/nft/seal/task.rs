//! The seal of a task: a native table in the task's own network namespace that drops what leaves for
//! the metadata service.
//!
//! Nobody can own it: the socket that does would keep the namespace alive. So it is looked at, and
//! put back.

use std::io;

use super::build::{build, remove};
use super::found::find;
use super::{ATTEMPTS, TABLE};
use crate::guarantee::NativeRule;
use crate::os::nft::batch::{Batch, Refused};
use crate::os::nft::socket::Socket;

/// What there is of it in the calling thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds exactly the rules that it should.
    Whole,
    /// There is a table of that name, and it is something else.
    Altered,
    /// There is none.
    Absent,
}

/// Looks; with it the generation at which it stood so.
pub fn standing(socket: &mut Socket, wanted: &[NativeRule]) -> io::Result<(u32, Standing)> {
    let (generation, found) = socket.steady(ATTEMPTS, |socket| find(socket, TABLE))?;
    let standing = match found {
        None => Standing::Absent,
        Some(table) if table.holds(TABLE, wanted) => Standing::Whole,
        Some(_) => Standing::Altered,
    };
    Ok((generation, standing))
}

/// Makes it in the place of whatever bears its name, in one transaction. Packets counted so far stay
/// counted.
pub fn put(socket: &mut Socket, wanted: &[NativeRule]) -> io::Result<()> {
    change(socket, |batch, found| {
        let counted = found.map_or_else(Vec::new, |table| table.counted(wanted));
        if found.is_some() {
            remove(batch, TABLE);
        }
        build(batch, TABLE, 0, &counted, wanted);
    })
}

/// Takes it out; false where there is none. A table of its name that is something else goes too: the
/// name is the ownership.
pub fn take_out(socket: &mut Socket) -> io::Result<bool> {
    let mut there = false;
    change(socket, |batch, found| {
        there |= found.is_some();
        if found.is_some() {
            remove(batch, TABLE);
        }
    })?;
    Ok(there)
}

fn change(
    socket: &mut Socket,
    mut plan: impl FnMut(&mut Batch, Option<&super::found::Found>),
) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        let (generation, found) = socket.steady(ATTEMPTS, |socket| find(socket, TABLE))?;
        let mut batch = Batch::default();
        plan(&mut batch, found.as_ref());
        if batch.is_empty() {
            return Ok(());
        }
        match batch.commit(socket, Some(generation)) {
            Err(Refused::Stale) => {}
            other => return other.map_err(io::Error::from),
        }
    }
    Err(Refused::Stale.into())
}
