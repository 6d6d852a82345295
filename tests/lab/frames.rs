//! Whole frames, written past the IP stack.

use super::namespace::Namespace;

/// Writes every kind of frame to the metadata service to an interface, with every protocol that its writer may
/// claim, for the station with this Ethernet address: how many its kernel took, and refused.
#[track_caller]
pub fn write_frames(from: &Namespace, interface: &str, to: &str) -> (u32, u32) {
    let out = from
        .command("python3")
        .args(["-", interface, to])
        .stdin(include_str!("frames.py"))
        .run();
    let mut counts = out.split_whitespace().map(|word| word.parse());
    match (counts.next(), counts.next()) {
        (Some(Ok(taken)), Some(Ok(refused))) => (taken, refused),
        _ => panic!("frames.py printed {out:?}"),
    }
}

/// The Ethernet address of an interface.
#[track_caller]
pub fn mac(ns: &Namespace, interface: &str) -> String {
    let shown = ns.sh(&format!("ip -o link show dev {interface}"));
    let mut words = shown.split_whitespace();
    words
        .find(|word| *word == "link/ether")
        .and_then(|_| words.next())
        .unwrap_or_else(|| panic!("{interface} has no address: {shown}"))
        .to_owned()
}
