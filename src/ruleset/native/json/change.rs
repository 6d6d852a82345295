//! What rules change in packets.

use serde_json::{Map, Value};

use super::super::Expression;
use super::super::expression::{INET, IPV4, IPV6, Register};
use super::rule::{How, Rule, set_of};
use super::text::text;
use super::value::{Datatype, only, several};
use crate::ruleset::Reach;

/// Where the addresses and the ports of NAT stand.
const ADDRESSES: (Register, Register) = (0, 16);
const PORTS: (Register, Register) = (32, 48);

impl Rule<'_> {
    pub(super) fn mangle(&mut self, value: &Value) -> Option<()> {
        let object = value.as_object().filter(|object| object.len() == 2)?;
        let (key, value) = (object.get("key")?, object.get("value")?);
        if let Some(meta) = only(key, "meta") {
            let key = match only(meta, "key")?.as_str()? {
                "priority" => 2,
                "mark" => 3,
                "nftrace" => 12,
                "secmark" => 14,
                "pkttype" => 19,
                _ => return None,
            };
            self.value(value, key == 3);
            self.push(Expression::SetMeta { key, from: 0 });
        } else if let Some(ct) = only(key, "ct") {
            let key = match only(ct, "key")?.as_str()? {
                "mark" => 3,
                "secmark" => 4,
                "label" => 13,
                "zone" => 17,
                "event" => 18,
                _ => return None,
            };
            self.value(value, key == 3);
            self.push(Expression::SetCt { key, from: 0 });
        } else if only(key, "tcp option").is_some() {
            // The rule ends where there is no such option.
            self.push(Expression::Condition(text(key)));
            self.value(value, false);
        } else {
            let field = only(key, "payload")?;
            let header = field.get("protocol")?.as_str()?;
            self.asked.need(header);
            self.value(value, false);
            // Datatype of service and flow label: within the first two bytes.
            match (header, field.get("field")?.as_str()?) {
                ("ip", "dscp" | "ecn") | ("ip6", "dscp" | "ecn" | "flowlabel") => {
                    self.push(Expression::SetPayload {
                        base: 1,
                        offset: 0,
                        length: 2,
                    });
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// Loads what something becomes into the first register. Where that is looked up or computed in a way
    /// that is not understood, the rule may end there.
    fn value(&mut self, value: &Value, mark: bool) {
        let scalar = matches!(
            value,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)
        );
        if scalar && !mark {
            return;
        }
        if mark && self.marked(value).is_some() {
            return;
        }
        self.track(value);
        self.push(Expression::Unknown {
            text: text(value),
            into: 0,
            length: 4,
        });
    }

    /// Computes a mark.
    fn marked(&mut self, value: &Value) -> Option<()> {
        if value.is_number() {
            let bytes = Datatype::Mark.one(value, false, self.asked.interfaces)?;
            self.push(Expression::Load { into: 0, bytes });
            return Some(());
        }
        let operation = value.as_object().filter(|object| object.len() == 1)?;
        for (operator, operands) in operation {
            if !matches!(operator.as_str(), "|" | "&" | "^") {
                let types = self.asked.load(value, 0)?;
                return (types == [Datatype::Mark]).then_some(());
            }
            let [from, by] = operands.as_array()?.as_slice() else {
                return None;
            };
            let by = Datatype::Mark.one(by, false, self.asked.interfaces)?;
            self.marked(from)?;
            let keep = |bits: &[u8]| bits.iter().map(|byte| !byte).collect::<Vec<u8>>();
            let (mask, xor) = match operator.as_str() {
                "|" => (keep(&by), by),
                "&" => (by, vec![0; 4]),
                _ => (vec![0xff; 4], by),
            };
            self.push(Expression::Bitwise {
                from: 0,
                into: 0,
                mask,
                xor,
            });
        }
        Some(())
    }

    pub(super) fn nat(&mut self, name: &str, value: &Value) -> Option<()> {
        const KNOWN: [&str; 5] = ["family", "addr", "port", "flags", "type_flags"];
        let none = Map::new();
        let to = match value {
            Value::Null => &none,
            value => value.as_object()?,
        };
        // NAT makes connection tracking work, understood or not.
        self.push(Expression::Ct { key: 0, into: 0 });
        if !to.keys().all(|key| KNOWN.contains(&key.as_str())) {
            return None;
        }
        let known = |flag: &Value| {
            let plain = ["random", "fully-random", "persistent"];
            flag.as_str().is_some_and(|flag| plain.contains(&flag))
        };
        if !several(to.get("flags")).iter().all(known) {
            self.push(Expression::Effect(
                "nat to a prefix".to_owned(),
                Reach::Packet,
            ));
            return Some(());
        }
        let family = match to.get("family").map(Value::as_str) {
            Some(Some("ip")) => IPV4,
            Some(Some("ip6")) => IPV6,
            None => self.asked.table,
            Some(_) => return None,
        };
        let addrs = match (to.get("addr"), family) {
            (None, _) => None,
            (Some(addr), IPV4) => Some(self.nat_to(addr, Datatype::Address4, ADDRESSES)?),
            (Some(addr), IPV6) => Some(self.nat_to(addr, Datatype::Address6, ADDRESSES)?),
            (Some(_), _) => return None,
        };
        let ports = match to.get("port") {
            Some(port) => Some(self.nat_to(port, Datatype::Port, PORTS)?),
            None => None,
        };
        let expression = match (name, addrs) {
            ("masquerade", None) => Expression::Masquerade(ports),
            ("redirect", None) => Expression::Redirect(ports),
            ("masquerade" | "redirect", Some(_)) => return None,
            _ if addrs.is_none() && ports.is_none() => return None,
            _ => Expression::Nat {
                source: name == "snat",
                family: if addrs.is_none() { INET } else { family },
                addrs,
                ports,
            },
        };
        self.push(expression);
        Some(())
    }

    /// Loads an address or a port, or a range of them.
    fn nat_to(
        &mut self,
        value: &Value,
        kind: Datatype,
        (low, high): (Register, Register),
    ) -> Option<(Register, Register)> {
        if let Some(map) = only(value, "map") {
            let object = map.as_object().filter(|object| object.len() == 2)?;
            let types = self.asked.load(object.get("key")?, low)?;
            let set = set_of(object.get("data")?)?;
            self.look_up(&types, set, low, How::Value)?;
            return Some((low, low));
        }
        if only(value, "prefix").is_some() {
            return None;
        }
        let (least, greatest, is_range) = kind.range(value, false, self.asked.interfaces)?;
        self.push(Expression::Load {
            into: low,
            bytes: least,
        });
        if !is_range {
            return Some((low, low));
        }
        self.push(Expression::Load {
            into: high,
            bytes: greatest,
        });
        Some((low, high))
    }
}
