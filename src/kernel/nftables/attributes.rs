//! Reading the attributes of a message where they stand.

use netlink_packet_core::{DecodeError, NlasIterator};

/// The attributes of a message or of a nested attribute, one after the other: number and value. A
/// malformed one gives an error instead of its number, and is the last.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (Result<u16, DecodeError>, &[u8])> {
    let mut rest = bytes;
    NlasIterator::new(bytes).map(move |attribute| match attribute {
        Ok(attribute) => {
            let (kind, length) = (attribute.kind(), attribute.value_length());
            // Four bytes of header, then the value, padded to four (NLA_ALIGN).
            let value = rest.get(4..4 + length).unwrap_or_default();
            rest = rest
                .get((4 + length).next_multiple_of(4)..)
                .unwrap_or_default();
            (Ok(kind), value)
        }
        Err(error) => (Err(error), Default::default()),
    })
}

/// The value of the first attribute of a kind.
pub(super) fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    each(attributes).find_map(|(found, value)| (found.ok()? == kind).then_some(value))
}

/// A number, which nf_tables has in network order.
pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let bytes = value(attributes, kind)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// A string's bytes, without the NUL at their end.
pub(super) fn text(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let value = value(attributes, kind)?;
    Some(value.strip_suffix(&[0]).unwrap_or(value))
}

/// An expression's name and data.
pub(super) fn named(expression: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let (mut name, mut data): (&[u8], &[u8]) = (&[], &[]);
    for (kind, value) in each(expression) {
        match kind? {
            NAME => name = value.strip_suffix(&[0]).unwrap_or(value),
            DATA => data = value,
            _ => {}
        }
    }
    Ok((name, data))
}
