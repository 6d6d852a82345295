//! What attributes are in messages of nf_tables.

use netlink_packet_core::DecodeError;

pub(super) use crate::os::attributes::value;
use crate::os::attributes::{self, each};

/// A number, which nf_tables has in network order.
pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let bytes = value(attributes, kind)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// A string's bytes, without the NUL at their end.
pub(super) fn text(message: &[u8], kind: u16) -> Option<&[u8]> {
    value(message, kind).map(attributes::text)
}

/// An expression's name and data.
pub(super) fn named(expression: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let (mut name, mut data): (&[u8], &[u8]) = (&[], &[]);
    for (kind, value) in each(expression) {
        match kind? {
            NAME => name = attributes::text(value),
            DATA => data = value,
            _ => {}
        }
    }
    Ok((name, data))
}
