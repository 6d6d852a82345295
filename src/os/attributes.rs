//! The attributes of netlink messages: taken apart without copying them, and put together.

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

/// A value that is a number, which rtnetlink has in the machine's order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A value that is text, without the byte that ends it.
pub(super) fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

/// Attributes under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(pub(super) Vec<u8>);

/// The attribute holds attributes (`NLA_F_NESTED`, linux/netlink.h).
const NESTED: u16 = 0x8000;

impl Attributes {
    /// Adds an attribute as it is; `kind` may have flags.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        // A value that long never occurs: names are bounded and expressions are small.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Attributes within one.
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }
}
