//! Reads the options of a match module.
//!
//! Each module has a function that takes one option with its operands. One option that is not known,
//! or one operand too many, and the whole module is unknown.

use super::Family;
use super::chance::chance;
use super::matches::{
    AddrType, Connection, CtPart, CtStates, IcmpType, Mac, Masked, Match, PortRange, SetLookup,
    Side, TcpFlags, Test, protocol,
};
use super::names::port_range;
use super::option::{Opt, options};
use super::target::number;
use super::value::parse_addr;
use super::words::Word;

/// The options of one module, each understood, and the words that follow it.
type Understood<'w> = (Vec<Match>, &'w [Word<'w>]);

/// Reads the options of module `name`; `None` unless all of it is understood.
pub(super) fn parse<'w>(
    family: Family,
    rule_protocol: Option<u8>,
    name: &str,
    words: &'w [Word<'w>],
) -> Option<Understood<'w>> {
    let arities = arities(name)?;
    let (options, rest) = options(arities, words)?;
    let has_ports = rule_protocol.is_some_and(|p| protocol::WITH_PORTS.contains(&p));
    let read = |one: fn(Family, &Opt<'_>) -> Option<Match>| {
        options
            .iter()
            .map(|option| one(family, option))
            .collect::<Option<Vec<_>>>()
    };
    let matches = match name {
        "comment" => match options.as_slice() {
            [one] if !one.negated => vec![Match::Comment(one.operand()?.to_owned())],
            _ => return None,
        },
        "tcp" if rule_protocol == Some(protocol::TCP) => header_or(read(tcp)?),
        "udp" if rule_protocol == Some(protocol::UDP) => header_or(read(ports)?),
        "sctp" if rule_protocol == Some(protocol::SCTP) => header_or(read(ports)?),
        "dccp" if rule_protocol == Some(protocol::DCCP) => header_or(read(ports)?),
        "udplite" if rule_protocol == Some(protocol::UDPLITE) => header_or(read(ports)?),
        "multiport" if has_ports && options.len() == 1 => read(multiport)?,
        "icmp" if family == Family::V4 && rule_protocol == Some(protocol::ICMP) => read(icmp)?,
        "icmp6" if family == Family::V6 && rule_protocol == Some(protocol::ICMPV6) => read(icmp)?,
        "conntrack" | "state" => vec![connection(family, &options)?],
        "mark" if options.len() == 1 => read(mark)?,
        "connmark" if options.len() == 1 => read(connmark)?,
        "addrtype" if !options.is_empty() => read(addrtype)?,
        "pkttype" if options.len() == 1 => read(packet_type)?,
        "physdev" => physdev(&options)?,
        "set" => vec![set(&options)?],
        "length" | "ttl" | "hl" | "tos" | "dscp" | "mac" if options.len() == 1 => read(header)?,
        "iprange" if !options.is_empty() => read(iprange)?,
        "cgroup" if options.len() == 1 => read(cgroup)?,
        "owner" if !options.is_empty() => read(owner)?,
        "limit" | "hashlimit" | "statistic" | "recent" | "rt" | "time" | "policy" => {
            vec![Match::Either(chance(name, &options)?, String::new())]
        }
        _ => return None,
    };
    Some((matches, rest))
}

impl Match {
    /// Gives a match that is known by its text alone that text.
    pub(super) fn with_text(self, text: &str) -> Self {
        match self {
            Self::Either(chance, _) => Self::Either(chance, text.to_owned()),
            other => other,
        }
    }
}

