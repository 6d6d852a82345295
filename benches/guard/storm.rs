//! Foreign commits as fast as the kernel takes them, the last of which removes the rules: is it
//! seen?

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use ecs_netguard::os::nft::generation;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};

use crate::defence::guard;
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::tamper::Backend;
use lab::wait::within;

pub(crate) const ID: &str = "storm";
pub(crate) const WHO: &str = "ecs-netguard run";
/// 1 where it does.
pub(crate) const HELD: &str = "`check` says held afterwards";
pub(crate) const BACK: &str = "last commit to rules on top";

const COMMITS: u32 = 40_000;

/// Far less than the safety net's interval: who repairs sooner has seen the event.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(
        ID,
        format!("{COMMITS} foreign commits, the last of which flushes FORWARD"),
    );
    let lab = Lab::new();
    let _daemon = guard(&lab, Backend::Nft, true);
    let commits = || lab.host.run(generation).expect("the kernel counts commits");
    let before = commits();
    let elapsed = lab.host.run(storm).expect("the kernel takes batches");
    let ended = Instant::now();
    let made = commits() - before;
    assert!(
        made >= COMMITS,
        "only {made} of {COMMITS} commits were made"
    );
    let back = within(LIMIT, || on_top(&lab));
    let rate = f64::from(COMMITS) / elapsed.as_secs_f64();
    figure.add_one(WHO, "foreign commits", Unit::PerSecond, rate);
    match back {
        Some(()) => figure.add_times(WHO, BACK, &[ended.elapsed()]),
        None => figure.notes.push(format!("not back within {LIMIT:?}")),
    }
    let held = lab.netguard(["check"]).status();
    let held = held.is_ok_and(|status| status.success());
    figure.add_one(WHO, HELD, Unit::Count, f64::from(u8::from(held)));
    figure
}

fn on_top(lab: &Lab) -> bool {
    let rules = lab.tamper(Backend::Nft).iptables("-S FORWARD");
    let first = rules.lines().find(|line| line.starts_with("-A"));
    first.is_some_and(|rule| rule.contains("ecs-netguard: imds-block"))
}

/// Makes and removes an empty table again and again, and then flushes FORWARD; each a commit of its
/// own, from one socket: how long it took.
fn storm() -> nix::Result<Duration> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let table = [(NAME, "storm")];
    let toggle = [
        batch(&message(NEW_TABLE, CREATE, &table)),
        batch(&message(DELETE_TABLE, 0, &table)),
    ];
    let flush = batch(&message(
        DELETE_RULE,
        0,
        &[(NAME, "filter"), (CHAIN, "FORWARD")],
    ));
    let start = Instant::now();
    for batch in toggle.iter().cycle().take(COMMITS as usize - 1) {
        send(socket.as_raw_fd(), batch, MsgFlags::empty())?;
    }
    send(socket.as_raw_fd(), &flush, MsgFlags::empty())?;
    Ok(start.elapsed())
}

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h, linux/netlink.h
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const DELETE_RULE: u16 = SUBSYSTEM << 8 | 8;
const NAME: u16 = 1;
const CHAIN: u16 = 2;
const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
const IPV4: u8 = 2;

/// A transaction of one message.
fn batch(message: &[u8]) -> Vec<u8> {
    let bound = |kind| header(kind, REQUEST, 0, SUBSYSTEM, &[]);
    [&bound(BATCH_BEGIN), message, &bound(BATCH_END)].concat()
}

fn message(kind: u16, flags: u16, names: &[(u16, &str)]) -> Vec<u8> {
    let mut attributes = Vec::new();
    for (attribute, name) in names {
        let length = 4 + name.len() as u16 + 1;
        attributes.extend(length.to_ne_bytes());
        attributes.extend(attribute.to_ne_bytes());
        attributes.extend(name.bytes());
        attributes.push(0);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    header(kind, REQUEST | flags, IPV4, 0, &attributes)
}

/// nlmsghdr, nfgenmsg, attributes.
fn header(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = 20 + attributes.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}
