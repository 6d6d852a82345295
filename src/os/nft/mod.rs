//! nf_tables as the kernel itself tells it, over netlink: what iptables' own listing hides.

mod attributes;
mod batch;
mod commits;
mod counters;
mod foreign;
mod message;
mod native;
mod rules;
pub mod seal;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, HookNumber, InetHookNumber,
    NfTablesMessage, RuleAttribute, RuleMessage,
};

pub use self::batch::{Batch, Refused};
pub use self::commits::{Commit, Commits, Heard};
pub use self::counters::packets;
use self::foreign::Rule;
pub use self::message::Proto;
use self::message::Verb;
pub use self::rules::{BaseHook, ChainName, Held, RawRule, exists, first_of};
use self::socket::Answer;
pub use self::socket::Socket;
use crate::prove::{ForeignChain, Hook};
use crate::ruleset::Family;

/// How often an inventory is taken again because somebody committed while it was taken.
const ATTEMPTS: usize = 5;

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
    pub fn take() -> io::Result<Self> {
        let mut socket = Socket::open()?;
        let (generation, mut inventory) = socket.steady(ATTEMPTS, Self::read)?;
        inventory.generation = generation;
        Ok(inventory)
    }

    fn read(socket: &mut Socket) -> io::Result<Self> {
        let all = ChainMessage {
            attributes: Vec::new(),
        };
        let messages = socket.dump(NetfilterProtoFamily::Unspec, NfTablesMessage::GetChain(all))?;
        let chains: Vec<BaseChain> = messages
            .iter()
            .map(BaseChain::of)
            .filter_map(Result::transpose)
            .collect::<io::Result<_>>()?;
        let mut inventory = Self::default();
        for chain in &chains {
            if let Some(family) = chain.of_iptables() {
                inventory.tables.insert((family, chain.table.clone()));
            } else if let Some(hook) = chain.hook
                && (!chain.accepts || chain.holds_rules(socket)?)
            {
                inventory.chains.push(ForeignChain {
                    family: family_of(chain.family),
                    hook,
                    name: format!("{} {} {}", name(chain.family), chain.table, chain.name),
                    nat: chain.nat,
                });
            }
        }
        for family in [Family::V4, Family::V6] {
            for table in sleeping(socket, family)? {
                inventory.dormant.insert((family, table));
            }
        }
        for (family, table) in &inventory.tables {
            inventory
                .rules
                .extend(foreign_rules(socket, *family, table)?);
        }
        Ok(inventory)
    }
}

/// `NFT_TABLE_F_DORMANT` (linux/netfilter/nf_tables.h).
const DORMANT: u32 = 1;

/// The tables of a family whose chains are not asked.
fn sleeping(socket: &mut Socket, family: Family) -> io::Result<Vec<String>> {
    // NFTA_TABLE_NAME, NFTA_TABLE_FLAGS.
    let mut found = Vec::new();
    let proto = Proto::from(family) as u8;
    socket.ask(Verb::GetTable, NLM_F_DUMP, proto, &[], |message| {
        let attributes = message.attributes();
        if message.family() == proto
            && attributes::number(attributes, 2).is_some_and(|flags| flags & DORMANT != 0)
            && let Some(name) = attributes::text(attributes, 1)
        {
            found.push(String::from_utf8_lossy(name).into_owned());
        }
    })?;
    Ok(found)
}

/// Wakes those of iptables' tables that sleep, of the ones named. Returns which were woken.
pub fn wake(tables: &BTreeSet<(Family, &str)>) -> io::Result<Vec<(Family, String)>> {
    let mut socket = Socket::open()?;
    let mut woken = Vec::new();
    for family in [Family::V4, Family::V6] {
        for table in sleeping(&mut socket, family)? {
            if tables.contains(&(family, table.as_str())) {
                let mut batch = Batch::default();
                batch.wake(family.into(), &table);
                batch.commit(&mut socket, None)?;
                woken.push((family, table));
            }
        }
    }
    Ok(woken)
}

/// The number of the last commit in this network namespace.
pub fn generation() -> io::Result<u32> {
    Socket::open()?.generation()
}

