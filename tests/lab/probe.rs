//! What a container can try: requests and single packets, sent from inside its namespace without
//! starting a process, so that hundreds take no time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::http::{Request, Response};
use super::namespace::Namespace;
use super::wait::uninterrupted;

/// IP protocol numbers that have no name in the standard library.
pub mod proto {
    /// ICMP
    pub const ICMP: u8 = 1;
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// GRE
    pub const GRE: u8 = 47;
    /// ICMPv6
    pub const ICMPV6: u8 = 58;
    /// SCTP
    pub const SCTP: u8 = 132;
    /// A number kept for experiments (RFC 3692): no firewall has an opinion on it.
    pub const EXPERIMENT: u8 = 253;
}

impl Namespace {
    /// Fetches `path` from `host` (an address, IPv6 with or without brackets).
    pub fn http_get(&self, host: &str, port: u16, path: &str) -> io::Result<Response> {
        let addr = host
            .trim_matches(['[', ']'])
            .parse()
            .map_err(io::Error::other)?;
        self.http(addr, port, Request::get(path))
    }

    /// Sends any request.
    pub fn http(&self, addr: IpAddr, port: u16, request: Request) -> io::Result<Response> {
        let (patience, to) = (self.patience(), SocketAddr::new(addr, port));
        self.run(move || request.send(to, patience))
    }

    /// Whether a TCP connection comes about.
    pub fn tcp_connects(&self, to: SocketAddr) -> bool {
        let patience = self.patience();
        self.run(move || TcpStream::connect_timeout(&to, patience).is_ok())
    }

    /// Sends one UDP packet; whether it arrives, the counter knows.
    pub fn udp_send(&self, to: SocketAddr) -> io::Result<()> {
        self.run(move || udp(to.ip())?.send_to(b"lab", to).map(drop))
    }

    /// Whether an echo request is answered.
    pub fn icmp_echo(&self, to: IpAddr) -> io::Result<bool> {
        let patience = self.patience();
        self.run(move || {
            let deadline = Instant::now() + patience;
            let socket = raw(to, false)?;
            let (request, reply) = echo(to);
            // Port 0: for a raw socket the "port" is a protocol number, and must not contradict.
            socket.send_to(&request, (to, 0))?;
            let mut packet = [0; 256];
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                socket.set_read_timeout(Some(left))?;
                match uninterrupted(|| socket.recv_from(&mut packet)) {
                    Ok((length, from)) => {
                        let packet = &packet[..length];
                        // An IPv4 raw socket shows the IP header, an IPv6 one does not.
                        let header = if to.is_ipv4() {
                            usize::from(packet[0] & 15) * 4
                        } else {
                            0
                        };
                        if from.ip() == to && is_reply(packet.get(header..), &reply) {
                            return Ok(true);
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(e) => return Err(e),
                }
            }
        })
    }

    /// Sends one packet of any IP protocol, with eight bytes of nothing as its content.
    pub fn raw_proto(&self, to: IpAddr, protocol: u8) -> io::Result<()> {
        self.run(move || {
            let from = source(to)?;
            raw(to, true)?
                .send_to(&packet(from, to, protocol), (to, 0))
                .map(drop)
        })
    }

    /// Sends UDP packets as fast as one thread can, until stopped.
    pub fn flood(&self, to: SocketAddr) -> io::Result<Flood> {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = self.run(move || {
            let socket = udp(to.ip())?;
            socket.connect(to)?;
            Ok::<_, io::Error>(socket)
        })?;
        let thread = self.thread({
            let stop = Arc::clone(&stop);
            move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A refusal (an ICMP error that came back) is not a packet sent.
                    sent += u64::from(socket.send(b"lab").is_ok());
                }
                sent
            }
        });
        Ok(Flood {
            stop,
            thread: Some(thread),
        })
    }
}

/// A sender at full rate.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    /// Stops it: how many packets it sent.
    pub fn stop(mut self) -> u64 {
        self.end()
    }

    fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or(0)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

/// A socket of the same family as the address it will send to.
fn udp(family_of: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((unspecified(family_of), 0))
}

fn unspecified(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The source address the kernel would choose: nothing is sent.
fn source(to: IpAddr) -> io::Result<IpAddr> {
    let socket = udp(to)?;
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// A raw socket in a `UdpSocket`'s clothes, which has all the calls that are needed here.
fn raw(to: IpAddr, whole_packets: bool) -> io::Result<UdpSocket> {
    let (family, icmp) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let protocol = if whole_packets {
        SockProtocol::Raw
    } else {
        icmp
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    Ok(UdpSocket::from(socket))
}

/// An echo request with a number of its own, and the start of the reply to it.
fn echo(to: IpAddr) -> ([u8; 8], [u8; 8]) {
    static SEQUENCE: AtomicU16 = AtomicU16::new(1);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let id = 0x4c61_u16.to_be_bytes();
    let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
    let message = |kind| [kind, 0, 0, 0, id[0], id[1], sequence[0], sequence[1]];
    let mut request = message(request);
    // For ICMPv6 the kernel fills the sum in, because it covers the addresses too.
    let sum = checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    (request, message(reply))
}

fn is_reply(message: Option<&[u8]>, expected: &[u8; 8]) -> bool {
    message.is_some_and(|m| m.len() >= 8 && m[..2] == expected[..2] && m[4..8] == expected[4..])
}

/// RFC 1071
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A whole packet, header included; the IPv4 header's sum, id and length the kernel fills in.
fn packet(from: IpAddr, to: IpAddr, protocol: u8) -> Vec<u8> {
    const CONTENT: [u8; 8] = [0; 8];
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0, 0, 8, protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => unreachable!("source() keeps the family"),
    }
    packet.extend(CONTENT);
    packet
}
