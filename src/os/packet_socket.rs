//! Packet sockets (packet(7)): whole frames out, and a copy of what passes an interface.
//!
//! Numbers are those of linux/if_packet.h, linux/if_ether.h and linux/filter.h.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// EtherTypes of a VLAN tag (IEEE 802.1Q, 802.1ad).
const TAGGED: u16 = 0x8100;
const DOUBLY_TAGGED: u16 = 0x88a8;

/// The length of an Ethernet address.
pub const MAC: usize = 6;

/// How a frame is handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// By the interface's queue.
    Queued,
    /// Past the queue (`PACKET_QDISC_BYPASS`), and past every tap on the interface.
    Bypassing,
    /// By the queue, named as another protocol than its header says.
    Mislabelled,
    /// By the queue, named as if it had a VLAN tag: the kernel then takes the network header to begin four
    /// bytes later than it does (packet_parse_headers(), net/packet/af_packet.c).
    AsTagged,
}

/// An EtherType that no protocol has (IEEE 802, local experimental 1).
const EXPERIMENTAL: u16 = 0x88b5;

/// Sends whole frames by one interface, and receives those of one EtherType.
#[derive(Debug)]
pub struct Frames {
    socket: OwnedFd,
    to: libc::sockaddr_ll,
}

impl Frames {
    /// Sends only; in the calling thread's network namespace.
    pub fn sender(interface: u32, handed: Handed) -> io::Result<Self> {
        // The protocol 0 receives nothing, and has the kernel read the EtherType from the frame.
        let socket = open(libc::SOCK_RAW, 0)?;
        if handed == Handed::Bypassing {
            let on: libc::c_int = 1;
            set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)?;
        }
        let named = match handed {
            Handed::Queued | Handed::Bypassing => 0,
            Handed::Mislabelled => EXPERIMENTAL,
            Handed::AsTagged => TAGGED,
        };
        Ok(Self {
            socket,
            to: address(interface, named),
        })
    }

    /// Sends, and receives what the interface receives of this EtherType.
    pub fn conversation(interface: u32, ethertype: u16) -> io::Result<Self> {
        let socket = open(libc::SOCK_RAW, 0)?;
        let to = address(interface, ethertype);
        // SAFETY: the address is a whole sockaddr_ll, as the length says; the kernel copies it.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(Self { socket, to })
    }

    /// Sends one frame. ENOBUFS where a filter at egress dropped it (net_xmit_errno()).
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame and the address are as long as is said; the kernel copies both.
        let result = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&self.to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(())
    }

    /// A frame that is waiting.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(buffer.get(..length)),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A packet that passed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed<'b> {
    /// The interface's number.
    pub interface: u32,
    /// Whether it left by it. A packet is seen leaving when it is handed to the driver: behind every
    /// hook and queue (dev_queue_xmit_nit(), net/core/dev.c).
    pub outgoing: bool,
    /// The packet from its IP header on.
    pub packet: &'b [u8],
}

/// A copy of what passes any interface of a network namespace from or to some addresses.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    /// Opens it in the calling thread's network namespace. The kernel filters: what is to and from
    /// other addresses costs a few instructions.
    pub fn open(v4: Ipv4Addr, v6: Ipv6Addr) -> io::Result<Self> {
        // Nothing is received before the filter is there.
        let socket = open(libc::SOCK_RAW, 0)?;
        let mut program = filter(v4, v6);
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        let all = address(0, libc::ETH_P_ALL as u16);
        // SAFETY: the address is a whole sockaddr_ll, as the length says; the kernel copies it.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&all).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        Errno::result(result)?;
        Ok(Self(socket))
    }

    /// The next packet that is waiting.
    pub fn next<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<Passed<'b>>> {
        let mut from = address(0, 0);
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the buffer and the address have room for as much as is said.
        let result = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                std::ptr::from_mut(&mut from).cast(),
                &raw mut length,
            )
        };
        match Errno::result(result) {
            Ok(read) => Ok(Some(Passed {
                interface: from.sll_ifindex.cast_unsigned(),
                outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
                packet: ip(
                    buffer.get(..read.cast_unsigned()).unwrap_or_default(),
                    from.sll_hatype,
                ),
            })),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn open(kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, protocol) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel opened it just now, for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is as long as is said; the kernel copies it. A sock_fprog points to as many
    // instructions as it says, which the kernel copies too.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

fn address(interface: u32, ethertype: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: MAC as u8,
        sll_addr: [0; 8],
    }
}

/// The IP packet in a frame of an interface of this kind (`ARPHRD_…` of linux/if_arp.h).
fn ip(frame: &[u8], kind: u16) -> &[u8] {
    let length = match kind {
        libc::ARPHRD_ETHER => match frame.get(2 * MAC..).and_then(<[u8]>::first_chunk) {
            Some(named) if [TAGGED, DOUBLY_TAGGED].contains(&u16::from_be_bytes(*named)) => {
                TAGGED_LINK
            }
            _ => LINK,
        },
        // Tunnels have no header of a link.
        _ => 0,
    };
    frame.get(length..).unwrap_or_default()
}

/// The lengths of an Ethernet header without a VLAN tag and with one.
const LINK: usize = 14;
const TAGGED_LINK: usize = 18;

