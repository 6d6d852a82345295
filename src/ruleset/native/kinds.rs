//! Comparisons of what is no number: states, types of addresses, fragments, names of interfaces.

use super::super::matches::{CtStates, Header, Side};
use super::super::value::IfacePattern;
use super::compare::{Context, With};
use super::registers::Byte;
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

impl Context<'_> {
    pub(super) fn states(&self, bytes: &[Byte], with: With<'_>) -> Option<Condition> {
        let mut met = CtStates::default();
        for (value, state) in STATES {
            if Self::met_by(bytes, with, value)? {
                met = met.with(state);
            }
        }
        Some(if met == CtStates::default() {
            Condition::Always(false)
        } else {
            Condition::State(met)
        })
    }

    pub(super) fn direction(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let met = |value: u8| Self::of_value(bytes, &[value]).map(|value| with.met_by(&value));
        match (met(0), met(1)) {
            (Some(false), Some(false)) => Condition::Always(false),
            (Some(false), Some(true)) => Condition::Reply,
            (Some(true), Some(false)) => Condition::Reply.negated(),
            (Some(true), Some(true)) => Condition::Always(true),
            _ => self.unknown(bytes),
        }
    }

    /// Only what NAT did is known of a connection's status.
    pub(super) fn status(&self, bytes: &[Byte], with: With<'_>) -> Option<Condition> {
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

    pub(super) fn address_type(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
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
    pub(super) fn fragment(&self, bytes: &[Byte], with: With<'_>) -> Condition {
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

    /// IPv6: the byte of the class of service lies between the version and the flow's label.
    pub(super) fn class(&self, bytes: &[Byte], with: With<'_>) -> Condition {
        let number = |of: &dyn Fn(usize, &Byte) -> u8| {
            let one =
                |(at, byte): (usize, &Byte)| u16::from(of(at, byte)) << (8 - 8 * byte.at.min(1));
            bytes
                .iter()
                .enumerate()
                .map(one)
                .fold(0, |all, one| all | one)
        };
        let (mask, xor) = (number(&|_, byte| byte.mask), number(&|_, byte| byte.xor));
        match with {
            With::Equal(value) if mask & !0x0ff0 == 0 => {
                let value = number(&|at, _| value.get(at).copied().unwrap_or_default()) ^ xor;
                if value & !mask != 0 {
                    return Condition::Always(false);
                }
                Condition::Bits {
                    key: Key::Header(Header::Tos),
                    mask: u128::from(mask >> 4),
                    value: u128::from(value >> 4),
                }
            }
            _ => self.unknown(bytes),
        }
    }

    pub(super) fn name(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
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

    pub(super) fn index(&self, side: Side, bytes: &[Byte], with: With<'_>) -> Condition {
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
