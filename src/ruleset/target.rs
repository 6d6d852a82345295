//! What a rule does with a packet that meets its conditions.

use std::fmt;
use std::net::IpAddr;

use super::Family;
use super::matches::{Masked, PortRange, protocol};
use super::names::port_range_dashed;
use super::value::{Net, parse_addr};
use super::words::Word;

/// What a translation puts in place of an address and a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// An inclusive range of addresses; `None` leaves the address alone.
    pub addrs: Option<(IpAddr, IpAddr)>,
    /// A range of ports; `None` leaves the port alone, as far as the kernel can.
    pub ports: Option<PortRange>,
}

/// `10.0.0.1-10.0.0.9:80-90`, as iptables and nft write it.
impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addrs {
            Some((low, high)) if low == high => write!(f, "{low}")?,
            Some((low, high)) => write!(f, "{low}-{high}")?,
            None => {}
        }
        match self.ports {
            Some(PortRange { low, high }) if low == high => write!(f, ":{low}"),
            Some(PortRange { low, high }) => write!(f, ":{low}-{high}"),
            None => Ok(()),
        }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// No `-j` at all: the rule only counts.
    None,
    /// Ends the table, the packet goes on.
    Accept,
    /// Ends the packet.
    Drop,
    /// Ends the packet, and tells its sender.
    Reject,
    /// Back to the calling chain, or to the policy.
    Return,
    /// `-j CHAIN`: calls a user chain.
    Jump(String),
    /// `-g CHAIN`: goes there for good; its end returns to this chain's caller.
    Goto(String),
    /// Leaves alone all that a rule can ask about (LOG, NFLOG, TRACE, TCPMSS and their like).
    Passive(String),
    /// `DSCP --set-dscp`, `TOS --set-tos`: the same for the byte of the class of service as [`Target::Mark`].
    Tos(Masked),
    /// `MARK`: the new mark is `(old & !mask) ^ value`.
    Mark(Masked),
    /// `CONNMARK --set-xmark`: the same for the connection's mark.
    Connmark(Masked),
    /// `CONNMARK --save-mark` of the bits in this mask.
    SaveMark(u32),
    /// `CONNMARK --restore-mark` of the bits in this mask.
    RestoreMark(u32),
    /// `NOTRACK`, `CT --notrack`: exempts the packet from connection tracking, and so from NAT.
    Notrack,
    /// Turns the destination elsewhere.
    Dnat(Rewrite),
    /// Turns the destination to this host.
    Redirect(Option<PortRange>),
    /// Gives another source.
    Snat(Rewrite),
    /// Gives the address of the interface it leaves by as source.
    Masquerade(Option<PortRange>),
    /// Puts this network in the place of the one that an address is in, and leaves the rest of the address alone: of the
    /// destination before routing, of the source behind it.
    Netmap(Net),
    /// Not understood to the last word; may do anything.
    Unknown(String),
}

/// Targets that leave the packet and its connection as rules see them, with their options' names
/// and numbers of operands.
const PASSIVE: &[(&str, &[(&str, usize)])] = &[
    (
        "LOG",
        &[
            ("--log-prefix", 1),
            ("--log-level", 1),
            ("--log-tcp-sequence", 0),
            ("--log-tcp-options", 0),
            ("--log-ip-options", 0),
            ("--log-uid", 0),
            ("--log-macdecode", 0),
        ],
    ),
    (
        "NFLOG",
        &[
            ("--nflog-prefix", 1),
            ("--nflog-group", 1),
            ("--nflog-range", 1),
            ("--nflog-size", 1),
            ("--nflog-threshold", 1),
        ],
    ),
    ("TRACE", &[]),
    ("TCPMSS", &[("--clamp-mss-to-pmtu", 0), ("--set-mss", 1)]),
    ("CHECKSUM", &[("--checksum-fill", 0)]),
    ("CLASSIFY", &[("--set-class", 1)]),
    ("DSCP", &[("--set-dscp", 1), ("--set-dscp-class", 1)]),
    ("TOS", &[("--set-tos", 1)]),
    ("AUDIT", &[("--type", 1)]),
];

