//! One rule, expression by expression: what it loads and compares.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::matches::{Header, Side};
use super::super::{Family, Reach};
use super::compare::{Context, With};
use super::expression::{IPV4, IPV6, Register};
use super::names::hex;
use super::registers::{Byte, Registers, Source};
use super::sets::{Values, elements, values};
use super::show::Show;
use super::{Condition, Data, Expression, NativeRule, Set, Statement, Verdict};

/// What rules of a table look up in its sets, by the set's name and the bytes of the key.
pub(super) type LookedUp = RefCell<BTreeMap<String, Vec<(Vec<Byte>, Arc<Condition>)>>>;

/// One rule as it is read.
pub(super) struct Reader<'a> {
    pub(super) family: Family,
    pub(super) bridge: bool,
    sets: &'a BTreeMap<String, Set>,
    interfaces: &'a BTreeMap<u32, String>,
    looked_up: &'a LookedUp,
    pub(super) registers: Registers,
    pub(super) statements: Vec<Statement>,
    pub(super) show: Show<'a>,
    /// What maps give, by the source of its bytes.
    pub(super) mapped: Vec<(Source, Values)>,
    /// The protocols of which packets come here, once it was asked.
    pub(super) protocols: Option<Vec<u8>>,
    pub(super) tracks: bool,
    pub(super) headers: Vec<Header>,
    /// Whether packets come here as IP sees them, and not in a frame: then the length that the kernel has of one is its
    /// own.
    pub(super) unframed: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        family: Family,
        bridge: bool,
        sets: &'a BTreeMap<String, Set>,
        interfaces: &'a BTreeMap<u32, String>,
        looked_up: &'a LookedUp,
    ) -> Self {
        Self {
            family,
            bridge,
            sets,
            interfaces,
            looked_up,
            registers: Registers::default(),
            statements: Vec::new(),
            show: Show::new(family, interfaces),
            mapped: Vec::new(),
            protocols: None,
            tracks: false,
            headers: Vec::new(),
            unframed: false,
        }
    }

    pub(super) fn finish(self, comment: Option<String>) -> NativeRule {
        NativeRule {
            statements: self.statements,
            text: self.show.finish(comment.as_deref()),
            tracks: self.tracks,
            headers: self.headers,
            comment,
            handle: 0,
        }
    }

    pub(super) fn test(&mut self, condition: Condition) {
        if condition != Condition::Always(true) {
            self.statements.push(Statement::Test(condition));
        }
    }

    /// The packets' family as a number.
    pub(super) const fn own(&self) -> u8 {
        match self.family {
            Family::V4 => IPV4,
            Family::V6 => IPV6,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            registers: &self.registers,
            interfaces: self.interfaces,
            address: match self.family {
                Family::V4 => 32,
                Family::V6 => 128,
            },
        }
    }

    pub(super) fn read(&self, from: Register, length: usize) -> Vec<Byte> {
        self.registers.read(from, length).unwrap_or_default()
    }

    pub(super) fn take(&mut self, expression: &Expression) {
        match expression {
            Expression::Meta { key, into } => self.meta(*key, *into),
            Expression::Payload {
                base,
                offset,
                length,
                into,
            } => self.payload(*base, *offset, *length, *into),
            Expression::Ct { key, into } => self.ct(*key, *into),
            Expression::AddressType { source, into } => {
                let side = if *source { Side::Src } else { Side::Dst };
                self.registers
                    .load(*into, Source::AddressType(side), 4, true);
            }
            Expression::Unknown { text, into, length } => {
                self.test(Condition::Unknown(format!("{text} exists")));
                self.registers.unknown(*into, text, *length);
            }
            Expression::Numgen { first, count, into } => {
                self.registers
                    .load(*into, Source::Numgen(*first, *count), 4, true);
            }
            Expression::Load { into, bytes } => {
                let bytes: Vec<Byte> = bytes.iter().map(|byte| Byte::constant(*byte)).collect();
                self.registers.write(*into, &bytes);
            }
            Expression::Bitwise {
                from,
                into,
                mask,
                xor,
            } => self.bitwise(*from, *into, mask, xor),
            Expression::Swap {
                from,
                into,
                length,
                size,
            } => self.swap(*from, *into, *length, *size),
            Expression::Compare {
                from,
                operator,
                bytes,
            } => self.compare(*from, *operator, bytes),
            Expression::Range {
                from,
                negated,
                low,
                high,
            } => {
                let read = self.read(*from, low.len());
                let condition = self.context().condition(&read, With::Within(low, high));
                self.show
                    .range(&self.registers, &read, (low, high), *negated);
                self.test(if *negated {
                    condition.negated()
                } else {
                    condition
                });
            }
            Expression::Lookup {
                set,
                from,
                negated,
                verdict,
                into,
            } => {
                self.lookup(set, *from, (*negated, *verdict, *into));
            }
            Expression::Verdict(verdict) => {
                self.show.verdict(verdict);
                self.statements.push(Statement::Verdict(verdict.clone()));
            }
            Expression::Reject => {
                self.show.word("reject");
                self.statements.push(Statement::Verdict(Verdict::Drop));
            }
            Expression::Passive(text) => self.show.word(text),
            Expression::Either(text) => {
                self.show.word(text);
                self.test(Condition::Either(text.clone()));
            }
            Expression::Condition(text) => {
                self.show.word(text);
                self.test(Condition::Unknown(text.clone()));
            }
            Expression::Perhaps { family, .. } if *family == self.own() => {}
            Expression::Perhaps { text, .. } => self.test(Condition::Unknown(text.clone())),
            Expression::Effect(text, reach) => self.effect(text, *reach),
            Expression::SetMeta { .. }
            | Expression::SetPayload { .. }
            | Expression::SetCt { .. }
            | Expression::Nat { .. }
            | Expression::Masquerade(_)
            | Expression::Redirect(_)
            | Expression::Notrack => self.change(expression),
        }
    }

    pub(super) fn effect(&mut self, text: &str, reach: Reach) {
        self.show.word(text);
        self.statements
            .push(Statement::Effect(text.to_owned(), reach));
    }

    fn bitwise(&mut self, from: Register, into: Register, mask: &[u8], xor: &[u8]) {
        let bytes = self.read(from, mask.len());
        let changed: Vec<Byte> = bytes
            .into_iter()
            .zip(mask.iter().zip(xor))
            .map(|(byte, (mask, xor))| Byte {
                mask: byte.mask & mask,
                xor: (byte.xor & mask) ^ xor,
                ..byte
            })
            .collect();
        self.registers.write(into, &changed);
    }

    fn swap(&mut self, from: Register, into: Register, length: usize, size: usize) {
        let mut bytes = self.read(from, length);
        if cfg!(target_endian = "little") && size > 0 {
            bytes.chunks_mut(size).for_each(<[Byte]>::reverse);
        }
        self.registers.write(into, &bytes);
    }

    fn compare(&mut self, from: Register, operator: u32, wanted: &[u8]) {
        let bytes = self.read(from, wanted.len());
        if let (0, [byte], [number]) = (operator, bytes.as_slice(), wanted)
            && byte.is_protocol()
        {
            self.protocols = Some(vec![*number]);
        }
        self.show.compare(&self.registers, &bytes, operator, wanted);
        let context = self.context();
        let (least, most) = (vec![0; wanted.len()], vec![0xff; wanted.len()]);
        let upto = |high: &[u8]| context.condition(&bytes, With::Within(&least, high));
        let condition = match operator {
            0 => context.condition(&bytes, With::Equal(wanted)),
            1 => context.condition(&bytes, With::Equal(wanted)).negated(),
            2 => context
                .condition(&bytes, With::Within(wanted, &most))
                .negated(),
            3 => upto(wanted),
            4 => upto(wanted).negated(),
            5 => context.condition(&bytes, With::Within(wanted, &most)),
            _ => Condition::Unknown(format!("a comparison of {}", hex(wanted))),
        };
        self.test(condition);
    }

    /// The packets whose key is in a set. Many rules may ask for the same, and a set may be large.
    fn in_set(&self, name: &str, bytes: &[Byte], set: &Set) -> Condition {
        let mut looked_up = self.looked_up.borrow_mut();
        let of_set = looked_up.entry(name.to_owned()).or_default();
        if let Some((_, known)) = of_set.iter().find(|(key, _)| key == bytes) {
            return Condition::Shared(Arc::clone(known));
        }
        let found = elements(&self.context(), bytes, set).into_iter();
        let any = Condition::any(found.map(|(condition, _)| condition).collect());
        if !any.is_plain() || matches!(any, Condition::Always(_)) {
            return any;
        }
        let shared = Arc::new(any);
        of_set.push((bytes.to_vec(), Arc::clone(&shared)));
        Condition::Shared(shared)
    }

    fn lookup(&mut self, name: &str, from: Register, how: (bool, bool, Option<(Register, usize)>)) {
        let (negated, verdict, into) = how;
        let set = self.sets.get(name);
        let length = set.map_or(0, |set| {
            set.fields
                .iter()
                .map(|length| length.next_multiple_of(4))
                .sum::<usize>()
        });
        let length = match set {
            Some(set) if set.fields.len() < 2 => set.fields.first().copied().unwrap_or_default(),
            _ => length,
        };
        let bytes = self.read(from, length);
        self.show
            .lookup(&self.registers, &bytes, (name, set), (negated, verdict));
        let known = set.filter(|set| set.unclear.is_none() && !bytes.is_empty());
        let Some(set) = known else {
            let why = set.and_then(|set| set.unclear.clone());
            let text = why.unwrap_or_else(|| format!("the set {name}"));
            if verdict {
                self.statements
                    .push(Statement::Effect(text.clone(), Reach::Anywhere));
            } else {
                self.test(Condition::Unknown(text.clone()));
            }
            if let Some((into, length)) = into {
                self.registers.unknown(into, &text, length);
            }
            return;
        };
        if let ([byte], false, false) = (bytes.as_slice(), negated, verdict)
            && byte.is_protocol()
            && !set.intervals
            && !set.elements.iter().any(|element| element.otherwise)
        {
            let numbers = set
                .elements
                .iter()
                .filter_map(|element| element.key.first().copied());
            self.protocols = Some(numbers.collect());
        }
        if verdict {
            let found = elements(&self.context(), &bytes, set);
            let verdict = |(condition, data): (Condition, Option<&Data>)| match data {
                Some(Data::Verdict(verdict)) => (condition, verdict.clone()),
                _ => (condition, Verdict::Continue),
            };
            self.statements
                .push(Statement::Map(found.into_iter().map(verdict).collect()));
            return;
        }
        let any = self.in_set(name, &bytes, set);
        self.test(if negated { any.negated() } else { any });
        if let Some((into, length)) = into {
            let values = values(&self.context(), &bytes, set);
            let lengths = values.iter().flatten().map(|(_, value)| value.len());
            let length = lengths.fold(length, usize::max);
            let text = format!("the map {name}");
            let source = self.registers.unknown(into, &text, length);
            self.mapped.extend(values.map(|values| (source, values)));
        }
    }
}
