//! The lab with hands in it: raw sockets that send from the containers and the host, and sockets
//! that see what arrives, kept open so that a packet costs one system call and no process.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use ecs_netguard::os::nft::Inventory;
use ecs_netguard::prove::Packet;
use ecs_netguard::ruleset::native::NativeTable;
use ecs_netguard::ruleset::{Family, Ipset};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::claims::{BRIDGES, imds};
use super::native::{MARKER, TABLES};
use super::packets::{Flaw, Shot, answer, beginning, bytes, number_in};
use super::sets;
use lab::Lab;
use lab::namespace::Namespace;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually, uninterrupted};

/// The sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// The container on the bridge of this index in [`BRIDGES`].
    Container(usize),
    /// The host, as this user and group.
    Host(u32, u32),
    /// The metadata service.
    Service,
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) number: u32,
    pub(crate) dst: IpAddr,
    pub(crate) dport: u16,
}

pub(crate) struct Wire {
    pub(crate) lab: Lab,
    pub(crate) backend: Backend,
    senders: HashMap<(Sender, bool), UdpSocket>,
    /// Everything on the cables of the metadata service's machine.
    imds: UdpSocket,
    /// Every TCP packet that INPUT let through on the host.
    host: UdpSocket,
    conntrack: UdpSocket,
    number: u32,
    /// The sets that rules ask for.
    pub(crate) ipsets: BTreeMap<String, Option<Ipset>>,
    /// The ruleset at hand.
    loaded: (Family, String),
}

impl Wire {
    pub(crate) fn new(backend: Backend) -> Self {
        let lab = Lab::new();
        settle(&lab);
        let imds = open(
            &lab.imds,
            AddressFamily::Packet,
            SockType::Datagram,
            SockProtocol::EthAll,
        );
        let host = open(
            &lab.host,
            AddressFamily::Inet,
            SockType::Raw,
            SockProtocol::Tcp,
        );
        let conntrack = open(
            &lab.host,
            AddressFamily::Netlink,
            SockType::Raw,
            SockProtocol::NetlinkNetFilter,
        );
        let ipsets = sets::make(&lab);
        Self {
            lab,
            backend,
            ipsets,
            senders: HashMap::new(),
            imds,
            host,
            conntrack,
            number: 0,
            loaded: (Family::V4, String::new()),
        }
    }

    /// Whether packets meet PREROUTING in the bridge already (`br_netfilter`, which Docker loads)
    /// or above it. Where the module is not loaded, there is nothing to choose.
    pub(crate) fn bridged(&self, whether: bool) {
        for tool in ["iptables", "ip6tables"] {
            let path = format!("net/bridge/bridge-nf-call-{tool}");
            let value = if whether { "1" } else { "0" };
            if let Err(e) = self.lab.host.try_set_sysctl(&path, value) {
                assert_eq!(e.kind(), io::ErrorKind::NotFound, "{path}: {e}");
            }
        }
    }

