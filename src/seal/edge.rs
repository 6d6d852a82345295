//! The edge in the kernel: `table netdev ecs_netguard`, with a chain for every interface by which a
//! packet can leave the machine.
//!
//! Owned and with a twin as the seal is, by a socket of its own: also the sentinel writes to it, as
//! interfaces come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::abilities::is_unsupported;
use super::tables::{Change, Draft, TABLE, TWIN, change, holds, is};
use super::{ATTEMPTS, Error, SealState, failed, supported_flags, taken};
use crate::guarantee::edge::{FrameDrop, Interface, edges, raw, routed};
use crate::os::links::Interfaces;
use crate::os::nft::{
    self, BaseHook, Chain, CommitError, DORMANT, OWNER, PERSIST, Proto, RawRule, Socket, Table,
};
use crate::ruleset::Family;

const FAMILY: Proto = Proto::Netdev;
const OWN: (Proto, &str) = (FAMILY, TABLE);

/// The chains in which packets go on: those with a route, and all others.
const ROUTED: &str = "routed";
const RAW: &str = "raw";

/// The edge, kept through one socket.
#[derive(Debug)]
pub struct Edge {
    socket: Socket,
    interfaces: Interfaces,
    /// The flags that may be tried.
    allowed: u32,
    /// Those that this kernel supports; found out at the first table that is made.
    flags: Option<u32>,
    /// What this kernel was found to lack.
    lacks: Option<String>,
}

/// What a look at the edge's tables, and a change of them, came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether anything had to be done.
    pub changed: bool,
    /// The tables that another program had altered or removed; there is none where they are made for
    /// the first time.
    pub altered: Vec<&'static str>,
}

/// What a look at the edge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeReading {
    /// The state of its tables: never [`SealState::Off`] or [`SealState::NotNeeded`].
    pub state: SealState,
    /// Why it is [`SealState::Missing`], where that is known.
    pub why: Option<String>,
    /// The interfaces at which it should stand.
    pub interfaces: Vec<String>,
    /// Whether nothing would remain if the owner's socket closed now: the twin is not intact.
    pub twinless: bool,
    /// Packets stopped so far, for each family.
    pub stopped: Vec<(Family, u64)>,
}

impl EdgeReading {
    /// Looks at what should stand at the host's interfaces; what cannot be read is missing.
    #[must_use]
    pub fn take(families: &[Family]) -> Self {
        let read = || -> Result<Self, String> {
            let mut interfaces = Interfaces::open().map_err(unread)?;
            let mut socket = Socket::open().map_err(super::unavailable)?;
            look(&mut socket, &mut interfaces, families).map_err(|error| error.to_string())
        };
        read().unwrap_or_else(|why| Self {
            why: Some(why),
            ..Self::default()
        })
    }

    /// Whether packets to the service are dropped at every interface.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.state.is_intact() || self.state == SealState::Twin
    }
}

