//! Whatever rtnetlink and ipset answer or tell, each reader makes values or an error of it.
#![no_main]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ecs_netguard::os::{addresses, ipset};
use ecs_netguard::os::links::{Interfaces, Links};
use ecs_netguard::os::netns_events::{Event, NetnsEvents};
use ecs_netguard::os::nsid::{Peers, Ports};
use ecs_netguard::os::routes::Routes;
use ecs_netguard::os::script;
use ecs_netguard::os::veth::{Pair, Wires};
use libfuzzer_sys::fuzz_target;

const V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

// The first byte chooses the reader, so that an input is about one of them.
fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else {
        return;
    };
    script::answer(bytes);
    let _ = match reader % 9 {
        0 => interfaces(bytes.len()),
        1 => links(bytes),
        2 => addresses::here().map(|found| assert!(found.len() <= bytes.len())),
        3 => ways(),
        4 => routes(),
        5 => peers(),
        6 => wires(),
        8 => sets(bytes.len()),
        _ => events(bytes),
    };
});

fn interfaces(length: usize) -> io::Result<()> {
    let found = Interfaces::open()?.read()?;
    assert!(found.len() <= length);
    Ok(())
}

/// The same bytes are what is there in the beginning, and what happens then.
fn links(bytes: &[u8]) -> io::Result<()> {
    let mut links = Links::open()?;
    script::notify(bytes);
    assert!(links.drain()?.len() <= bytes.len());
    assert!(links.interfaces().len() <= bytes.len());
    Ok(())
}

fn ways() -> io::Result<()> {
    let mut routes = Routes::open()?;
    for to in [IpAddr::V4(V4), IpAddr::V6(V6)] {
        routes.way(to, Some(2))?;
        routes.rule_to(to, 254)?;
        routes.block(to)?;
        routes.unblock(to)?;
    }
    Ok(())
}

fn routes() -> io::Result<()> {
    let mut routes = Routes::open()?;
    routes.has_ipv4_default()?;
    routes.by_loopback()?;
    routes.local_and_broadcast()?;
    routes.add_by_loopback(V4)?;
    routes.remove_by_loopback(V4)
}

fn peers() -> io::Result<()> {
    let mut peers = Peers::open()?;
    if let Some(nsid) = peers.nsid(io::stdin())? {
        assert!(nsid >= 0);
    }
    peers.number(io::stdin())?;
    let ports = Ports::of(&peers.links()?);
    for (bridge, others) in &ports.bridges {
        for nsid in others {
            assert!(ports.leads(&[bridge.as_str()], *nsid));
        }
    }
    Ok(())
}

/// A list of sets may name sets without end only as far as there are bytes.
fn sets(length: usize) -> io::Result<()> {
    let found = ipset::read(["a"])?;
    assert!(found.len() <= length + 1);
    Ok(())
}

fn wires() -> io::Result<()> {
    let mut wires = Wires::open()?;
    wires.mac(2)?;
    for to in [IpAddr::V4(V4), IpAddr::V6(V6)] {
        wires.next_hop(to)?;
        wires.neighbour(2, to)?;
    }
    wires.addresses()?;
    let pair = Pair {
        port: "port",
        bridge: 7,
        mac: [2; 6],
        inner: "inner",
        inner_mac: [4; 6],
    };
    wires.add_pair(&pair, io::stdin())
}

/// Whatever happens elsewhere is about the namespace that it came from.
fn events(bytes: &[u8]) -> io::Result<()> {
    let mut events = NetnsEvents::listen()?;
    script::notify(bytes);
    for event in events.drain()? {
        if let Event::Network(nsid) | Event::Commit(nsid, _) = event {
            assert!((1..=255).contains(&nsid));
        }
    }
    Ok(())
}
