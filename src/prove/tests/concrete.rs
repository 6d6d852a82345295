//! A second opinion: one packet through rules, step by step, as the kernel does it. It shares nothing
//! with the prover or the parser: it reads the rules it was given before they became text.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A condition. The first field says whether it is written with `!`.
#[derive(Clone, Debug)]
pub(super) enum Cond {
    In(bool, &'static str),
    Out(bool, &'static str),
    Src(bool, Ipv4Addr, u32),
    Dst(bool, Ipv4Addr, u32),
    Proto(bool, u8),
    Sport(bool, u16, u16),
    Dport(bool, u16, u16),
    Ports(bool, Vec<u16>),
    Syn(bool),
    Icmp(bool, u8),
    State(bool, Vec<&'static str>),
    Mark(bool, u32, u32),
    Connmark(bool, u32, u32),
    LocalSrc(bool),
    LocalDst(bool),
    Range(bool, Ipv4Addr, Ipv4Addr),
    Uid(bool, u32, u32),
    Comment,
    Limit,
    Recent,
    Set,
}

#[derive(Clone, Debug)]
pub(super) enum To {
    Nothing,
    Accept,
    Drop,
    Return,
    Log,
    Jump(&'static str),
    Goto(&'static str),
    Mark(u32, u32),
    Connmark(u32, u32),
    Save(u32),
    Restore(u32),
    Notrack,
    Dnat(Option<Ipv4Addr>, Option<u16>),
    Redirect(u16),
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) conds: Vec<Cond>,
    pub(super) to: To,
}

/// Rules by table and chain; policies of the base chains that drop.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) chains: BTreeMap<(&'static str, &'static str), Vec<Line>>,
    pub(super) drops: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) input: &'static str,
    pub(super) output: &'static str,
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) proto: u8,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) icmp: u8,
    pub(super) flags: u8,
    pub(super) uid: u32,
    /// What conntrack calls it, where its fields do not say.
    pub(super) state: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Dropped,
    /// Left, to that address.
    Left(Ipv4Addr),
    /// Reached a socket's door on this host.
    Here(Ipv4Addr, u16),
}

/// The question that has to be answered before a fate is known: where, and whether it is of the
/// kind whose both answers come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open(pub(super) String, pub(super) bool);

pub(super) type Answers = BTreeMap<String, bool>;

const LOCAL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(172, 17, 0, 1)];

fn is_local(addr: Ipv4Addr) -> bool {
    addr.is_loopback() || LOCAL.contains(&addr)
}

struct Travel<'a> {
    rules: &'a Rules,
    answers: &'a Answers,
    p: Probe,
    state: &'static str,
    dnat: bool,
    mark: u32,
    connmark: u32,
    nat_done: bool,
}

enum Way {
    On,
    Back,
    Accept,
    Drop,
}

/// Whether connection tracking takes the packet for the first of a connection.
fn begins(p: &Probe) -> bool {
    let (fin, syn, rst, ack) = (1, 2, 4, 16);
    match p.proto {
        1 => [8, 13, 15, 17].contains(&p.icmp),
        6 => [syn, ack].contains(&(p.flags & (fin | syn | rst | ack))),
        _ => true,
    }
}

/// What becomes of a packet that comes in by an interface, or that this host sends.
pub(super) fn fate(rules: &Rules, answers: &Answers, p: &Probe) -> Result<Fate, Open> {
    let mut t = Travel {
        rules,
        answers,
        p: p.clone(),
        state: "INVALID",
        dnat: false,
        mark: 0,
        connmark: 0,
        nat_done: false,
    };
    let from_host = p.input.is_empty();
    let out = p.output;
    if !from_host {
        t.p.output = "";
    }
    let first = if from_host { "OUTPUT" } else { "PREROUTING" };
    if !t.table("raw", first)? {
        return Ok(Fate::Dropped);
    }
    if t.state != "UNTRACKED" {
        let first = if begins(p) { "NEW" } else { "INVALID" };
        t.state = p.state.unwrap_or(first);
    }
    if !t.table("mangle", first)? || (t.state == "NEW" && !t.table("nat", first)?) {
        return Ok(Fate::Dropped);
    }
    if from_host && !t.table("filter", "OUTPUT")? {
        return Ok(Fate::Dropped);
    }
    if is_local(t.p.dst) {
        if from_host {
            t.p.output = "lo";
            if !t.table("mangle", "POSTROUTING")? {
                return Ok(Fate::Dropped);
            }
            (t.p.input, t.p.output) = ("lo", "");
            if !t.table("raw", "PREROUTING")? || !t.table("mangle", "PREROUTING")? {
                return Ok(Fate::Dropped);
            }
        }
        let passed = t.table("mangle", "INPUT")? && t.table("filter", "INPUT")?;
        return Ok(if passed {
            Fate::Here(t.p.dst, t.p.dport)
        } else {
            Fate::Dropped
        });
    }
    if !from_host {
        t.p.output = out;
        if !t.table("mangle", "FORWARD")? || !t.table("filter", "FORWARD")? {
            return Ok(Fate::Dropped);
        }
    }
    let passed = t.table("mangle", "POSTROUTING")?;
    Ok(if passed {
        Fate::Left(t.p.dst)
    } else {
        Fate::Dropped
    })
}

