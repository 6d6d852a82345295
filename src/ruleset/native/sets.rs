//! Look-ups in sets and maps.

use super::Condition;
use super::compare::{Context, With};
use super::expression::{Data, Element, Set};
use super::registers::Byte;

/// Which keys of a set these bytes can be, each with what it maps to. None are met together, but for
/// the last, which may stand for all packets that meet none before it.
pub(super) fn elements<'s>(
    context: &Context<'_>,
    bytes: &[Byte],
    set: &'s Set,
) -> Vec<(Condition, Option<&'s Data>)> {
    let ranges = if set.intervals && set.fields.len() < 2 {
        intervals(&set.elements)
    } else {
        let plain = |element: &'s Element| {
            let last = element.last.clone().unwrap_or_else(|| element.key.clone());
            (element.key.clone(), last, element)
        };
        set.elements
            .iter()
            .filter(|e| !e.otherwise && !e.ends)
            .map(plain)
            .collect()
    };
    let mut found: Vec<_> = ranges
        .iter()
        .map(|(low, high, element)| {
            (
                field_by_field(context, bytes, &set.fields, low, high),
                element.data.as_ref(),
            )
        })
        .collect();
    if let Some(rest) = set.elements.iter().find(|element| element.otherwise) {
        let listed = found
            .iter()
            .map(|(condition, _)| condition.clone())
            .collect();
        found.push((Condition::any(listed).negated(), rest.data.as_ref()));
    }
    found.retain(|(condition, _)| *condition != Condition::Always(false));
    let listed = |number| {
        let within = |low, high| Context::met_by(bytes, With::Within(low, high), number);
        let mut ranges = ranges.iter();
        ranges.any(|(low, high, _)| within(low, high) == Some(true))
    };
    // Where every number that chance can give is listed, it is the last one if it is none of the others.
    if Context::chances(bytes).is_some_and(|mut all| all.all(listed))
        && let Some((last, _)) = found.last_mut()
    {
        *last = Condition::Always(true);
    }
    found
}

/// The values of a map, each with the packets that get it where they got none before.
pub(super) type Values = Vec<(Condition, Vec<u8>)>;

/// What a map gives; `None` for one of verdicts.
pub(super) fn values(context: &Context<'_>, bytes: &[Byte], set: &Set) -> Option<Values> {
    let found = elements(context, bytes, set).into_iter();
    let value = |(condition, data): (Condition, Option<&Data>)| match data {
        Some(Data::Bytes(bytes)) => Some((condition, bytes.clone())),
        _ => None,
    };
    found.map(value).collect()
}

/// The intervals that borders make: from each beginning up to just before the next border.
fn intervals(elements: &[Element]) -> Vec<(Vec<u8>, Vec<u8>, &Element)> {
    let mut borders: Vec<&Element> = elements
        .iter()
        .filter(|element| !element.otherwise)
        .collect();
    // Where one interval ends and the next begins, the beginning counts.
    borders.sort_by(|a, b| (&a.key, !a.ends).cmp(&(&b.key, !b.ends)));
    let mut found = Vec::new();
    for (at, border) in borders
        .iter()
        .enumerate()
        .filter(|(_, border)| !border.ends)
    {
        let next = borders
            .get(at + 1..)
            .unwrap_or_default()
            .iter()
            .find(|next| next.key != border.key);
        let last = match (&border.last, next) {
            (Some(last), _) => last.clone(),
            (None, Some(next)) => before(&next.key),
            (None, None) => vec![0xff; border.key.len()],
        };
        found.push((border.key.clone(), last, *border));
    }
    found
}

/// The key just before another one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    key
}

/// A key of several fields lies within a range where each field lies within its own.
fn field_by_field(
    context: &Context<'_>,
    bytes: &[Byte],
    fields: &[usize],
    low: &[u8],
    high: &[u8],
) -> Condition {
    let lengths: Vec<usize> = fields
        .iter()
        .map(|length| length.next_multiple_of(4))
        .collect();
    if fields.len() < 2 || lengths.iter().sum::<usize>() != bytes.len() {
        return context.condition(bytes, With::Within(low, high));
    }
    let mut from = 0;
    let mut all = Vec::new();
    for (length, padded) in fields.iter().zip(lengths) {
        let part = from..from + length;
        let parts = (
            bytes.get(part.clone()),
            low.get(part.clone()),
            high.get(part),
        );
        all.push(match parts {
            (Some(bytes), Some(low), Some(high)) => {
                context.condition(bytes, With::Within(low, high))
            }
            _ => Condition::Unknown("a set of keys of another length".to_owned()),
        });
        from += padded;
    }
    Condition::all(all)
}