/// Names that are targets and cannot be chains: iptables refuses a chain that is called so.
const NOT_CHAINS: &[&str] = &[
    "ACCEPT",
    "DROP",
    "REJECT",
    "RETURN",
    "QUEUE",
    "NFQUEUE",
    "MARK",
    "CONNMARK",
    "NOTRACK",
    "CT",
    "DNAT",
    "SNAT",
    "REDIRECT",
    "MASQUERADE",
    "NETMAP",
    "TPROXY",
    "TEE",
    "SET",
    "SYNPROXY",
];

/// Targets that are not computed, and that change at most the packet they are given, its connection or
/// what the kernel remembers of it.
const QUIET: &[&str] = &[
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNAT",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "RATEEST",
    "REDIRECT",
    "SECMARK",
    "SET",
    "SNAT",
    "TCPOPTSTRIP",
    "TPROXY",
    "TTL",
    "LOG",
    "NFLOG",
    "TCPMSS",
    "CHECKSUM",
    "CLASSIFY",
    "DSCP",
    "TOS",
];

/// Targets that send copies of the packets they are given, or hand these to a program.
const SENDING: &[&str] = &["TEE", "SYNPROXY", "NFQUEUE", "QUEUE"];

/// The most that a target that is not understood may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Decide about the packet, and change it.
    Packet,
    /// Also send packets to where this one goes.
    Copies,
    /// Anything, to anywhere.
    Anywhere,
}

impl Reach {
    /// That of the target with this text.
    pub(crate) fn of(text: &str) -> Self {
        let name = text
            .strip_prefix("-j ")
            .and_then(|rest| rest.split(' ').next());
        match name {
            Some(name) if QUIET.contains(&name) => Self::Packet,
            Some(name) if SENDING.contains(&name) => Self::Copies,
            _ => Self::Anywhere,
        }
    }
}

