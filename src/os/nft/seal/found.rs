//! A table of the seal as it is read from the kernel, and whether it is what it should be.

use std::io;

use netlink_packet_core::NLM_F_DUMP;

use super::build::{base_hook, chain_name};
use super::{DORMANT, drops};
use crate::guarantee::{NativeHook, NativeRule};
use crate::os::nft::attributes::{number, text, value};
use crate::os::nft::message::{Attributes, Proto, Verb};
use crate::os::nft::native;
use crate::os::nft::rules::RawRule;
use crate::os::nft::socket::Socket;

/// A table as it is.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) flags: u32,
    pub(super) owner: u32,
    pub(super) chains: Vec<FoundChain>,
}

#[derive(Debug, Default)]
pub(super) struct FoundChain {
    pub(super) name: String,
    pub(super) hook: Option<(u32, i32)>,
    pub(super) accepts: bool,
    pub(super) rules: Vec<RawRule>,
}

impl Found {
    /// Whether the table holds exactly these rules, in order, in chains that are hooked in right.
    pub(super) fn holds(&self, table: &str, wanted: &[NativeRule]) -> bool {
        let hooks: Vec<NativeHook> = NativeHook::ALL
            .into_iter()
            .filter(|hook| wanted.iter().any(|rule| rule.hook == *hook))
            .collect();
        let whole = |hook: &NativeHook| {
            let right = base_hook(table, *hook);
            let in_order = |held: &[RawRule]| {
                let mut rules = wanted.iter().filter(|rule| rule.hook == *hook);
                held.iter()
                    .all(|raw| rules.next().is_some_and(|rule| native::is(raw, rule)))
                    && rules.next().is_none()
            };
            self.chains.iter().any(|chain| {
                chain.name == chain_name(*hook)
                    && chain.accepts
                    && chain.hook == Some((right.number, right.priority))
                    && in_order(&chain.rules)
            })
        };
        self.flags & DORMANT == 0 && self.chains.len() == hooks.len() && hooks.iter().all(whole)
    }

    /// The rule of the table that is this one, or was before its cgroup was made again.
    fn find(&self, wanted: &NativeRule) -> Option<&RawRule> {
        let chains = self.chains.iter();
        chains
            .filter(|chain| chain.name == chain_name(wanted.hook))
            .flat_map(|chain| &chain.rules)
            .find(|raw| native::was(raw, wanted))
    }

    /// The number of the cgroup that its rules ask for.
    pub(super) fn cgroup(&self) -> Option<u64> {
        let mut rules = self.chains.iter().flat_map(|chain| &chain.rules);
        rules.find_map(native::cgroup_of)
    }

    /// What the rules have counted, in their order.
    pub(super) fn counted(&self, wanted: &[NativeRule]) -> Vec<u64> {
        let packets = |rule| self.find(rule).map_or(0, native::packets);
        wanted.iter().map(packets).collect()
    }

    pub(super) fn stopped(&self, wanted: &[NativeRule]) -> Vec<(NativeRule, u64)> {
        let drops = drops(wanted).into_iter();
        drops
            .filter_map(|rule| {
                let packets = native::packets(self.find(&rule)?);
                Some((rule, packets))
            })
            .collect()
    }
}

/// Reads a table of the family inet; `None` where there is none of that name.
pub(super) fn find(socket: &mut Socket, table: &str) -> io::Result<Option<Found>> {
    let family = Proto::Inet as u8;
    let get = Attributes::default().text(1, table);
    let mut found = Found::default();
    let asked = socket.ask(Verb::GetTable, 0, family, &get.0, |message| {
        found.flags = number(message.attributes(), 2).unwrap_or_default();
        // NFTA_TABLE_OWNER.
        found.owner = number(message.attributes(), 7).unwrap_or_default();
    });
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    socket.ask(Verb::GetChain, NLM_F_DUMP, family, &[], |message| {
        let attributes = message.attributes();
        if message.family() != family || text(attributes, 1) != Some(table.as_bytes()) {
            return;
        }
        // NFTA_CHAIN_NAME, _HOOK, _POLICY; NFTA_HOOK_HOOKNUM, _PRIORITY. NF_ACCEPT is 1.
        let hook = value(attributes, 4)
            .and_then(|hook| Some((number(hook, 1)?, number(hook, 2)?.cast_signed())));
        found.chains.push(FoundChain {
            name: String::from_utf8_lossy(text(attributes, 3).unwrap_or_default()).into_owned(),
            hook,
            accepts: number(attributes, 5).is_none_or(|policy| policy == 1),
            rules: Vec::new(),
        });
    })?;
    let mut bad = None;
    socket.ask(Verb::GetRule, NLM_F_DUMP, family, &get.0, |message| {
        let name = text(message.attributes(), 2).unwrap_or_default();
        let chain = found
            .chains
            .iter_mut()
            .find(|chain| chain.name.as_bytes() == name);
        match (chain, RawRule::read(message.attributes())) {
            (Some(chain), Ok(rule)) => chain.rules.push(rule),
            (None, _) => {}
            (_, Err(error)) => bad = Some(error),
        }
    })?;
    match bad {
        Some(error) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        )),
        None => Ok(Some(found)),
    }
}
