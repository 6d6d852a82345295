//! Comparisons of registers as conditions on packets.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::matches::{CtStates, Side};
use super::super::value::IfacePattern;
use super::names::text;
use super::registers::{Byte, Registers, Source};
use super::{Condition, Key};

/// The bits of the states in a register: `NF_CT_STATE_BIT()` of linux/netfilter/nf_conntrack_common.h.
const STATES: [(u32, CtStates); 5] = [
    (1, CtStates::INVALID),
    (2, CtStates::ESTABLISHED),
    (4, CtStates::RELATED),
    (8, CtStates::NEW),
    (64, CtStates::UNTRACKED),
];
/// IPS_SRC_NAT, IPS_DST_NAT.
const STATUSES: [(u32, CtStates); 2] = [(0x10, CtStates::SNAT), (0x20, CtStates::DNAT)];
/// RTN_LOCAL of linux/rtnetlink.h, and the last type there is.
const LOCAL: u32 = 2;
const LAST_TYPE: u32 = 11;

/// Of more numbers than these, which chance gives, none is computed.
const MOST_CHANCES: u32 = 1024;

/// What a value is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum With<'a> {
    Equal(&'a [u8]),
    Within(&'a [u8], &'a [u8]),
}

impl With<'_> {
    fn length(self) -> usize {
        match self {
            Self::Equal(bytes) | Self::Within(bytes, _) => bytes.len(),
        }
    }

    fn met_by(self, value: &[u8]) -> bool {
        match self {
            Self::Equal(bytes) => value == bytes,
            Self::Within(low, high) => low <= value && value <= high,
        }
    }

    fn part(self, from: usize, upto: usize) -> Option<Self> {
        Some(match self {
            Self::Equal(bytes) => With::Equal(bytes.get(from..upto)?),
            Self::Within(low, high) => With::Within(low.get(from..upto)?, high.get(from..upto)?),
        })
    }
}

/// What comparisons have to know.
pub(super) struct Context<'a> {
    pub(super) registers: &'a Registers,
    pub(super) interfaces: &'a BTreeMap<u32, String>,
    /// The width of an address in bits.
    pub(super) address: u32,
}