/// The options of each module and how many operands each takes.
fn arities(module: &str) -> Option<&'static [(&'static str, usize)]> {
    Some(match module {
        "comment" => &[("--comment", 1)],
        "tcp" => &[
            ("--sport", 1),
            ("--dport", 1),
            ("--tcp-flags", 2),
            ("--syn", 0),
        ],
        "udp" | "sctp" | "dccp" | "udplite" => &[("--sport", 1), ("--dport", 1)],
        "multiport" => &[("--sports", 1), ("--dports", 1), ("--ports", 1)],
        "icmp" => &[("--icmp-type", 1)],
        "icmp6" => &[("--icmpv6-type", 1)],
        "conntrack" => &[
            ("--ctstate", 1),
            ("--ctproto", 1),
            ("--ctorigsrc", 1),
            ("--ctorigdst", 1),
            ("--ctreplsrc", 1),
            ("--ctrepldst", 1),
            ("--ctorigsrcport", 1),
            ("--ctorigdstport", 1),
            ("--ctreplsrcport", 1),
            ("--ctrepldstport", 1),
            ("--ctstatus", 1),
            ("--ctexpire", 1),
            ("--ctdir", 1),
        ],
        "state" => &[("--state", 1)],
        "mark" | "connmark" => &[("--mark", 1)],
        "addrtype" => &[("--src-type", 1), ("--dst-type", 1)],
        "pkttype" => &[("--pkt-type", 1)],
        "physdev" => &[
            ("--physdev-in", 1),
            ("--physdev-out", 1),
            ("--physdev-is-in", 0),
            ("--physdev-is-out", 0),
            ("--physdev-is-bridged", 0),
        ],
        "length" => &[("--length", 1)],
        "ttl" => &[("--ttl-eq", 1), ("--ttl-lt", 1), ("--ttl-gt", 1)],
        "hl" => &[("--hl-eq", 1), ("--hl-lt", 1), ("--hl-gt", 1)],
        "tos" => &[("--tos", 1)],
        "dscp" => &[("--dscp", 1)],
        "mac" => &[("--mac-source", 1)],
        "policy" => &[("--dir", 1), ("--pol", 1)],
        "set" => &[
            ("--match-set", 2),
            ("--update-counters", 0),
            ("--update-subcounters", 0),
        ],
        "iprange" => &[("--src-range", 1), ("--dst-range", 1)],
        "cgroup" => &[("--path", 1)],
        "owner" => &[("--uid-owner", 1), ("--gid-owner", 1)],
        "limit" => &[("--limit", 1), ("--limit-burst", 1)],
        "hashlimit" => &[
            ("--hashlimit-upto", 1),
            ("--hashlimit-above", 1),
            ("--hashlimit-burst", 1),
            ("--hashlimit-mode", 1),
            ("--hashlimit-name", 1),
            ("--hashlimit-srcmask", 1),
            ("--hashlimit-dstmask", 1),
            ("--hashlimit-htable-size", 1),
            ("--hashlimit-htable-max", 1),
            ("--hashlimit-htable-expire", 1),
            ("--hashlimit-htable-gcinterval", 1),
        ],
        "rt" => &[("--rt-type", 1), ("--rt-segsleft", 1), ("--rt-len", 1)],
        "statistic" => &[
            ("--mode", 1),
            ("--probability", 1),
            ("--every", 1),
            ("--packet", 1),
        ],
        "recent" => &[
            ("--set", 0),
            ("--rcheck", 0),
            ("--update", 0),
            ("--remove", 0),
            ("--seconds", 1),
            ("--reap", 0),
            ("--hitcount", 1),
            ("--rttl", 0),
            ("--name", 1),
            ("--mask", 1),
            ("--rsource", 0),
            ("--rdest", 0),
        ],
        "time" => &[
            ("--timestart", 1),
            ("--timestop", 1),
            ("--weekdays", 1),
            ("--datestop", 1),
            ("--kerneltz", 0),
        ],
        _ => return None,
    })
}

/// A protocol's module without options still asks for the header to be there.
fn header_or(matches: Vec<Match>) -> Vec<Match> {
    if matches.is_empty() {
        vec![Match::Header]
    } else {
        matches
    }
}

fn tcp(family: Family, option: &Opt<'_>) -> Option<Match> {
    match (option.name, option.operands.as_slice()) {
        ("--syn", _) => Some(Match::Flags(option.test(TcpFlags {
            mask: 0x17,
            set: 0x02,
        }))),
        ("--tcp-flags", [mask, set]) => Some(Match::Flags(option.test(TcpFlags {
            mask: flags(mask)?,
            set: flags(set)?,
        }))),
        _ => ports(family, option),
    }
}

