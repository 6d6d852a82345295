//! Constants as nft writes them, and as they stand in a register.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::super::super::names::protocol_number;
use super::names::{
    ADDRESS_TYPES, DIRECTIONS, DSCPS, ETHER_TYPES, FAMILIES, ICMP_CODES, ICMP_TYPES, ICMP6_CODES,
    ICMP6_TYPES, Names, PACKET_TYPES, STATES, STATUSES, TCP_FLAGS,
};

/// The names of interfaces by numbers that stand for them here: nft writes names.
pub(super) type Interfaces = BTreeMap<u32, String>;

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Address4,
    Address6,
    Port,
    Protocol,
    /// `NFPROTO_…`.
    Family,
    EtherType,
    /// A number in the order of the network.
    Number(usize),
    Mark,
    User,
    Group,
    Name,
    Index,
    State,
    Status,
    AddressType,
    TcpFlags,
    IcmpType,
    IcmpCode,
    Icmp6Type,
    Icmp6Code,
    PacketType,
    /// How long a packet is.
    Length,
    /// The way that it goes in its connection.
    Direction,
    /// The upper six bits of the class of service: of a byte in IPv4, of the first two bytes of the header in IPv6.
    Dscp4,
    Dscp6,
}

impl Datatype {
    /// The type that a set declares.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ipv4_addr" => Self::Address4,
            "ipv6_addr" => Self::Address6,
            "inet_service" => Self::Port,
            "inet_proto" => Self::Protocol,
            "nf_proto" => Self::Family,
            "ether_type" => Self::EtherType,
            "mark" => Self::Mark,
            "uid" => Self::User,
            "gid" => Self::Group,
            "ifname" => Self::Name,
            "iface_index" => Self::Index,
            "ct_state" => Self::State,
            "ct_status" => Self::Status,
            "fib_addrtype" => Self::AddressType,
            "tcp_flag" => Self::TcpFlags,
            "icmp_type" => Self::IcmpType,
            "icmp_code" => Self::IcmpCode,
            "icmpv6_type" => Self::Icmp6Type,
            "icmpv6_code" => Self::Icmp6Code,
            "pkt_type" => Self::PacketType,
            _ => return None,
        })
    }

    /// In bytes.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Address6 | Self::Name => 16,
            Self::Port | Self::EtherType | Self::Dscp6 => 2,
            Self::Number(length) => length,
            Self::Protocol
            | Self::Family
            | Self::TcpFlags
            | Self::IcmpType
            | Self::IcmpCode
            | Self::Icmp6Type
            | Self::Icmp6Code
            | Self::PacketType
            | Self::Direction
            | Self::Dscp4 => 1,
            Self::Address4
            | Self::Length
            | Self::Mark
            | Self::User
            | Self::Group
            | Self::Index
            | Self::State
            | Self::Status
            | Self::AddressType => 4,
        }
    }

    /// Whether it stands in a register in the machine's own order.
    pub(super) const fn is_native(self) -> bool {
        matches!(
            self,
            Self::Length
                | Self::Mark
                | Self::User
                | Self::Group
                | Self::Index
                | Self::State
                | Self::Status
                | Self::AddressType
        )
    }

    /// Whether each bit is one of its own.
    pub(super) const fn is_flags(self) -> bool {
        matches!(self, Self::State | Self::Status | Self::TcpFlags)
    }

    /// Whether one value is less than another.
    pub(super) const fn is_ordered(self) -> bool {
        !self.is_flags() && !matches!(self, Self::Name | Self::Index)
    }

    const fn names(self) -> Names {
        match self {
            Self::Family => FAMILIES,
            Self::EtherType => ETHER_TYPES,
            Self::State => STATES,
            Self::Status => STATUSES,
            Self::AddressType => ADDRESS_TYPES,
            Self::TcpFlags => TCP_FLAGS,
            Self::IcmpType => ICMP_TYPES,
            Self::IcmpCode => ICMP_CODES,
            Self::Icmp6Type => ICMP6_TYPES,
            Self::Icmp6Code => ICMP6_CODES,
            Self::PacketType => PACKET_TYPES,
            Self::Direction => DIRECTIONS,
            Self::Dscp4 | Self::Dscp6 => DSCPS,
            _ => &[],
        }
    }

    /// A number of this type in a register, or in the order of the network.
    pub(super) fn bytes(self, number: u64, network: bool) -> Option<Vec<u8>> {
        let length = self.length();
        let below = match self {
            Self::Dscp4 => 2,
            Self::Dscp6 => 6,
            _ => 0,
        };
        let number = number.checked_mul(1 << below)?;
        let all = number.to_be_bytes();
        let (above, bytes) = all.split_at_checked(all.len().checked_sub(length)?)?;
        if above.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut bytes = bytes.to_vec();
        if self.is_native() && !network && cfg!(target_endian = "little") {
            bytes.reverse();
        }
        Some(bytes)
    }

    /// One value; `None` where it is not understood.
    pub(super) fn one(
        self,
        value: &Value,
        network: bool,
        interfaces: &mut Interfaces,
    ) -> Option<Vec<u8>> {
        match (self, value) {
            (Self::Address4, Value::String(text)) => {
                Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec())
            }
            (Self::Address6, Value::String(text)) => {
                Some(text.parse::<Ipv6Addr>().ok()?.octets().to_vec())
            }
            (Self::Name, Value::String(text)) => {
                let mut name = plain_name(text)?.as_bytes().to_vec();
                name.resize(16, 0);
                Some(name)
            }
            (Self::Index, Value::String(text)) => {
                let number = index(plain_name(text)?, interfaces)?;
                self.bytes(number.into(), network)
            }
            (Self::Protocol, Value::String(text)) => {
                self.bytes(protocol_number(text)?.into(), network)
            }
            // A number may be one of no interface here.
            (Self::Address4 | Self::Address6 | Self::Name | Self::Index, _) => None,
            (_, Value::Number(number)) => self.bytes(number.as_u64()?, network),
            (_, Value::String(text)) => {
                let (_, number) = self.names().iter().find(|(name, _)| name == text)?;
                self.bytes((*number).into(), network)
            }
            (_, Value::Array(list)) if self.is_flags() => self.any_of(list),
            (_, Value::Object(object)) if self.is_flags() && object.len() == 1 => {
                self.any_of(object.get("|")?.as_array()?)
            }
            _ => None,
        }
    }

    /// Several flags at once.
    fn any_of(self, list: &[Value]) -> Option<Vec<u8>> {
        let mut all = vec![0; self.length()];
        for value in list {
            let (Value::String(_) | Value::Number(_)) = value else {
                return None;
            };
            let one = self.one(value, false, &mut Interfaces::new())?;
            all.iter_mut()
                .zip(one)
                .for_each(|(bits, more)| *bits |= more);
        }
        (!list.is_empty()).then_some(all)
    }

    /// The least and the greatest of some values, and whether they were written as a range.
    pub(super) fn range(
        self,
        value: &Value,
        network: bool,
        interfaces: &mut Interfaces,
    ) -> Option<(Vec<u8>, Vec<u8>, bool)> {
        if let Some(ends) = only(value, "range") {
            let [low, high] = ends.as_array()?.as_slice() else {
                return None;
            };
            let low = self.one(low, network, interfaces)?;
            let high = self.one(high, network, interfaces)?;
            return (self.is_ordered() && low <= high).then_some((low, high, true));
        }
        if let Some((address, mask)) = self.prefix(value) {
            let last = address.iter().zip(&mask).map(|(byte, mask)| byte | !mask);
            let last = last.collect();
            return Some((address, last, true));
        }
        if let (Self::Name, Value::String(text)) = (self, value)
            && let Some(start) = beginning(text)
        {
            let (mut low, mut high) = (start.to_vec(), start.to_vec());
            low.resize(16, 0);
            high.resize(16, 0xff);
            return Some((low, high, true));
        }
        let one = self.one(value, network, interfaces)?;
        Some((one.clone(), one, false))
    }

    /// A network's address and its mask.
    pub(super) fn prefix(self, value: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
        let prefix = only(value, "prefix")?.as_object()?;
        let (Self::Address4 | Self::Address6, 2) = (self, prefix.len()) else {
            return None;
        };
        let address = self.one(prefix.get("addr")?, true, &mut Interfaces::new())?;
        let bits = usize::try_from(prefix.get("len")?.as_u64()?).ok()?;
        if bits > address.len() * 8 {
            return None;
        }
        let of_byte = |at: usize| match bits.saturating_sub(at * 8) {
            0 => 0,
            bits @ 1..8 => !(0xff_u8 >> bits),
            _ => 0xff,
        };
        let mask: Vec<u8> = (0..address.len()).map(of_byte).collect();
        let within = address
            .iter()
            .zip(&mask)
            .all(|(byte, mask)| byte & !mask == 0);
        within.then_some((address, mask))
    }
}

/// An object's only key, with its value.
pub(super) fn entry(value: &Value) -> Option<(&str, &Value)> {
    let mut entries = value.as_object()?.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => Some((key, value)),
        _ => None,
    }
}

/// The value of an object's only key, where that is this one.
pub(super) fn only<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    entry(value).and_then(|(found, value)| (found == key).then_some(value))
}

/// Several values, or one, or none: nft writes a list of one without the list.
pub(super) fn several(value: Option<&Value>) -> &[Value] {
    match value {
        None => &[],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

/// The name of an interface, whole.
fn plain_name(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'*' && byte != b'\\';
    (!text.is_empty() && text.len() < 16 && text.bytes().all(plain)).then_some(text)
}

/// What names begin with that end with a star.
pub(super) fn beginning(text: &str) -> Option<&[u8]> {
    plain_name(text.strip_suffix('*')?).map(str::as_bytes)
}

fn index(name: &str, interfaces: &mut Interfaces) -> Option<u32> {
    let known = interfaces.iter().find(|(_, known)| *known == name);
    if let Some((number, _)) = known {
        return Some(*number);
    }
    let number = u32::try_from(interfaces.len()).ok()?.checked_add(1)?;
    interfaces.insert(number, name.to_owned());
    Some(number)
}
