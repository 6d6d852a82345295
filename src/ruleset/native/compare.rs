//! Comparisons of registers as conditions on packets.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::matches::Header;
use super::names::text;
use super::registers::{Byte, Registers, Source};
use super::{Condition, Key};

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

    pub(super) fn met_by(self, value: &[u8]) -> bool {
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
        if let ([first, rest @ ..], [from, low @ ..], [upto, high @ ..]) = (bytes, low, high)
            && let Some(known) = first.known()
        {
            let border = |at: &u8, border: &[u8], free: u8| {
                if *at == known {
                    border.to_vec()
                } else {
                    vec![free; border.len()]
                }
            };
            let (low, high) = (border(from, low, 0), border(upto, high, u8::MAX));
            return match (*from..=*upto).contains(&known) {
                true if rest.is_empty() => Condition::Always(true),
                true => self.within(rest, &low, &high),
                false => Condition::Always(false),
            };
        }
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
                .states(bytes, with)
                .unwrap_or_else(|| self.unknown(bytes)),
            Source::Direction => self.direction(bytes, with),
            Source::Status => self
                .status(bytes, with)
                .unwrap_or_else(|| self.unknown(bytes)),
            Source::AddressType(side) => self.address_type(side, bytes, with),
            Source::Fragment => self.fragment(bytes, with),
            Source::Class => self.class(bytes, with),
            Source::Name(side) => self.name(side, bytes, with),
            Source::Index(side) => self.index(side, bytes, with),
            Source::Numgen(..) => self.chance(bytes, with),
            Source::Constant | Source::Unknown(_) => self.unknown(bytes),
        }
    }

    pub(super) fn unknown(&self, bytes: &[Byte]) -> Condition {
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
            Key::Header(Header::Ttl | Header::Tos) => 8,
            Key::Header(Header::Length) => 16,
            Key::Header(Header::Mac) => 48,
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
    pub(super) fn of_value(bytes: &[Byte], value: &[u8]) -> Option<Vec<u8>> {
        let of = |byte: &Byte| Some((value.get(byte.at)? & byte.mask) ^ byte.xor);
        bytes.iter().map(of).collect()
    }

    pub(super) fn met_by(bytes: &[Byte], with: With<'_>, value: u32) -> Option<bool> {
        Self::of_value(bytes, &value.to_be_bytes()).map(|value| with.met_by(&value))
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
}