fn flags(list: &str) -> Option<u8> {
    list.split(',').try_fold(0, |sum, name| {
        Some(
            sum | match name {
                "NONE" => 0,
                "FIN" => 1,
                "SYN" => 2,
                "RST" => 4,
                "PSH" => 8,
                "ACK" => 16,
                "URG" => 32,
                "ALL" => 63,
                _ => return None,
            },
        )
    })
}

fn ports(_: Family, option: &Opt<'_>) -> Option<Match> {
    let side = if option.name == "--sport" {
        Side::Src
    } else {
        Side::Dst
    };
    Some(Match::Port(
        side,
        option.test(vec![port_range(option.operand()?)?]),
    ))
}

/// The kernel passes over empty names in a path (kernfs_walk_ns() in fs/kernfs/dir.c).
fn cgroup(_: Family, option: &Opt<'_>) -> Option<Match> {
    let names = option.operand()?.split('/');
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    Some(Match::Cgroup(option.test(names.join("/"))))
}

fn multiport(_: Family, option: &Opt<'_>) -> Option<Match> {
    let mut list = option
        .operand()?
        .split(',')
        .map(port_range)
        .collect::<Option<Vec<_>>>()?;
    list.sort();
    Some(match option.name {
        "--sports" => Match::Port(Side::Src, option.test(list)),
        "--dports" => Match::Port(Side::Dst, option.test(list)),
        _ => Match::EitherPort(option.test(list)),
    })
}

fn icmp(family: Family, option: &Opt<'_>) -> Option<Match> {
    let text = option.operand()?;
    // ICMPv6 has no "any", and 255 is a type like others there.
    if text == "any" && family == Family::V4 {
        return (!option.negated).then_some(Match::Header);
    }
    let byte = |text: &str| number(text).and_then(|n| u8::try_from(n).ok());
    let (kind, code_low, code_high) = match text.split_once('/') {
        Some((kind, code)) => (byte(kind)?, byte(code)?, byte(code)?),
        None => (byte(text)?, 0, u8::MAX),
    };
    // To the kernel, IPv4's type 255 means any type.
    (family == Family::V6 || kind != u8::MAX).then(|| {
        Match::Icmp(option.test(IcmpType {
            kind,
            code_low,
            code_high,
        }))
    })
}

/// Each option once; the state alone is a match of its own.
fn connection(family: Family, options: &[Opt<'_>]) -> Option<Match> {
    let mut names: Vec<&str> = options.iter().map(|option| option.name).collect();
    names.sort_unstable();
    names.dedup();
    if options.is_empty() || names.len() != options.len() {
        return None;
    }
    let (states, parts): (Vec<_>, Vec<_>) = options
        .iter()
        .partition(|option| matches!(option.name, "--ctstate" | "--state"));
    let state = match states.as_slice() {
        [one] => Some(state(one)?),
        _ => None,
    };
    let parts = parts.into_iter().map(|part| CtPart::read(family, part));
    let parts = parts.collect::<Option<Vec<_>>>()?;
    Some(match state {
        Some(state) if parts.is_empty() => Match::State(state),
        state => Match::Connection(Connection { state, parts }),
    })
}

fn state(option: &Opt<'_>) -> Option<Test<CtStates>> {
    let states = option
        .operand()?
        .split(',')
        .try_fold(CtStates::default(), |sum, name| {
            Some(sum.with(match name {
                "NEW" => CtStates::NEW,
                "ESTABLISHED" => CtStates::ESTABLISHED,
                "RELATED" => CtStates::RELATED,
                "INVALID" => CtStates::INVALID,
                "UNTRACKED" => CtStates::UNTRACKED,
                "SNAT" if option.name == "--ctstate" => CtStates::SNAT,
                "DNAT" if option.name == "--ctstate" => CtStates::DNAT,
                _ => return None,
            }))
        });
    states.map(|states| option.test(states))
}

fn masked(option: &Opt<'_>) -> Option<Test<Masked>> {
    let text = option.operand()?;
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(text)?, u32::MAX),
    };
    Some(option.test(Masked { value, mask }))
}

