//! What iptables' own listing hides: rules in its tables that it did not make, tables that sleep, and
//! the chains of others.

use std::collections::{BTreeMap, BTreeSet};

use super::chains::{BaseHook, ChainName};
use super::foreign::why_foreign;
use super::message::{Attributes, Proto, Verb, rule, string, text, value};
use super::rules::first_of;
use super::socket::Socket;
use super::tables::{chains, dormant};
use crate::os::netlink::Error;
use crate::prove::{ForeignChain, Hook};
use crate::ruleset::Family;

/// A rule in one of iptables' own tables that iptables did not make, so that its listing of it
/// cannot be trusted: iptables-nft 1.8.9 prints `ip saddr @set drop` as `-j DROP`, without a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    /// The family of the table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Its place in the chain, from 0, as in a listing.
    pub index: usize,
    /// What in it iptables does not make.
    pub why: String,
}

/// What there is in nf_tables, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The number of the last commit; it counts up with every one.
    pub generation: u32,
    /// iptables' own tables that exist.
    pub tables: BTreeSet<(Family, String)>,
    /// Those of them that sleep: their rules are there, and no packet meets them. iptables does not
    /// show it.
    pub dormant: BTreeSet<(Family, String)>,
    /// Rules in them that iptables cannot list truthfully.
    pub rules: Vec<ForeignRule>,
    /// Base chains that are not iptables', where packets for the host or through it pass. One that
    /// holds no rule and accepts by policy changes nothing and is left out.
    pub chains: Vec<ForeignChain>,
}

impl Inventory {
    /// Takes the inventory of this network namespace. Rules of tables that are neither iptables'
    /// nor hooked in are not looked at.
    pub fn take() -> Result<Self, Error> {
        let (generation, inventory) = Socket::open()?.steady(Self::read)?;
        Ok(Self {
            generation,
            ..inventory
        })
    }

    fn read(socket: &mut Socket) -> Result<Self, Error> {
        let mut inventory = Self::default();
        for (name, chain) in chains(socket, None)? {
            let Some(base) = &chain.base else {
                continue;
            };
            let hook = hook(name.proto, base);
            if let Some(family) = of_iptables(&name, hook) {
                inventory.tables.insert((family, name.table));
            } else if let Some(hook) = hook
                && (!chain.accepts || !first_of(socket, &name)?.rules.is_empty())
            {
                inventory.chains.push(ForeignChain {
                    family: name.proto.family(),
                    hook,
                    name: format!("{} {} {}", name.proto.name(), name.table, name.chain),
                    nat: base.kind == "nat",
                });
            }
        }
        for family in [Family::V4, Family::V6] {
            let tables = dormant(socket, family)?.into_iter();
            inventory
                .dormant
                .extend(tables.map(|table| (family, table)));
        }
        for (family, table) in &inventory.tables {
            let found = foreign_rules(socket, *family, table)?;
            inventory.rules.extend(found);
        }
        Ok(inventory)
    }
}

/// The family, if the chain is one that iptables lists: named after its hook, in a table of iptables.
fn of_iptables(name: &ChainName, hook: Option<Hook>) -> Option<Family> {
    let tables = ["raw", "mangle", "nat", "filter", "security"];
    let listed = tables.contains(&name.table.as_str())
        && hook.is_some_and(|hook| hook.chain() == name.chain);
    name.proto.family().filter(|_| listed)
}

/// Where the chain is hooked in; `None` for a hook that no claim's packets pass. What comes before
/// everything else, at an interface, is counted as PREROUTING.
fn hook(proto: Proto, base: &BaseHook) -> Option<Hook> {
    /// `NF_INET_INGRESS` (linux/netfilter.h).
    const INGRESS: u32 = 5;
    match (proto, base.number) {
        (Proto::Netdev, _) | (_, INGRESS) => Some(Hook::Prerouting),
        (_, number) => Hook::ALL.into_iter().find(|hook| hook.number() == number),
    }
}

fn foreign_rules(
    socket: &mut Socket,
    family: Family,
    table: &str,
) -> Result<Vec<ForeignRule>, Error> {
    let get = Attributes::default().text(rule::TABLE, table);
    let mut places: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut found = Vec::new();
    let proto = Proto::from(family) as u8;
    socket.dump(Verb::GetRule, proto, &get.0, |message| {
        let attributes = message.attributes();
        let chain = text(attributes, rule::CHAIN).unwrap_or_default();
        let place = places.entry(chain.to_owned()).or_default();
        let index = *place;
        *place += 1;
        let expressions = value(attributes, rule::EXPRESSIONS).unwrap_or_default();
        found.extend(why_foreign(expressions, family)?.map(|why| ForeignRule {
            family,
            table: table.to_owned(),
            chain: string(attributes, rule::CHAIN),
            index,
            why,
        }));
        Ok(())
    })?;
    Ok(found)
}
