//! Rules as nft prints them, nearly: what a person needs to find one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::Family;
use super::super::matches::{Header, Side};
use super::super::names::protocol_name;
use super::Key;
use super::expression::{Set, Verdict};
use super::names::{hex, text};
use super::registers::{Byte, Registers, Source};

/// How many elements of a set are shown.
const SHOWN: usize = 4;

/// The text of a rule under construction.
#[derive(Debug)]
pub(super) struct Show<'a> {
    family: Family,
    interfaces: &'a BTreeMap<u32, String>,
    words: Vec<String>,
    /// The protocol that was asked for last: `tcp dport` says both at once.
    protocol: Option<String>,
}

impl<'a> Show<'a> {
    pub(super) const fn new(family: Family, interfaces: &'a BTreeMap<u32, String>) -> Self {
        Self {
            family,
            interfaces,
            words: Vec::new(),
            protocol: None,
        }
    }

    pub(super) fn word(&mut self, word: &str) {
        if let Some(protocol) = self.protocol.take() {
            self.words.push(format!("meta l4proto {protocol}"));
        }
        if !word.is_empty() {
            self.words.push(word.to_owned());
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.word(&verdict_text(verdict));
    }

    pub(super) fn compare(
        &mut self,
        registers: &Registers,
        bytes: &[Byte],
        operator: u32,
        wanted: &[u8],
    ) {
        if bytes.iter().all(|byte| byte.known().is_some()) {
            // What holds for every packet of the family.
            return;
        }
        let masks: Vec<u8> = bytes.iter().map(|byte| byte.mask).collect();
        let flags = matches!(
            bytes.first().map(|byte| byte.source),
            Some(Source::State | Source::Status | Source::Number(Key::TcpFlags))
        );
        if flags && operator == 1 && wanted.iter().all(|byte| *byte == 0) {
            // Any of the flags that are looked at.
            let value = self.value(bytes, &masks);
            self.say(registers, bytes, &value);
            return;
        }
        let sign = match operator {
            0 => "",
            1 => "!= ",
            2 => "< ",
            3 => "<= ",
            4 => "> ",
            _ => ">= ",
        };
        let value = self.value(bytes, wanted);
        if operator == 0 && matches!(bytes, [byte] if byte.source == Source::Number(Key::Protocol))
        {
            self.word("");
            self.protocol = Some(value);
            return;
        }
        self.say(registers, bytes, &format!("{sign}{value}"));
    }

    pub(super) fn range(
        &mut self,
        registers: &Registers,
        bytes: &[Byte],
        (low, high): (&[u8], &[u8]),
        negated: bool,
    ) {
        let sign = if negated { "!= " } else { "" };
        let range = format!(
            "{sign}{}-{}",
            self.value(bytes, low),
            self.value(bytes, high)
        );
        self.say(registers, bytes, &range);
    }

    pub(super) fn lookup(
        &mut self,
        registers: &Registers,
        bytes: &[Byte],
        (name, set): (&str, Option<&Set>),
        (negated, verdicts): (bool, bool),
    ) {
        let sign = if negated { "!= " } else { "" };
        let map = if verdicts { "vmap " } else { "" };
        let anonymous = name.starts_with("__set") || name.starts_with("__map");
        let listed = match set.filter(|_| anonymous) {
            Some(set) => self.elements(bytes, set),
            None => format!("@{name}"),
        };
        self.say(registers, bytes, &format!("{sign}{map}{listed}"));
    }

    fn elements(&self, bytes: &[Byte], set: &Set) -> String {
        let listed = set.elements.iter().filter(|element| !element.ends);
        let mut texts: Vec<String> = listed
            .clone()
            .take(SHOWN)
            .map(|element| {
                let key = if element.otherwise {
                    "*".to_owned()
                } else {
                    self.value(bytes, &element.key)
                };
                match &element.data {
                    Some(super::Data::Verdict(verdict)) => {
                        format!("{key} : {}", verdict_text(verdict))
                    }
                    _ => key,
                }
            })
            .collect();
        if listed.count() > SHOWN {
            texts.push("…".to_owned());
        }
        format!("{{ {} }}", texts.join(", "))
    }

    /// What is compared, and with what.
    fn say(&mut self, registers: &Registers, bytes: &[Byte], value: &str) {
        let ports = runs(bytes).any(|(_, source)| of_transport(source));
        let protocol = self.protocol.take_if(|_| ports);
        let names: Vec<String> = runs(bytes)
            .map(|(range, source)| match bytes.get(range).and_then(class) {
                Some((name, _)) => format!("{} {name}", self.ip()),
                None => self.name(registers, source, protocol.as_deref()),
            })
            .collect();
        self.word(&format!("{} {value}", names.join(" . ")));
    }

    const fn ip(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn name(&self, registers: &Registers, source: Source, protocol: Option<&str>) -> String {
        let ip = self.ip();
        let side = |side| if side == Side::Src { "s" } else { "d" };
        match source {
            Source::Number(Key::Addr(of)) => format!("{ip} {}addr", side(of)),
            Source::Number(Key::Port(of) | Key::AnyPort(of)) => {
                format!("{} {}port", protocol.unwrap_or("th"), side(of))
            }
            Source::Number(Key::IcmpType | Key::IcmpCode) => {
                let icmp = if self.family == Family::V4 {
                    "icmp"
                } else {
                    "icmpv6"
                };
                let what = if source == Source::Number(Key::IcmpType) {
                    "type"
                } else {
                    "code"
                };
                format!("{icmp} {what}")
            }
            Source::Number(Key::Header(Header::Ttl)) if self.family == Family::V6 => {
                format!("{ip} hoplimit")
            }
            Source::Number(Key::Header(header)) if header != Header::Mac => {
                format!("{ip} {}", text(registers, source))
            }
            other => text(registers, other),
        }
    }

    /// Bytes as what they stand for.
    fn value(&self, bytes: &[Byte], wanted: &[u8]) -> String {
        let mut texts = Vec::new();
        for (range, source) in runs(bytes) {
            let (bytes, wanted) = (
                bytes.get(range.clone()).unwrap_or_default(),
                wanted.get(range).unwrap_or_default(),
            );
            texts.push(self.one(source, bytes, wanted));
        }
        if texts.is_empty() {
            hex(wanted)
        } else {
            texts.join(" . ")
        }
    }

    fn one(&self, source: Source, bytes: &[Byte], wanted: &[u8]) -> String {
        // In the order of significance, whatever the machine's is.
        let mut ordered: Vec<(usize, u8, u8)> = bytes
            .iter()
            .zip(wanted)
            .map(|(byte, value)| (byte.at, *value, byte.mask))
            .collect();
        ordered.sort_unstable();
        let number = ordered
            .iter()
            .fold(0_u64, |n, (_, value, _)| n << 8 | u64::from(*value));
        if let Some((_, shift)) = class(bytes) {
            return format!("{:#04x}", number >> shift);
        }
        match source {
            Source::Number(Key::Addr(_)) => self.address(&ordered),
            Source::Number(Key::Protocol) => u8::try_from(number)
                .map_or_else(|_| number.to_string(), |n| protocol_name(n).into_owned()),
            Source::Number(Key::Mark | Key::Connmark) => format!("{number:#x}"),
            Source::Number(_) | Source::Numgen(..) => number.to_string(),
            Source::State => states(number),
            Source::Direction if number == 0 => "original".to_owned(),
            Source::Direction if number == 1 => "reply".to_owned(),
            Source::Status if number == 0x20 => "dnat".to_owned(),
            Source::Status if number == 0x10 => "snat".to_owned(),
            Source::Status => format!("{number:#x}"),
            Source::Index(_) => {
                let name = u32::try_from(number)
                    .ok()
                    .and_then(|number| self.interfaces.get(&number));
                name.map_or_else(|| number.to_string(), |name| format!("\"{name}\""))
            }
            Source::AddressType(_) if number == 2 => "local".to_owned(),
            Source::Name(_) => {
                let text: String = wanted
                    .iter()
                    .take_while(|byte| **byte != 0)
                    .map(|byte| char::from(*byte))
                    .collect();
                format!("\"{text}{}\"", if wanted.len() < 16 { "*" } else { "" })
            }
            _ => hex(wanted),
        }
    }

    fn address(&self, bytes: &[(usize, u8, u8)]) -> String {
        let mask: u32 = bytes.iter().map(|(_, _, mask)| mask.count_ones()).sum();
        let mut values: Vec<u8> = bytes.iter().map(|(_, value, _)| *value).collect();
        let width = if self.family == Family::V4 { 4 } else { 16 };
        values.resize(width, 0);
        let address = match self.family {
            Family::V4 => <[u8; 4]>::try_from(values).map(|v| Ipv4Addr::from(v).to_string()),
            Family::V6 => <[u8; 16]>::try_from(values).map(|v| Ipv6Addr::from(v).to_string()),
        };
        let address = address.unwrap_or_default();
        if mask as usize == width * 8 {
            address
        } else {
            format!("{address}/{mask}")
        }
    }

    pub(super) fn finish(mut self, comment: Option<&str>) -> String {
        self.word("");
        let mut text = self.words.join(" ");
        if let Some(comment) = comment {
            let _ = write!(text, " comment \"{comment}\"");
        }
        text
    }
}

/// The part of the class of service that bytes are, and how many bits stand below it.
fn class(bytes: &[Byte]) -> Option<(&'static str, u32)> {
    match bytes {
        [byte] if byte.source == Source::Number(Key::Header(Header::Tos)) => match byte.mask {
            0xfc => Some(("dscp", 2)),
            0x03 => Some(("ecn", 0)),
            _ => None,
        },
        [byte] if byte.source == Source::Class && byte.at == 1 && byte.mask == 0x30 => {
            Some(("ecn", 4))
        }
        [first, second] if first.source == Source::Class && second.source == Source::Class => {
            ((first.mask, second.mask) == (0x0f, 0xc0)).then_some(("dscp", 6))
        }
        _ => None,
    }
}

fn of_transport(source: Source) -> bool {
    matches!(
        source,
        Source::Number(
            Key::Port(_) | Key::AnyPort(_) | Key::TcpFlags | Key::IcmpType | Key::IcmpCode
        )
    )
}

/// The bytes of each source, but for what fills registers up.
fn runs(bytes: &[Byte]) -> impl Iterator<Item = (std::ops::Range<usize>, Source)> {
    let mut from = 0;
    let runs = bytes.chunk_by(|a, b| a.source == b.source).map(move |run| {
        let range = from..from + run.len();
        from = range.end;
        (range, run[0].source)
    });
    runs.filter(|(_, source)| *source != Source::Constant)
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn states(number: u64) -> String {
    let names = [
        (1, "invalid"),
        (2, "established"),
        (4, "related"),
        (8, "new"),
        (64, "untracked"),
    ];
    let named: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| number & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if named.is_empty() {
        number.to_string()
    } else {
        named.join(",")
    }
}
