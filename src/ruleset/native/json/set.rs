//! Sets and maps, with what is in them.

use serde_json::{Map, Value};

use super::super::{Data, Element, Set, Verdict};
use super::value::{Datatype, Interfaces, entry, only, several};

/// A set that rules look up by its name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the kernel would hold.
    pub(super) set: Set,
    /// The types of the fields of its keys.
    pub(super) types: Vec<Datatype>,
    /// Whether it maps to verdicts.
    pub(super) verdicts: bool,
}

/// What a set may say of itself without being anything but a set.
const PLAIN: [&str; 12] = [
    "family",
    "name",
    "table",
    "type",
    "handle",
    "comment",
    "map",
    "elem",
    "flags",
    "size",
    "policy",
    "auto-merge",
];

impl Known {
    /// What a table's set or map is. One that changes by itself, or does more than match, is not known.
    pub(super) fn read(
        name: &str,
        object: &Map<String, Value>,
        types: Option<Vec<Datatype>>,
        interfaces: &mut Interfaces,
    ) -> Self {
        let flags = several(object.get("flags")).iter().map(Value::as_str);
        let flags: Vec<Option<&str>> = flags.collect();
        let intervals = flags.contains(&Some("interval"));
        let verdicts = object.get("map").is_some_and(|to| to == "verdict");
        let mut known = Self {
            set: Set {
                intervals,
                ..Set::default()
            },
            types: types.unwrap_or_default(),
            verdicts,
        };
        known.set.fields = known.types.iter().map(|kind| kind.length()).collect();
        let mut odd = object.keys().filter(|key| !PLAIN.contains(&key.as_str()));
        let still = |flag: &Option<&str>| matches!(flag, Some("interval" | "constant"));
        if known.types.is_empty() {
            known.set.unclear = Some(format!("@{name} has keys of a type that is not known"));
        } else if !flags.iter().all(still) || odd.next().is_some() {
            known.set.unclear = Some(format!("@{name} changes by itself"));
        }
        if let Some(list) = object.get("elem") {
            known.add(name, list, interfaces);
        }
        known
    }

    /// Adds elements.
    pub(super) fn add(&mut self, name: &str, list: &Value, interfaces: &mut Interfaces) {
        if self.set.unclear.is_some() {
            return;
        }
        let how = (self.set.intervals, self.verdicts);
        let list = list.as_array();
        match list.and_then(|list| elements(&self.types, list, how, interfaces)) {
            Some(elements) => {
                self.set.elements.extend(elements);
                self.set.elements.sort_by(|a, b| a.key.cmp(&b.key));
            }
            None => {
                let why = format!("@{name} has elements that do more than match");
                self.set.unclear = Some(why);
            }
        }
    }

    /// One without a name, in a rule.
    pub(super) fn anonymous(
        types: &[Datatype],
        list: &Value,
        verdicts: bool,
        interfaces: &mut Interfaces,
    ) -> Option<Self> {
        let list = list.as_array()?;
        let intervals = list.iter().any(is_range);
        let mut elements = elements(types, list, (intervals, verdicts), interfaces)?;
        elements.sort_by(|a, b| a.key.cmp(&b.key));
        Some(Self {
            set: Set {
                intervals,
                fields: types.iter().map(|kind| kind.length()).collect(),
                elements,
                unclear: None,
            },
            types: types.to_vec(),
            verdicts,
        })
    }
}

/// Whether an element stands for more than one key.
fn is_range(element: &Value) -> bool {
    match element {
        Value::String(text) => text.len() > 1 && text.ends_with('*'),
        Value::Array(pair) => pair.first().is_some_and(is_range),
        Value::Object(object) => object.iter().any(|(key, value)| match key.as_str() {
            "range" | "prefix" => true,
            "concat" => value
                .as_array()
                .is_some_and(|list| list.iter().any(is_range)),
            "elem" => value.get("val").is_some_and(is_range),
            _ => false,
        }),
        _ => false,
    }
}

/// The elements of a list, in its order; `None` where one is not understood.
fn elements(
    types: &[Datatype],
    list: &[Value],
    (intervals, verdicts): (bool, bool),
    interfaces: &mut Interfaces,
) -> Option<Vec<Element>> {
    let mut read = |element: &Value| {
        let (key, to) = match element {
            Value::Array(pair) => match pair.as_slice() {
                [key, to] => (key, Some(to)),
                _ => return None,
            },
            key => (key, None),
        };
        let data = match (to, verdicts) {
            (Some(to), true) => Some(Data::Verdict(verdict(to)?)),
            (None, true) => return None,
            // The values of other maps are not read: what they give is unknown.
            (_, false) => None,
        };
        let key = bare(key)?;
        if key == "*" {
            return Some(Element {
                otherwise: true,
                data,
                ..Element::default()
            });
        }
        let (key, last) = self::key(types, key, intervals, interfaces)?;
        Some(Element {
            key,
            last,
            data,
            ..Element::default()
        })
    };
    list.iter().map(&mut read).collect()
}

/// An element without its comment.
fn bare(element: &Value) -> Option<&Value> {
    let Some(element) = only(element, "elem") else {
        return Some(element);
    };
    let object = element.as_object()?;
    let plain = |key: &String| key == "val" || key == "comment";
    object.keys().all(plain).then(|| object.get("val"))?
}

/// The least key, and the greatest.
fn key(
    types: &[Datatype],
    value: &Value,
    intervals: bool,
    interfaces: &mut Interfaces,
) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    if let [kind] = types {
        let (low, high, is_range) = kind.range(value, intervals, interfaces)?;
        // Flags are no numbers, so there is no order among them.
        let apart = intervals && kind.is_flags() || is_range && !intervals;
        return (!apart).then_some((low, intervals.then_some(high)));
    }
    let parts = only(value, "concat")?.as_array()?;
    if parts.len() != types.len() {
        return None;
    }
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for (kind, part) in types.iter().zip(parts) {
        let (least, greatest, is_range) = kind.range(part, intervals, interfaces)?;
        if intervals && kind.is_flags() || is_range && !intervals {
            return None;
        }
        low.extend(least);
        high.extend(greatest);
        low.resize(low.len().next_multiple_of(4), 0);
        high.resize(high.len().next_multiple_of(4), 0);
    }
    Some((low, intervals.then_some(high)))
}

/// A verdict, as rules and maps give it.
pub(super) fn verdict(value: &Value) -> Option<Verdict> {
    let (key, to) = entry(value)?;
    let chain = || Some(only(to, "target")?.as_str()?.to_owned());
    Some(match (key, to) {
        ("jump", _) => Verdict::Jump(chain()?),
        ("goto", _) => Verdict::Goto(chain()?),
        ("accept", Value::Null) => Verdict::Accept,
        ("drop", Value::Null) => Verdict::Drop,
        ("continue", Value::Null) => Verdict::Continue,
        ("return", Value::Null) => Verdict::Return,
        _ => return None,
    })
}
