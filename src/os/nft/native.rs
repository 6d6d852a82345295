//! Reads tables of native nftables as the kernel's expressions.

mod parse;

use std::collections::BTreeMap;

use netlink_packet_core::DecodeError;

use super::message::{Attributes, Verb, each, long, number, rule, string, table, text, value};
use super::socket::Socket;
use crate::config::readable;
use crate::os::netlink::{self, Error};
use crate::ruleset::native::{
    Data, Element, Expression, RawBase, RawChain, RawRule, RawTable, Set, Tables,
};
use nix::sys::socket::SockProtocol;
use parse::{data, expression};

/// `NFPROTO_…` of the families that a packet of IP passes: inet, ip, netdev, bridge, ip6.
const FAMILIES: [u8; 5] = [1, 2, 5, 7, 10];

/// `NFTA_CHAIN_…`, `NFTA_HOOK_…`, `NFTA_DEVICE_NAME`.
mod chain {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const KIND: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const HOOK_DEVICE: u16 = 3;
    pub(super) const HOOK_DEVICES: u16 = 4;
    pub(super) const DEVICE_NAME: u16 = 1;
}

/// `NFTA_SET_…`, `NFTA_SET_DESC_CONCAT`, `NFTA_SET_FIELD_LEN`, `NFT_SET_…`.
mod set {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_LENGTH: u16 = 5;
    pub(super) const DESCRIPTION: u16 = 9;
    pub(super) const FIELDS: u16 = 2;
    pub(super) const FIELD_LENGTH: u16 = 1;
    pub(super) const INTERVAL: u32 = 0x4;
    /// TIMEOUT, EVAL, OBJECT, EXPR: what is in it changes by itself, or does more than match.
    pub(super) const LIVELY: u32 = 0x10 | 0x20 | 0x40 | 0x100;
}

/// `NFTA_SET_ELEM_LIST_…`, `NFTA_SET_ELEM_…`, `NFT_SET_ELEM_…`.
mod element {
    pub(super) const TABLE: u16 = 1;
    pub(super) const SET: u16 = 2;
    pub(super) const LIST: u16 = 3;
    pub(super) const KEY: u16 = 1;
    pub(super) const DATA: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const USERDATA: u16 = 6;
    pub(super) const LAST: u16 = 10;
    pub(super) const ENDS: u32 = 1;
    pub(super) const OTHERWISE: u32 = 2;
}

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// Reads every table that has a base chain for which `walked` is true, given the family, the table, the
/// chain and its hook; other chains are there to be jumped to.
pub(super) fn read(
    socket: &mut Socket,
    walked: impl Fn(u8, &str, &str, &RawBase) -> bool,
) -> Result<Tables, Error> {
    let mut tables: BTreeMap<(u8, String), RawTable> = BTreeMap::new();
    socket.dump(Verb::GetTable, 0, &[], |message| {
        let (family, attributes) = (message.family(), message.attributes());
        let name = string(attributes, table::NAME);
        let dormant = number(attributes, table::FLAGS).unwrap_or_default() & table::DORMANT != 0;
        if FAMILIES.contains(&family) && !dormant {
            let table = RawTable {
                family,
                name: name.clone(),
                ..RawTable::default()
            };
            tables.insert((family, name), table);
        }
        Ok(())
    })?;
    socket.dump(Verb::GetChain, 0, &[], |message| {
        let (family, attributes) = (message.family(), message.attributes());
        let table = string(attributes, chain::TABLE);
        let name = string(attributes, chain::NAME);
        let base = value(attributes, chain::HOOK)
            .map(|hook| base(attributes, hook))
            .transpose()?;
        let base = base.filter(|base| walked(family, &table, &name, base));
        if let Some(table) = tables.get_mut(&(family, table)) {
            table.chains.insert(
                name,
                RawChain {
                    base,
                    rules: Vec::new(),
                },
            );
        }
        Ok(())
    })?;
    tables.retain(|_, table| table.chains.values().any(|chain| chain.base.is_some()));
    for table in tables.values_mut() {
        rules(socket, table)?;
        sets(socket, table)?;
    }
    Ok(Tables {
        tables: tables.into_values().collect(),
        interfaces: interfaces()?,
    })
}

fn interfaces() -> Result<BTreeMap<u32, String>, Error> {
    let mut socket = netlink::Socket::open(SockProtocol::NetlinkRoute)?;
    let links = crate::os::links::all(&mut socket)?;
    Ok(links
        .into_iter()
        .map(|link| (link.index, link.name))
        .collect())
}

fn base(attributes: &[u8], hook: &[u8]) -> Result<RawBase, DecodeError> {
    let named = |bytes: &[u8]| readable(crate::os::attributes::text(bytes));
    let mut devices = Vec::new();
    devices.extend(value(hook, chain::HOOK_DEVICE).map(named));
    if let Some(list) = value(hook, chain::HOOK_DEVICES) {
        devices.clear();
        for (kind, device) in each(list) {
            // One that is not named is a pattern: which interfaces it means is not known.
            if kind? == chain::DEVICE_NAME {
                devices.push(named(device));
            }
        }
    }
    Ok(RawBase {
        kind: string(attributes, chain::KIND),
        hook: number(hook, chain::HOOK_NUMBER).unwrap_or_default(),
        priority: number(hook, chain::HOOK_PRIORITY)
            .unwrap_or_default()
            .cast_signed(),
        accepts: number(attributes, chain::POLICY).is_none_or(|policy| policy == ACCEPT),
        devices,
    })
}

