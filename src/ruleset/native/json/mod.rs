//! Reads what `nft -j list ruleset` prints (libnftables-json(5)) as what the kernel holds.
//!
//! nft leaves out what a rule asks for only so that what it asks next makes sense: `tcp dport 80` asks for
//! the protocol before. The reader asks it again, as nft does when it reads its own text. A few rules are
//! printed alike although they differ: there both readings hold, and nothing is proved that depends on it.
//!
//! * In tables of ip6, `ip6 nexthdr tcp tcp dport 80` is printed as `tcp dport 80`, and so is
//!   `meta l4proto tcp tcp dport 80`, which also means packets with extension headers.
//! * In tables of several families, `meta l4proto icmp icmp type echo-request` is printed as
//!   `icmp type echo-request`, which alone means packets of IPv4 only.
//! * In tables of netdev and bridge, `ether type ip ip daddr 1.2.3.4` is printed as `ip daddr 1.2.3.4`.
//! * Of what xtables does in a rule of iptables-nft, the name is printed and nothing else: such a table is
//!   not understood.
//! * A table's flags are printed as any bytes (nft 1.0.6): it may be one that sleeps, which no packet meets.
//!
//! What iptables-legacy holds is not there at all.

mod change;
mod document;
mod load;
mod names;
mod rule;
mod saved;
mod set;
mod text;
mod value;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
use thiserror::Error;

use super::expression::{BRIDGE, INET, IPV4, IPV6, NETDEV};
use super::{Expression, RawBase, RawChain};
use document::each;
use load::Asked;
use rule::Rule;
pub use saved::Saved;
use saved::{Sleeps, Table};
use set::Known;
use value::{Datatype, Interfaces, entry, several};

/// The most rules, statements and elements together that are read: they need a few hundred MiB.
const MOST_PARTS: usize = 400_000;

/// Why a text is not such a ruleset.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JsonError {
    /// No JSON, or not whole.
    #[error(
        "this is not all that nft prints: {0}; run `nft -j list ruleset` as root and give its output"
    )]
    Syntax(String),
    /// Something in the list that is not understood.
    #[error("this is not what `nft -j list ruleset` prints: number {number} of its list is {what}")]
    Item {
        /// Which, from 1.
        number: usize,
        /// What it is.
        what: String,
    },
    /// Nothing in it.
    #[error("it holds no table; run `nft -j list ruleset` as root and give its output")]
    Empty,
    /// Too much in it.
    #[error(
        "it holds more than {MOST_PARTS} rules, statements and elements, which is more than is read; run \
         `ecs-netguard check` on that host instead"
    )]
    TooLarge,
}

/// Reads a whole text.
pub fn parse(text: &[u8]) -> Result<Saved, JsonError> {
    let mut reading = Reading::default();
    let mut refused = None;
    let read = each(text, |item| {
        refused = reading.item(item).err();
        refused.is_none()
    });
    if let Some(error) = refused {
        return Err(error);
    }
    read.map_err(|error| JsonError::Syntax(error.to_string()))?;
    if reading.saved.tables.is_empty() {
        return Err(JsonError::Empty);
    }
    Ok(reading.saved)
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    saved: Saved,
    parts: usize,
    number: usize,
}

impl Reading {
    fn item(&mut self, item: &Value) -> Result<(), JsonError> {
        self.number += 1;
        self.parts = self.parts.saturating_add(parts(item));
        if self.parts > MOST_PARTS {
            return Err(JsonError::TooLarge);
        }
        let number = self.number;
        self.take(item)
            .map_err(|what| JsonError::Item { number, what })
    }

    fn take(&mut self, item: &Value) -> Result<(), String> {
        let (kind, body) = entry(item).ok_or("no object of nftables")?;
        let body = body.as_object().ok_or_else(|| format!("an empty {kind}"))?;
        if kind == "metainfo" {
            let version = body.get("json_schema_version").and_then(Value::as_u64);
            return match version {
                Some(1) => Ok(()),
                _ => Err("of another version of nft's JSON".to_owned()),
            };
        }
        let family = match body.get("family").and_then(Value::as_str) {
            Some("inet") => INET,
            Some("ip") => IPV4,
            Some("ip6") => IPV6,
            Some("bridge") => BRIDGE,
            Some("netdev") => NETDEV,
            // No packet of IP passes it.
            Some("arp") => return Ok(()),
            _ => return Err(format!("`{kind}` of a family that is not known")),
        };
        match kind {
            "table" => {
                let name = text_of(body, "name", kind)?;
                let table = Table {
                    sleeps: sleeps(body.get("flags")),
                    ..Table::default()
                };
                self.saved.tables.insert((family, name), table);
                Ok(())
            }
            "chain" | "set" | "map" | "element" | "rule" => self.within(family, kind, body),
            // What rules refer to by name.
            "counter" | "quota" | "limit" | "ct helper" | "ct timeout" | "ct expectation"
            | "secmark" | "synproxy" | "flowtable" | "tunnel" => Ok(()),
            _ => Err(format!("`{kind}`, which is not known")),
        }
    }