impl Edge {
    /// Begins, with the socket that an earlier run of the daemon left where there is one.
    pub fn open(inherited: Option<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            socket: match inherited {
                Some(fd) => Socket::from_fd(fd)?,
                None => Socket::open()?,
            },
            interfaces: Interfaces::open()?,
            allowed: OWNER | PERSIST,
            flags: None,
            lacks: None,
        })
    }

    /// The same edge as on a kernel that supports no other flags than these.
    #[must_use]
    pub fn allowing(self, allowed: u32) -> Self {
        Self { allowed, ..self }
    }

    /// Forgets what this kernel was found not to support. False where nothing was found.
    pub fn retry_unsupported(&mut self) -> bool {
        let lacked = self.lacks.take().is_some();
        self.flags.take_if(|flags| *flags != self.allowed).is_some() || lacked
    }

    /// Whether any root process can change one of its tables.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.flags.is_some_and(|flags| flags != OWNER | PERSIST)
    }

    /// Makes the tables hold a chain for each interface by which packets leave, in one transaction; for
    /// no families there are none. Packets counted so far stay counted.
    pub fn keep(&mut self, families: &[Family]) -> Result<Kept, String> {
        if let Some(lacks) = self.lacks.as_ref().filter(|_| !families.is_empty()) {
            return Err(lacks.clone());
        }
        let mut kept = Kept::default();
        let mut tried = None;
        for _ in 0..ATTEMPTS {
            let (generation, found) = Found::read(&mut self.socket).map_err(text)?;
            let flags = match families {
                [] => 0,
                _ => self.flags().map_err(text)?,
            };
            let interfaces = self.interfaces.read().map_err(unread)?;
            let wanted = |table: &str| chains(table, families, &interfaces);
            let draft = found.draft(wanted, flags, self.socket.port());
            let draft = draft.map_err(text)?;
            if draft.batch.is_empty() {
                return Ok(kept);
            }
            match draft.batch.commit(&mut self.socket, Some(generation)) {
                // It is read back: a kernel may have accepted what it does not heed.
                Ok(()) => {
                    kept.changed = true;
                    kept.altered.extend(found.altered(families, flags));
                }
                Err(CommitError::Stale) => {}
                // An interface may have gone since it was read.
                Err(CommitError::Kernel { .. }) if tried.as_ref() != Some(&interfaces) => {
                    tried = Some(interfaces);
                }
                Err(CommitError::Kernel { source, .. }) => return Err(self.refused(source)),
            }
        }
        Err(text(failed(OWN, "write")(nft::Error::Stale)))
    }

    /// What the kernel's refusal means.
    fn refused(&mut self, source: io::Error) -> String {
        if !is_unsupported(&source) {
            return text(failed(OWN, "write")(source.into()));
        }
        let lacks = self.what_is_missing(&source);
        self.lacks.insert(lacks).clone()
    }

    /// Tries one after the other what the edge needs, each in a transaction that leaves nothing.
    fn what_is_missing(&mut self, refusal: &io::Error) -> String {
        let none = Chain {
            name: ROUTED.to_owned(),
            base: None,
            accepts: true,
            rules: Vec::new(),
        };
        let with = |rule: RawRule| Chain {
            rules: vec![rule],
            ..none.clone()
        };
        let at_lo = Chain {
            base: Some(base(TABLE, b"lo")),
            ..none.clone()
        };
        let needs = [
            (
                "nf_tables' family netdev (CONFIG_NF_TABLES_NETDEV)",
                none.clone(),
            ),
            (
                "the class of a socket (CONFIG_CGROUP_NET_CLASSID)",
                with(RawRule::accepting_sockets()),
            ),
            (
                "the realm of a route (CONFIG_IP_ROUTE_CLASSID)",
                with(RawRule::accepting_routed()),
            ),
            (
                "the egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS)",
                at_lo,
            ),
        ];
        for (what, chain) in needs {
            let mut draft = Draft::default();
            let place = (FAMILY, super::PROBE, 0);
            draft.add(Change::Make, place, None, &[chain]);
            draft.add(Change::Remove, place, None, &[]);
            if let Err(CommitError::Kernel { source, .. }) =
                draft.batch.commit(&mut self.socket, None)
            {
                return format!("this kernel does not support {what}: {source}");
            }
        }
        format!("this kernel does not support what the edge needs: {refusal}")
    }

    fn flags(&mut self) -> Result<u32, Error> {
        if let Some(flags) = self.flags {
            return Ok(flags);
        }
        let flags = supported_flags(&mut self.socket, FAMILY, self.allowed)?;
        Ok(*self.flags.insert(flags))
    }
}

impl AsFd for Edge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Looks at what should stand at the host's interfaces.
pub fn look(
    socket: &mut Socket,
    interfaces: &mut Interfaces,
    families: &[Family],
) -> Result<EdgeReading, Error> {
    let mut read = |socket: &mut Socket| {
        let found = Found::once(socket)?;
        Ok((found, interfaces.read()?))
    };
    let (_, (found, interfaces)) = socket.steady(&mut read).map_err(failed(OWN, "read"))?;
    Ok(found.judge(families, &interfaces))
}

/// Removes both tables. Returns what was removed.
pub fn remove_all(socket: &mut Socket) -> Result<Vec<&'static str>, Error> {
    for _ in 0..ATTEMPTS {
        let (generation, found) = Found::read(socket)?;
        let draft = found.draft(|_| Vec::new(), 0, socket.port())?;
        if draft.batch.is_empty() {
            return Ok(Vec::new());
        }
        match draft.batch.commit(socket, Some(generation)) {
            Ok(()) => return Ok(found.names()),
            Err(CommitError::Stale) => {}
            Err(error) => return Err(failed(OWN, "delete")(error.into())),
        }
    }
    Err(failed(OWN, "delete")(nft::Error::Stale))
}

/// How a chain is hooked in at an interface: last, since a chain behind it could still turn a packet to
/// the service. The owned table comes first, so that it counts.
fn base(table: &str, device: &[u8]) -> BaseHook {
    /// `NF_NETDEV_EGRESS` (linux/netfilter.h).
    const EGRESS: u32 = 1;
    BaseHook {
        kind: "filter".to_owned(),
        number: EGRESS,
        priority: i32::MAX - i32::from(table != TWIN),
        device: Some(device.to_owned()),
    }
}

