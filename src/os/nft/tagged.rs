//! The guard's rules in iptables' tables, removed without iptables: for a host whose iptables is gone.

use super::batch::Batch;
use super::chains::ChainName;
use super::message::Proto;
use super::rules::first_of;
use super::socket::Socket;
use crate::guarantee::PLACES;
use crate::os::netlink::Error;
use crate::ruleset::Family;

/// Deletes every rule of a family's built-in chains of iptables-nft whose comment holds `tag`; the
/// guard's stand at the top of their chain. Returns what was removed, a line a chain.
pub fn delete_tagged(socket: &mut Socket, family: Family, tag: &str) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for (table, chain) in PLACES {
        let name = ChainName {
            proto: Proto::from(family),
            table: table.to_owned(),
            chain: chain.to_owned(),
        };
        let (_, held) = socket.steady(|socket| first_of(socket, &name))?;
        let tagged = held.rules.iter().filter(|rule| rule.mentions(tag));
        let mut batch = Batch::default();
        tagged.for_each(|rule| batch.delete(&name, rule.handle));
        if batch.is_empty() {
            continue;
        }
        batch.commit(socket, None)?;
        let count = batch.last();
        let noun = if count == 1 { "rule" } else { "rules" };
        removed.push(format!("{family} {table} {chain}: {count} {noun}"));
    }
    Ok(removed)
}