impl Travel<'_> {
    fn table(&mut self, table: &'static str, chain: &'static str) -> Result<bool, Open> {
        let policy_drops = self.rules.drops.contains(&(table, chain));
        Ok(
            match self.chain(table, chain, &format!("{table} {chain}"))? {
                Way::Accept => true,
                Way::Drop => false,
                Way::On | Way::Back => !policy_drops,
            },
        )
    }

    fn chain(&mut self, table: &'static str, chain: &'static str, at: &str) -> Result<Way, Open> {
        let Some(lines) = self.rules.chains.get(&(table, chain)) else {
            return Ok(Way::On);
        };
        'lines: for (number, line) in lines.iter().enumerate() {
            let here = format!("{at} {number}");
            // Questions come up only where everything else applies.
            let (open, plain): (Vec<_>, Vec<_>) = line
                .conds
                .iter()
                .partition(|c| matches!(c, Cond::Limit | Cond::Recent | Cond::Set));
            if !plain.into_iter().all(|c| self.meets(c)) {
                continue;
            }
            for (nth, c) in open.into_iter().enumerate() {
                if !self.ask(c, &format!("{here}.{nth}"))? {
                    continue 'lines;
                }
            }
            match &line.to {
                To::Nothing | To::Log => {}
                To::Accept => return Ok(Way::Accept),
                To::Drop => return Ok(Way::Drop),
                To::Return => return Ok(Way::Back),
                To::Jump(to) => match self.chain(table, to, &here)? {
                    Way::On | Way::Back => {}
                    way => return Ok(way),
                },
                To::Goto(to) => return self.chain(table, to, &here),
                To::Mark(value, mask) => self.mark = (self.mark & !mask) ^ value,
                To::Connmark(value, mask) if self.tracked() => {
                    self.connmark = (self.connmark & !mask) ^ value;
                }
                To::Save(mask) if self.tracked() => {
                    self.connmark = (self.connmark & !mask) ^ (self.mark & mask);
                }
                To::Restore(mask) if self.tracked() => {
                    self.mark = (self.mark & !mask) ^ (self.connmark & mask);
                }
                To::Connmark(..) | To::Save(_) | To::Restore(_) => {}
                To::Notrack if !self.tracked() => self.state = "UNTRACKED",
                To::Notrack => {}
                To::Dnat(addr, port) => return Ok(self.dnat(*addr, Some(*port).flatten())),
                To::Redirect(port) => {
                    let addr = match self.p.input {
                        "" => Ipv4Addr::LOCALHOST,
                        "docker0" => LOCAL[1],
                        "eth0" => LOCAL[0],
                        other => panic!("no address of {other} is given"),
                    };
                    return Ok(self.dnat(Some(addr), Some(*port)));
                }
            }
        }
        Ok(Way::On)
    }

    fn tracked(&self) -> bool {
        matches!(self.state, "NEW" | "ESTABLISHED" | "RELATED")
    }

    fn dnat(&mut self, addr: Option<Ipv4Addr>, port: Option<u16>) -> Way {
        assert!(!self.nat_done);
        self.nat_done = true;
        let before = (self.p.dst, self.p.dport);
        self.p.dst = addr.unwrap_or(self.p.dst);
        self.p.dport = port.unwrap_or(self.p.dport);
        self.dnat = before != (self.p.dst, self.p.dport);
        Way::Accept
    }

    fn ask(&self, c: &Cond, site: &str) -> Result<bool, Open> {
        let answer =
            |site: String, either| self.answers.get(&site).copied().ok_or(Open(site, either));
        match c {
            Cond::Limit => answer(format!("{site} limit"), true),
            // It may apply if ever something fills the list, and then at some moments.
            Cond::Recent => {
                Ok(answer(format!("{site} list"), false)? && answer(format!("{site} hit"), true)?)
            }
            _ => answer(format!("{site} set"), false),
        }
    }

    fn meets(&self, c: &Cond) -> bool {
        let p = &self.p;
        let named = |pattern: &str, name: &str| match pattern.strip_suffix('+') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        let within = |addr: Ipv4Addr, net: Ipv4Addr, bits: u32| {
            let differ = u32::from(addr) ^ u32::from(net);
            bits == 0 || differ >> (32 - bits) == 0
        };
        let (not, met) = match c {
            Cond::In(not, pattern) => (*not, named(pattern, p.input)),
            Cond::Out(not, pattern) => (*not, named(pattern, p.output)),
            Cond::Src(not, net, bits) => (*not, within(p.src, *net, *bits)),
            Cond::Dst(not, net, bits) => (*not, within(p.dst, *net, *bits)),
            Cond::Proto(not, proto) => (*not, p.proto == *proto),
            Cond::Sport(not, low, high) => (*not, *low <= p.sport && p.sport <= *high),
            Cond::Dport(not, low, high) => (*not, *low <= p.dport && p.dport <= *high),
            Cond::Ports(not, list) => (*not, list.contains(&p.sport) || list.contains(&p.dport)),
            Cond::Syn(not) => (*not, p.flags & 0x17 == 2),
            Cond::Icmp(not, kind) => (*not, p.icmp == *kind),
            Cond::State(not, list) => (
                *not,
                list.contains(&self.state) || (self.dnat && list.contains(&"DNAT")),
            ),
            Cond::Mark(not, value, mask) => (*not, self.mark & mask == *value),
            Cond::Connmark(not, value, mask) => {
                if !self.tracked() {
                    return false;
                }
                (*not, self.connmark & mask == *value)
            }
            Cond::LocalSrc(not) => (*not, is_local(p.src)),
            Cond::LocalDst(not) => (*not, is_local(p.dst)),
            Cond::Range(not, low, high) => (*not, *low <= p.src && p.src <= *high),
            Cond::Uid(not, low, high) => (*not, *low <= p.uid && p.uid <= *high),
            Cond::Comment | Cond::Limit | Cond::Recent | Cond::Set => return true,
        };
        met != not
    }
}