    /// What stands in a table.
    fn within(&mut self, family: u8, kind: &str, body: &Map<String, Value>) -> Result<(), String> {
        let interfaces = &mut self.saved.interfaces;
        let place = (family, text_of(body, "table", kind)?);
        let unknown = || format!("a {kind} of a table that is not there");
        let table = self.saved.tables.get_mut(&place).ok_or_else(unknown)?;
        match kind {
            "chain" => {
                let base = base(family, body).ok_or("a chain that is not understood")?;
                let chain = RawChain {
                    base,
                    rules: Vec::new(),
                };
                table.chains.insert(text_of(body, "name", kind)?, chain);
            }
            "set" | "map" => {
                let name = text_of(body, "name", kind)?;
                let types = types(family, body.get("type"), interfaces);
                let known = Known::read(&name, body, types, interfaces);
                table.sets.known.insert(name, known);
            }
            "element" => {
                let name = text_of(body, "name", kind)?;
                let known = table.sets.known.get_mut(&name);
                let known = known.ok_or("elements of a set that is not there")?;
                let list = body.get("elem").ok_or("elements that are not there")?;
                known.add(&name, list, interfaces);
            }
            _ => {
                let chain = text_of(body, "chain", kind)?;
                let rule = Rule {
                    asked: Asked::new(family, interfaces),
                    sets: &mut table.sets,
                    partial: false,
                };
                let (rule, partial) = rule.read(body).ok_or("a rule that is not understood")?;
                table.partial |= partial;
                let sets = &table.sets.known;
                let verdicts = rule.expressions.iter().map(|expression| match expression {
                    Expression::Lookup {
                        set, verdict: true, ..
                    } => sets.get(set).map_or(0, |known| known.set.elements.len()),
                    _ => 0,
                });
                // Each of them becomes a part of the rule.
                self.parts = self.parts.saturating_add(verdicts.sum());
                let chain = table.chains.get_mut(&chain);
                let chain = chain.ok_or("a rule of a chain that is not there")?;
                chain.rules.push(rule);
            }
        }
        Ok(())
    }
}

/// A name, which has no blanks.
fn text_of(body: &Map<String, Value>, key: &str, kind: &str) -> Result<String, String> {
    let name = body.get(key).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
    name.map(str::to_owned)
        .ok_or_else(|| format!("a {kind} without a {key}"))
}

/// How many entries the lists in it have.
fn parts(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len() + list.iter().map(parts).sum::<usize>(),
        Value::Object(object) => object.values().map(parts).sum::<usize>() + 1,
        _ => 0,
    }
}

fn sleeps(flags: Option<&Value>) -> Sleeps {
    let mut found = Sleeps::No;
    for flag in several(flags) {
        match flag.as_str() {
            Some("dormant") => return Sleeps::Yes,
            Some("owner" | "persist") => {}
            _ => found = Sleeps::Perhaps,
        }
    }
    found
}

/// The types of the fields of a set's keys; `None` where one is not known.
fn types(family: u8, of: Option<&Value>, interfaces: &mut Interfaces) -> Option<Vec<Datatype>> {
    let named = |name: &Value| Datatype::named(name.as_str()?);
    match of? {
        Value::Array(names) => names.iter().map(named).collect(),
        Value::Object(object) => Asked::new(family, interfaces).load(object.get("typeof")?, 0),
        name => Some(vec![named(name)?]),
    }
}

/// How a chain is hooked in, if it is; `None` where that is not understood.
fn base(family: u8, body: &Map<String, Value>) -> Option<Option<RawBase>> {
    const KNOWN: [&str; 10] = [
        "family", "table", "name", "handle", "comment", "type", "hook", "prio", "policy", "dev",
    ];
    if !body.keys().all(|key| KNOWN.contains(&key.as_str())) {
        return None;
    }
    let Some(hook) = body.get("hook") else {
        return Some(None);
    };
    let hook = match (family, hook.as_str()?) {
        (NETDEV, "ingress") => 0,
        (NETDEV, "egress") => 1,
        (NETDEV, _) => return None,
        (INET, "ingress") => 5,
        (_, "prerouting") => 0,
        (_, "input") => 1,
        (_, "forward") => 2,
        (_, "output") => 3,
        (_, "postrouting") => 4,
        _ => return None,
    };
    let kind = body.get("type")?.as_str()?;
    // Which interfaces a pattern means is not known.
    let plain = |device: &Value| Some(device.as_str()?.to_owned()).filter(|d| !d.ends_with('*'));
    Some(Some(RawBase {
        kind: ["filter", "nat", "route"]
            .contains(&kind)
            .then(|| kind.to_owned())?,
        hook,
        priority: i32::try_from(body.get("prio")?.as_i64()?).ok()?,
        accepts: match body.get("policy").map(Value::as_str) {
            None | Some(Some("accept")) => true,
            Some(Some("drop")) => false,
            Some(_) => return None,
        },
        devices: several(body.get("dev")).iter().filter_map(plain).collect(),
    }))
}