impl Context<'_> {
    /// The packets whose value, in these bytes, compares so.
    pub(super) fn condition(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        if bytes.len() != with.length() || bytes.is_empty() {
            return self.unknown(bytes);
        }
        match with {
            With::Equal(_) => self.equal(bytes, with),
            With::Within(low, high) if low == high => self.equal(bytes, With::Equal(low)),
            With::Within(low, high) => self.within(bytes, low, high),
        }
    }

    /// Source by source: a value of several fields is equal where all of them are.
    fn equal(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let mut all = Vec::new();
        let mut from = 0;
        for run in bytes.chunk_by(|a, b| a.source == b.source) {
            let upto = from + run.len();
            all.push(match with.part(from, upto) {
                Some(with) => self.of_one(run, with),
                None => self.unknown(run),
            });
            from = upto;
        }
        Condition::all(all)
    }

    fn within(&self, bytes: &[Byte], low: &[u8], high: &[u8]) -> Condition {
        // What is the same in both borders is compared as such; what is behind it, as a range of one source.
        let same = low.iter().zip(high).take_while(|(l, h)| l == h).count();
        let (before, rest) = bytes.split_at(same.min(bytes.len()));
        let (equal, (low, high)) = (
            &low[..before.len()],
            (&low[before.len()..], &high[before.len()..]),
        );
        let first = rest.first().map(|byte| byte.source);
        let single = rest.iter().all(|byte| Some(byte.source) == first);
        // A range of a name or an enumeration is one of all its bytes.
        let splits = matches!(first, Some(Source::Number(_) | Source::Constant));
        if before.is_empty() || (splits && single) {
            let range = if single {
                self.of_one(rest, With::Within(low, high))
            } else {
                self.in_order(rest, low, high)
            };
            let equal = if before.is_empty() {
                Condition::Always(true)
            } else {
                self.equal(before, With::Equal(equal))
            };
            return Condition::all(vec![equal, range]);
        }
        let whole = bytes.first().map(|byte| byte.source);
        if bytes.iter().all(|byte| Some(byte.source) == whole) {
            let (low, high) = ([equal, low].concat(), [equal, high].concat());
            return self.of_one(bytes, With::Within(&low, &high));
        }
        let range = self.in_order(rest, low, high);
        Condition::all(vec![self.equal(before, With::Equal(equal)), range])
    }

    /// A range over several fields: one whose later fields may be anything is one of the first.
    fn in_order(&self, bytes: &[Byte], low: &[u8], high: &[u8]) -> Condition {
        let source = bytes.first().map(|byte| byte.source);
        let length = bytes
            .iter()
            .take_while(|byte| Some(byte.source) == source)
            .count();
        let free = low.iter().skip(length).all(|b| *b == 0)
            && high.iter().skip(length).all(|b| *b == 0xff);
        match (bytes.get(..length), low.get(..length), high.get(..length)) {
            (Some(bytes), Some(low), Some(high)) if free => {
                self.of_one(bytes, With::Within(low, high))
            }
            _ => self.unknown(bytes),
        }
    }

    /// Bytes of one source.
    fn of_one(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let Some(first) = bytes.first() else {
            return Condition::Always(true);
        };
        let constant: Option<Vec<u8>> = bytes.iter().map(|byte| byte.known()).collect();
        if let Some(value) = constant {
            return Condition::Always(with.met_by(&value));
        }
        match first.source {
            Source::Number(key) => self.number(key, bytes, with),
            Source::State => self
                .enumerated(bytes, with, &STATES, 0)
                .unwrap_or_else(|| self.unknown(bytes)),
            Source::Status => self
                .status(bytes, with)
                .unwrap_or_else(|| self.unknown(bytes)),
            Source::AddressType(side) => self.address_type(side, bytes, with),
            Source::Fragment => self.fragment(bytes, with),
            Source::Name(side) => self.name(side, bytes, with),
            Source::Index(side) => self.index(side, bytes, with),
            Source::Numgen(..) => self.chance(bytes, with),
            Source::Constant | Source::Unknown(_) => self.unknown(bytes),
        }
    }

    fn unknown(&self, bytes: &[Byte]) -> Condition {
        let unknown = bytes
            .iter()
            .find(|byte| matches!(byte.source, Source::Unknown(_)));
        let source = unknown.or(bytes.first()).map(|byte| byte.source);
        Condition::Unknown(source.map_or_else(String::new, |source| text(self.registers, source)))
    }

    /// The lowest bit and the width of a number in its field of whole bytes.
    const fn width(&self, key: Key) -> u32 {
        match key {
            Key::Addr(_) => self.address,
            Key::Port(_) | Key::AnyPort(_) => 16,
            Key::Protocol | Key::TcpFlags | Key::IcmpType | Key::IcmpCode => 8,
            Key::Mark | Key::Connmark | Key::Uid | Key::Gid => 32,
        }
    }

    fn number(&self, key: Key, bytes: &[Byte], with: With<'_>) -> Condition {
        let width = self.width(key);
        let shift = |byte: &Byte| {
            (width / 8)
                .checked_sub(1 + byte.at as u32)
                .map(|above| above * 8)
        };
        match with {
            With::Equal(values) => {
                let (mut mask, mut value) = (0_u128, 0_u128);
                for (byte, wanted) in bytes.iter().zip(values) {
                    let Some(shift) = shift(byte) else {
                        return self.unknown(bytes);
                    };
                    let wanted = wanted ^ byte.xor;
                    if wanted & !byte.mask != 0 {
                        return Condition::Always(false);
                    }
                    mask |= u128::from(byte.mask) << shift;
                    value |= u128::from(wanted) << shift;
                }
                // TCP has two more flags, of which nothing is known.
                if key == Key::TcpFlags && mask & !0x3f != 0 {
                    return self.unknown(bytes);
                }
                Condition::Bits { key, mask, value }
            }
            With::Within(low, high) => {
                let plain = |byte: &Byte| byte.mask == 0xff && byte.xor == 0;
                let in_order = bytes.windows(2).all(|pair| pair[0].at + 1 == pair[1].at);
                let lowest = bytes.last().and_then(shift);
                let (Some(shift), true) = (lowest, in_order && bytes.iter().all(plain)) else {
                    return self.unknown(bytes);
                };
                if key == Key::TcpFlags {
                    return self.unknown(bytes);
                }
                let number = |bytes: &[u8]| {
                    bytes
                        .iter()
                        .fold(0_u128, |n, byte| n << 8 | u128::from(*byte))
                };
                let width = bytes.len() as u32 * 8;
                Condition::Between {
                    key,
                    shift,
                    width,
                    low: number(low),
                    high: number(high),
                }
            }
        }
    }

    /// The bytes as they would be of a value.
    fn of_value(bytes: &[Byte], value: &[u8]) -> Option<Vec<u8>> {
        let of = |byte: &Byte| Some((value.get(byte.at)? & byte.mask) ^ byte.xor);
        bytes.iter().map(of).collect()
    }

    pub(super) fn met_by(bytes: &[Byte], with: With<'_>, value: u32) -> Option<bool> {
        Self::of_value(bytes, &value.to_be_bytes()).map(|value| with.met_by(&value))
    }

    fn enumerated(
        &self,
        bytes: &[Byte],
        with: With<'_>,
        values: &[(u32, CtStates)],
        beside: u32,
    ) -> Option<Condition> {
        let mut met = CtStates::default();
        for (value, state) in values {
            if Self::met_by(bytes, with, value | beside)? {
                met = met.with(*state);
            }
        }
        Some(if met == CtStates::default() {
            Condition::Always(false)
        } else {
            Condition::State(met)
        })
    }

    /// Only what NAT did is known of a connection's status.
    fn status(&self, bytes: &[Byte], with: With<'_>) -> Option<Condition> {
        let [(snat, by_source), (dnat, by_destination)] = STATUSES;
        let looked_at = bytes.iter().fold(0_u32, |mask, byte| {
            mask | u32::from(byte.mask) << (24 - 8 * byte.at.min(3))
        });
        if looked_at & !(snat | dnat) != 0 {
            return None;
        }
        let mut met = Vec::new();
        // Bits that are not looked at make no difference.
        let of = |flag: u32| {
            if looked_at & flag == 0 {
                &[0][..]
            } else {
                &[0, 1][..]
            }
        };
        let is = |state, flag: u32, set: u32| match (looked_at & flag, set) {
            (0, _) => Condition::Always(true),
            (_, 0) => Condition::State(state).negated(),
            _ => Condition::State(state),
        };
        let mut all = 0;
        for with_source in of(snat) {
            for with_destination in of(dnat) {
                all += 1;
                if Self::met_by(
                    bytes,
                    with,
                    (snat * with_source) | (dnat * with_destination),
                )? {
                    met.push(Condition::all(vec![
                        is(by_source, snat, *with_source),
                        is(by_destination, dnat, *with_destination),
                    ]));
                }
            }
        }
        Some(if met.len() == all {
            Condition::Always(true)
        } else {
            Condition::any(met)
        })
    }

    fn address_type(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
        let met = |kind| Self::met_by(bytes, with, kind);
        let Some(local) = met(LOCAL) else {
            return self.unknown(bytes);
        };
        let others: Option<Vec<bool>> = (0..=LAST_TYPE)
            .filter(|kind| *kind != LOCAL)
            .map(met)
            .collect();
        let others = others.unwrap_or_default();
        let is = Condition::Local(side);
        match (
            local,
            others.iter().any(|met| *met),
            others.iter().all(|met| *met),
        ) {
            (true, false, _) => is,
            (false, _, true) => is.negated(),
            (true, _, true) => Condition::Always(true),
            (false, false, _) => Condition::Always(false),
            (true, ..) => Condition::any(vec![is, self.unknown(bytes)]),
            (false, ..) => Condition::all(vec![is.negated(), self.unknown(bytes)]),
        }
    }

    /// IPv4: whether the offset is 0 tells a later fragment; of the flags nothing is known.
    fn fragment(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let mask = bytes.iter().fold(0_u16, |mask, byte| {
            mask | u16::from(byte.mask) << (8 - 8 * byte.at.min(1))
        });
        let plain = bytes.iter().all(|byte| byte.xor == 0);
        match with {
            With::Equal(value)
                if mask == 0x1fff && plain && value.iter().all(|byte| *byte == 0) =>
            {
                Condition::LaterFragment.negated()
            }
            _ => self.unknown(bytes),
        }
    }

    fn name(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
        let whole = bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| byte.at == at && byte.mask == 0xff && byte.xor == 0);
        let text = |bytes: &[u8]| {
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            let (name, rest) = bytes.split_at(end);
            let clean = rest.iter().all(|byte| *byte == 0) && name.iter().all(u8::is_ascii_graphic);
            clean.then(|| String::from_utf8_lossy(name).into_owned())
        };
        let pattern = match with {
            _ if !whole => None,
            With::Equal(value) => text(value).map(|name| match name.len() {
                0 => None,
                length if length == value.len() && value.len() < 16 => {
                    Some(IfacePattern::Prefix(name))
                }
                _ => Some(IfacePattern::Exact(name)),
            }),
            With::Within(low, high) => text(low)
                .filter(|name| {
                    let free = high.iter().skip(name.len()).all(|byte| *byte == 0xff);
                    !name.is_empty() && free && high.starts_with(name.as_bytes())
                })
                .map(|name| Some(IfacePattern::Prefix(name))),
        };
        match (pattern, side) {
            (Some(Some(pattern)), Side::Src) => Condition::In(pattern),
            (Some(Some(pattern)), Side::Dst) => Condition::Out(pattern),
            (Some(None), side) => Condition::NoInterface(side),
            (None, _) => self.unknown(bytes),
        }
    }

    /// The numbers that chance can give where it gives all of these bytes: each of them does come.
    pub(super) fn chances(bytes: &[Byte]) -> Option<Range<u32>> {
        let source = bytes.first()?.source;
        match source {
            Source::Numgen(first, count)
                if count <= MOST_CHANCES && bytes.iter().all(|byte| byte.source == source) =>
            {
                Some(first..first.checked_add(count)?)
            }
            _ => None,
        }
    }

    fn chance(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let met = |number| Self::met_by(bytes, with, number);
        let Some(met) = Self::chances(bytes).and_then(|all| all.map(met).collect()) else {
            return self.unknown(bytes);
        };
        let met: Vec<bool> = met;
        match (met.contains(&true), met.contains(&false)) {
            (true, true) => {
                let source = bytes.first().map(|byte| text(self.registers, byte.source));
                Condition::Either(source.unwrap_or_default())
            }
            (every, _) => Condition::Always(every),
        }
    }

    fn index(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
        let names = self
            .interfaces
            .iter()
            .filter(|(number, _)| Self::met_by(bytes, with, **number) == Some(true));
        let is = |(_, name): (_, &String)| {
            let name = IfacePattern::Exact(name.clone());
            match side {
                Side::Src => Condition::In(name),
                Side::Dst => Condition::Out(name),
            }
        };
        match with {
            // Met by the number 0 of no interface, or by interfaces yet to come.
            With::Equal(_) if Self::met_by(bytes, with, 0) == Some(true) => self.unknown(bytes),
            With::Equal(_) => Condition::any(names.map(is).collect()),
            With::Within(..) => self.unknown(bytes),
        }
    }
}