fn foreign_rules(socket: &mut Socket, family: Family, table: &str) -> io::Result<Vec<ForeignRule>> {
    let get = RuleMessage {
        attributes: vec![RuleAttribute::Table(table.to_owned())],
    };
    let mut places: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for answer in socket.dump(proto(family), NfTablesMessage::GetRule(get))? {
        let rule = Rule::read(answer.attributes())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let place = places.entry(rule.chain.to_owned()).or_default();
        let index = *place;
        *place += 1;
        if let Some(why) = rule.why_foreign(family) {
            let chain = String::from_utf8_lossy(rule.chain).into_owned();
            found.push(ForeignRule {
                family,
                table: table.to_owned(),
                chain,
                index,
                why,
            });
        }
    }
    Ok(found)
}

/// A chain that is hooked into the path of packets.
struct BaseChain {
    family: NetfilterProtoFamily,
    table: String,
    name: String,
    /// `None` for a hook that no claim's packets pass.
    hook: Option<Hook>,
    accepts: bool,
    nat: bool,
}

impl BaseChain {
    fn of(answer: &Answer) -> io::Result<Option<Self>> {
        let (family, NfTablesMessage::NewChain(message)) = answer.decode()? else {
            return Ok(None);
        };
        let (mut table, mut name, mut hooked) = (None, None, None);
        let (mut accepts, mut nat) = (true, false);
        for attribute in message.attributes {
            match attribute {
                ChainAttribute::Table(value) => table = Some(value),
                ChainAttribute::Name(value) => name = Some(value),
                // NF_ACCEPT is 1 (linux/netfilter.h).
                ChainAttribute::Policy(value) => accepts = value == 1,
                ChainAttribute::Type(value) => nat = value == "nat",
                ChainAttribute::Hook(parts) => hooked = Some(hook(family, &parts)),
                _ => {}
            }
        }
        let chain = table.zip(name).zip(hooked);
        Ok(chain.map(|((table, name), hook)| Self {
            family,
            table,
            name,
            hook,
            accepts,
            nat,
        }))
    }

    /// The family, if the chain is one that iptables lists: named after its hook, in a table of
    /// iptables.
    fn of_iptables(&self) -> Option<Family> {
        let tables = ["raw", "mangle", "nat", "filter", "security"];
        let listed = tables.contains(&self.table.as_str())
            && self.hook.is_some_and(|hook| hook.chain() == self.name);
        if listed { family_of(self.family) } else { None }
    }

    fn holds_rules(&self, socket: &mut Socket) -> io::Result<bool> {
        let attributes = vec![
            RuleAttribute::Table(self.table.clone()),
            RuleAttribute::Chain(self.name.clone()),
        ];
        let get = NfTablesMessage::GetRule(RuleMessage { attributes });
        Ok(!socket.dump(self.family, get)?.is_empty())
    }
}

/// Where the chain is hooked in. Ingress comes before everything else; it is counted as PREROUTING.
fn hook(family: NetfilterProtoFamily, parts: &[HookAttribute]) -> Option<Hook> {
    match family {
        NetfilterProtoFamily::NetDev => return Some(Hook::Prerouting),
        NetfilterProtoFamily::IPv4 | NetfilterProtoFamily::IPv6 | NetfilterProtoFamily::Inet => {}
        _ => return None,
    }
    parts.iter().find_map(|part| match part {
        HookAttribute::Number(HookNumber::Inet(number)) => match number {
            InetHookNumber::PreRouting | InetHookNumber::Ingress => Some(Hook::Prerouting),
            InetHookNumber::LocalIn => Some(Hook::Input),
            InetHookNumber::Forward => Some(Hook::Forward),
            InetHookNumber::LocalOut => Some(Hook::Output),
            InetHookNumber::PostRouting => Some(Hook::Postrouting),
            _ => None,
        },
        _ => None,
    })
}

const fn proto(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    }
}

/// `None` where packets of both families pass (inet, netdev).
const fn family_of(family: NetfilterProtoFamily) -> Option<Family> {
    match family {
        NetfilterProtoFamily::IPv4 => Some(Family::V4),
        NetfilterProtoFamily::IPv6 => Some(Family::V6),
        _ => None,
    }
}

/// As nft calls the families.
const fn name(family: NetfilterProtoFamily) -> &'static str {
    match family {
        NetfilterProtoFamily::IPv4 => "ip",
        NetfilterProtoFamily::IPv6 => "ip6",
        NetfilterProtoFamily::Inet => "inet",
        _ => "netdev",
    }
}
