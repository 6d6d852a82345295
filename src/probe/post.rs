//! Sending a probe's packets from one place, and finding out what came of each.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrStorage, bind,
    getsockname, sendto, setsockopt, socket, sockopt,
};

use super::model::{Asked, Kind, Layer, Place, Row, Seen, Tried};
use super::packet::{self, Content, Way};
use super::watch::Watch;
use crate::guarantee::imds_block;
use crate::os::packet_socket::{Frames, Handed, ethertype};
use crate::ruleset::Family;

/// How long a packet may take to a counter or an interface of this host. It takes microseconds, unless
/// the host is busy.
const SETTLES: Duration = Duration::from_millis(3);
/// How long an answer is waited for, from the last packet on, where a rule was seen to drop every packet,
/// and where one left or was seen nowhere: a busy host takes longer.
const ANSWERS_TO_NONE: Duration = Duration::from_millis(700);
const ANSWERS: Duration = Duration::from_millis(2_500);
/// How long a connection may take. The first packet is repeated after one second (TCP_TIMEOUT_INIT in
/// include/net/tcp.h), and a busy host may lose it.
const CONNECTS: Duration = Duration::from_secs(3);
/// How often what is waited for is looked for.
const LOOKS: Duration = Duration::from_millis(10);

/// The task credentials endpoint.
pub(super) const CREDENTIALS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)), packet::PORT);
/// Where the ECS agent serves it.
pub(super) const AGENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 51679);

/// An interface by which a place sends whole frames.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    /// The Ethernet address of the router for each family, where there is one.
    pub(super) router4: Option<[u8; 6]>,
    pub(super) router6: Option<[u8; 6]>,
    /// Whether what is handed to its driver has left for good.
    pub(super) exit: bool,
}

/// A place to send from: the calling thread's network namespace and cgroup.
#[derive(Debug)]
pub(super) struct Post<'h> {
    host: &'h Mutex<Watch>,
    /// What watches the namespace that packets are sent in, where that is not the host's.
    inside: Option<Watch>,
    /// An address of each family that there is.
    sources: Vec<IpAddr>,
    /// Absent where no frames can be sent.
    wire: Option<Wire>,
    /// Kept until the end: the kernel takes tens of milliseconds to close one (packet_release() in
    /// net/packet/af_packet.c waits for every processor), and other places wait for this one meanwhile.
    frames: Vec<(Handed, Frames)>,
}

impl<'h> Post<'h> {
    pub(super) const fn new(
        host: &'h Mutex<Watch>,
        inside: Option<Watch>,
        sources: Vec<IpAddr>,
        wire: Option<Wire>,
    ) -> Self {
        Self {
            host,
            inside,
            sources,
            wire,
            frames: Vec::new(),
        }
    }

    /// Tries everything. Packets are sent one after the other, and by one place at a time, so that the
    /// counter that moves is known to be of this packet; answers are waited for afterwards, by all places
    /// at the same time.
    pub(super) fn try_all(&mut self, asked: &Asked, tried: &mut Tried) {
        tried.sources.clone_from(&self.sources);
        let mut fired = Vec::new();
        {
            let mut host = lock(self.host);
            let _unattributed = (host.moved(), self.inside.as_mut().and_then(Watch::moved));
            for from in self.sources.clone() {
                for kind in self.kinds(asked) {
                    fired.extend(self.fire(&mut host, asked, kind, from));
                }
            }
        }
        let last = Instant::now();
        if self.sources.iter().any(IpAddr::is_ipv4) {
            for to in connections(asked) {
                tried.rows.push(connect(asked, to));
            }
        }
        let tokens: Vec<u32> = fired.iter().map(|(token, _)| *token).collect();
        let stopped = fired.iter().all(|(_, row)| row.layer.is_some());
        let limit = if stopped { ANSWERS_TO_NONE } else { ANSWERS };
        while last.elapsed() < limit && !tokens.iter().all(|token| self.is_answered(*token)) {
            thread::sleep(LOOKS);
        }
        let host = lock(self.host);
        let rows = fired.into_iter().map(|(token, mut row)| {
            let inside = self.inside.as_ref();
            let left = host.left(token).or_else(|| inside?.left(token));
            if host.is_answered(token) || inside.is_some_and(|watch| watch.is_answered(token)) {
                (row.seen, row.layer, row.by) = (Seen::Answered, None, None);
            } else if let Some(exit) = left {
                (row.seen, row.layer, row.by) = (Seen::Left, None, Some(exit.clone()));
            }
            row
        });
        tried.rows.splice(0..0, rows);
    }

