//! What sets of ipset hold, over netlink.
//!
//! Numbers are those of linux/netfilter/ipset/ip_set.h.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_DUMP;
use nix::sys::socket::SockProtocol;

use super::attributes::{Attributes, each, text, value};
use super::netlink::{NFGENMSG, Socket};
use crate::config::readable;
use crate::ruleset::{Entry, Ipset, Net, Part};

/// `NFNL_SUBSYS_IPSET`, `IPSET_CMD_LIST`.
const LIST: u16 = 6 << 8 | 7;
/// The oldest protocol that Linux speaks since 2.6.39, and speaks still.
const PROTOCOL: u8 = 6;

/// `IPSET_ATTR_…` of a whole set.
mod set {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const TYPE: u16 = 3;
    pub(super) const CREATED_WITH: u16 = 7;
    pub(super) const ENTRIES: u16 = 8;
    pub(super) const NETMASK: u16 = 20;
    pub(super) const BITMASK: u16 = 12;
}

/// `IPSET_ATTR_…` of an entry.
mod entry {
    pub(super) const IP: u16 = 1;
    pub(super) const CIDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const PROTOCOL: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const NAME: u16 = 18;
    pub(super) const IP2: u16 = 20;
    pub(super) const CIDR2: u16 = 21;
    pub(super) const IPV4: u16 = 1;
    pub(super) const IPV6: u16 = 2;
    /// `IPSET_FLAG_NOMATCH`.
    pub(super) const NOMATCH: u32 = 1 << 2;
}

/// A larger set is not understood: with two rules that ask for so many addresses a check takes 0.25 s instead of 0.05, and
/// ten times as many take 3 s.
const ENTRIES: usize = 1_000;

/// Reads sets of the calling thread's network namespace, and those that they list; `None` for each that is of a kind
/// not understood, too large, or not there.
pub fn read<'n>(
    names: impl IntoIterator<Item = &'n str>,
) -> io::Result<BTreeMap<String, Option<Ipset>>> {
    let mut left: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut sets = BTreeMap::new();
    if left.is_empty() {
        return Ok(sets);
    }
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    while let Some(name) = left.pop() {
        if sets.contains_key(&name) {
            continue;
        }
        let set = list(&mut socket, &name)?;
        if let Some(Ipset::List(members)) = &set {
            left.extend(members.iter().cloned());
        }
        sets.insert(name, set);
    }
    Ok(sets)
}

/// Reads the sets again that were understood.
pub fn read_again(
    before: &BTreeMap<String, Option<Ipset>>,
) -> io::Result<BTreeMap<String, Option<Ipset>>> {
    let known = before.iter().filter(|(_, set)| set.is_some());
    let mut now = read(known.map(|(name, _)| name.as_str()))?;
    for (name, _) in before.iter().filter(|(_, set)| set.is_none()) {
        now.insert(name.clone(), None);
    }
    Ok(now)
}

