//! What stands in the registers while a rule is read: for each byte, where it comes from.

use super::super::matches::{Header, Side};
use super::expression::Register;
use super::{Key, Presence};

/// The kernel has 16 registers of 4 bytes.
const SIZE: usize = 64;

/// Where the bytes of a value come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A constant.
    Constant,
    /// A number of the packet.
    Number(Key),
    /// The state of its connection: a bit each.
    State,
    /// The way that the packet goes in its connection: 0 as the first, 1 as what answers.
    Direction,
    /// What NAT made of its connection.
    Status,
    /// The type of an address.
    AddressType(Side),
    /// IPv4's flags and place of a fragment.
    Fragment,
    /// The first two bytes of IPv6's header: the version, the class of service, and four bits of the flow's label.
    Class,
    /// The name of the interface in, or out.
    Name(Side),
    /// Its number.
    Index(Side),
    /// A number that chance gives: the least, and how many.
    Numgen(u32, u32),
    /// Nothing known; with the number of its text.
    Unknown(usize),
}

impl Source {
    /// What of a header it is, if it is that.
    pub(super) const fn header(self) -> Option<Header> {
        match self {
            Self::Number(Key::Header(header)) => Some(header),
            Self::Class => Some(Header::Tos),
            _ => None,
        }
    }
}

/// One byte: `(byte & mask) ^ xor` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Byte {
    pub(super) source: Source,
    /// Which byte of it, the most significant first.
    pub(super) at: usize,
    pub(super) mask: u8,
    pub(super) xor: u8,
}

impl Byte {
    /// Whether it is the packet's protocol, unchanged.
    pub(super) fn is_protocol(&self) -> bool {
        self.source == Source::Number(Key::Protocol) && self.mask == 0xff && self.xor == 0
    }

    pub(super) const fn constant(value: u8) -> Self {
        Self {
            source: Source::Constant,
            at: 0,
            mask: 0,
            xor: value,
        }
    }

    /// Its value, where it does not depend on the packet.
    pub(super) fn known(self) -> Option<u8> {
        (self.mask == 0 || self.source == Source::Constant).then_some(self.xor)
    }
}

/// The registers.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    bytes: [Option<Byte>; SIZE],
    /// The texts of what is not known.
    texts: Vec<String>,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            bytes: [None; SIZE],
            texts: Vec::new(),
        }
    }
}

impl Registers {
    /// Writes bytes; what is left of the last register of 4 bytes becomes 0.
    pub(super) fn write(&mut self, into: Register, bytes: &[Byte]) {
        let padded = bytes.len().next_multiple_of(4);
        for at in 0..padded {
            let byte = bytes.get(at).copied().unwrap_or(Byte::constant(0));
            if let Some(place) = self.bytes.get_mut(into + at) {
                *place = Some(byte);
            }
        }
    }

    /// The bytes of a value, the most significant first; numbers in the machine's order with
    /// `native`.
    pub(super) fn load(&mut self, into: Register, source: Source, length: usize, native: bool) {
        // The kernel loads no more than there is room for.
        let length = length.min(SIZE);
        let turn = native && cfg!(target_endian = "little");
        let byte = |at: usize| Byte {
            source,
            at: if turn { length - 1 - at } else { at },
            mask: 0xff,
            xor: 0,
        };
        let bytes: Vec<Byte> = (0..length).map(byte).collect();
        self.write(into, &bytes);
    }

    /// Writes something unknown; answers its source.
    pub(super) fn unknown(&mut self, into: Register, text: &str, length: usize) -> Source {
        self.texts.push(text.to_owned());
        let source = Source::Unknown(self.texts.len() - 1);
        self.load(into, source, length, false);
        source
    }

    /// Reads bytes; `None` where some were never written.
    pub(super) fn read(&self, from: Register, length: usize) -> Option<Vec<Byte>> {
        let bytes = self.bytes.get(from..from.checked_add(length)?)?;
        bytes.iter().copied().collect()
    }

    /// The text of what is not known.
    pub(super) fn unknown_text(&self, number: usize) -> String {
        self.texts.get(number).cloned().unwrap_or_default()
    }
}

/// What is loaded, how long it is, whether in the machine's order, and what the packet must have.
pub(super) type Loaded = (Source, usize, bool, Option<Presence>);

/// What a key of meta is; `None` where it is not known.
pub(super) const fn meta(key: u32) -> Option<Loaded> {
    use Presence::{Owner, Protocol};
    Some(match key {
        3 => (Source::Number(Key::Mark), 4, true, None),
        4 => (Source::Index(Side::Src), 4, true, None),
        5 => (Source::Index(Side::Dst), 4, true, None),
        6 => (Source::Name(Side::Src), 16, false, None),
        7 => (Source::Name(Side::Dst), 16, false, None),
        10 => (Source::Number(Key::Uid), 4, true, Some(Owner)),
        11 => (Source::Number(Key::Gid), 4, true, Some(Owner)),
        16 => (Source::Number(Key::Protocol), 1, false, Some(Protocol)),
        _ => return None,
    })
}

/// What a key of ct is.
pub(super) const fn ct(key: u32) -> Option<Loaded> {
    Some(match key {
        0 => (Source::State, 4, true, None),
        1 => (Source::Direction, 1, false, Some(Presence::Connection)),
        2 => (Source::Status, 4, true, Some(Presence::Connection)),
        3 => (
            Source::Number(Key::Connmark),
            4,
            true,
            Some(Presence::Connection),
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_loaded_than_the_registers_hold() {
        let mut registers = Registers::default();
        registers.unknown(4, "something large", u32::MAX as usize);
        assert!(registers.read(4, SIZE - 4).is_some());
        assert_eq!(registers.read(0, 4), None);
    }
}