/// What a rule consists of.
pub(super) fn expressions(list: &[u8]) -> Result<Vec<Expression>, DecodeError> {
    super::message::expressions(list)
        .map(|one| one.and_then(|(name, data)| expression(name, data)))
        .collect()
}

fn rules(socket: &mut Socket, table: &mut RawTable) -> Result<(), Error> {
    let get = Attributes::default().text(rule::TABLE, &table.name);
    let (family, name) = (table.family, table.name.clone());
    socket.dump(Verb::GetRule, family, &get.0, |message| {
        let attributes = message.attributes();
        // Old kernels answer with more than was asked for.
        if message.family() != family || text(attributes, rule::TABLE) != Some(name.as_bytes()) {
            return Ok(());
        }
        let expressions = expressions(value(attributes, rule::EXPRESSIONS).unwrap_or_default())?;
        let comment = value(attributes, rule::USERDATA).and_then(comment);
        let chain = string(attributes, rule::CHAIN);
        if let Some(chain) = table.chains.get_mut(&chain) {
            chain.rules.push(RawRule {
                expressions,
                comment,
                handle: long(attributes, rule::HANDLE).unwrap_or_default(),
            });
        }
        Ok(())
    })
}

/// The comment in a rule's user data: NFTNL_UDATA_RULE_COMMENT is type 0 (libnftnl/udata.h).
fn comment(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, after @ ..] = rest {
        let value = after.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = crate::os::attributes::text(value);
            return Some(readable(text));
        }
        rest = after.get(usize::from(*length)..)?;
    }
    None
}

fn sets(socket: &mut Socket, table: &mut RawTable) -> Result<(), Error> {
    let get = Attributes::default().text(set::TABLE, &table.name);
    let (family, name) = (table.family, table.name.clone());
    socket.dump(Verb::GetSet, family, &get.0, |message| {
        let attributes = message.attributes();
        if message.family() != family || text(attributes, set::TABLE) != Some(name.as_bytes()) {
            return Ok(());
        }
        let flags = number(attributes, set::FLAGS).unwrap_or_default();
        let length = number(attributes, set::KEY_LENGTH).unwrap_or_default() as usize;
        let mut fields = Vec::new();
        let described = value(attributes, set::DESCRIPTION).unwrap_or_default();
        for (kind, field) in each(value(described, set::FIELDS).unwrap_or_default()) {
            kind?;
            fields.extend(number(field, set::FIELD_LENGTH).map(|length| length as usize));
        }
        if fields.is_empty() {
            fields.push(length);
        }
        let set_name = string(attributes, set::NAME);
        let unclear = (flags & set::LIVELY != 0).then(|| format!("@{set_name} changes by itself"));
        let set = Set {
            intervals: flags & set::INTERVAL != 0,
            fields,
            elements: Vec::new(),
            unclear,
        };
        table.sets.insert(set_name, set);
        Ok(())
    })?;
    for (set_name, set) in &mut table.sets {
        if set.unclear.is_some() {
            continue;
        }
        let get = Attributes::default()
            .text(element::TABLE, &name)
            .text(element::SET, set_name);
        let elements = &mut set.elements;
        let mut odd = false;
        socket.dump(Verb::GetSetElements, family, &get.0, |message| {
            for (kind, attributes) in
                each(value(message.attributes(), element::LIST).unwrap_or_default())
            {
                kind?;
                match read_element(attributes)? {
                    Some(one) => elements.push(one),
                    None => odd = true,
                }
            }
            Ok(())
        })?;
        // The kernel gives the elements of a hash table in any order.
        elements.sort_by(|a, b| a.key.cmp(&b.key));
        if odd {
            set.unclear = Some(format!("@{set_name} has elements that do more than match"));
        }
    }
    Ok(())
}

/// `None` for one that is not understood to its last attribute.
fn read_element(attributes: &[u8]) -> Result<Option<Element>, DecodeError> {
    let mut read = Element::default();
    for (kind, bytes) in each(attributes) {
        match kind? {
            element::KEY => match data(bytes) {
                Some(Data::Bytes(key)) => read.key = key,
                _ => return Ok(None),
            },
            element::LAST => match data(bytes) {
                Some(Data::Bytes(last)) => read.last = Some(last),
                _ => return Ok(None),
            },
            element::DATA => match data(bytes) {
                Some(data) => read.data = Some(data),
                None => return Ok(None),
            },
            element::FLAGS => {
                let bytes = bytes.try_into().map_or(0, u32::from_be_bytes);
                read.ends = bytes & element::ENDS != 0;
                read.otherwise = bytes & element::OTHERWISE != 0;
                if bytes & !(element::ENDS | element::OTHERWISE) != 0 {
                    return Ok(None);
                }
            }
            element::USERDATA => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(read))
}
