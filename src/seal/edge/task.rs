//! The edge of a task: in the task's own network namespace a chain at every interface but the loopback,
//! which drops every frame to the service, and every frame that carries a tag of its own.
//!
//! As the task's other table no socket owns it: it is looked at and repaired.

use super::super::Error;
use super::super::tables::TABLE;
use super::super::task::{TaskTable, bring_about, look_at};
use super::tables::{FAMILY, RAW, at_an_interface, base, chain, chain_at};
use crate::guarantee::edge::{Interface, raw};
use crate::os::nft::{Chain, RawRule, Socket};
use crate::ruleset::Family;

/// Looks at it.
pub fn look(socket: &mut Socket, interfaces: &[Interface]) -> Result<TaskTable, Error> {
    look_at(socket, FAMILY, &chains(interfaces))
}

/// Makes the table hold a chain at each of the interfaces, in one transaction, in the place of whatever
/// bears its name; removes it for none. Returns whether anything had to be done.
pub fn keep(socket: &mut Socket, interfaces: Option<&[Interface]>) -> Result<bool, Error> {
    bring_about(socket, FAMILY, &interfaces.map_or_else(Vec::new, chains))
}

fn chains(interfaces: &[Interface]) -> Vec<Chain> {
    let families = [Family::V4, Family::V6];
    let drops = raw(&families).iter().map(RawRule::dropping).collect();
    let shared = chain(RAW, None, drops);
    let at = |interface: &Interface| {
        let tagged = RawRule::dropping_tagged().into_iter();
        let rules = tagged.chain(at_an_interface(&families, RAW)).collect();
        let base = base(TABLE, &interface.name);
        chain(&chain_at(interface), Some(base), rules)
    };
    [shared]
        .into_iter()
        .chain(interfaces.iter().map(at))
        .collect()
}
