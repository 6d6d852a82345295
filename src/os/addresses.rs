//! The addresses of the interfaces in a network namespace, over rtnetlink.
//!
//! Numbers are those of linux/rtnetlink.h and linux/if_addr.h.

use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::attributes::{number, value};
use super::netlink::{self, Message};

const RTM_GETADDR: u16 = 22;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// The length of `struct ifaddrmsg`.
pub(super) const IFADDRMSG: usize = 8;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// Whether duplicate address detection has not ended yet (RFC 4862).
    pub tentative: bool,
    /// Whether another host has it.
    pub duplicate: bool,
}

/// All addresses in the calling thread's network namespace.
pub fn here() -> io::Result<Vec<Address>> {
    all(&mut netlink::Socket::open(SockProtocol::NetlinkRoute)?)
}

/// Asks for all addresses in the socket's network namespace.
pub(super) fn all(socket: &mut netlink::Socket) -> io::Result<Vec<Address>> {
    socket.list(("the addresses", RTM_GETADDR), &[0; IFADDRMSG], address)
}

fn address(message: &Message<'_>) -> Option<Address> {
    let (header, attributes) = message.payload.split_at_checked(IFADDRMSG)?;
    // IFA_ADDRESS is the other end's where there is one.
    let mut kinds = [IFA_LOCAL, IFA_ADDRESS].into_iter();
    let address = kinds.find_map(|kind| ip(value(attributes, kind)?))?;
    let flags = value(attributes, IFA_FLAGS).and_then(number);
    let flags = flags.unwrap_or(u32::from(*header.get(2)?));
    Some(Address {
        interface: number(header.get(4..)?)?,
        address,
        prefix: *header.get(1)?,
        tentative: flags & IFA_F_TENTATIVE != 0,
        duplicate: flags & IFA_F_DADFAILED != 0,
    })
}

/// An attribute's value that is an address.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}
