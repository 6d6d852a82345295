//! What anybody may ask of the seal, without owning it: how it stands, for which cgroup it was made, and
//! what of it anybody may change.

use super::build::{base_hook, chain, chain_name};
use super::found::{Found, find};
use super::{
    ATTEMPTS, Error, Hold, OWNER, PERSIST, Standing, TABLE, TWIN, drops, kernel, possible_on_older,
};
use crate::guarantee::{NativeHook, NativeRule};
use crate::os::nft::rules::{BaseHook, ChainName};
use crate::os::nft::socket::Socket;

/// How the seal stands, asked by anybody. `wanted` is what it should hold.
pub fn standing(socket: &mut Socket, wanted: &[NativeRule]) -> Result<Standing, Error> {
    let (_, (own, twin)) = socket
        .steady(ATTEMPTS, |socket| {
            Ok((find(socket, TABLE)?, find(socket, TWIN)?))
        })
        .map_err(kernel(TABLE, "read"))?;
    let mut standing = Standing {
        twinless: true,
        ..Standing::default()
    };
    let drops = possible_on_older(&drops(wanted));
    if let Some(twin) = twin
        && let Some(held) = drops.iter().find(|rules| twin.holds(TWIN, rules))
    {
        standing.rules.clone_from(held);
        standing.twinless = false;
        standing.hold = Some(Hold::Unowned);
        standing.stopped = twin.stopped(wanted);
    }
    let Some(own) = own else {
        return Ok(standing);
    };
    for (rule, packets) in own.stopped(wanted) {
        match standing
            .stopped
            .iter_mut()
            .find(|(known, _)| *known == rule)
        {
            Some((_, known)) => *known += packets,
            None => standing.stopped.push((rule, packets)),
        }
    }
    // On a kernel that cannot redirect natively the drops are all there is.
    let held = possible_on_older(wanted).into_iter().chain(drops.clone());
    if let Some(rules) = { held }.find(|rules| own.holds(TABLE, rules)) {
        standing.rules = rules;
        standing.owner = own.owner;
        standing.hold = Some(match own.flags & (OWNER | PERSIST) {
            _ if own.owner == 0 => Hold::Unowned,
            flags if flags & PERSIST != 0 => Hold::OwnedPersistent,
            _ => Hold::Owned,
        });
    }
    // Only an owned table that does not persist needs one.
    standing.twinless &= standing.hold == Some(Hold::Owned) && !drops.is_empty();
    Ok(standing)
}

/// What is wanted, for the cgroup that the rules were made for that are there; `None` where that is the
/// one that is wanted, or none.
pub fn as_made(
    socket: &mut Socket,
    wanted: &[NativeRule],
) -> Result<Option<Vec<NativeRule>>, Error> {
    for table in [TABLE, TWIN] {
        let found = find(socket, table).map_err(kernel(table, "read"))?;
        let Some(id) = found.as_ref().and_then(Found::cgroup) else {
            continue;
        };
        let mut made = wanted.to_vec();
        for cgroup in made.iter_mut().filter_map(|rule| rule.cgroup.as_mut()) {
            cgroup.id = id;
        }
        return Ok((made != wanted).then_some(made));
    }
    Ok(None)
}

/// A chain of a table that anybody may change.
#[derive(Debug, Clone)]
pub struct OpenChain {
    /// Which chain.
    pub name: ChainName,
    /// Where its rules belong.
    pub hook: NativeHook,
    /// How it is hooked in.
    pub base: BaseHook,
}

/// The chains of tables that anybody may change: what the sentinel has to guard. `None` where one of
/// them does not hold what is `wanted`, so that it is nothing to be kept.
pub fn open_chains(
    socket: &mut Socket,
    wanted: &[NativeRule],
) -> Result<Option<Vec<OpenChain>>, Error> {
    let mut open = Vec::new();
    for table in [TABLE, TWIN] {
        let Some(found) = find(socket, table).map_err(kernel(table, "read"))? else {
            continue;
        };
        if found.flags & OWNER != 0 {
            continue;
        }
        let mut right = possible_on_older(wanted);
        right.extend(possible_on_older(&drops(wanted)));
        if !right.iter().any(|rules| found.holds(table, rules)) {
            return Ok(None);
        }
        let there = |hook: &NativeHook| {
            let name = chain_name(*hook);
            found.chains.iter().any(|chain| chain.name == name)
        };
        let hooks = NativeHook::ALL.into_iter().filter(there);
        open.extend(hooks.map(|hook| OpenChain {
            name: chain(table, hook),
            hook,
            base: base_hook(table, hook),
        }));
    }
    Ok(Some(open))
}