    fn kinds(&self, asked: &Asked) -> Vec<Kind> {
        if asked.place == Place::Host {
            return vec![Kind::Tcp];
        }
        let mut kinds = Kind::PACKETS.to_vec();
        if matches!(asked.place, Place::Task { .. }) && self.wire.is_some() {
            kinds.insert(1, Kind::TcpBound);
        }
        if asked.frames {
            kinds.extend(Kind::FRAMES);
        }
        kinds
    }

    fn is_answered(&mut self, token: u32) -> bool {
        let mut host = lock(self.host);
        let watches = [Some(&mut *host), self.inside.as_mut()];
        watches.into_iter().flatten().any(|watch| {
            // What cannot be read now can be read at the next look.
            let _later = watch.drain();
            watch.is_answered(token)
        })
    }

    /// Sends one packet and waits until it is known what came of it, or nothing will be.
    fn fire(
        &mut self,
        host: &mut Watch,
        asked: &Asked,
        kind: Kind,
        from: IpAddr,
    ) -> Option<(u32, Row)> {
        let to = imds_block::address(family(from));
        let token = next_token();
        let sent = self.send(kind, Way { from, to, port: 0 }, token);
        let sent = match sent {
            Ok(()) => Ok(()),
            Err(None) => return None,
            Err(Some(error)) => Err(error),
        };
        let mut row = Row {
            what: kind,
            to,
            expected: asked.expects(kind, to),
            seen: Seen::NoAnswer,
            layer: None,
            by: None,
        };
        let began = Instant::now();
        loop {
            for watch in [Some(&mut *host), self.inside.as_mut()]
                .into_iter()
                .flatten()
            {
                if let Err(error) = watch.drain() {
                    row.seen = Seen::NotSent;
                    row.by = Some(format!("the interfaces cannot be watched: {error}"));
                    return Some((token, row));
                }
                if let Some(exit) = watch.left(token) {
                    (row.seen, row.by) = (Seen::Left, Some(exit.clone()));
                    return Some((token, row));
                }
            }
            let moved = host.moved();
            let moved = moved.or_else(|| self.inside.as_mut()?.moved());
            if let Some((layer, rule)) = moved {
                (row.seen, row.layer, row.by) = (Seen::Stopped, Some(layer), Some(rule));
                return Some((token, row));
            }
            if let Err(error) = &sent {
                (row.seen, row.layer, row.by) = refused(error);
                return Some((token, row));
            }
            if began.elapsed() > SETTLES {
                break;
            }
            thread::sleep(Duration::from_micros(200));
        }
        // The tap does not see these; the kernel took the frame, and no hook is behind that.
        if kind == Kind::FrameBypass
            && let Some(wire) = self.wire.as_ref().filter(|wire| wire.exit)
        {
            (row.seen, row.by) = (Seen::Left, Some(wire.name.clone()));
        }
        Some((token, row))
    }

    /// Sends one packet; `Err(None)` where this place has no way to send that kind.
    fn send(&mut self, kind: Kind, way: Way, token: u32) -> Result<(), Option<io::Error>> {
        let content = match kind {
            Kind::Udp => Content::Datagram,
            Kind::Icmp => Content::Echo,
            Kind::Protocol253 => Content::Other,
            _ => Content::Syn,
        };
        let reserved = reserve(way.from).ok();
        let way = Way {
            port: reserved.as_ref().map_or(0xd000, |(_, port)| *port),
            ..way
        };
        let packet = packet::build(content, way, token);
        let handed = match kind {
            Kind::Frame => Handed::Queued,
            Kind::FrameBypass => Handed::Bypassing,
            Kind::FrameMislabelled => Handed::Mislabelled,
            Kind::FrameAsTagged => Handed::AsTagged,
            Kind::TcpBound => {
                let wire = self.wire.as_ref().ok_or(None)?;
                return send_packet(way.to, &packet, Some(&wire.name)).map_err(Some);
            }
            _ => return send_packet(way.to, &packet, None).map_err(Some),
        };
        let wire = self.wire.as_ref().ok_or(None)?;
        let router = match way.to {
            IpAddr::V4(_) => wire.router4,
            IpAddr::V6(_) => wire.router6,
        };
        let router = router.ok_or(None)?;
        let frame = packet::frame(router, wire.mac, ethertype(way.to), &packet);
        if !self.frames.iter().any(|(by, _)| *by == handed) {
            let sender = Frames::sender(wire.index, handed).map_err(Some)?;
            self.frames.push((handed, sender));
        }
        let sender = self.frames.iter().find(|(by, _)| *by == handed);
        let (_, sender) = sender.ok_or(None)?;
        sender.send(&frame).map_err(Some)
    }
}

