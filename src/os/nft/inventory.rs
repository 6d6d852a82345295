//! What iptables' own listing hides: rules in its tables that it did not make, tables that sleep, and
//! the chains of others.

use std::collections::{BTreeMap, BTreeSet};

use super::chains::ChainName;
use super::foreign::why_foreign;
use super::message::{Attributes, Proto, Verb, rule, string, text, value};
use super::moment::Moment;
use super::native;
use super::socket::Socket;
use super::tables::{chains, dormant};
use crate::os::netlink::Error;
use crate::prove::Hook;
use crate::ruleset::native::{Tables, decode_rule};
use crate::ruleset::{Family, Target};

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
    /// What it does with packets that meet its conditions, where that is understood.
    pub does: Option<Target>,
}

/// What there is in nf_tables, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Which moment that is.
    pub moment: Moment,
    /// iptables' own tables that exist.
    pub tables: BTreeSet<(Family, String)>,
    /// Those of them that sleep: their rules are there, and no packet meets them. iptables does not
    /// show it.
    pub dormant: BTreeSet<(Family, String)>,
    /// Rules in them that iptables cannot list truthfully.
    pub rules: Vec<ForeignRule>,
    /// The tables that have base chains which are not iptables'.
    pub native: Tables,
}

impl Inventory {
    /// Takes the inventory of this network namespace. Rules of tables that are neither iptables'
    /// nor hooked in are not looked at.
    pub fn take() -> Result<Self, Error> {
        let (moment, inventory) = Moment::with(&mut Socket::open()?, Self::read)?;
        Ok(Self {
            moment,
            ..inventory
        })
    }

    fn read(socket: &mut Socket) -> Result<Self, Error> {
        let mut inventory = Self::default();
        for (name, chain) in chains(socket, None)? {
            let Some(base) = &chain.base else {
                continue;
            };
            if let Some(family) = of_iptables(&name, hook(&name, base.number)) {
                inventory.tables.insert((family, name.table));
            }
        }
        inventory.native = native::read(socket, |family, table, chain, base| {
            let name = ChainName {
                proto: match Proto::of(family) {
                    Some(proto) => proto,
                    None => return true,
                },
                table: table.to_owned(),
                chain: chain.to_owned(),
            };
            of_iptables(&name, hook(&name, base.hook)).is_none()
        })?;
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

/// Where a chain of IP is hooked in.
fn hook(name: &ChainName, number: u32) -> Option<Hook> {
    name.proto.family()?;
    Hook::ALL.into_iter().find(|hook| hook.number() == number)
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
        if let Some(why) = why_foreign(expressions, family)? {
            let native = decode_rule(&native::expressions(expressions)?, family);
            found.push(ForeignRule {
                family,
                table: table.to_owned(),
                chain: string(attributes, rule::CHAIN),
                index,
                why,
                does: native.target(),
            });
        }
        Ok(())
    })?;
    Ok(found)
}
