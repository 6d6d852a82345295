//! Asks the kernel whether a verdict is true.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use ecs_netguard::prove::{Claim, Expect, Odd, Origin, Packet, PacketClass, Walk};
use ecs_netguard::ruleset::{Family, IfacePattern};
use ecs_netguard::verdict::Verdict;

use super::claims::{BRIDGES, imds};
use super::packets::{Flaw, Shot, bytes};
use super::random::Random;
use super::spread::{credentials, hairpins, spread};
use super::wire::{Seen, Sender, Wire, wait_for};

/// What packets said of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Nothing against it.
    Agrees,
    /// The verdict makes no promise.
    NothingSaid,
    /// The example cannot be sent here.
    NotSendable(String),
    /// The example asks for several chances to fall a certain way at once, and they did not.
    NotShown,
    /// It is wrong.
    Contradicted(String),
}

/// How long a packet that must arrive is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

/// For what must not arrive. Forwarding between namespaces is done when the sender's call returns,
/// nearly always; a packet that is later than this makes the test miss a contradiction, not see one.
const LITTLE: Duration = Duration::from_millis(2);
/// How often a packet is sent whose way hangs on chance.
const COPIES: usize = 300;

pub(crate) fn judge(
    wire: &mut Wire,
    random: &mut Random,
    claim: &Claim,
    verdict: &Verdict,
    ruleset: &str,
    Patience(patience): Patience,
) -> Judged {
    let chances = chances(ruleset);
    let copies = if chances > 0 { COPIES } else { 2 };
    let patience = if chances > 1 { LITTLE } else { patience };
    let class = &claim.packets;
    wire.forget_connections();
    wire.beyond();
    wire.inside();
    match (verdict, claim.expect) {
        (Verdict::Undecided { .. }, _) => Judged::NothingSaid,
        (Verdict::Held, Expect::Dropped) => held_block(wire, random, class),
        (Verdict::Violated { walk }, Expect::Dropped) => {
            let shot = match example(class, walk) {
                Ok(shot) => shot,
                Err(why) => return Judged::NotSendable(why),
            };
            let mut sent = BTreeSet::new();
            let established = shot.flaw == Flaw::Established;
            if established && let Err(why) = wire.establish(sender(class, &shot), &shot.packet) {
                return Judged::NotSendable(format!("{}: {why}", shot.packet));
            }
            for copy in 0..copies {
                let first = shot.packet.answers.as_deref();
                let number = if let Some(first) = first {
                    answer_to(wire, class, first, &shot)
                } else if established {
                    send(wire, class, &shot).map_err(|e| format!("{}: {e}", shot.packet))
                } else {
                    fire(wire, class, &shot)
                };
                match number {
                    Ok(number) => sent.insert(number),
                    Err(why) => return Judged::NotSendable(why),
                };
                let last = copy + 1 == copies;
                let wait = if last {
                    patience
                } else if copies > 2 {
                    pause(random)
                } else {
                    LITTLE
                };
                if wait_for(wait, || {
                    wire.beyond().iter().any(|s| leaves(class, &sent, s))
                }) {
                    return Judged::Agrees;
                }
            }
            vain(chances, "the example does not arrive")
        }
        (Verdict::Held, Expect::Delivered { addr, port }) => {
            for shot in credentials(class, random) {
                let mut sent = BTreeSet::new();
                let mut arrived = false;
                for wait in [patience / 2, patience / 2] {
                    sent.insert(fire(wire, class, &shot).expect("a SYN can be sent"));
                    let arrives =
                        |s: &Seen| sent.contains(&s.number) && (s.dst, s.dport) == (addr, port);
                    arrived = wait_for(wait, || wire.inside().iter().any(arrives));
                    if arrived {
                        break;
                    }
                }
                if !arrived {
                    return Judged::Contradicted(format!("{} does not arrive", shot.packet));
                }
            }
            Judged::Agrees
        }
        (Verdict::Violated { walk }, Expect::Delivered { addr, port }) => {
            let shot = match example(class, walk) {
                Ok(shot) => shot,
                Err(why) => return Judged::NotSendable(why),
            };
            for _ in 0..copies {
                let number = match fire(wire, class, &shot) {
                    Ok(number) => number,
                    Err(why) => return Judged::NotSendable(why),
                };
                let arrives = |s: &Seen| s.number == number && (s.dst, s.dport) == (addr, port);
                let arrived = wait_for(LITTLE, || wire.inside().iter().any(arrives));
                match (arrived, chances) {
                    (true, 0) => {
                        return Judged::Contradicted("the example does arrive".to_owned());
                    }
                    (true, _) => sleep(pause(random)),
                    // Without chance in it, twice is enough: nothing changes.
                    (false, 0) => {}
                    (false, _) => return Judged::Agrees,
                }
            }
            if chances == 0 {
                Judged::Agrees
            } else {
                vain(chances, "the example always arrives")
            }
        }
    }
}

/// Where several rules hang on chance, an example may ask for answers that never come together.
fn vain(chances: usize, what: &str) -> Judged {
    if chances > 1 {
        Judged::NotShown
    } else {
        Judged::Contradicted(what.to_owned())
    }
}