    /// Loads a ruleset, in the place of all that was there, and reads it back.
    pub(crate) fn load(&mut self, family: Family, text: &str) -> Result<String, String> {
        self.loaded = (family, text.to_owned());
        let (restore, save) = match family {
            Family::V4 => (self.backend.restore(), self.backend.save()),
            Family::V6 => (self.backend.restore6(), self.backend.save6()),
        };
        let run = |program: &str, input: &str| {
            let command = self.lab.host.command(program);
            let command = if program == "nft" {
                command.args(["-f", "-"])
            } else {
                command
            };
            let output = command.stdin(input).output();
            let output = output.map_err(|e| e.to_string())?;
            if output.status.success() {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            } else {
                Err(format!(
                    "{program}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ))
            }
        };
        let (native, iptables): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with(MARKER));
        // What was there goes first, and what is native comes before or after iptables' tables.
        let mut script = String::new();
        for table in TABLES {
            script += &format!("add table {table}\ndelete table {table}\n");
        }
        run("nft", &script).map(drop)?;
        run(&restore, &(iptables.join("\n") + "\n"))?;
        let native = native.iter().filter_map(|line| line.strip_prefix(MARKER));
        let mut native: Vec<&str> = native.collect();
        // Some rules make no sense to nft, which names their lines.
        while !native.is_empty() {
            let Err(refused) = run("nft", &(native.join("\n") + "\n")) else {
                break;
            };
            let lines: Vec<usize> = refused
                .split("/dev/stdin:")
                .skip(1)
                .filter_map(|rest| rest.split(':').next()?.parse().ok())
                .collect();
            let before = native.len();
            let mut number = 0;
            native.retain(|line| {
                number += 1;
                !(lines.contains(&number) && line.starts_with("add rule"))
            });
            if native.len() == before {
                return Err(refused);
            }
        }
        run(&save, "")
    }

    /// The native tables that the host holds, as packets of a family meet them.
    pub(crate) fn native(&self, family: Family) -> Vec<NativeTable> {
        let inventory = self.lab.host.run(Inventory::take);
        inventory
            .expect("nf_tables can be read")
            .native
            .decode(family)
    }

    /// Sends a packet; answers its number, or why it cannot be sent.
    pub(crate) fn send(&mut self, sender: Sender, shot: &Shot) -> io::Result<u32> {
        self.number += 1;
        let to = shot.packet.dst;
        let key = (sender, to.is_ipv4());
        let socket = match self.senders.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(sending(&self.lab, sender, to.is_ipv4()))
            }
        };
        match socket.send_to(&bytes(shot, self.number), (to, 0)) {
            // OUTPUT dropped it: sent, as far as the sender can.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            sent => drop(sent?),
        }
        Ok(self.number)
    }

    /// Lets the connection of a packet be there before the ruleset at hand is, which is loaded once more.
    pub(crate) fn establish(&mut self, sender: Sender, packet: &Packet) -> io::Result<()> {
        let (family, text) = self.loaded.clone();
        // Nothing but conntrack, which follows what some rule asks it about.
        let chains = |line: &&str| line.starts_with(['*', ':']) || *line == "COMMIT";
        let built_in = |line: &&str| !line.contains(" - [");
        let empty: String = text
            .lines()
            .filter(chains)
            .filter(built_in)
            .map(|line| line.replace(" DROP ", " ACCEPT ") + "\n")
            .collect();
        self.load(family, &empty).expect("tables without rules");
        // No kernel answers the service's answer, of which no socket knows.
        let from = imds(family);
        let from = format!("{} saddr {from}", if from.is_ipv4() { "ip" } else { "ip6" });
        self.nft(&format!(
            "add table inet following {{
               chain follow {{ type filter hook prerouting priority 300; ct state new; }}
               chain deaf {{ type filter hook input priority 0; {from} drop; }}
             }}"
        ));
        self.forget_connections();
        let shot = |packet, flaw| Shot { packet, flaw };
        let (mut first, mut from, mut to) = (beginning(packet), sender, Sender::Service);
        if packet.reply {
            first = answer(&first);
            (from, to) = (to, from);
        }
        self.send(from, &shot(first.clone(), Flaw::None))?;
        self.send(to, &shot(answer(&first), Flaw::Answer))?;
        self.load(family, &text).expect("it was loaded before");
        self.nft("delete table inet following");
        Ok(())
    }

    fn nft(&self, command: &str) {
        self.lab.host.command("nft").args([command]).run();
    }

    /// What has arrived at the metadata service's machine since the last look.
    pub(crate) fn beyond(&self) -> Vec<Seen> {
        drain(&self.imds)
    }

    /// What TCP has arrived on the host since the last look.
    pub(crate) fn inside(&self) -> Vec<Seen> {
        drain(&self.host)
    }

    /// Lets the host forget every connection, and with them what NAT decided about them.
    pub(crate) fn forget_connections(&self) {
        // IPCTNL_MSG_CT_DELETE without attributes.
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(((1_u16 << 8) | 2).to_ne_bytes());
        message.extend((1_u16 | 4).to_ne_bytes()); // a request, with an answer
        message.extend([0; 12]);
        self.conntrack
            .send(&message)
            .expect("conntrack can be flushed");
        let mut answer = [0; 256];
        let length = uninterrupted(|| self.conntrack.recv(&mut answer)).expect("netlink answers");
        assert!(
            length >= 20 && answer[16..20] == [0; 4],
            "conntrack refuses to be flushed"
        );
    }
}

