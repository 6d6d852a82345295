//! What the guard's rules have dropped, from the counters in its own tables and in the rules of
//! iptables-nft that bear its tag. iptables-legacy's counters are not read.

use std::collections::{BTreeMap, BTreeSet};

use super::chains::absent;
use super::message::{
    Attributes, Verb, expressions, long, number, packets, rule, string, table, value,
};
use super::socket::Socket;
use crate::os::netlink::Error;

/// What the names of the guard's tables begin with.
pub const OWN: &str = "ecs_netguard";

/// The tables of iptables, which stand in the families ip and ip6.
const IPTABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

// NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE.
const DATA: u16 = 2;
const VERDICT: u16 = 2;
const CODE: u16 = 1;
/// `NF_DROP` of linux/netfilter.h.
const DROP: u32 = 0;

/// A chain whose rules are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `NFPROTO_…` of linux/netfilter.h.
    family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name; all of the table's where it is the guard's own.
    pub chain: String,
}

impl Place {
    /// Whether the table is the guard's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.table.starts_with(OWN)
    }

    /// The family as nft calls it.
    #[must_use]
    pub const fn family(&self) -> &'static str {
        match self.family {
            1 => "inet",
            2 => "ip",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "family",
        }
    }
}

/// Packets that each of the rules has dropped since it was made: by place and by the kernel's number of
/// the rule.
pub type Dropped = BTreeMap<(Place, u64), u64>;

/// Reads the counters of one network namespace.
#[derive(Debug)]
pub struct Drops {
    socket: Socket,
    /// The guard's tables, and the chains in which a rule bears the tag.
    tables: BTreeSet<(u8, String)>,
    chains: BTreeSet<Place>,
    tag: String,
}

impl Drops {
    /// Finds the rules in the calling thread's network namespace: those in the guard's tables, and those
    /// that contain `tag`.
    pub fn open(tag: &str) -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        let (_, all) = socket.steady(|socket| {
            let mut all = BTreeSet::new();
            socket.dump(Verb::GetTable, 0, &[], |message| {
                let name = string(message.attributes(), table::NAME);
                all.insert((message.family(), name));
                Ok(())
            })?;
            Ok(all)
        })?;
        let own = |(_, name): &(u8, String)| name.starts_with(OWN);
        let (tables, others): (BTreeSet<_>, BTreeSet<_>) = all.into_iter().partition(own);
        let mut drops = Self {
            socket,
            tables,
            chains: BTreeSet::new(),
            tag: tag.to_owned(),
        };
        let of_iptables = |(family, name): &&(u8, String)| {
            matches!(family, 2 | 10) && IPTABLES.contains(&name.as_str())
        };
        let mut found = Dropped::new();
        for (family, table) in others.iter().filter(of_iptables) {
            drops.dump(*family, table, None, &mut found)?;
        }
        drops.chains = found.into_keys().map(|(place, _)| place).collect();
        Ok(drops)
    }

    /// The counters as they are now.
    pub fn read(&mut self) -> Result<Dropped, Error> {
        let mut found = Dropped::new();
        for (family, table) in self.tables.clone() {
            self.dump(family, &table, None, &mut found)?;
        }
        for place in self.chains.clone() {
            self.dump(place.family, &place.table, Some(&place.chain), &mut found)?;
        }
        Ok(found)
    }

    fn dump(
        &mut self,
        family: u8,
        name: &str,
        chain: Option<&str>,
        found: &mut Dropped,
    ) -> Result<(), Error> {
        let mut get = Attributes::default().text(rule::TABLE, name);
        if let Some(chain) = chain {
            get = get.text(rule::CHAIN, chain);
        }
        let (tag, own) = (self.tag.as_bytes(), name.starts_with(OWN));
        let tagged = |rule: &[u8]| own || rule.windows(tag.len()).any(|window| window == tag);
        let asked = self.socket.dump(Verb::GetRule, family, &get.0, |message| {
            let attributes = message.attributes();
            if let Some(packets) = dropped(attributes)
                && tagged(attributes)
            {
                let place = Place {
                    family,
                    table: name.to_owned(),
                    chain: string(attributes, rule::CHAIN),
                };
                let handle = long(attributes, rule::HANDLE).unwrap_or_default();
                found.insert((place, handle), packets);
            }
            Ok(())
        });
        match asked {
            // It changes at this moment: what was read of it stands.
            Err(Error::Stale) => Ok(()),
            asked if absent(&asked) => Ok(()),
            asked => asked,
        }
    }
}

/// The packets that a rule has dropped; `None` for one that counts or drops nothing.
fn dropped(attributes: &[u8]) -> Option<u64> {
    let list = value(attributes, rule::EXPRESSIONS)?;
    let drops = expressions(list).flatten().any(|(name, data)| {
        let verdict = value(data, DATA).and_then(|data| value(data, VERDICT));
        name == b"immediate" && verdict.and_then(|verdict| number(verdict, CODE)) == Some(DROP)
    });
    packets(list).filter(|_| drops)
}