/// How many rules of a ruleset hang on chance.
fn chances(ruleset: &str) -> usize {
    let hangs = |line: &&str| line.contains("-m limit ") || line.contains("-m statistic ");
    ruleset.lines().filter(hangs).count()
}

/// Longer and shorter than what `limit` needs to allow one more.
fn pause(random: &mut Random) -> Duration {
    Duration::from_micros(random.pick(&[0, 0, 50, 300, 1_500, 3_000]))
}

/// Sends the first packet of a connection, and what answers it.
fn answer_to(
    wire: &mut Wire,
    class: &PacketClass,
    first: &Packet,
    shot: &Shot,
) -> Result<u32, String> {
    let packet = first.clone();
    let flaw = Flaw::None;
    fire(wire, class, &Shot { packet, flaw })?;
    send(wire, class, shot).map_err(|e| format!("{}: {e}", shot.packet))
}

fn held_block(wire: &mut Wire, random: &mut Random, class: &PacketClass) -> Judged {
    let shots = spread(class, random);
    let mut sent = BTreeSet::new();
    let mut by_number = Vec::new();
    for shot in shots {
        // A kernel may refuse to send one or the other odd packet: then it does not arrive.
        if let Ok(number) = send(wire, class, &shot) {
            sent.insert(number);
            by_number.push((number, shot));
        }
    }
    assert!(!by_number.is_empty(), "no packet of {class} could be sent");
    for shot in hairpins(class) {
        let first = shot.packet.answers.clone().expect("it answers one");
        if let Ok(number) = answer_to(wire, class, &first, &shot) {
            sent.insert(number);
            by_number.push((number, shot));
        }
    }
    let mut bad = None;
    wait_for(LITTLE, || {
        bad = wire.beyond().into_iter().find(|s| leaves(class, &sent, s));
        bad.is_some()
    });
    match bad {
        None => Judged::Agrees,
        Some(seen) => {
            let shot = by_number.iter().find(|(number, _)| *number == seen.number);
            let shot = shot.map_or(String::new(), |(_, s)| {
                format!("{} flags {:?} {:?}", s.packet, s.packet.flags, s.flaw)
            });
            Judged::Contradicted(format!("this arrives: {shot}, at port {}", seen.dport))
        }
    }
}

/// Whether a packet that was seen is one that leaves for the class's destination.
fn leaves(class: &PacketClass, sent: &BTreeSet<u32>, seen: &Seen) -> bool {
    sent.contains(&seen.number)
        && seen.dst == imds(class.family)
        && class
            .dport
            .is_none_or(|r| (r.low..=r.high).contains(&seen.dport))
}

/// The packet that a walk is about, if it can be sent from where it should come.
fn example(class: &PacketClass, walk: &Walk) -> Result<Shot, String> {
    let packet = walk.example.clone().ok_or("a walk without an example")?;
    let unsendable = match packet.dst {
        IpAddr::V4(dst) => {
            dst.is_multicast()
                || dst.is_broadcast()
                || dst.octets()[0] == 0
                || dst.octets()[0] >= 240
        }
        IpAddr::V6(dst) => {
            dst.is_multicast()
                || dst.is_loopback()
                || dst.is_unspecified()
                || dst.is_unicast_link_local()
        }
    };
    if unsendable {
        return Err(format!("destination {}", packet.dst));
    }
    assert!(
        class.src.any_of.iter().any(|net| net.contains(packet.src)),
        "{packet} is not of {class}"
    );
    let flaw = match packet.odd {
        None => Flaw::None,
        Some(Odd::Invalid) => Flaw::Malformed,
        Some(Odd::Later) => Flaw::Established,
        Some(_) => panic!("nobody can be sure to send this: {packet}"),
    };
    let shot = Shot { packet, flaw };
    match shot.packet.length {
        Some(length) if bytes(&shot, 0).len() != usize::from(length) => {
            Err(format!("{length} bytes, and a mark to be known again by"))
        }
        _ if shot.packet.mac.is_some() => Err("from a MAC".to_owned()),
        _ => Ok(shot),
    }
}

/// Sends as the first packet of a connection, whatever was sent before.
fn fire(wire: &mut Wire, class: &PacketClass, shot: &Shot) -> Result<u32, String> {
    wire.forget_connections();
    send(wire, class, shot).map_err(|e| format!("{}: {e}", shot.packet))
}

fn send(wire: &mut Wire, class: &PacketClass, shot: &Shot) -> std::io::Result<u32> {
    wire.send(sender(class, shot), shot)
}

fn sender(class: &PacketClass, shot: &Shot) -> Sender {
    match &class.from {
        // The oracle makes no claims about cgroups: it sends from one process, which is in one of them.
        Origin::Host | Origin::Cgroup(_) => {
            Sender::Host(shot.packet.uid.unwrap_or(0), shot.packet.gid.unwrap_or(0))
        }
        Origin::Interface(ifaces) => {
            let bridge = BRIDGES
                .iter()
                .position(|name| ifaces.any_of == [IfacePattern::Exact((*name).to_owned())]);
            Sender::Container(bridge.expect("claims are about the lab's bridges"))
        }
    }
}

/// For messages: `IPv4 docker0 …`
pub(crate) fn family_name(family: Family) -> &'static str {
    if family == Family::V4 { "IPv4" } else { "IPv6" }
}
