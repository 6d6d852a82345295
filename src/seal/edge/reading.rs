//! A look at the edge, which needs no ownership.

use super::super::tables::{TABLE, TWIN, holds, is};
use super::super::{Error, SealState, failed, unavailable};
use super::tables::{
    FAMILY, Found, OWN, RAW, ROUTED, SERVICE, at_an_interface, base, chain, chain_at, chains,
};
use super::{listed, unread};
use crate::config::readable;
use crate::guarantee::EdgeRules;
use crate::guarantee::edge::{Interface, edges, raw, routed};
use crate::os::links::Interfaces;
use crate::os::nft::{Chain, PERSIST, RawRule, Socket, Table};
use crate::ruleset::Family;

/// What a look at the edge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeReading {
    /// The state of its tables: never [`SealState::Off`] or [`SealState::NotNeeded`].
    pub state: SealState,
    /// Why it is [`SealState::Missing`], where that is known.
    pub why: Option<String>,
    /// The interfaces at which it should stand.
    pub interfaces: Vec<String>,
    /// Those of them at which it does not.
    pub uncovered: Vec<String>,
    /// Whether nothing would remain if the owner's socket closed now: the twin is not intact.
    pub twinless: bool,
    /// Its chains, as `nft` names them (`netdev ecs_netguard if2`), that hold what one of the edge does.
    pub accounted: Vec<String>,
    /// Packets stopped so far, for each family.
    pub stopped: Vec<(Family, u64)>,
}

impl EdgeReading {
    /// Looks at what should stand at the host's interfaces; what cannot be read is missing.
    #[must_use]
    pub fn take(rules: &EdgeRules) -> Self {
        let read = || -> Result<Self, String> {
            let mut interfaces = Interfaces::open().map_err(|error| unread(error).to_string())?;
            let mut socket = Socket::open().map_err(unavailable)?;
            look(&mut socket, &mut interfaces, rules).map_err(|error| error.to_string())
        };
        read().unwrap_or_else(|why| {
            let interfaces = names(&edges(&listed().unwrap_or_default()));
            Self {
                why: Some(why),
                uncovered: interfaces.clone(),
                interfaces,
                ..Self::default()
            }
        })
    }

    /// Whether packets to the service are dropped at every interface.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state.holds()
    }
}

/// Looks at what should stand at the host's interfaces.
pub fn look(
    socket: &mut Socket,
    interfaces: &mut Interfaces,
    rules: &EdgeRules,
) -> Result<EdgeReading, Error> {
    let mut read = |socket: &mut Socket| {
        let found = Found::once(socket)?;
        Ok((found, interfaces.read()?))
    };
    let (_, (found, interfaces)) = socket.steady(&mut read).map_err(failed(OWN, "read"))?;
    Ok(found.judge(rules, &interfaces))
}

fn names(interfaces: &[&Interface]) -> Vec<String> {
    let names = interfaces.iter().map(|interface| readable(&interface.name));
    names.collect()
}

/// A chain, as `nft` names it.
fn place(table: &str, chain: &str) -> String {
    format!("{} {table} {chain}", FAMILY.name())
}

impl Found {
    pub(super) fn judge(&self, rules: &EdgeRules, interfaces: &[Interface]) -> EdgeReading {
        let held = |table, found: &Option<Table>| {
            let wanted = chains(table, rules, interfaces);
            let found = found.as_ref();
            found.is_some_and(|found| !wanted.is_empty() && holds(found, &wanted))
        };
        let (own, twin) = (held(TABLE, &self.own), held(TWIN, &self.twin));
        let state = match &self.own {
            Some(table) if own && table.owner == 0 => SealState::Unowned,
            Some(table) if own && table.flags & PERSIST != 0 => SealState::OwnedPersistent,
            Some(_) if own => SealState::Owned,
            _ if twin => SealState::Twin,
            _ => SealState::Missing,
        };
        let accounted = self.accounted(rules);
        let stands = |interface: &Interface| {
            let chain = chain_at(interface);
            let mut tables = [TABLE, TWIN].into_iter();
            tables.any(|table| accounted.contains(&place(table, &chain)))
        };
        let edges = edges(interfaces);
        let mut uncovered = edges.clone();
        uncovered.retain(|interface| !stands(interface));
        EdgeReading {
            state,
            why: None,
            interfaces: names(&edges),
            uncovered: names(&uncovered),
            twinless: state == SealState::Owned && !twin,
            accounted,
            stopped: rules
                .raw
                .iter()
                .map(|&family| (family, self.stopped(family)))
                .collect(),
        }
    }

    /// The chains at interfaces that do what the edge does, also where the interface is not one by which
    /// packets leave any more.
    fn accounted(&self, rules: &EdgeRules) -> Vec<String> {
        let of = |(name, found): (&str, &Option<Table>)| {
            let found = found.as_ref().map_or(&[][..], |table| &table.chains);
            let shared = chains(name, rules, &[]);
            let first = at_an_interface(&rules.routed, SERVICE);
            let known = |of: &Chain| match of.base.as_ref().and_then(|base| base.device.as_ref()) {
                Some(device) => is(
                    of,
                    &chain(&of.name, Some(base(name, device)), first.clone()),
                ),
                None => shared.iter().any(|shared| is(of, shared)),
            };
            let there = |shared: &Chain| found.iter().any(|chain| is(chain, shared));
            let whole = !shared.is_empty() && shared.iter().all(there);
            let accounted = found.iter().filter(|chain| whole && known(chain));
            accounted
                .map(|chain| place(name, &chain.name))
                .collect::<Vec<_>>()
        };
        let tables = [(TABLE, &self.own), (TWIN, &self.twin)];
        tables.into_iter().flat_map(of).collect()
    }

    /// How many packets of a family both tables have stopped.
    fn stopped(&self, family: Family) -> u64 {
        let drops = [(ROUTED, routed(&[family])), (RAW, raw(&[family]))];
        let tables = || self.own.iter().chain(&self.twin);
        let counted = drops.iter().flat_map(|(chain, drops)| {
            let rules = drops.iter().map(RawRule::dropping);
            rules.flat_map(move |rule| {
                let held = tables().flat_map(|table| table.rules_of(chain));
                let same = held.filter(move |held| held.is(&rule));
                same.map(RawRule::packets).collect::<Vec<_>>()
            })
        });
        counted.sum()
    }
}