/// From or to one of the addresses, wherever the IP header begins. What is one is asked of its first byte
/// and not of the EtherType, nor of where the kernel thinks that it begins: a sender may get both wrong.
fn filter(v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<libc::sock_filter> {
    // The frame of a tunnel may be shorter than an Ethernet header and what follows.
    let places = [0, LINK, TAGGED_LINK];
    let blocks = places.len();
    let mut program = Vec::new();
    for (number, at) in places.into_iter().enumerate() {
        let accept = (blocks - number) * BLOCK;
        block(&mut program, at as u32, accept, v4, v6);
    }
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
    program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
    program
}

/// How many instructions a header that begins at one place takes.
const BLOCK: usize = 24;

const fn step(code: u32, yes: usize, no: usize, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: yes as u8,
        jf: no as u8,
        k,
    }
}

/// Whether a header that begins at `at` is from or to one of the addresses; goes on behind the block where
/// it is not. `accept` is how far the instruction before the one that accepts is from the block's first.
fn block(program: &mut Vec<libc::sock_filter>, at: u32, accept: usize, v4: Ipv4Addr, v6: Ipv6Addr) {
    let first = program.len();
    let word = |offset| {
        step(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            0,
            0,
            at + offset,
        )
    };
    let equals = |yes, no, k| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, k);
    // Jumps are counted from the instruction behind.
    let to_accept = |place: usize| accept + 1 - place - 1;
    let behind = |place: usize| BLOCK - place - 1;
    program.push(step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at));
    program.push(step(
        libc::BPF_ALU | libc::BPF_AND | libc::BPF_K,
        0,
        0,
        0xf0,
    ));
    program.push(equals(0, 4, 0x40));
    program.push(word(12));
    program.push(equals(to_accept(4), 0, v4.to_bits()));
    program.push(word(16));
    program.push(equals(to_accept(6), behind(6), v4.to_bits()));
    program.push(equals(0, behind(7), 0x60));
    for (number, offset) in [8, 24].into_iter().enumerate() {
        // The second test begins here.
        let second = 16;
        for (place, part) in v6.octets().chunks_exact(4).enumerate() {
            let part = part.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
            program.push(word(offset + 4 * place as u32));
            let here = program.len() - first;
            let yes = if place == 3 { to_accept(here) } else { 0 };
            let no = if number == 0 {
                second - here - 1
            } else {
                behind(here)
            };
            program.push(equals(yes, no, part));
        }
    }
}

/// The EtherType of an IP packet to this address.
#[must_use]
pub const fn ethertype(to: IpAddr) -> u16 {
    match to {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does.
    fn passes(program: &[libc::sock_filter], packet: &[u8]) -> bool {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let step = program[at];
            at += 1;
            let load = |length: usize| {
                let bytes = packet.get(step.k as usize..step.k as usize + length)?;
                Some(
                    bytes
                        .iter()
                        .fold(0, |all, byte| all << 8 | u32::from(*byte)),
                )
            };
            match u32::from(step.code) & 0x07 {
                libc::BPF_LD => {
                    let one = u32::from(step.code) & libc::BPF_B != 0;
                    match load(if one { 1 } else { 4 }) {
                        Some(value) => a = value,
                        None => return false,
                    }
                }
                libc::BPF_ALU => a &= step.k,
                libc::BPF_JMP => {
                    at += usize::from(if a == step.k { step.jt } else { step.jf });
                }
                _ => return step.k > 0,
            }
        }
    }

    #[test]
    fn what_is_from_or_to_the_addresses_passes() {
        let v4 = Ipv4Addr::new(169, 254, 169, 254);
        let v6: Ipv6Addr = "fd00:ec2::254".parse().unwrap();
        let program = filter(v4, v6);
        let everywhere = |packet: &[u8]| {
            let at = [0, LINK, TAGGED_LINK].map(|length| {
                let mut frame = vec![0x60; length];
                frame.extend(packet);
                // No frame ends with the header.
                frame.extend([0; 40]);
                passes(&program, &frame)
            });
            assert!(at.iter().all(|passes| *passes == at[0]), "{at:?}");
            at[0]
        };
        let short = |from: [u8; 4], to: [u8; 4]| {
            let mut packet = vec![0x45; 12];
            packet.extend(from);
            packet.extend(to);
            everywhere(&packet)
        };
        assert!(short(v4.octets(), [1, 2, 3, 4]));
        assert!(short([1, 2, 3, 4], v4.octets()));
        assert!(!short([169, 254, 169, 253], [169, 254, 170, 2]));
        let long = |from: Ipv6Addr, to: Ipv6Addr| {
            let mut packet = vec![0x60; 8];
            packet.extend(from.octets());
            packet.extend(to.octets());
            everywhere(&packet)
        };
        let other: Ipv6Addr = "fd00:ec2::23".parse().unwrap();
        assert!(long(v6, other) && long(other, v6));
        assert!(!long(other, other));
        assert!(!long(Ipv6Addr::LOCALHOST, "fd00:ec3::254".parse().unwrap()));
        assert!(!passes(&program, &[0x45, 0]) && !passes(&program, &[]));
    }

    #[test]
    fn the_packet_is_what_follows_the_links_header() {
        let mut frame = vec![9; 12];
        frame.extend([0x08, 0, 0x45, 1]);
        assert_eq!(ip(&frame, libc::ARPHRD_ETHER), [0x45, 1]);
        assert_eq!(ip(&frame, libc::ARPHRD_NONE), frame);
        frame.splice(12..12, [0x81, 0, 0, 7]);
        assert_eq!(ip(&frame, libc::ARPHRD_ETHER), [0x45, 1]);
        assert!(ip(&[1], libc::ARPHRD_ETHER).is_empty());
    }
}
