//! Rules: what nft lists, as what it would have the kernel do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::expression::Register;
use super::super::{Expression, RawRule};
use super::load::Asked;
use super::set::{Known, verdict};
use super::text::text;
use super::value::{Datatype, beginning, entry, only};
use crate::ruleset::Reach;

/// The sets of a table.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// Those with a name of their own, and those within rules.
    pub(super) known: BTreeMap<String, Known>,
    /// Those that rules change.
    pub(super) changing: BTreeSet<String>,
}

/// A rule as it is read.
pub(super) struct Rule<'t> {
    pub(super) asked: Asked<'t>,
    pub(super) sets: &'t mut Sets,
    /// Whether what xtables does in it is left out.
    pub(super) partial: bool,
}

impl Rule<'_> {
    /// All of a rule.
    pub(super) fn read(mut self, object: &Map<String, Value>) -> Option<(RawRule, bool)> {
        const KNOWN: [&str; 6] = ["family", "table", "chain", "handle", "comment", "expr"];
        let odd = object.keys().find(|key| !KNOWN.contains(&key.as_str()));
        if let Some(odd) = odd {
            self.anything(odd.clone());
        }
        for statement in object.get("expr")?.as_array()? {
            self.statement(statement);
        }
        let comment = match object.get("comment") {
            Some(comment) => Some(comment.as_str()?.to_owned()),
            None => None,
        };
        let rule = RawRule {
            expressions: self.asked.out,
            comment,
            handle: object.get("handle").map_or(Some(0), Value::as_u64)?,
        };
        Some((rule, self.partial))
    }

    pub(super) fn push(&mut self, expression: Expression) {
        self.asked.out.push(expression);
    }

    /// What is not understood may do anything.
    pub(super) fn anything(&mut self, what: String) {
        self.push(Expression::Effect(what, Reach::Anywhere));
    }

    /// What is not understood, and asks about connections, makes connection tracking work.
    pub(super) fn track(&mut self, statement: &Value) {
        if asks_for_connection(statement) {
            self.push(Expression::Ct { key: 0, into: 0 });
        }
    }

    fn statement(&mut self, statement: &Value) {
        let Some((name, value)) = entry(statement) else {
            return self.anything(text(statement));
        };
        if let Some(verdict) = verdict(statement) {
            return self.push(Expression::Verdict(verdict));
        }
        let understood = match name {
            "match" => self.matching(value).or_else(|| {
                self.track(value);
                self.push(Expression::Condition(text(statement)));
                Some(())
            }),
            "vmap" => self.verdict_map(value),
            "mangle" => self.mangle(value),
            "dnat" | "snat" | "masquerade" | "redirect" => self.nat(name, value),
            "reject" => self.reject(value),
            "set" | "map" => self.update(value),
            "xt" => self.xtables(value),
            _ => self.other(name, value),
        };
        if understood.is_none() {
            self.track(statement);
            self.anything(text(statement));
        }
    }

    fn other(&mut self, name: &str, value: &Value) -> Option<()> {
        let named = value.is_string();
        let expression = match name {
            "counter" if named => Expression::Passive("object"),
            "counter" if value.is_null() || value.get("packets").is_some() => {
                Expression::Passive("counter")
            }
            "log" => Expression::Passive("log"),
            "last" => Expression::Passive("last"),
            "ct helper" | "ct timeout" | "ct expectation" | "secmark" if named => {
                Expression::Passive("object")
            }
            "limit" if named || value.get("rate").is_some() => {
                Expression::Either("limit".to_owned())
            }
            "quota" if named => Expression::Condition("quota".to_owned()),
            "quota" if value.get("val").is_some() => Expression::Condition("quota".to_owned()),
            "ct count" => Expression::Condition("connlimit".to_owned()),
            "meter" => Expression::Condition("dynset".to_owned()),
            "notrack" if value.is_null() => Expression::Notrack,
            "dup" | "fwd" | "queue" | "synproxy" if !named => {
                Expression::Effect(name.to_owned(), Reach::Copies)
            }
            "tproxy" => Expression::Effect(name.to_owned(), Reach::Packet),
            _ => return None,
        };
        self.push(expression);
        Some(())
    }

    /// A comment does nothing. Of everything else that is of xtables, nft tells the name alone.
    fn xtables(&mut self, value: &Value) -> Option<()> {
        let comment = value.get("type") == Some(&Value::from("match"))
            && value.get("name") == Some(&Value::from("comment"));
        if comment {
            self.push(Expression::Passive(""));
        } else {
            self.partial = true;
        }
        Some(())
    }

    fn reject(&mut self, value: &Value) -> Option<()> {
        match value.get("type").map(Value::as_str) {
            None | Some(Some("icmpx")) => {}
            Some(Some("icmp")) => self.asked.perhaps_family(2),
            Some(Some("icmpv6")) => self.asked.perhaps_family(10),
            Some(Some("tcp reset")) => self.asked.need("tcp"),
            Some(_) => return None,
        }
        self.push(Expression::Reject);
        Some(())
    }

    /// Adds the packet to a set, or takes it out.
    fn update(&mut self, value: &Value) -> Option<()> {
        let to = value.get("set").or_else(|| value.get("map"))?.as_str()?;
        self.sets.changing.insert(to.strip_prefix('@')?.to_owned());
        let element = value.get("elem")?;
        let key = only(element, "elem").and_then(|element| element.get("val"));
        self.track(value);
        let _unknown_is_a_condition = self.asked.load(key.unwrap_or(element), 0);
        self.push(Expression::Condition("dynset".to_owned()));
        Some(())
    }

    fn matching(&mut self, value: &Value) -> Option<()> {
        let object = value.as_object().filter(|object| object.len() == 3)?;
        let (left, right) = (object.get("left")?, object.get("right")?);
        let operator = object.get("op")?.as_str()?;
        let types = self.asked.load(left, 0)?;
        let plain = left.get("meta").is_some() || left.get("payload").is_some();
        match (types.as_slice(), set_of(right)) {
            (types, Some(set)) => match operator {
                "==" => self.look_up(types, set, 0, How::In),
                "!=" => self.look_up(types, set, 0, How::NotIn),
                _ => None,
            },
            ([kind], None) => self.compare(*kind, operator, right, plain),
            _ => None,
        }
    }

    /// Compares the value in the first register.
    fn compare(
        &mut self,
        kind: Datatype,
        operator: &str,
        right: &Value,
        plain: bool,
    ) -> Option<()> {
        let from = 0;
        let zeros = vec![0; kind.length()];
        let masked = |mask: Vec<u8>| Expression::Bitwise {
            from,
            into: from,
            xor: vec![0; mask.len()],
            mask,
        };
        let number = match operator {
            "==" => 0,
            "!=" => 1,
            "<" => 2,
            "<=" => 3,
            ">" => 4,
            ">=" => 5,
            "in" | "!" if kind.is_flags() => {
                let mask = kind.one(right, false, self.asked.interfaces)?;
                self.push(masked(mask));
                self.push(Expression::Compare {
                    from,
                    operator: u32::from(operator == "in"),
                    bytes: zeros,
                });
                return Some(());
            }
            _ => return None,
        };
        let equal = number < 2;
        if let (true, Some((bytes, mask))) = (equal, kind.prefix(right)) {
            if mask.iter().all(|byte| *byte == 0) {
                return None;
            }
            self.push(masked(mask));
            self.push(Expression::Compare {
                from,
                operator: number,
                bytes,
            });
            return Some(());
        }
        if let (true, Datatype::Name, Value::String(name)) = (equal, kind, right)
            && let Some(start) = beginning(name)
        {
            self.push(Expression::Compare {
                from,
                operator: number,
                bytes: start.to_vec(),
            });
            return Some(());
        }
        let ordered = !equal || only(right, "range").is_some();
        if ordered && !kind.is_ordered() {
            return None;
        }
        let (low, high, is_range) = kind.range(right, ordered, self.asked.interfaces)?;
        if ordered {
            self.swap(&[kind], from);
        }
        match (number, is_range) {
            (0, true) => {
                for (operator, bytes) in [(5, low), (3, high)] {
                    self.push(Expression::Compare {
                        from,
                        operator,
                        bytes,
                    });
                }
            }
            (1, true) => self.push(Expression::Range {
                from,
                negated: true,
                low,
                high,
            }),
            (_, true) => return None,
            (operator, false) => {
                if operator == 0 && plain {
                    self.asked.learn(kind, &low);
                }
                self.push(Expression::Compare {
                    from,
                    operator,
                    bytes: low,
                });
            }
        }
        Some(())
    }

    /// Numbers are compared in the order of the network.
    fn swap(&mut self, types: &[Datatype], from: Register) {
        let mut at = from;
        for kind in types {
            if kind.is_native() {
                self.push(Expression::Swap {
                    from: at,
                    into: at,
                    length: kind.length(),
                    size: kind.length(),
                });
            }
            at += kind.length().next_multiple_of(4);
        }
    }

    /// Looks up what was loaded.
    pub(super) fn look_up(
        &mut self,
        types: &[Datatype],
        set: Looked<'_>,
        from: Register,
        how: How,
    ) -> Option<()> {
        let verdicts = matches!(how, How::Verdict);
        let name = match set {
            Looked::Named(name) => name.to_owned(),
            Looked::Listed(list) => {
                let kind = if matches!(how, How::In | How::NotIn) {
                    "__set"
                } else {
                    "__map"
                };
                let known = Known::anonymous(types, list, verdicts, self.asked.interfaces)?;
                // No set that has a name of its own can have this one.
                let name = format!("{kind} {}", self.sets.known.len());
                self.sets.known.insert(name.clone(), known);
                name
            }
        };
        let known = self.sets.known.get(&name)?;
        if known.types != types || verdicts != known.verdicts {
            return None;
        }
        if known.set.intervals {
            self.swap(types, from);
        }
        self.push(Expression::Lookup {
            set: name,
            from,
            negated: matches!(how, How::NotIn),
            verdict: verdicts,
            into: match how {
                How::Value => Some((from, 16)),
                How::In | How::NotIn | How::Verdict => None,
            },
        });
        Some(())
    }

    fn verdict_map(&mut self, value: &Value) -> Option<()> {
        let object = value.as_object().filter(|object| object.len() == 2)?;
        let types = self.asked.load(object.get("key")?, 0)?;
        let set = set_of(object.get("data")?)?;
        self.look_up(&types, set, 0, How::Verdict)
    }
}

/// What a look-up is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    In,
    NotIn,
    Verdict,
    Value,
}

/// Where it looks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked<'v> {
    Named(&'v str),
    Listed(&'v Value),
}

/// The set that a value is.
pub(super) fn set_of(value: &Value) -> Option<Looked<'_>> {
    match value {
        Value::String(name) => name.strip_prefix('@').map(Looked::Named),
        other => only(other, "set").map(Looked::Listed),
    }
}

/// Whether something in it is of connection tracking.
fn asks_for_connection(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.iter().any(asks_for_connection),
        Value::Object(object) => object
            .iter()
            .any(|(key, value)| key.starts_with("ct") || asks_for_connection(value)),
        _ => false,
    }
}