/// A TCP port that no other program uses as long as the socket is open. It neither listens nor
/// connects, so that the kernel refuses what is answered.
fn reserve(from: IpAddr) -> io::Result<(OwnedFd, u16)> {
    let (family, address) = (
        domain(from),
        SockaddrStorage::from(SocketAddr::new(from, 0)),
    );
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &address)?;
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = bound.as_sockaddr_in().map(SockaddrIn::port);
    let port = v4.or_else(|| Some(bound.as_sockaddr_in6()?.port()));
    port.map(|port| (socket, port))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

const fn domain(of: IpAddr) -> AddressFamily {
    match of {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A panic of another place is no reason to stop here.
pub(super) fn lock(host: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    host.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other packet of this probe has, and those of another probe hardly.
fn next_token() -> u32 {
    static BASE: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(0) as u32);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    BASE.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Which connections are tried from a place.
fn connections(asked: &Asked) -> Vec<SocketAddr> {
    match asked.place {
        Place::Host => vec![CREDENTIALS, AGENT],
        _ => vec![CREDENTIALS],
    }
}

/// Opens a connection and closes it.
fn connect(asked: &Asked, to: SocketAddr) -> Row {
    let outcome = TcpStream::connect_timeout(&to, CONNECTS);
    let (seen, layer, by) = match outcome {
        Ok(_) => (Seen::Answered, None, None),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (Seen::Refused, None, None),
            io::ErrorKind::TimedOut => (Seen::NoAnswer, None, None),
            _ => refused(&error),
        },
    };
    Row {
        what: Kind::Connect,
        to: to.ip(),
        expected: asked.expects(Kind::Connect, to.ip()),
        seen,
        layer,
        by,
    }
}

/// Sends a whole IP packet by the routes of this namespace, or by the one interface.
fn send_packet(to: IpAddr, packet: &[u8], interface: Option<&str>) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(domain(to), SockType::Raw, flags, SockProtocol::Raw)?;
    if let Some(interface) = interface {
        setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    }
    // The "port" of a raw socket is a protocol number, and must not contradict.
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd, packet, &to, flags)?;
    Ok(())
}

/// What an error of the sender's means.
fn refused(error: &io::Error) -> (Seen, Option<Layer>, Option<String>) {
    let stopped = |layer, by: &str| (Seen::Stopped, Some(layer), Some(by.to_owned()));
    match error.raw_os_error().map(Errno::from_raw) {
        // fib_props[] in net/ipv4/fib_semantics.c, ip6_rt_type_to_error() in net/ipv6/route.c.
        Some(Errno::EINVAL) => stopped(Layer::Route, "blackhole route"),
        Some(Errno::EHOSTUNREACH) => stopped(Layer::Route, "no route to the host"),
        Some(Errno::EACCES) => stopped(Layer::Route, "a route that prohibits it"),
        Some(Errno::ENETUNREACH) => stopped(Layer::Route, "no route"),
        Some(Errno::EPERM) => stopped(Layer::Other, "a filter in the kernel (EPERM)"),
        Some(Errno::ENOBUFS) => stopped(Layer::Other, "a filter at egress (ENOBUFS)"),
        _ => (Seen::NotSent, None, Some(error.to_string())),
    }
}

/// The family of an address.
pub(super) const fn family(of: IpAddr) -> Family {
    match of {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}
