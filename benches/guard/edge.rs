//! What the edge costs on the data path, and how quickly a new interface has its chain.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use ecs_netguard::guarantee::EdgeRules;
use ecs_netguard::os::nft::Commits;
use ecs_netguard::os::poll::Waiter;
use ecs_netguard::ruleset::Family;
use ecs_netguard::seal::edge::Edge;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::defence::guard;
use crate::machine::apart;
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "edge";
pub(crate) const PACKETS: &str = "packets of 64 bytes";
pub(crate) const STREAM: &str = "TCP throughput";
pub(crate) const RATIO: &str = "with the edge, of that without";
pub(crate) const INTERFACE: &str = "a new interface";
pub(crate) const CHAIN: &str = "until it has its chain";

/// How often with and without are compared, one right after the other, and how long each is measured.
const PAIRS: usize = 60;
const SLICE: Duration = Duration::from_millis(100);
/// What makes 64 bytes with the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 64 - 14 - 20 - 8;
/// Beyond the uplink.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 5001;
const INTERFACES: usize = 100;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "the edge on the data path, over the uplink, in pairs");
    let lab = Lab::new();
    let listener = lab.imds.run(|| TcpListener::bind((ROUTER, PORT)));
    let listener = listener.expect("a port beyond the uplink");
    // Takes whatever comes, and ends with the last stream.
    let sink = lab.imds.thread(move || {
        let (mut stream, _) = listener.accept().expect("a stream");
        let mut buffer = vec![0; 1 << 20];
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let (packets, stream) = apart(|cores| {
        let cores = cores.clone();
        lab.host.run(move || {
            cores.bind();
            let edge = Edge::open(None).expect("nf_tables");
            let packets = pairs(edge, packets_for);
            let edge = Edge::open(None).expect("nf_tables");
            let mut to = TcpStream::connect((ROUTER, PORT)).expect("a stream");
            (packets, pairs(edge, move |time| bytes_for(&mut to, time)))
        })
    });
    sink.join().expect("the other end");
    for (who, unit, pairs) in [
        (PACKETS, Unit::PerSecond, packets),
        (STREAM, Unit::Bytes, stream),
    ] {
        let of = |which: fn(&(f64, f64)) -> f64| pairs.iter().map(which).collect();
        figure.add(who, "without, in a second", unit, of(|pair| pair.0));
        figure.add(who, "with, in a second", unit, of(|pair| pair.1));
        figure.add(
            who,
            RATIO,
            Unit::Percent,
            of(|pair| 100.0 * pair.1 / pair.0),
        );
    }
    figure.add_times(INTERFACE, CHAIN, &new_interfaces());
    figure
}

/// How much is done in a second without and with the edge, again and again.
fn pairs(mut edge: Edge, mut work: impl FnMut(Duration) -> f64) -> Vec<(f64, f64)> {
    let families = [Family::V4, Family::V6];
    let (with, without) = (EdgeRules::sockets_only(&families), EdgeRules::default());
    let mut rate = |rules: &EdgeRules| {
        edge.keep(rules).expect("the kernel has an edge");
        work(SLICE)
    };
    // Whichever is first in a pair has it better or worse: they take turns.
    let mut pair = |number: usize| match number % 2 {
        0 => {
            let first = rate(&without);
            (first, rate(&with))
        }
        _ => {
            let first = rate(&with);
            (rate(&without), first)
        }
    };
    pair(0);
    let pairs = (0..PAIRS).map(pair).collect();
    edge.keep(&without).expect("it can be removed");
    pairs
}

fn packets_for(time: Duration) -> f64 {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    let to = SocketAddr::from((ROUTER, 9));
    let (begin, mut sent) = (Instant::now(), 0_u64);
    while begin.elapsed() < time {
        for _ in 0..64 {
            // A full queue refuses some.
            sent += u64::from(socket.send_to(&[0; PAYLOAD], to).is_ok());
        }
    }
    sent as f64 / begin.elapsed().as_secs_f64()
}

fn bytes_for(stream: &mut TcpStream, time: Duration) -> f64 {
    let chunk = vec![0; 1 << 16];
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < time {
        stream.write_all(&chunk).expect("the other end reads");
        sent += chunk.len();
    }
    sent as f64 / begin.elapsed().as_secs_f64()
}

/// From the kernel's event that an interface is there to the commit that gives it its chain.
fn new_interfaces() -> Vec<Duration> {
    let lab = Lab::new();
    let _daemon = guard(&lab, Backend::Nft, true);
    let one = |number| {
        lab.host.run(move || {
            // Waits for both: a loop that asks would take the core that the guard needs.
            let mut commits = Commits::listen().expect("nf_tables");
            let events = link_events().expect("rtnetlink");
            let (name, peer) = (format!("new{number}"), format!("peer{number}"));
            let mut ip = Command::new("ip")
                .args(["link", "add", &name, "type", "veth", "peer", &peer])
                .spawn()
                .expect("ip");
            recv(events.as_raw_fd(), &mut [0; 8192], MsgFlags::empty()).expect("an event");
            let made = Instant::now();
            let waiter = Waiter::new().expect("epoll");
            waiter.add(&commits).expect("epoll");
            waiter.wait(Some(Duration::from_secs(5))).expect("epoll");
            let waited = made.elapsed();
            let heard = commits.drain().expect("nf_tables");
            assert_ne!(heard.commits, [], "no chain was made");
            ip.wait().expect("ip ends");
            waited
        })
    };
    let measured = (0..INTERFACES).map(|number| {
        // So that the next event finds everything done.
        std::thread::sleep(Duration::from_millis(50));
        one(number)
    });
    measured.collect()
}

/// A socket that hears of changes of interfaces (RTMGRP_LINK).
fn link_events() -> nix::Result<OwnedFd> {
    let protocol = SockProtocol::NetlinkRoute;
    let kind = SockType::Raw;
    let socket = socket(
        AddressFamily::Netlink,
        kind,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
    Ok(socket)
}