/// Reads what follows `-j`: the target's name and its options; `None` if it is not understood.
///
/// `rule_protocol` is what `-p` says, since ports can only be rewritten where there are ports.
pub(super) fn parse(
    family: Family,
    words: &[Word<'_>],
    rule_protocol: Option<u8>,
) -> Option<Target> {
    let (name, options) = words.split_first()?;
    let name = name.text.as_ref();
    if let [option, value] = options
        && let Some(tos) = set_tos(name, &option.text, &value.text)
    {
        return Some(Target::Tos(tos));
    }
    if let Some((_, known)) = PASSIVE.iter().find(|(passive, _)| *passive == name) {
        return arities_fit(known, options).then(|| Target::Passive(super::words::join(words)));
    }
    let ports_allowed = rule_protocol.is_some_and(|p| protocol::WITH_PORTS.contains(&p));
    let options: Vec<&str> = options.iter().map(|word| word.text.as_ref()).collect();
    match (name, options.as_slice()) {
        ("ACCEPT", []) => Some(Target::Accept),
        ("DROP", []) => Some(Target::Drop),
        ("RETURN", []) => Some(Target::Return),
        ("REJECT", [] | ["--reject-with", _]) => Some(Target::Reject),
        ("NOTRACK", []) | ("CT", ["--notrack"]) => Some(Target::Notrack),
        ("MARK", [option, value]) => set_mark(option, value).map(Target::Mark),
        ("CONNMARK", [option @ ("--set-xmark" | "--set-mark"), value]) => {
            set_mark(option, value).map(Target::Connmark)
        }
        ("CONNMARK", ["--save-mark", rest @ ..]) => same_masks(rest).map(Target::SaveMark),
        ("CONNMARK", ["--restore-mark", rest @ ..]) => same_masks(rest).map(Target::RestoreMark),
        ("DNAT", ["--to-destination", to, flags @ ..]) => nat_flags(flags)
            .then(|| rewrite(family, to, ports_allowed))
            .flatten()
            .map(Target::Dnat),
        ("SNAT", ["--to-source", to, flags @ ..]) => nat_flags(flags)
            .then(|| rewrite(family, to, ports_allowed))
            .flatten()
            .map(Target::Snat),
        ("REDIRECT", ["--to-ports", ports, flags @ ..]) if ports_allowed && nat_flags(flags) => {
            port_range_dashed(ports).map(|ports| Target::Redirect(Some(ports)))
        }
        ("REDIRECT", flags) if nat_flags(flags) => Some(Target::Redirect(None)),
        ("MASQUERADE", ["--to-ports", ports, flags @ ..]) if ports_allowed && nat_flags(flags) => {
            port_range_dashed(ports).map(|ports| Target::Masquerade(Some(ports)))
        }
        ("MASQUERADE", flags) if nat_flags(flags) => Some(Target::Masquerade(None)),
        ("NETMAP", ["--to", net]) => Net::parse(family, net).map(Target::Netmap),
        (chain, []) if !NOT_CHAINS.contains(&chain) && !chain.starts_with('-') => {
            Some(Target::Jump(chain.to_owned()))
        }
        _ => None,
    }
}

fn arities_fit(known: &[(&str, usize)], options: &[Word<'_>]) -> bool {
    let mut rest = options;
    while let Some((option, after)) = rest.split_first() {
        let Some((_, operands)) = known.iter().find(|(name, _)| *name == option.text) else {
            return false;
        };
        match after.get(*operands..) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

/// What the byte of the class of service becomes (`dscp_tg()`, `tos_tg()` in net/netfilter/xt_DSCP.c).
fn set_tos(target: &str, option: &str, value: &str) -> Option<Masked> {
    let byte = |text| number(text).filter(|value| *value <= 0xff);
    match (target, option) {
        ("DSCP", "--set-dscp") => Some(Masked {
            value: byte(value)? << 2,
            mask: 0xfc,
        }),
        ("TOS", "--set-tos") => {
            let (value, mask) = value.split_once('/').unwrap_or((value, "0xff"));
            let (value, mask) = (byte(value)?, byte(mask)?);
            Some(Masked { value, mask })
        }
        _ => None,
    }
}

/// `MARK` and `CONNMARK` as iptables takes and prints them. It prints every form as `--set-xmark`.
fn set_mark(option: &str, text: &str) -> Option<Masked> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(text)?, u32::MAX),
    };
    match option {
        "--set-xmark" => Some(Masked { value, mask }),
        // libxt_MARK: --set-mark VALUE/MASK clears the value's own bits too.
        "--set-mark" => Some(Masked {
            value,
            mask: mask | value,
        }),
        _ => None,
    }
}

/// A number as iptables prints it: decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// The masks of `--save-mark` and `--restore-mark`, where they are one and the same.
fn same_masks(options: &[&str]) -> Option<u32> {
    match options {
        [] => Some(u32::MAX),
        ["--nfmask", nf, "--ctmask", ct] => number(nf).filter(|nf| number(ct) == Some(*nf)),
        _ => None,
    }
}

/// Flags that change which member of a range is taken, not the range.
fn nat_flags(flags: &[&str]) -> bool {
    flags
        .iter()
        .all(|flag| matches!(*flag, "--random" | "--random-fully" | "--persistent"))
}

/// `ADDR[-ADDR][:PORT[-PORT]]`, for IPv6 with brackets round the addresses where a port follows.
fn rewrite(family: Family, text: &str, ports_allowed: bool) -> Option<Rewrite> {
    let (addrs, ports) = match (family, text.strip_prefix('[')) {
        (Family::V4, _) => match text.split_once(':') {
            Some((addrs, ports)) => (addrs, Some(ports)),
            None => (text, None),
        },
        (Family::V6, Some(bracketed)) => {
            let (addrs, rest) = bracketed.split_once(']')?;
            match rest {
                "" => (addrs, None),
                _ => (addrs, Some(rest.strip_prefix(':')?)),
            }
        }
        (Family::V6, None) => match text.strip_prefix(':').filter(|rest| !rest.contains(':')) {
            Some(ports) => ("", Some(ports)),
            None => (text, None),
        },
    };
    let addrs = match (addrs, addrs.split_once('-')) {
        ("", _) => None,
        (one, None) => parse_addr(family, one).map(|addr| (addr, addr)).map(Some)?,
        (_, Some((low, high))) => Some((parse_addr(family, low)?, parse_addr(family, high)?))
            .filter(|(l, h)| l <= h)?
            .into(),
    };
    let ports = match ports {
        Some(_) if !ports_allowed => return None,
        Some(ports) => Some(port_range_dashed(ports)?),
        None => None,
    };
    (addrs.is_some() || ports.is_some()).then_some(Rewrite { addrs, ports })
}
