//! The attributes of a netlink message, without copying them.

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

/// A value that is text, without the byte that ends it.
pub(super) fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}
