//! A throwaway container on a bridge: a network namespace that has no name, a veth pair into it, and a free
//! address. The kernel takes all of it with the thread that made it, however that ends.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use super::address::{Choice, candidates, choose, is_routed, with_bits};
use super::model::{Asked, Tried};
use super::packet::{self, ArpClaim};
use super::post::{Post, Wire};
use super::watch::{Exits, Watch};
use crate::os::links::Link;
use crate::os::netns::Netns;
use crate::os::packet_socket::{ARP, Frames};
use crate::os::veth::{self, Address, Wires};

/// How long the bridge may take to forward what a new port sends.
const LINK: Duration = Duration::from_secs(8);
/// How often, and how long each time, hosts are asked whether an address is theirs. RFC 5227 asks as
/// often and waits longer, for links that are slower than one within a machine.
const ASKED: usize = 3;
const ANSWER: Duration = Duration::from_millis(120);
/// How often a free address is looked for where other probes want the same ones.
const ATTEMPTS: usize = 16;
/// How long duplicate address detection may take.
const DETECTION: Duration = Duration::from_secs(8);
/// How many addresses are asked for at once: the first are nearly always free.
const BATCHES: [usize; 3] = [8, 120, 896];

/// The container's interface.
const INNER: &str = "eth0";

/// A bridge of the host.
#[derive(Debug, Clone)]
pub(super) struct Bridge {
    index: u32,
    mac: Option<[u8; 6]>,
    v4: Option<(Ipv4Addr, u8)>,
    v6: Option<(Ipv6Addr, u8)>,
    /// A port by which the bridge leads to other machines.
    uplink: Option<String>,
}

impl Bridge {
    /// The bridge of this name, with the first address that the host has on it in each family.
    pub(super) fn find(
        name: &str,
        links: &[Link],
        addresses: &[Address],
        wires: &mut Wires,
    ) -> io::Result<Option<Self>> {
        let Some(bridge) = links.iter().find(|link| link.name == name) else {
            return Ok(None);
        };
        let of =
            |address: &&Address| address.interface == bridge.index && is_routed(address.address);
        let addresses = || addresses.iter().filter(of);
        // Both ends here, a virtual machine's, or nothing at all: not another machine.
        let local = |kind: Option<&str>| matches!(kind, Some("veth" | "tun" | "dummy"));
        let mut ports = links
            .iter()
            .filter(|port| port.master == Some(bridge.index));
        let uplink = ports.find(|port| port.leads_to.is_none() && !local(port.kind.as_deref()));
        Ok(Some(Self {
            index: bridge.index,
            mac: wires.mac(bridge.index)?,
            v4: addresses().find_map(|of| match of.address {
                IpAddr::V4(address) => Some((address, of.prefix)),
                IpAddr::V6(_) => None,
            }),
            v6: addresses().find_map(|of| match of.address {
                IpAddr::V6(address) => Some((address, of.prefix)),
                IpAddr::V4(_) => None,
            }),
            uplink: uplink.map(|port| port.name.clone()),
        }))
    }
}

/// The name of the port number `number` of this process: no interface of another program has it.
#[must_use]
pub(super) fn port(number: usize) -> String {
    format!("{}{number}", ports())
}

/// What the names of this process's ports begin with.
#[must_use]
pub(super) fn ports() -> String {
    format!("ngp{}x", std::process::id())
}

/// Tries a bridge. To be called by a thread of its own, which stays in the throwaway namespace.
pub(super) fn probe(
    host: &Mutex<Watch>,
    bridge: &Bridge,
    port: &str,
    asked: &Asked,
) -> anyhow::Result<Tried> {
    let mut tried = Tried::new(asked);
    if let Some(uplink) = &bridge.uplink {
        let note =
            format!("carries the host's own interface {uplink}: not a bridge of containers alone");
        match asked.block {
            Some(_) => tried.failure = Some(note),
            None => tried.notes.push(note),
        }
        return Ok(tried);
    }
    if bridge.v4.is_none() && bridge.v6.is_none() {
        tried
            .notes
            .push("the host has no address on it, and routes nothing from there".to_owned());
        return Ok(tried);
    }
    let mut container = Container::make(bridge, port)?;
    container.wait_for_link(bridge)?;
    if let Some((gateway, prefix)) = bridge.v6 {
        container.begin_v6(gateway, prefix)?;
    }
    let mut failures = Vec::new();
    if let Some((gateway, prefix)) = bridge.v4 {
        match container.free_v4(gateway, prefix)? {
            Some(free) => container.take(free, prefix, gateway.into())?,
            None => failures.push(format!(
                "no free address was found in its network {gateway}/{prefix}: nothing was sent by IPv4"
            )),
        }
    }
    match bridge.v6 {
        Some((gateway, prefix)) => match container.end_v6(gateway, prefix)? {
            true => {
                if bridge.v4.is_none() {
                    container.wait_for_router(gateway.into())?;
                }
                container.route(gateway.into())?;
            }
            false => failures.push(format!(
                "no free address was found in its network {gateway}/{prefix}: nothing was sent by IPv6"
            )),
        },
        None => tried.notes.push("no IPv6 network".to_owned()),
    }
    tried.failure = (!failures.is_empty()).then(|| failures.join("; "));
    let mut outside = container.outside.take();
    let mut post = container.post(host)?;
    post.try_all(asked, &mut tried);
    // What the host has learnt of the address would be in the way of the next host that gets it. It may have
    // learnt nothing.
    for source in &tried.sources {
        if let Some(outside) = &mut outside {
            let _unknown = outside.forget_neighbour(bridge.index, *source);
        }
    }
    Ok(tried)
}

