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
pub(crate) const ADDED: &str = "what the edge adds to each";
pub(crate) const INTERFACE: &str = "a new interface";
pub(crate) const CHAIN: &str = "until it has its chain";

/// How often they are compared, one right after the other, and how long each is measured.
const ROUNDS: usize = 60;
const SLICE: Duration = Duration::from_millis(100);
/// What makes 64 bytes with the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 64 - 14 - 20 - 8;
/// Beyond the uplink.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 5001;
const INTERFACES: usize = 100;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "the edge on the data path, over the uplink, in turns");
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
            let packets = rounds(edge, packets_for);
            let edge = Edge::open(None).expect("nf_tables");
            let mut to = TcpStream::connect((ROUTER, PORT)).expect("a stream");
            (packets, rounds(edge, move |time| bytes_for(&mut to, time)))
        })
    });
    sink.join().expect("the other end");
    for (what, there) in [
        ("what an empty chain adds to each", There::EmptyChain),
        (ADDED, There::Edge),
    ] {
        let time = |round: &[f64; 3], there| 1.0 / round[there as usize];
        let added = packets
            .iter()
            .map(|round| time(round, there) - time(round, There::Nothing));
        figure.add(PACKETS, what, Unit::Seconds, added.collect());
    }
    for (who, unit, rounds) in [
        (PACKETS, Unit::PerSecond, packets),
        (STREAM, Unit::Bytes, stream),
    ] {
        let of = |which: fn(&[f64; 3]) -> f64| rounds.iter().map(which).collect();
        figure.add(who, "without, in a second", unit, of(|[none, ..]| *none));
        figure.add(who, "with, in a second", unit, of(|[.., with]| *with));
        figure.add(
            who,
            "with an empty chain, of that without",
            Unit::Percent,
            of(|[none, empty, _]| 100.0 * empty / none),
        );
        figure.add(
            who,
            RATIO,
            Unit::Percent,
            of(|[none, _, with]| 100.0 * with / none),
        );
    }
    figure.add_times(INTERFACE, CHAIN, &new_interfaces());
    figure
}

/// What stands at the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// A chain without a rule: what the kernel takes for itself.
    EmptyChain,
    Edge,
}

/// How much is done in a second with each of these at the uplink, again and again.
fn rounds(mut edge: Edge, mut work: impl FnMut(Duration) -> f64) -> Vec<[f64; 3]> {
    let families = [Family::V4, Family::V6];
    let (with, without) = (EdgeRules::sockets_only(&families), EdgeRules::default());
    let mut rate = |there: There| {
        let rules = if there == There::Edge {
            &with
        } else {
            &without
        };
        edge.keep(rules).expect("the kernel has an edge");
        if there == There::EmptyChain {
            nft(
                "table netdev empty { chain c { type filter hook egress device ens5 priority 0; }; }",
            );
        }
        let done = work(SLICE);
        if there == There::EmptyChain {
            nft("delete table netdev empty");
        }
        done
    };
    // Whichever is first has it better or worse: they take turns.
    let mut round = |number: usize| {
        let mut order = [There::Nothing, There::EmptyChain, There::Edge];
        order.rotate_left(number % 3);
        let mut done = [0.0; 3];
        for there in order {
            done[there as usize] = rate(there);
        }
        done
    };
    round(0);
    let rounds = (0..ROUNDS).map(round).collect();
    edge.keep(&without).expect("it can be removed");
    rounds
}

fn nft(command: &str) {
    let status = Command::new("nft").arg(command).status();
    assert!(status.expect("nft").success(), "nft {command}");
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
pub(crate) fn link_events() -> nix::Result<OwnedFd> {
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