fn list(socket: &mut Socket, name: &str) -> io::Result<Option<Ipset>> {
    let asked = Attributes::default()
        .put(set::PROTOCOL, &[PROTOCOL])
        .put(set::NAME, &[name.as_bytes(), &[0]].concat());
    let family = u8::try_from(nix::libc::AF_INET).unwrap_or_default();
    let mut reader = Reader::default();
    let answer = socket.ask(
        (LIST, NLM_F_DUMP),
        &[family, 0, 0, 0],
        &asked.0,
        &mut |message| {
            reader.read(message.payload.get(NFGENMSG..).unwrap_or_default());
        },
    );
    match answer {
        Ok(()) => Ok(reader.set()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the messages of an answer say of one set.
#[derive(Default)]
struct Reader {
    kind: Option<Kind>,
    netmask: Option<u8>,
    entries: Vec<Entry>,
    members: Vec<String>,
    /// Whether anything is not understood.
    unknown: bool,
}

impl Reader {
    /// Takes in the attributes of one message. The first says what kind of set it is, and the entries may come in several.
    fn read(&mut self, attributes: &[u8]) {
        for (number, value) in each(attributes) {
            match number {
                Ok(set::TYPE) => self.kind = Kind::of(&readable(text(value))),
                Ok(set::CREATED_WITH) => self.created(value),
                Ok(set::ENTRIES) => each(value).for_each(|(_, entry)| self.add(entry)),
                Ok(_) => {}
                Err(_) => self.unknown = true,
            }
        }
    }

    fn created(&mut self, with: &[u8]) {
        self.netmask = value(with, set::NETMASK).and_then(|mask| mask.first().copied());
        self.unknown |= value(with, set::BITMASK).is_some();
    }

    fn add(&mut self, attributes: &[u8]) {
        match &self.kind {
            Some(Kind::List) => {
                let name = value(attributes, entry::NAME).unwrap_or_default();
                self.members.push(readable(text(name)));
            }
            Some(Kind::Packets(parts)) => match read_entry(parts, self.netmask, attributes) {
                Some(entry) if self.entries.len() < ENTRIES => self.entries.push(entry),
                _ => self.unknown = true,
            },
            None => {}
        }
    }

    fn set(self) -> Option<Ipset> {
        match self.kind? {
            _ if self.unknown => None,
            Kind::List => Some(Ipset::List(self.members)),
            Kind::Packets(_) => Some(Ipset::Entries(self.entries)),
        }
    }
}

/// An entry of a set that has these parts; `None` where it is not understood.
fn read_entry(parts: &[Asked], netmask: Option<u8>, attributes: &[u8]) -> Option<Entry> {
    let of = |number| value(attributes, number);
    let byte = |number| of(number).and_then(|value| value.first().copied());
    let flags = of(entry::FLAGS).and_then(<[u8]>::first_chunk);
    let except = u32::from_be_bytes(flags.copied().unwrap_or_default()) & entry::NOMATCH != 0;
    // Of several addresses, which entry is the narrowest and what a mask is for depends on more.
    if parts.len() > 1 && (except || netmask.is_some()) {
        return None;
    }
    let mut addresses = [(entry::IP, entry::CIDR), (entry::IP2, entry::CIDR2)].into_iter();
    let read = |part: &Asked| match part {
        Asked::Address => {
            let (ip, cidr) = addresses.next()?;
            network(of(ip)?, byte(cidr).or(netmask)).map(Part::Net)
        }
        Asked::Port | Asked::AnyPort => {
            let protocol = match part {
                Asked::Port => Some(byte(entry::PROTOCOL)?),
                _ => None,
            };
            let port = u16::from_be_bytes(*of(entry::PORT)?.first_chunk()?).into();
            Some(Part::Port { protocol, port })
        }
    };
    let parts = parts.iter().map(read).collect::<Option<Vec<_>>>()?;
    Some(Entry { parts, except })
}

/// What entries of a set are.
enum Kind {
    /// The names of other sets.
    List,
    /// What packets must have.
    Packets(Vec<Asked>),
}

/// What a part of an entry is compared with.
enum Asked {
    Address,
    /// The port of a protocol.
    Port,
    /// The port, whatever the protocol.
    AnyPort,
}

impl Kind {
    /// That of the sets of a type, `hash:net,port`; `None` where they ask for something else, too.
    fn of(name: &str) -> Option<Self> {
        let (method, parts) = name.split_once(':')?;
        if (method, parts) == ("list", "set") {
            return Some(Self::List);
        }
        let part = |part| match (method, part) {
            ("hash" | "bitmap", "ip") | ("hash", "net") => Some(Asked::Address),
            ("hash", "port") => Some(Asked::Port),
            ("bitmap", "port") => Some(Asked::AnyPort),
            _ => None,
        };
        parts
            .split(',')
            .map(part)
            .collect::<Option<_>>()
            .map(Self::Packets)
    }
}

/// An address in an attribute, of the family that it has.
fn network(nested: &[u8], prefix: Option<u8>) -> Option<Net> {
    let v4 = value(nested, entry::IPV4).and_then(<[u8]>::first_chunk);
    let v6 = value(nested, entry::IPV6).and_then(<[u8]>::first_chunk);
    let address = match (v4, v6) {
        (Some(bytes), None) => IpAddr::V4(Ipv4Addr::from_octets(*bytes)),
        (None, Some(bytes)) => IpAddr::V6(Ipv6Addr::from_octets(*bytes)),
        _ => return None,
    };
    match prefix {
        Some(prefix) => Net::new(address, prefix),
        None => Some(Net::host(address)),
    }
}
