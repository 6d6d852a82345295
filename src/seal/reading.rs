//! A look at the seal, which needs no ownership: what is in force, and what anybody can change.

use super::abilities::Lacks;
use super::tables::{FAMILY, TABLE, TWIN, chain_name, chains, drops, holds};
use super::{Error, Found, SealState, unavailable};
use crate::guarantee::{Guarantee, NativeRule};
use crate::os::nft::{
    self, BaseHook, Chain, ChainName, OWNER, PERSIST, RawRule, Socket, Table, encode,
};

/// What a look at the seal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealReading {
    /// The state, as far as the kernel tells: never [`SealState::Off`] or [`SealState::NotNeeded`].
    pub state: SealState,
    /// Why it is [`SealState::Missing`], where that is known.
    pub why: Option<String>,
    /// The drops and redirections that are certainly in force: those of an intact table. Rules for a
    /// cgroup that was deleted since are among them as they were made.
    pub rules: Vec<NativeRule>,
    /// The tables that are intact.
    pub intact: Vec<&'static str>,
    /// Whether nothing would remain if the owner's socket closed now: the twin is not intact.
    pub twinless: bool,
    /// Packets stopped so far, for each drop.
    pub stopped: Vec<(NativeRule, u64)>,
}

impl SealReading {
    /// Looks at what should hold the `wanted` rules; what cannot be read is missing.
    #[must_use]
    pub fn take(wanted: &[NativeRule]) -> Self {
        let look = |mut socket| look(&mut socket, wanted).map_err(|error| error.to_string());
        let read = Socket::open().map_err(unavailable).and_then(look);
        read.unwrap_or_else(|why| Self {
            why: Some(why),
            ..Self::default()
        })
    }

    /// Whether a chain (`inet ecs_netguard forward`) belongs to an intact table of the seal.
    #[must_use]
    pub fn accounts_for(&self, chain: &str) -> bool {
        let mut words = chain.split(' ');
        let ours = |name| self.intact.contains(&name);
        words.next() == Some(FAMILY.name()) && words.next().is_some_and(ours)
    }

    /// Whether every one of the `wanted` rules of a guarantee is in force; `None` where it has none.
    #[must_use]
    pub fn holds(&self, wanted: &[NativeRule], guarantee: Guarantee) -> Option<bool> {
        let mut of_it = wanted
            .iter()
            .filter(|rule| rule.guarantee == guarantee)
            .peekable();
        of_it.peek()?;
        Some(of_it.all(|rule| self.rules.contains(rule)))
    }
}

/// Looks at what should hold the `wanted` rules.
pub fn look(socket: &mut Socket, wanted: &[NativeRule]) -> Result<SealReading, Error> {
    let (_, found) = Found::read(socket)?;
    Ok(found.judge(wanted))
}

impl Found {
    pub(super) fn judge(&self, wanted: &[NativeRule]) -> SealReading {
        let now = self.compare(wanted);
        if now.state != SealState::Missing {
            return now;
        }
        let then = self.compare(&self.as_made(wanted));
        if then.state == SealState::Missing {
            return now;
        }
        let why = "some of its rules are for a cgroup that was deleted and made again; they match \
                   no process";
        SealReading {
            state: SealState::Missing,
            why: Some(why.to_owned()),
            ..then
        }
    }

    /// What is wanted, for the cgroup that the rules were made for that are there.
    fn as_made(&self, wanted: &[NativeRule]) -> Vec<NativeRule> {
        let tables = self.own.iter().chain(&self.twin);
        let mut rules = tables
            .flat_map(|table| &table.chains)
            .flat_map(|chain| &chain.rules);
        let mut made = wanted.to_vec();
        if let Some(id) = rules.find_map(RawRule::cgroup) {
            for cgroup in made.iter_mut().filter_map(|rule| rule.cgroup.as_mut()) {
                cgroup.id = id;
            }
        }
        made
    }

