//! The edge's tables as they should be, compared with what the kernel holds.

use std::iter;

use super::super::tables::{Change, Draft, TABLE, TWIN, change, is};
use super::super::{Error, failed, taken};
use crate::guarantee::EdgeRules;
use crate::guarantee::edge::{FrameDrop, Interface, edges, raw, routed};
use crate::os::links::index_of;
use crate::os::nft::{self, BaseHook, Chain, OWNER, PERSIST, Proto, RawRule, Socket, Table};
use crate::ruleset::Family;

/// The family of the edge's tables, and the owned one.
pub(super) const FAMILY: Proto = Proto::Netdev;
pub(super) const OWN: (Proto, &str) = (FAMILY, TABLE);

/// The chains in which packets go on: what may be for the service, and of these what has a route, and
/// all others.
pub(super) const SERVICE: &str = "service";
pub(super) const ROUTED: &str = "routed";
pub(super) const RAW: &str = "raw";

/// How the name of a chain at an interface begins; the interface's number follows.
const AT: &str = "if";

/// How a chain is hooked in at an interface: last, since a chain behind it could still turn a packet to
/// the service. The owned table comes first, so that it counts.
pub(super) fn base(table: &str, device: &[u8]) -> BaseHook {
    /// `NF_NETDEV_EGRESS` (linux/netfilter.h).
    const EGRESS: u32 = 1;
    BaseHook {
        kind: "filter".to_owned(),
        number: EGRESS,
        priority: i32::MAX - i32::from(table != TWIN),
        device: Some(device.to_owned()),
    }
}

/// The name of the chain at an interface: not by the interface's name, which changes and need not be
/// text.
pub(super) fn chain_at(interface: &Interface) -> String {
    format!("{AT}{}", interface.index)
}

/// The chains that a table should hold; none where it stops nothing.
pub(super) fn chains(table: &str, rules: &EdgeRules, interfaces: &[Interface]) -> Vec<Chain> {
    if rules.is_empty() {
        return Vec::new();
    }
    let drops = |frames: &[FrameDrop]| frames.iter().map(RawRule::dropping).collect::<Vec<_>>();
    let mut routed = drops(&routed(&rules.routed));
    let accepting = iter::once(RawRule::accepting_sockets());
    let accepting = accepting.chain(rules.pass.map(RawRule::accepting_marked));
    routed.splice(0..0, accepting);
    let in_service = vec![RawRule::routed_to(ROUTED), RawRule::going_to(RAW)];
    let shared = [
        chain(ROUTED, None, routed),
        chain(RAW, None, drops(&raw(&rules.raw))),
        chain(SERVICE, None, in_service),
    ];
    let first = at_an_interface(&rules.routed, SERVICE);
    let at = |interface: &Interface| {
        let base = base(table, &interface.name);
        chain(&chain_at(interface), Some(base), first.clone())
    };
    let at_interfaces = edges(interfaces).into_iter().map(at);
    shared.into_iter().chain(at_interfaces).collect()
}

/// A chain that accepts what its rules let through.
pub(super) fn chain(name: &str, base: Option<BaseHook>, rules: Vec<RawRule>) -> Chain {
    Chain {
        name: name.to_owned(),
        base,
        accepts: true,
        flags: 0,
        rules,
    }
}

/// What leads on in another chain all but the packets that have a route and go elsewhere: what nearly
/// all packets pass through, and no more.
pub(super) fn at_an_interface(families: &[Family], next: &str) -> Vec<RawRule> {
    let to_the_service = routed(families).into_iter().flat_map(|frames| frames.at);
    let first = to_the_service.map(|at| RawRule::first_bytes_to(&at, next));
    let rest = [RawRule::accepting_routed(), RawRule::going_to(next)];
    first.chain(rest).collect()
}

/// The tables as they are.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) own: Option<Table>,
    pub(super) twin: Option<Table>,
}

impl Found {
    pub(super) fn read(socket: &mut Socket) -> Result<(u32, Self), Error> {
        socket.steady(Self::once).map_err(failed(OWN, "read"))
    }

    pub(super) fn once(socket: &mut Socket) -> Result<Self, nft::Error> {
        Ok(Self {
            own: Table::read(socket, FAMILY, TABLE)?,
            twin: Table::read(socket, FAMILY, TWIN)?,
        })
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        let own = self.own.is_some().then_some(TABLE);
        let twin = self.twin.is_some().then_some(TWIN);
        own.into_iter().chain(twin).collect()
    }

