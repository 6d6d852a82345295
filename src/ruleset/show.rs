//! Matches as iptables would write them, for people to read.

use std::fmt;

use serde::{Serialize, Serializer};

use super::matches::{
    AddrType, CtStates, Mac, Masked, Match, PortRange, SetLookup, Side, TcpFlags, Test,
};
use super::names::protocol_name;

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}:{}", self.low, self.high)
        }
    }
}

impl fmt::Display for CtStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::INVALID, "INVALID"),
            (Self::NEW, "NEW"),
            (Self::RELATED, "RELATED"),
            (Self::ESTABLISHED, "ESTABLISHED"),
            (Self::UNTRACKED, "UNTRACKED"),
            (Self::SNAT, "SNAT"),
            (Self::DNAT, "DNAT"),
        ];
        let listed = names
            .iter()
            .filter(|(state, _)| self.has(*state))
            .map(|(_, name)| *name);
        f.write_str(&listed.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask == u32::MAX {
            Ok(())
        } else {
            write!(f, "/{:#x}", self.mask)
        }
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |bits: u8| {
            let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
            let set = names
                .iter()
                .enumerate()
                .filter(|(at, _)| bits & (1 << at) != 0);
            let set: Vec<&str> = set.map(|(_, name)| *name).collect();
            if set.is_empty() {
                "NONE".to_owned()
            } else {
                set.join(",")
            }
        };
        write!(f, "{} {}", list(self.mask), list(self.set))
    }
}

impl fmt::Display for SetLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<&str> = self
            .sides
            .iter()
            .map(|side| side.pick("src", "dst"))
            .collect();
        write!(f, "{} {}", self.name, sides.join(","))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, bytes @ ..] = self.bits().to_be_bytes();
        f.write_str(&bytes.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for AddrType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter();
        f.write_str(
            names
                .find(|(_, one)| one == self)
                .map_or("", |(name, _)| name),
        )
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(test) => option(f, "-i", test, &test.value),
            Self::Out(test) => option(f, "-o", test, &test.value),
            Self::Addr(side, test) => option(f, side.pick("-s", "-d"), test, &test.value),
            Self::AddrRange(side, test) => {
                let range = format!("{}-{}", test.value.0, test.value.1);
                option(f, side.pick("--src-range", "--dst-range"), test, &range)
            }
            Self::AddrMask(side, test) => {
                let net = format!("{}/{}", test.value.0, test.value.1);
                option(f, side.pick("-s", "-d"), test, &net)
            }
            Self::AddrType(side, test) => option(
                f,
                side.pick("--src-type", "--dst-type"),
                test,
                &list(&test.value),
            ),
            Self::PacketType(test) => {
                let to = test.value.to_string().to_lowercase();
                option(f, "-m pkttype --pkt-type", test, &to)
            }
            Self::Bridged(test) => {
                let not = if test.negated { "! " } else { "" };
                write!(f, "-m physdev {not}--physdev-is-bridged")
            }
            Self::Set(test) => option(f, "-m set --match-set", test, &test.value),
            Self::Protocol(test) => option(f, "-p", test, &protocol_name(test.value)),
            Self::LaterFragment(test) => f.write_str(if test.negated { "! -f" } else { "-f" }),
            Self::Header => f.write_str("a header of the protocol"),
            Self::Port(side, test) => {
                option(f, side.pick("--sport", "--dport"), test, &list(&test.value))
            }
            Self::EitherPort(test) => option(f, "--ports", test, &list(&test.value)),
            Self::Flags(test) => option(f, "--tcp-flags", test, &test.value),
            Self::Icmp(test) => {
                let value = match (test.value.code_low, test.value.code_high) {
                    (0, u8::MAX) => test.value.kind.to_string(),
                    (code, _) => format!("{}/{code}", test.value.kind),
                };
                option(f, "--icmp-type", test, &value)
            }
            Self::State(test) => option(f, "--ctstate", test, &test.value),
            Self::Connection(connection) => connection.fmt(f),
            Self::Length(test) => option(f, "-m length --length", test, &range(test.value, ':')),
            Self::Ttl(test) => option(f, "ttl", test, &range(test.value, '-')),
            Self::Tos(test) => option(f, "tos", test, &test.value),
            Self::Mac(test) => option(f, "-m mac --mac-source", test, &test.value),
            Self::Mark(test) => option(f, "-m mark --mark", test, &test.value),
            Self::Connmark(test) => option(f, "-m connmark --mark", test, &test.value),
            Self::Uid(test) => option(f, "--uid-owner", test, &range(test.value, '-')),
            Self::Gid(test) => option(f, "--gid-owner", test, &range(test.value, '-')),
            Self::Cgroup(test) => {
                let not = if test.negated { "! " } else { "" };
                write!(f, "-m cgroup {not}--path {}", test.value)
            }
            Self::Comment(text) => write!(f, "--comment {text:?}"),
            Self::Either(_, text) | Self::Unknown(text) => f.write_str(text),
        }
    }
}

impl Side {
    fn pick<T>(self, src: T, dst: T) -> T {
        match self {
            Self::Src => src,
            Self::Dst => dst,
        }
    }
}

fn option<T>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    test: &Test<T>,
    value: &dyn fmt::Display,
) -> fmt::Result {
    let not = if test.negated { "! " } else { "" };
    // Behind the module's name.
    match name
        .strip_prefix("-m ")
        .and_then(|rest| rest.split_once(' '))
    {
        Some((module, name)) => write!(f, "-m {module} {not}{name} {value}"),
        None => write!(f, "{not}{name} {value}"),
    }
}

fn list<T: fmt::Display>(values: &[T]) -> String {
    values
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn range<T: PartialEq + fmt::Display>((low, high): (T, T), between: char) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low}{between}{high}")
    }
}
