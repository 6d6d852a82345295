//! The edge of a task: in the task's own network namespace a chain at every interface but the loopback,
//! which drops every frame to the service, and every frame that carries a tag of its own.
//!
//! As the task's other table no socket owns it: it is looked at and repaired.

use super::super::tables::{Change, Draft, TABLE, change};
use super::super::task::TaskTable;
use super::super::{ATTEMPTS, Error, failed, taken};
use super::tables::{FAMILY, OWN, RAW, base};
use crate::guarantee::edge::{Interface, raw};
use crate::os::links::Interfaces;
use crate::os::nft::{self, Chain, CommitError, RawRule, Socket, Table};
use crate::ruleset::Family;

/// Looks at it; with it the generation at which it stood so.
pub fn look(socket: &mut Socket, interfaces: &[Interface]) -> Result<(u32, TaskTable), Error> {
    let (generation, found) = read(socket)?;
    let state = match change(found.as_ref(), &chains(interfaces), 0, socket.port()) {
        Ok(Change::Nothing) => TaskTable::Intact,
        Ok(Change::Make) => TaskTable::Missing,
        Ok(_) | Err(_) => TaskTable::Altered,
    };
    Ok((generation, state))
}

/// Makes the table hold a chain at each of the interfaces, in one transaction, in the place of whatever
/// bears its name; removes it for none. Returns whether anything had to be done.
pub fn keep(socket: &mut Socket, interfaces: Option<&[Interface]>) -> Result<bool, Error> {
    let wanted = interfaces.map_or_else(Vec::new, chains);
    for _ in 0..ATTEMPTS {
        let (generation, found) = read(socket)?;
        let change = change(found.as_ref(), &wanted, 0, socket.port());
        let change = change.map_err(|port| taken(FAMILY, port))?;
        if change == Change::Nothing {
            return Ok(false);
        }
        let mut draft = Draft::default();
        draft.add(change, (FAMILY, TABLE, 0), found.as_ref(), &wanted);
        match draft.batch.commit(socket, Some(generation)) {
            Ok(()) => return Ok(true),
            Err(CommitError::Stale) => {}
            Err(error) => return Err(failed(OWN, "write")(error.into())),
        }
    }
    Err(failed(OWN, "write")(nft::Error::Stale))
}

/// The interfaces of the calling thread's network namespace but the loopback.
pub fn interfaces() -> std::io::Result<Vec<Interface>> {
    let all = Interfaces::open()?.read()?;
    Ok(all.into_iter().filter(|one| !one.loopback).collect())
}

fn chains(interfaces: &[Interface]) -> Vec<Chain> {
    let drops = raw(&[Family::V4, Family::V6]);
    let drops = drops.iter().map(RawRule::dropping);
    let shared = Chain {
        name: RAW.to_owned(),
        base: None,
        accepts: true,
        rules: RawRule::dropping_tagged()
            .into_iter()
            .chain(drops)
            .collect(),
    };
    let at = |interface: &Interface| Chain {
        name: format!("if{}", interface.index),
        base: Some(base(TABLE, &interface.name)),
        accepts: true,
        rules: vec![RawRule::going_to(RAW)],
    };
    [shared]
        .into_iter()
        .chain(interfaces.iter().map(at))
        .collect()
}

fn read(socket: &mut Socket) -> Result<(u32, Option<Table>), Error> {
    let read = socket.steady(|socket| Table::read(socket, FAMILY, TABLE));
    read.map_err(failed(OWN, "read"))
}