    /// The interfaces that are known, and those at which there are chains though they are not known yet.
    /// A kernel may keep the chain of one that is gone.
    pub(super) fn interfaces_and(&self, known: &[Interface]) -> Vec<Interface> {
        let mut all = known.to_vec();
        let tables = self.own.iter().chain(&self.twin);
        for chain in tables.flat_map(|table| &table.chains) {
            let index = chain.name.strip_prefix(AT).and_then(|at| at.parse().ok());
            let device = chain.base.as_ref().and_then(|base| base.device.clone());
            let (Some(index), Some(name)) = (index, device) else {
                continue;
            };
            let known = all.iter().any(|at| at.index == index || at.name == name);
            if !known && index_of(&name) == Some(index) {
                all.push(Interface {
                    index,
                    name,
                    ..Interface::default()
                });
            }
        }
        all
    }

    /// What makes them hold these chains. The twin is there only where the owned table would vanish
    /// with its socket.
    pub(super) fn draft(
        &self,
        wanted: impl Fn(&str) -> Vec<Chain>,
        flags: u32,
        port: u32,
    ) -> Result<Draft, Error> {
        let behind = if vanishes(flags) {
            wanted(TWIN)
        } else {
            Vec::new()
        };
        let mut draft = Draft::default();
        for (name, flags, found, wanted) in [
            (TABLE, flags, self.own.as_ref(), wanted(TABLE)),
            (TWIN, 0, self.twin.as_ref(), behind),
        ] {
            let change = change(found, &wanted, flags, port);
            let change = change.map_err(|port| taken(FAMILY, port))?;
            match found.filter(|found| {
                change == Change::Replace && may_be_amended(found, &wanted, flags, port)
            }) {
                Some(found) => draft.amend(FAMILY, name, &found.chains, &wanted),
                None => draft.add(change, (FAMILY, name, flags), found, &wanted),
            }
        }
        Ok(draft)
    }

    /// The tables that another program has altered: what the owned table holds its twin should hold
    /// too. No other process can change an owned table.
    pub(super) fn altered(&self, rules: &EdgeRules, flags: u32) -> Option<&'static str> {
        let own = self.own.as_ref().filter(|_| vanishes(flags))?;
        let shared = chains(TWIN, rules, &[]);
        let twin = self.twin.as_ref();
        let held = |name: &str| {
            let mut chains = twin.into_iter().flat_map(|twin| &twin.chains);
            chains.find(|chain| chain.name == name)
        };
        let missing = own.chains.iter().any(|chain| held(&chain.name).is_none());
        let other = |wanted: &Chain| held(&wanted.name).is_some_and(|found| !is(found, wanted));
        (!own.chains.is_empty() && (missing || shared.iter().any(other))).then_some(TWIN)
    }
}

/// What adds the chains of these interfaces to tables that have none of them.
pub(super) fn added(rules: &EdgeRules, interfaces: &[Interface], flags: u32) -> Draft {
    let mut draft = Draft::default();
    let twin = vanishes(flags).then_some(TWIN);
    for table in iter::once(TABLE).chain(twin) {
        let mut at = chains(table, rules, interfaces);
        at.retain(|chain| chain.base.is_some());
        draft.amend(FAMILY, table, &[], &at);
    }
    draft
}

const fn vanishes(flags: u32) -> bool {
    flags & (OWNER | PERSIST) == OWNER
}

/// Whether a table needs only other chains at interfaces: the rules that they share are right, and it
/// is in hand.
fn may_be_amended(found: &Table, wanted: &[Chain], flags: u32, port: u32) -> bool {
    let in_hand =
        found.flags == flags && found.others == 0 && (flags & OWNER == 0 || found.owner == port);
    let shared = |chain: &&Chain| chain.base.is_none();
    let right = |wanted: &Chain| found.chains.iter().any(|chain| is(chain, wanted));
    let hooked =
        |chain: &Chain| chain.base.is_some() || wanted.iter().any(|w| w.name == chain.name);
    in_hand && wanted.iter().filter(shared).all(right) && found.chains.iter().all(hooked)
}