/// The chains that a table should hold; none for no families.
fn chains(table: &str, families: &[Family], interfaces: &[Interface]) -> Vec<Chain> {
    if families.is_empty() {
        return Vec::new();
    }
    let drops = |frames: &[FrameDrop]| frames.iter().map(RawRule::dropping).collect::<Vec<_>>();
    let chain = |name: &str, base, rules| Chain {
        name: name.to_owned(),
        base,
        accepts: true,
        rules,
    };
    let mut routed = drops(&routed(families));
    routed.insert(0, RawRule::accepting_sockets());
    let shared = [
        chain(ROUTED, None, routed),
        chain(RAW, None, drops(&raw(families))),
    ];
    let at = |interface: &Interface| {
        let rules = vec![RawRule::routed_to(ROUTED), RawRule::going_to(RAW)];
        // Not by its name, which changes and need not be text.
        let name = format!("if{}", interface.index);
        chain(&name, Some(base(table, &interface.name)), rules)
    };
    let at_interfaces = edges(interfaces).into_iter().map(at);
    shared.into_iter().chain(at_interfaces).collect()
}

/// The tables as they are.
#[derive(Debug, Default)]
struct Found {
    own: Option<Table>,
    twin: Option<Table>,
}

impl Found {
    fn read(socket: &mut Socket) -> Result<(u32, Self), Error> {
        socket.steady(Self::once).map_err(failed(OWN, "read"))
    }

    fn once(socket: &mut Socket) -> Result<Self, nft::Error> {
        Ok(Self {
            own: Table::read(socket, FAMILY, TABLE)?,
            twin: Table::read(socket, FAMILY, TWIN)?,
        })
    }

    fn names(&self) -> Vec<&'static str> {
        let own = self.own.is_some().then_some(TABLE);
        let twin = self.twin.is_some().then_some(TWIN);
        own.into_iter().chain(twin).collect()
    }

    /// What makes them hold these chains. The twin is there only where the owned table would vanish
    /// with its socket.
    fn draft(
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
    /// too. Nobody else can change an owned table.
    fn altered(&self, families: &[Family], flags: u32) -> Option<&'static str> {
        let own = self.own.as_ref().filter(|_| vanishes(flags))?;
        let shared = chains(TWIN, families, &[]);
        let twin = self.twin.as_ref();
        let held = |name: &str| {
            let mut chains = twin.into_iter().flat_map(|twin| &twin.chains);
            chains.find(|chain| chain.name == name)
        };
        let missing = own.chains.iter().any(|chain| held(&chain.name).is_none());
        let other = |wanted: &Chain| held(&wanted.name).is_some_and(|found| !is(found, wanted));
        (!own.chains.is_empty() && (missing || shared.iter().any(other))).then_some(TWIN)
    }

    fn judge(&self, families: &[Family], interfaces: &[Interface]) -> EdgeReading {
        let held = |table, found: &Option<Table>| {
            let wanted = chains(table, families, interfaces);
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
        let edges = edges(interfaces).into_iter();
        EdgeReading {
            state,
            why: None,
            interfaces: edges
                .map(|edge| String::from_utf8_lossy(&edge.name).into_owned())
                .collect(),
            twinless: state == SealState::Owned && !twin,
            stopped: families
                .iter()
                .map(|&family| (family, self.stopped(family)))
                .collect(),
        }
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

const fn vanishes(flags: u32) -> bool {
    flags & (OWNER | PERSIST) == OWNER
}

/// Whether a table needs only other chains at interfaces: the rules that they share are right, and it
/// is in hand.
fn may_be_amended(found: &Table, wanted: &[Chain], flags: u32, port: u32) -> bool {
    let in_hand = found.flags & (OWNER | PERSIST | DORMANT) == flags
        && (flags & OWNER == 0 || found.owner == port);
    let shared = |chain: &&Chain| chain.base.is_none();
    let right = |wanted: &Chain| found.chains.iter().any(|chain| is(chain, wanted));
    let hooked =
        |chain: &Chain| chain.base.is_some() || wanted.iter().any(|w| w.name == chain.name);
    in_hand && wanted.iter().filter(shared).all(right) && found.chains.iter().all(hooked)
}

fn text(error: Error) -> String {
    error.to_string()
}

fn unread(error: impl std::fmt::Display) -> String {
    format!("list the network interfaces: {error}")
}