    fn compare(&self, wanted: &[NativeRule]) -> SealReading {
        let drops = drops(wanted);
        let own = self.own.as_ref().zip(in_force(TABLE, &self.own, wanted));
        let twin = in_force(TWIN, &self.twin, &drops);
        let state = match &own {
            Some((table, _)) if table.owner == 0 => SealState::Unowned,
            Some((table, _)) if table.flags & PERSIST != 0 => SealState::OwnedPersistent,
            Some(_) => SealState::Owned,
            None if twin.is_some() => SealState::Twin,
            None => SealState::Missing,
        };
        let intact = [(TABLE, own.is_some()), (TWIN, twin.is_some())];
        let intact = intact.into_iter().filter(|(_, intact)| *intact);
        SealReading {
            state,
            why: None,
            intact: intact.map(|(name, _)| name).collect(),
            twinless: state == SealState::Owned && twin.is_none() && !drops.is_empty(),
            stopped: drops.iter().filter_map(|rule| self.stopped(rule)).collect(),
            rules: own.map(|(_, rules)| rules).or(twin).unwrap_or_default(),
        }
    }

    /// How many packets a drop has stopped in both tables; `None` where neither has it.
    fn stopped(&self, rule: &NativeRule) -> Option<(NativeRule, u64)> {
        let (name, raw) = (chain_name(rule.hook), encode(rule));
        let tables = self.own.iter().chain(&self.twin);
        let counted = tables.filter_map(|table| {
            let mut rules = table.rules_of(name).iter();
            rules.find(|held| held.was(&raw)).map(RawRule::packets)
        });
        let sum = counted.reduce(|one, other| one + other)?;
        Some((rule.clone(), sum))
    }
}

/// What a table holds of these rules, where it holds all that some kernel supports of them and nothing
/// else; `None` where it does not, or that is nothing.
fn in_force(name: &str, found: &Option<Table>, rules: &[NativeRule]) -> Option<Vec<NativeRule>> {
    let found = found.as_ref()?;
    let possible = Lacks::all().map(|lacks| lacks.possible(rules));
    let mut possible = possible.filter(|rules| !rules.is_empty());
    possible.find(|rules| holds(found, &chains(name, rules)))
}

/// A chain of a table that anybody may change.
#[derive(Debug, Clone)]
pub struct OpenChain {
    /// Which chain.
    pub name: ChainName,
    /// How it is hooked in.
    pub base: BaseHook,
    /// Its rules.
    pub rules: Vec<RawRule>,
    /// Whose rules these are.
    pub guarantee: Guarantee,
}

/// The chains of tables that anybody may change: what the sentinel has to guard. `None` where one of
/// the tables does not hold the `wanted` rules.
pub fn open_chains(
    socket: &mut Socket,
    wanted: &[NativeRule],
) -> Result<Option<Vec<OpenChain>>, nft::Error> {
    let (_, found) = socket.steady(Found::once)?;
    let mut open = Vec::new();
    let drops = drops(wanted);
    for (name, table, wanted) in [(TABLE, &found.own, wanted), (TWIN, &found.twin, &drops)] {
        let Some(there) = table.as_ref().filter(|table| table.flags & OWNER == 0) else {
            continue;
        };
        let Some(rules) = in_force(name, table, wanted) else {
            return Ok(None);
        };
        open.extend(
            there
                .chains
                .iter()
                .filter_map(|chain| OpenChain::of(name, chain, &rules)),
        );
    }
    Ok(Some(open))
}

impl OpenChain {
    fn of(table: &str, chain: &Chain, rules: &[NativeRule]) -> Option<Self> {
        let mut rules = rules.iter();
        Some(Self {
            name: ChainName {
                proto: FAMILY,
                table: table.to_owned(),
                chain: chain.name.clone(),
            },
            base: chain.base.clone()?,
            guarantee: rules
                .find(|rule| chain_name(rule.hook) == chain.name)?
                .guarantee,
            rules: chain.rules.clone(),
        })
    }
}
