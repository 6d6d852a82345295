//! Tables and their base chains: read whole, made, removed, woken.

use std::collections::BTreeSet;

use netlink_packet_core::NLM_F_CREATE;

use super::batch::Batch;
use super::chains::{BaseHook, ChainName, absent};
use super::message::{
    Attributes, Proto, Verb, chain, hook, number, rule, string, table, text, value,
};
use super::rules::RawRule;
use super::socket::Socket;
use crate::os::netlink::Error;
use crate::ruleset::Family;

/// `NF_ACCEPT` (linux/netfilter.h).
const ACCEPT: u32 = 1;

/// A table with its chains, as it is or as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// `NFT_TABLE_F_…`.
    pub flags: u32,
    /// The port of the socket that owns it; 0 where none does.
    pub owner: u32,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// How much else stands in it: sets, flowtables, stateful objects.
    pub others: usize,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// How it is hooked in; `None` for one that rules jump to.
    pub base: Option<BaseHook>,
    /// Whether a packet that no rule stops goes on.
    pub accepts: bool,
    /// `NFT_CHAIN_…` but that it is hooked in: a device decides for it, or it goes with a rule.
    pub flags: u32,
    /// Its rules, in order.
    pub rules: Vec<RawRule>,
}

impl Table {
    /// Reads a table; `None` where there is none of that name.
    pub fn read(socket: &mut Socket, proto: Proto, name: &str) -> Result<Option<Self>, Error> {
        let get = Attributes::default().text(table::NAME, name);
        let (mut found, mut objects) = (Self::default(), 0);
        let asked = socket.ask(Verb::GetTable, proto as u8, &get.0, |message| {
            let attributes = message.attributes();
            found.flags = number(attributes, table::FLAGS).unwrap_or_default();
            found.owner = number(attributes, table::OWNED_BY).unwrap_or_default();
            objects = number(attributes, table::USE).unwrap_or_default();
            Ok(())
        });
        if absent(&asked) {
            return Ok(None);
        }
        asked?;
        found.chains = chains(socket, Some(proto))?
            .into_iter()
            .filter(|(at, _)| at.table == name)
            .map(|(_, chain)| chain)
            .collect();
        // The kernel counts all of its chains, sets, flowtables and stateful objects together.
        found.others = (objects as usize).saturating_sub(found.chains.len());
        let get = Attributes::default().text(rule::TABLE, name);
        socket.dump(Verb::GetRule, proto as u8, &get.0, |message| {
            let name = text(message.attributes(), rule::CHAIN).unwrap_or_default();
            let mut chains = found.chains.iter_mut();
            if let Some(chain) = chains.find(|chain| chain.name.as_bytes() == name) {
                chain.rules.push(RawRule::read(message.attributes())?);
            }
            Ok(())
        })?;
        Ok(Some(found))
    }

    /// The rules of one of its chains.
    #[must_use]
    pub fn rules_of(&self, chain: &str) -> &[RawRule] {
        let mut chains = self.chains.iter();
        chains
            .find(|found| found.name == chain)
            .map_or(&[], |found| &found.rules)
    }
}

/// All chains of a family, or of every family, without their rules.
pub(super) fn chains(
    socket: &mut Socket,
    of: Option<Proto>,
) -> Result<Vec<(ChainName, Chain)>, Error> {
    let mut found = Vec::new();
    let family = of.map_or(0, |proto| proto as u8);
    socket.dump(Verb::GetChain, family, &[], |message| {
        let attributes = message.attributes();
        let proto = Proto::of(message.family());
        let Some(proto) = proto.filter(|proto| of.is_none_or(|of| of == *proto)) else {
            return Ok(());
        };
        let base = value(attributes, chain::HOOK).and_then(|hook| {
            Some(BaseHook {
                kind: string(attributes, chain::KIND),
                number: number(hook, hook::NUMBER)?,
                priority: number(hook, hook::PRIORITY)?.cast_signed(),
                device: text(hook, hook::DEVICE).map(<[u8]>::to_vec),
            })
        });
        let name = ChainName {
            proto,
            table: string(attributes, chain::TABLE),
            chain: string(attributes, chain::NAME),
        };
        let chain = Chain {
            name: name.chain.clone(),
            base,
            accepts: number(attributes, chain::POLICY).is_none_or(|policy| policy == ACCEPT),
            flags: number(attributes, chain::FLAGS).unwrap_or_default() & !chain::BASE,
            rules: Vec::new(),
        };
        found.push((name, chain));
        Ok(())
    })?;
    Ok(found)
}