/// The namespace and what is in it.
struct Container {
    /// In the host's namespace.
    outside: Option<Wires>,
    wires: Wires,
    interface: u32,
    mac: [u8; 6],
    router: [u8; 6],
    sources: Vec<IpAddr>,
    pending: Option<IpAddr>,
}

impl Container {
    /// Makes them, in the calling thread.
    fn make(bridge: &Bridge, port: &str) -> anyhow::Result<Self> {
        let router = bridge.mac.context("it has no Ethernet address")?;
        let mut outside = Wires::open()?;
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        let inside = Netns::current()?;
        let pair = veth::Pair {
            port,
            bridge: bridge.index,
            mac: random_mac(PORT),
            inner: INNER,
            inner_mac: random_mac(packet::THROWAWAY),
        };
        outside
            .add_pair(&pair, &inside)
            .context("make a veth pair from the bridge")?;
        let interface = if_nametoindex(INNER)?;
        // Quicker and quieter; where /proc/sys is read-only it takes a second more.
        for (key, value) in [
            ("conf/eth0/addr_gen_mode", "1"),
            ("conf/eth0/router_solicitation_delay", "0"),
            ("neigh/eth0/retrans_time_ms", "300"),
        ] {
            let _slower = fs::write(format!("/proc/sys/net/ipv6/{key}"), value);
        }
        let mut wires = Wires::open()?;
        wires.set_up(interface)?;
        Ok(Self {
            outside: Some(outside),
            wires,
            interface,
            mac: pair.inner_mac,
            router,
            sources: Vec::new(),
            pending: None,
        })
    }

    /// Waits until the bridge forwards what this port sends: until the host answers for its own address.
    /// What is not answered before that proves nothing.
    fn wait_for_link(&mut self, bridge: &Bridge) -> anyhow::Result<()> {
        let began = Instant::now();
        let Some((gateway, _)) = bridge.v4 else {
            return Ok(());
        };
        let mut probes = ArpProbes::open(self.interface, self.mac)?;
        while began.elapsed() < LINK {
            if probes
                .claims(&[gateway], Duration::from_millis(30))?
                .contains(&ArpClaim::Has(gateway))
            {
                return Ok(());
            }
        }
        anyhow::bail!(
            "the host's own address {gateway} on it does not answer ARP within {} s (is it up?)",
            LINK.as_secs()
        )
    }

