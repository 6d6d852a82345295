//! A packet as an example of a class.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::class::Odd;
use crate::ruleset::{Mac, protocol_name};

/// What Linux gives packets, unless a program asks for something else (`ip_default_ttl`, `hop_limit`).
pub(super) const USUAL_TTL: u8 = 64;

/// A packet as an example of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// The interface it comes in by; `None` if this host sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// The interface it leaves by, where it does and where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, as its sender wrote it.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source port, if the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port, if the protocol has ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Type and code, if it is ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// TCP flags, in the bits of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<u8>,
    /// Its length in bytes, IP's header included, where a rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u16>,
    /// The TTL or hop limit it comes with, where a rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// The byte of its class of service, where a rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tos: Option<u8>,
    /// The MAC that its frame comes from, where a rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The user id of the sending process, if this host sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group id of the sending process, if this host sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The cgroup of the sending process, if that is what it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What is out of the ordinary about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odd: Option<Odd>,
    /// Whether it goes the other way than the first packet of its connection, where that matters.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reply: bool,
    /// The packet that it answers, with which a container with CAP_NET_RAW begins a connection: NAT changes that one's
    /// source, and undoes it in this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Box<Packet>>,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |addr: IpAddr, port: Option<u16>| match port {
            Some(port) => std::net::SocketAddr::new(addr, port).to_string(),
            None => addr.to_string(),
        };
        write!(f, "{}", protocol_name(self.protocol))?;
        if let Some((kind, code)) = self.icmp {
            write!(f, " type {kind}/{code}")?;
        }
        write!(
            f,
            " {} > {}",
            end(self.src, self.sport),
            end(self.dst, self.dport)
        )?;
        for (name, iface) in [("in", &self.iif), ("out", &self.oif)] {
            if let Some(iface) = iface {
                write!(f, " {name} {iface}")?;
            }
        }
        if let Some(length) = self.length {
            write!(f, " length {length}")?;
        }
        // What Linux sends by itself is not worth a word.
        if let Some(ttl) = self.ttl.filter(|ttl| *ttl != USUAL_TTL) {
            write!(f, " ttl {ttl}")?;
        }
        if let Some(tos) = self.tos.filter(|tos| *tos != 0) {
            write!(f, " tos {tos:#04x}")?;
        }
        if let Some(mac) = self.mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(uid) = self.uid {
            write!(f, " uid {uid}")?;
        }
        if let Some(cgroup) = &self.cgroup {
            write!(f, " cgroup {cgroup}")?;
        }
        if let Some(odd) = self.odd {
            let way = if self.reply {
                "; it goes the other way than its first packet"
            } else {
                ""
            };
            write!(f, " ({odd}{way})")?;
        }
        if let Some(first) = &self.answers {
            write!(
                f,
                " (which NAT turns to {}, since it answers {first}; a container with CAP_NET_RAW sends both)",
                first.src
            )?;
        }
        Ok(())
    }
}
