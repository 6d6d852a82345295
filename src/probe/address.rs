//! Which addresses of a bridge's network are tried. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::ArpClaim;

/// How many are tried at most.
const MOST: u32 = 1024;

/// Addresses of an IPv4 network, the highest first, since Docker gives the lowest; `seed` shifts where
/// they begin, so that two probes at the same time do not want the same ones. Without the network's own
/// address, its broadcast address and that of the bridge.
pub fn candidates(bridge: Ipv4Addr, prefix: u8, seed: u32) -> impl Iterator<Item = Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let network = bridge.to_bits() & !hosts;
    // Without the two ends; a /31 or /32 has none left.
    let count = hosts.saturating_sub(1);
    // Among the topmost only: further down Docker may give one at any moment.
    let shift = seed % count.clamp(1, 64);
    (0..count.min(MOST))
        .map(move |number| network + count - (shift + number) % count)
        .map(Ipv4Addr::from_bits)
        .filter(move |address| *address != bridge)
}

/// What the claims of other hosts leave of some addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one is free.
    Free(Ipv4Addr),
    /// None is free, but some are only asked for, by other probes perhaps: they may stay so.
    Contended,
    /// Others have all of them.
    Taken,
}

/// The first of the addresses that no other host has and none asks for.
#[must_use]
pub fn choose(addresses: &[Ipv4Addr], claims: &BTreeSet<ArpClaim>) -> Choice {
    let without = |claim: fn(Ipv4Addr) -> ArpClaim| {
        move |address: &Ipv4Addr| !claims.contains(&claim(*address))
    };
    let mut not_taken = addresses
        .iter()
        .copied()
        .filter(without(ArpClaim::Has))
        .peekable();
    if not_taken.peek().is_none() {
        return Choice::Taken;
    }
    match not_taken.find(without(ArpClaim::Wants)) {
        Some(free) => Choice::Free(free),
        None => Choice::Contended,
    }
}

/// An address of an IPv6 network with these bits behind the prefix.
#[must_use]
pub fn with_bits(network: Ipv6Addr, prefix: u8, bits: u128) -> Ipv6Addr {
    let hosts = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(network.to_bits() & !hosts | bits & hosts)
}

/// Whether packets from this address are routed: neither link-local nor loopback.
#[must_use]
pub const fn is_routed(address: IpAddr) -> bool {
    match address {
        // ecs-bridge's own network is link-local, and the host routes it.
        IpAddr::V4(address) => !address.is_loopback() && !address.is_unspecified(),
        IpAddr::V6(address) => {
            !address.is_loopback()
                && !address.is_unspecified()
                && !address.is_unicast_link_local()
                && !address.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bridge: [u8; 4], prefix: u8, seed: u32) -> Vec<Ipv4Addr> {
        candidates(Ipv4Addr::from(bridge), prefix, seed).collect()
    }

    #[test]
    fn the_highest_come_first_and_the_bridge_never() {
        let of = all([172, 17, 0, 1], 16, 0);
        assert_eq!(of[0], Ipv4Addr::new(172, 17, 255, 254));
        assert_eq!(of.len(), 1024);
        let small = all([10, 0, 0, 5], 29, 0);
        let expected = [6, 4, 3, 2, 1].map(|last| Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(small, expected);
    }

    #[test]
    fn every_address_of_a_small_network_is_tried_once_whatever_the_seed() {
        for seed in [0, 1, 5, 6, 7, 4_000_000_000] {
            let mut found = all([10, 0, 0, 1], 29, seed);
            found.sort_unstable();
            let expected = [2, 3, 4, 5, 6].map(|last| Ipv4Addr::new(10, 0, 0, last));
            assert_eq!(found, expected, "{seed}");
        }
    }

    #[test]
    fn some_networks_have_no_room() {
        assert!(all([10, 0, 0, 1], 32, 3).is_empty());
        assert!(all([10, 0, 0, 1], 31, 3).is_empty());
        assert_eq!(all([10, 0, 0, 1], 30, 0), [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(all([10, 0, 0, 1], 0, 0).len(), 1024);
    }

    #[test]
    fn an_address_is_free_where_no_station_has_it_and_none_asks_for_it() {
        let [a, b] = [1, 2].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let (has, wants) = (ArpClaim::Has, ArpClaim::Wants);
        for (claims, expected) in [
            (vec![], Choice::Free(a)),
            (vec![has(a)], Choice::Free(b)),
            (vec![wants(a)], Choice::Free(b)),
            (vec![has(a), has(b)], Choice::Taken),
            (vec![has(a), wants(b)], Choice::Contended),
            (vec![wants(a), wants(b)], Choice::Contended),
            (vec![has(a), has(b), wants(b)], Choice::Taken),
        ] {
            let claims: BTreeSet<ArpClaim> = claims.into_iter().collect();
            assert_eq!(choose(&[a, b], &claims), expected, "{claims:?}");
        }
    }

    #[test]
    fn bits_go_behind_the_prefix() {
        let of = with_bits("fd00:17::1".parse().unwrap(), 64, u128::MAX);
        assert_eq!(
            of,
            "fd00:17::ffff:ffff:ffff:ffff".parse::<Ipv6Addr>().unwrap()
        );
        let all: Ipv6Addr = "fd00:17::1".parse().unwrap();
        assert_eq!(with_bits(all, 128, u128::MAX), all);
    }
}