    /// The same where the host has no IPv4 address on it.
    fn wait_for_router(&mut self, gateway: IpAddr) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.wires.neighbour(self.interface, gateway)?.is_none() {
            anyhow::ensure!(
                began.elapsed() < LINK,
                "the host's own address {gateway} on it does not answer within {} s (is it up?)",
                LINK.as_secs()
            );
            self.wires.resolve(self.interface, gateway)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// An address that no station answers for (RFC 5227). Probes at the same time may ask for the same
    /// ones: then again, elsewhere in the network.
    fn free_v4(&mut self, gateway: Ipv4Addr, prefix: u8) -> anyhow::Result<Option<Ipv4Addr>> {
        let mut probes = ArpProbes::open(self.interface, self.mac)?;
        for _ in 0..ATTEMPTS {
            let seed = RandomState::new().hash_one(gateway) as u32;
            match probes.find_free(candidates(gateway, prefix, seed))? {
                Choice::Free(free) => return Ok(Some(free)),
                Choice::Taken => return Ok(None),
                // The one that goes first needs no longer than this has taken.
                Choice::Contended => {}
            }
        }
        Ok(None)
    }

    /// Gives the interface an address of the network, which the kernel then looks for elsewhere.
    fn begin_v6(&mut self, gateway: Ipv6Addr, prefix: u8) -> anyhow::Result<()> {
        let state = RandomState::new();
        let bits = u128::from(state.hash_one(0)) << 64 | u128::from(state.hash_one(1));
        let address = IpAddr::V6(with_bits(gateway, prefix, bits));
        self.wires
            .add_address(self.interface, address, prefix)
            .with_context(|| format!("take the address {address}"))?;
        self.pending = Some(address);
        Ok(())
    }

    /// Waits for what the kernel found; false where stations have the addresses that were tried.
    fn end_v6(&mut self, gateway: Ipv6Addr, prefix: u8) -> anyhow::Result<bool> {
        let began = Instant::now();
        while let Some(pending) = self.pending {
            let all = self.wires.addresses()?;
            let found = all.iter().find(|of| of.address == pending);
            match found {
                Some(of) if of.duplicate => self.begin_v6(gateway, prefix)?,
                Some(of) if !of.tentative => {
                    self.sources.push(pending);
                    self.pending = None;
                    return Ok(true);
                }
                _ => {}
            }
            if began.elapsed() > DETECTION {
                self.pending = None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }

    fn take(&mut self, address: Ipv4Addr, prefix: u8, gateway: IpAddr) -> anyhow::Result<()> {
        self.wires
            .add_address(self.interface, address.into(), prefix)
            .with_context(|| format!("take the address {address}"))?;
        ArpProbes::open(self.interface, self.mac)?.announce(address)?;
        self.sources.push(address.into());
        self.route(gateway)
    }

    fn route(&mut self, gateway: IpAddr) -> anyhow::Result<()> {
        self.wires
            .add_neighbour(self.interface, gateway, self.router)?;
        self.wires.add_default(self.interface, gateway)?;
        Ok(())
    }

    fn post(self, host: &Mutex<Watch>) -> anyhow::Result<Post<'_>> {
        let inside = Watch::open(Exits::new())?;
        let wire = Wire {
            index: self.interface,
            name: INNER.to_owned(),
            mac: self.mac,
            router4: Some(self.router),
            router6: Some(self.router),
            exit: false,
        };
        Ok(Post::new(host, Some(inside), self.sources, Some(wire)))
    }
}

/// How the Ethernet address of its port begins: higher than that of any other port. A bridge without an
/// address of its own takes the lowest of its ports', and containers would lose their router
/// (br_stp_recalculate_bridge_id(), net/bridge/br_stp_if.c).
const PORT: [u8; 2] = [0xfe, 0xff];

/// An Ethernet address that begins with this.
fn random_mac([a, b]: [u8; 2]) -> [u8; 6] {
    let [c, d, e, f, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    [a, b, c, d, e, f]
}

/// Asks which addresses are in use, without having one.
struct ArpProbes {
    frames: Frames,
    mac: [u8; 6],
}

impl ArpProbes {
    fn open(interface: u32, mac: [u8; 6]) -> io::Result<Self> {
        let frames = Frames::conversation(interface, ARP)?;
        Ok(Self { frames, mac })
    }

    fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        let arp = packet::arp_announcement(self.mac, address);
        let frame = packet::frame(packet::BROADCAST, self.mac, ARP, &arp);
        self.frames.send(&frame)
    }

    fn find_free(&mut self, mut among: impl Iterator<Item = Ipv4Addr>) -> io::Result<Choice> {
        for size in BATCHES {
            let batch: Vec<Ipv4Addr> = among.by_ref().take(size).collect();
            let mut claims = BTreeSet::new();
            for _ in 0..ASKED {
                claims.extend(self.claims(&batch, ANSWER)?);
            }
            match choose(&batch, &claims) {
                Choice::Taken => {}
                choice => return Ok(choice),
            }
        }
        Ok(Choice::Taken)
    }

    /// What other stations say within some time when they are asked for these addresses.
    fn claims(
        &mut self,
        addresses: &[Ipv4Addr],
        patience: Duration,
    ) -> io::Result<BTreeSet<ArpClaim>> {
        for address in addresses {
            let arp = packet::arp_probe(self.mac, *address);
            let frame = packet::frame(packet::BROADCAST, self.mac, ARP, &arp);
            self.frames.send(&frame)?;
        }
        let mut claims = BTreeSet::new();
        let until = Instant::now() + patience;
        loop {
            let mut buffer = [0; 128];
            while let Some(frame) = self.frames.receive(&mut buffer)? {
                claims.extend(packet::arp_claim(frame, self.mac));
            }
            // One that is asked for alone is waited for no longer than it takes.
            let taken = choose(addresses, &claims) == Choice::Taken;
            if taken || Instant::now() > until {
                return Ok(claims);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}
