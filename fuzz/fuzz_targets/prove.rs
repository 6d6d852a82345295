//! Whatever parses can be proved about: no panic, and no walk without an end.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ecs_netguard::prove::{
    Addrs, Claim, Destination, Expect, HostView, Iface, Moment, Origin, PacketClass, Prover,
};
use ecs_netguard::ruleset::{Family, IfacePattern, Net, PortRange, parse_save, protocol};
use libfuzzer_sys::fuzz_target;

/// Far more than a proof takes, with a sanitizer too.
const LIMIT: Duration = Duration::from_secs(10);

fuzz_target!(|bytes: &[u8]| {
    for family in [Family::V4, Family::V6] {
        let Ok(ruleset) = parse_save(family, bytes) else {
            continue;
        };
        let host = host();
        let start = Instant::now();
        let prover = Prover::new(&[&ruleset], &host);
        for claim in claims(family) {
            let _ = prover.prove(&claim);
            let _ = prover.explain(&claim.packets);
        }
        assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    }
});

fn host() -> HostView {
    let iface = |addrs: &[&str]| Iface {
        addrs: addrs.iter().filter_map(|addr| addr.parse().ok()).collect(),
        route_localnet: true,
    };
    HostView {
        interfaces: BTreeMap::from([
            ("lo".to_owned(), iface(&["127.0.0.1", "::1"])),
            ("ens5".to_owned(), iface(&["10.0.0.10", "fd00:10::10"])),
            ("docker0".to_owned(), iface(&["172.17.0.1", "fd00:17::1"])),
        ]),
        route_localnet: true,
        ..HostView::default()
    }
}

fn claims(family: Family) -> Vec<Claim> {
    let net = |text: &str| Net::parse(family, text).expect("an address");
    let from = |name: &str| Origin::Interface(IfacePattern::parse(name).expect("a name").into());
    let block = |moment, turned| Claim {
        guarantee: "imds-block".to_owned(),
        packets: PacketClass {
            family,
            from: from("docker0"),
            out: None,
            src: Addrs::default(),
            dst: Destination::Net(net(match family {
                Family::V4 => "169.254.169.254",
                Family::V6 => "fd00:ec2::254",
            })),
            protocol: None,
            sport: None,
            dport: None,
            moment,
            turned,
        },
        expect: Expect::Dropped,
    };
    let mut claims = vec![
        block(Moment::First, true),
        block(Moment::Established, false),
    ];
    if family == Family::V4 {
        for origin in [from("docker0"), Origin::Host] {
            let mut delivery = block(Moment::First, false);
            delivery.packets.from = origin;
            delivery.packets.dst = Destination::Net(net("169.254.170.2"));
            delivery.packets.protocol = Some(protocol::TCP);
            delivery.packets.dport = Some(PortRange { low: 80, high: 80 });
            delivery.expect = Expect::Delivered {
                addr: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 51679,
            };
            claims.push(delivery);
        }
    }
    claims
}