fn mark(_: Family, option: &Opt<'_>) -> Option<Match> {
    masked(option).map(Match::Mark)
}

fn connmark(_: Family, option: &Opt<'_>) -> Option<Match> {
    masked(option).map(Match::Connmark)
}

/// Of several types, an IPv4 address has one that is listed; what an IPv6 address has of several is not read.
fn addrtype(family: Family, option: &Opt<'_>) -> Option<Match> {
    let side = if option.name == "--src-type" {
        Side::Src
    } else {
        Side::Dst
    };
    let types = option.operand()?.split(',').map(AddrType::named);
    let types = types.collect::<Option<Vec<_>>>()?;
    let one = matches!(types.as_slice(), [one] if *one != AddrType::Broadcast);
    (family == Family::V4 || one).then(|| Match::AddrType(side, option.test(types)))
}

fn packet_type(_: Family, option: &Opt<'_>) -> Option<Match> {
    let to = AddrType::named(&option.operand()?.to_uppercase())?;
    (to != AddrType::Local).then(|| Match::PacketType(option.test(to)))
}

/// Where it asks for bridged packets, whatever else it asks for does not matter: no packet that IP forwards is one.
fn physdev(options: &[Opt<'_>]) -> Option<Vec<Match>> {
    let mut asked = options.iter();
    let bridged = asked.find(|option| option.name == "--physdev-is-bridged")?;
    let alone = options.len() == 1;
    (alone || !bridged.negated).then(|| vec![Match::Bridged(bridged.test(()))])
}

/// What headers say beside addresses and ports.
fn header(_: Family, option: &Opt<'_>) -> Option<Match> {
    let text = option.operand()?;
    let byte = || number(text).and_then(|value| u8::try_from(value).ok());
    Some(match option.name {
        "--length" => {
            let PortRange { low, high } = port_range(text)?;
            Match::Length(option.test((low, high)))
        }
        "--ttl-eq" | "--hl-eq" => Match::Ttl(option.test((byte()?, byte()?))),
        "--ttl-lt" | "--hl-lt" => Match::Ttl(option.test((0, byte()?.checked_sub(1)?))),
        "--ttl-gt" | "--hl-gt" => Match::Ttl(option.test((byte()?.checked_add(1)?, u8::MAX))),
        // The upper six bits of the byte (RFC 2474, 3).
        "--dscp" => Match::Tos(option.test(Masked {
            value: u32::from(byte()?) << 2,
            mask: 0xfc,
        })),
        "--tos" => {
            let Test { negated, value } = masked(option)?;
            let mask = value.mask & 0xff;
            Match::Tos(Test {
                negated,
                value: Masked { mask, ..value },
            })
        }
        _ => Match::Mac(option.test(Mac::parse(text)?)),
    })
}

/// Whether it counts says nothing of whether it matches.
fn set(options: &[Opt<'_>]) -> Option<Match> {
    let mut named = options.iter();
    let lookup = named.find(|option| option.name == "--match-set")?;
    let [name, sides] = lookup.operands.as_slice() else {
        return None;
    };
    let side = |side| match side {
        "src" => Some(Side::Src),
        "dst" => Some(Side::Dst),
        _ => None,
    };
    let sides = sides.split(',').map(side).collect::<Option<_>>()?;
    let name = (*name).to_owned();
    Some(Match::Set(lookup.test(SetLookup { name, sides })))
}

fn iprange(family: Family, option: &Opt<'_>) -> Option<Match> {
    let side = if option.name == "--src-range" {
        Side::Src
    } else {
        Side::Dst
    };
    let (low, high) = option.operand()?.split_once('-')?;
    let (low, high) = (parse_addr(family, low)?, parse_addr(family, high)?);
    (low <= high).then(|| Match::AddrRange(side, option.test((low, high))))
}

fn owner(_: Family, option: &Opt<'_>) -> Option<Match> {
    let text = option.operand()?;
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(text)?, number(text)?),
    };
    let ids = (low <= high).then(|| option.test((low, high)))?;
    Some(if option.name == "--uid-owner" {
        Match::Uid(ids)
    } else {
        Match::Gid(ids)
    })
}
