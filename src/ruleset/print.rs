//! Writes a rule for iptables, as iptables itself prints it.
//!
//! Only what the guarantees' rules consist of is written. Everything else is an error: a condition that
//! is left out would make a rule wider than it is.

use std::net::IpAddr;

use thiserror::Error;

use super::matches::{CtStates, Match, Side, protocol};
use super::target::{Rewrite, Target};
use super::value::IfacePattern;
use super::{Family, Rule};

/// The longest comment that iptables takes, in bytes (XT_MAX_COMMENT_LEN less its final zero).
const COMMENT_MAX: usize = 255;

/// A part of a rule that has no text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a rule with {0} cannot be written for iptables")]
pub struct Unprintable(String);

impl Rule {
    /// The words after `-A CHAIN`.
    pub fn print(&self, family: Family) -> Result<String, Unprintable> {
        let mut words = Vec::new();
        for (at, one) in self.matches.iter().enumerate() {
            let before = self.matches.get(..at).unwrap_or_default();
            let part = part(family, one, before);
            words.push(part.ok_or_else(|| Unprintable(format!("`{one}`")))?);
        }
        let target = target(&self.target, module(&self.matches).is_some());
        words.push(target.ok_or_else(|| Unprintable(format!("the target {:?}", self.target)))?);
        Ok(words.join(" "))
    }
}

/// One condition, behind those `before` it; `None` where it cannot be said, or not there.
fn part(family: Family, one: &Match, before: &[Match]) -> Option<String> {
    let option = common(one);
    if option.is_some() && before.iter().any(|other| common(other) == option) {
        return None;
    }
    let plain = one.to_string();
    match one {
        Match::In(test) | Match::Out(test) => is_name(&test.value).then_some(plain),
        Match::Addr(_, test) if test.value.family() == family => {
            let not = if test.negated { "! " } else { "" };
            let net = &test.value;
            Some(format!("{not}{} {}/{}", option?, net.addr(), net.prefix()))
        }
        Match::Protocol(test) => name(test.value).map(|_| plain),
        Match::Port(_, test) => match test.value.as_slice() {
            [range] if range.low <= range.high => Some(format!("-m {} {plain}", module(before)?)),
            _ => None,
        },
        Match::State(test) => {
            (test.value != CtStates::default()).then(|| format!("-m conntrack {plain}"))
        }
        Match::Cgroup(test) => is_path(&test.value).then_some(plain),
        Match::Comment(text) => {
            let fits = text.len() <= COMMENT_MAX && !text.contains(char::is_control);
            fits.then(|| format!("-m comment --comment {}", quoted(text)))
        }
        _ => None,
    }
}

/// The option of a condition that iptables takes once.
const fn common(one: &Match) -> Option<&'static str> {
    match one {
        Match::In(_) => Some("-i"),
        Match::Out(_) => Some("-o"),
        Match::Addr(Side::Src, _) => Some("-s"),
        Match::Addr(Side::Dst, _) => Some("-d"),
        Match::Protocol(_) => Some("-p"),
        _ => None,
    }
}

fn target(target: &Target, has_ports: bool) -> Option<String> {
    match target {
        Target::Accept => Some("-j ACCEPT".to_owned()),
        Target::Drop => Some("-j DROP".to_owned()),
        Target::Dnat(Rewrite {
            addrs: Some((IpAddr::V4(to), last)),
            ports: Some(ports),
        }) if last == to && ports.low == ports.high && has_ports => {
            Some(format!("-j DNAT --to-destination {to}:{ports}"))
        }
        Target::Redirect(Some(ports)) if ports.low == ports.high && has_ports => {
            Some(format!("-j REDIRECT --to-ports {ports}"))
        }
        _ => None,
    }
}

/// The names that iptables knows of a protocol also where there is no /etc/protocols.
fn name(number: u8) -> Option<&'static str> {
    match number {
        protocol::TCP => Some("tcp"),
        protocol::UDP => Some("udp"),
        _ => None,
    }
}

/// The module that looks at the ports of what `-p` asks for.
fn module(matches: &[Match]) -> Option<&'static str> {
    matches.iter().find_map(|m| match m {
        Match::Protocol(test) if !test.negated => name(test.value),
        _ => None,
    })
}

/// Whether the name reads back as what it is: iptables prints names without quotes.
fn is_name(interface: &IfacePattern) -> bool {
    IfacePattern::parse(&interface.to_string()).as_ref() == Some(interface)
}

/// Whether it is the path of a cgroup that needs no quotes.
fn is_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:@".contains(c);
    path.split('/')
        .all(|name| !name.is_empty() && name.chars().all(plain))
}

/// As libxtables quotes it (`xtables_save_string`).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}