/// Waits for something to be seen, patiently: a slow machine must not look like a wrong proof.
pub(crate) fn wait_for(patience: Duration, mut look: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if look() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Takes out what is not about rules: neighbours that must be asked for (ND is ICMPv6, and a
/// ruleset may drop it), addresses that are on the link, loopback in the containers.
fn settle(lab: &Lab) {
    let mac = |ns: &Namespace, dev: &str| {
        ns.sh(&format!("cat /sys/class/net/{dev}/address"))
            .trim()
            .to_owned()
    };
    let nets = [
        ("172.17.0", "fd00:17:"),
        ("172.18.0", "fd00:18:"),
        ("169.254.172", "fd00:19:"),
    ];
    let mut host = String::new();
    for ((container, bridge), (v4, v6)) in lab.containers().into_iter().zip(BRIDGES).zip(nets) {
        let dev = if bridge == "ecs-bridge" {
            "ecs-eth0"
        } else {
            "eth0"
        };
        let text = container
            .command("ip")
            .args(["-o", "link", "show", dev])
            .run();
        let own = text.split("link/ether ").nth(1).expect("a MAC address");
        let own = own.split(' ').next().expect("a MAC address");
        let gateway = mac(&lab.host, bridge);
        container.set_sysctl("net/ipv4/conf/all/route_localnet", "1");
        container.set_sysctl("net/ipv4/conf/all/rp_filter", "0");
        container.sh(&format!(
            "ip addr flush dev {dev}
             ip link set lo down
             ip addr add {v4}.2/32 dev {dev}
             ip addr add {v6}:2/128 dev {dev} nodad noprefixroute
             ip neigh replace {v4}.1 lladdr {gateway} dev {dev} nud permanent
             ip neigh replace {v6}:1 lladdr {gateway} dev {dev} nud permanent
             ip route replace {v4}.1 dev {dev}
             ip route replace {v6}:1 dev {dev}
             ip route replace default via {v4}.1 dev {dev} src {v4}.2
             ip route replace 127.0.0.0/8 via {v4}.1 dev {dev} src {v4}.2
             ip -6 route replace default via {v6}:1 dev {dev} src {v6}:2
             # What it sends to itself comes back by the host.
             ip route del local {v4}.2 dev {dev} table local"
        ));
        // The kernel's worker adds this one a moment after the address (addrconf_dad_work() in net/ipv6/addrconf.c).
        let local = format!("ip -6 route del local {v6}:2 dev {dev} table local");
        eventually(LONG, "the address is the container's own", || {
            container.try_run(&local).is_ok()
        });
        container.sh("nft 'add table inet deaf { chain c { type filter hook input priority 0; ip saddr 169.254.169.254 drop; ip6 saddr fd00:ec2::254 drop; }; }'");
        host += &format!(
            "ip neigh replace {v4}.2 lladdr {own} dev {bridge} nud permanent
             ip neigh replace {v6}:2 lladdr {own} dev {bridge} nud permanent\n"
        );
    }
    let router = lab
        .imds
        .command("ip")
        .args(["-o", "link", "show", "lan"])
        .run();
    let router = router.split("link/ether ").nth(1).expect("a MAC address");
    let router = router.split(' ').next().expect("a MAC address");
    lab.host.sh(&format!(
        "{host}
         ip neigh replace 10.0.0.1 lladdr {router} dev ens5 nud permanent
         ip neigh replace fd00:10::1 lladdr {router} dev ens5 nud permanent"
    ));
    let uplink = mac(&lab.host, "ens5");
    // Its kernel would end connections that are not its own.
    lab.imds.sh("nft 'add table inet deaf { chain c { type filter hook input priority 0; policy drop; }; }'");
    lab.imds.sh(&format!(
        "ip neigh replace 10.0.0.10 lladdr {uplink} dev lan nud permanent
         ip neigh replace fd00:10::10 lladdr {uplink} dev lan nud permanent"
    ));
}

fn open(
    ns: &Namespace,
    family: AddressFamily,
    kind: SockType,
    protocol: SockProtocol,
) -> UdpSocket {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = ns.run(move || socket(family, kind, flags, protocol));
    let socket = UdpSocket::from(fd.expect("root opens raw sockets"));
    socket
        .set_nonblocking(family != AddressFamily::Netlink)
        .expect("a socket can be made not to block");
    socket
}

/// A raw socket that takes whole packets.
fn sending(lab: &Lab, sender: Sender, v4: bool) -> UdpSocket {
    let family = if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    match sender {
        Sender::Container(index) => open(
            lab.containers()[index],
            family,
            SockType::Raw,
            SockProtocol::Raw,
        ),
        Sender::Service => open(&lab.imds, family, SockType::Raw, SockProtocol::Raw),
        // `-m owner` sees the user that opened the socket: the file system ids of that moment.
        Sender::Host(uid, gid) => {
            lab.host.run(move || {
                setfsgid(Gid::from_raw(gid));
                setfsuid(Uid::from_raw(uid));
            });
            let socket = open(&lab.host, family, SockType::Raw, SockProtocol::Raw);
            lab.host.run(|| {
                setfsuid(Uid::from_raw(0));
                setfsgid(Gid::from_raw(0));
            });
            socket
        }
    }
}

fn drain(socket: &UdpSocket) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut packet = [0; 2048];
    // An error is "nothing there", or a wire that went down with its lab.
    while let Ok(length) = uninterrupted(|| socket.recv(&mut packet)) {
        seen.extend(read(&packet[..length]));
    }
    seen
}

fn read(packet: &[u8]) -> Option<Seen> {
    let number = number_in(packet)?;
    let (dst, header) = match packet.first()? >> 4 {
        4 => {
            let dst: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (IpAddr::from(dst), usize::from(packet[0] & 15) * 4)
        }
        6 => {
            let dst: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (IpAddr::from(dst), 40)
        }
        _ => return None,
    };
    let dport = packet
        .get(header + 2..header + 4)
        .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    Some(Seen { number, dst, dport })
}