/// Whether there is such a chain.
pub fn exists(socket: &mut Socket, chain: &ChainName) -> Result<bool, Error> {
    let asked = socket.ask(Verb::GetChain, chain.proto as u8, &named(chain).0, |_| {
        Ok(())
    });
    if absent(&asked) {
        return Ok(false);
    }
    asked.map(|()| true)
}

/// The tables of a family that sleep: their rules are there, and no packet meets them. iptables does
/// not show it.
pub(super) fn dormant(socket: &mut Socket, family: Family) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let proto = Proto::from(family) as u8;
    socket.dump(Verb::GetTable, proto, &[], |message| {
        let attributes = message.attributes();
        let flags = number(attributes, table::FLAGS).unwrap_or_default();
        if message.family() == proto && flags & table::DORMANT != 0 {
            found.push(string(attributes, table::NAME));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Wakes those of iptables' tables that sleep, of the ones named. Returns which were woken.
pub fn wake(tables: &BTreeSet<(Family, &str)>) -> Result<Vec<(Family, String)>, Error> {
    let mut socket = Socket::open()?;
    let mut woken = Vec::new();
    for family in [Family::V4, Family::V6] {
        let (_, asleep) = socket.steady(|socket| dormant(socket, family))?;
        for name in asleep {
            if tables.contains(&(family, name.as_str())) {
                let mut batch = Batch::default();
                let awake = Attributes::default()
                    .text(table::NAME, &name)
                    .number(table::FLAGS, 0);
                batch.push(Verb::NewTable, 0, family.into(), &awake.0);
                batch.commit(&mut socket, None)?;
                woken.push((family, name));
            }
        }
    }
    Ok(woken)
}

impl Batch {
    /// Makes the table where it is not there. Where it is, it becomes the socket's own if `flags` ask
    /// for an owner.
    pub fn table(&mut self, proto: Proto, name: &str, flags: u32) {
        let attributes = Attributes::default()
            .text(table::NAME, name)
            .number(table::FLAGS, flags);
        self.push(Verb::NewTable, NLM_F_CREATE, proto, &attributes.0);
    }

    /// Deletes a table with all that is in it.
    pub fn delete_table(&mut self, proto: Proto, name: &str) {
        let attributes = Attributes::default().text(table::NAME, name);
        self.push(Verb::DelTable, 0, proto, &attributes.0);
    }

    /// Makes a chain, in a table that is there, where it is not there itself: a base chain, or with no
    /// `base` one that rules jump to.
    pub fn chain(&mut self, name: &ChainName, base: Option<&BaseHook>) {
        let mut attributes = named(name);
        if let Some(base) = base {
            let mut hooked = Attributes::default()
                .number(hook::NUMBER, base.number)
                .number(hook::PRIORITY, base.priority.cast_unsigned());
            if let Some(device) = &base.device {
                hooked = hooked.put(hook::DEVICE, &[device, &[0][..]].concat());
            }
            attributes = attributes
                .nest(chain::HOOK, &hooked)
                .text(chain::KIND, &base.kind);
        }
        self.push(Verb::NewChain, NLM_F_CREATE, name.proto, &attributes.0);
    }

    /// Deletes a chain with its rules.
    pub fn delete_chain(&mut self, name: &ChainName) {
        self.flush(name);
        self.push(Verb::DelChain, 0, name.proto, &named(name).0);
    }
}

fn named(name: &ChainName) -> Attributes {
    Attributes::default()
        .text(chain::TABLE, &name.table)
        .text(chain::NAME, &name.chain)
}
