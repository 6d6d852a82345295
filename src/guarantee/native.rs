//! What a guarantee puts into the seal: native nftables rules.
//!
//! A drop there is final whatever iptables' chains say. Of every block there are two: at prerouting
//! −300, before anything else, and at forward −10, which sees the address that somebody's DNAT put
//! in; packets of the host's own processes meet the like of them at output. Credentials are redirected at −101, before iptables' own NAT chains at −100.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{Cgroup, Guarantee};
use crate::ruleset::{Chain, Family, IfacePattern, Policy, Ruleset, parse_rule};

/// Where in the kernel a native rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NativeHook {
    /// Every packet that comes in, before everything else (priority −300).
    Prerouting,
    /// Every packet that passes through (priority −10).
    Forward,
    /// Every packet of this host, before everything else (priority −300).
    Output,
    /// Every packet of this host, once NAT has turned it elsewhere (priority −10).
    OutputTurned,
    /// Every packet that leaves, after all routing and NAT (priority 300); in a task's own network
    /// namespace.
    Postrouting,
    /// The first packet of a connection that comes in (NAT, priority −101).
    NatPrerouting,
    /// The first packet of a connection of this host (NAT, priority −101).
    NatOutput,
}

impl NativeHook {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Prerouting,
        Self::Forward,
        Self::Output,
        Self::OutputTurned,
        Self::Postrouting,
        Self::NatPrerouting,
        Self::NatOutput,
    ];

    /// Whether it is one for NAT.
    #[must_use]
    pub const fn is_nat(self) -> bool {
        matches!(self, Self::NatPrerouting | Self::NatOutput)
    }

    /// iptables' table and chain that packets meet at the same point of their way.
    const fn iptables(self) -> (&'static str, &'static str) {
        match self {
            Self::Prerouting => ("raw", "PREROUTING"),
            Self::Forward => ("filter", "FORWARD"),
            Self::Output => ("raw", "OUTPUT"),
            Self::OutputTurned => ("filter", "OUTPUT"),
            Self::Postrouting => ("mangle", "POSTROUTING"),
            Self::NatPrerouting => ("nat", "PREROUTING"),
            Self::NatOutput => ("nat", "OUTPUT"),
        }
    }
}

/// What becomes of a packet that a native rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeVerdict {
    /// It is dropped, and counted.
    Drop,
    /// It goes to this address and port instead.
    Dnat(Ipv4Addr, u16),
    /// It goes to this port of the host itself.
    Redirect(u16),
}

/// A rule of the seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeRule {
    /// Whose rule it is.
    pub guarantee: Guarantee,
    /// Where it stands.
    pub hook: NativeHook,
    /// Whose packets.
    pub family: Family,
    /// From which interfaces; from all where there is none.
    pub iif: Option<IfacePattern>,
    /// Of which cgroup's processes; of all where there is none.
    pub cgroup: Option<Cgroup>,
    /// To which address.
    pub dst: IpAddr,
    /// To which TCP port; every protocol where there is none.
    pub tcp_port: Option<u16>,
    /// What becomes of them.
    pub verdict: NativeVerdict,
}

impl NativeRule {
    /// The same in iptables' words, for the proof.
    fn spec(&self) -> String {
        let mut words = format!("-d {}", self.dst);
        if let Some(iif) = &self.iif {
            words += &format!(" -i {iif}");
        }
        if let Some(port) = self.tcp_port {
            words += &format!(" -p tcp -m tcp --dport {port}");
        }
        let mut comment = format!("the seal: {}", self.guarantee.name());
        if let Some(cgroup) = &self.cgroup {
            let (sockets, noted) = cgroup.spec();
            words += &format!(" {sockets}");
            comment += &noted;
        }
        words += &format!(" -m comment --comment \"{comment}\"");
        words
            + &match self.verdict {
                NativeVerdict::Drop => " -j DROP".to_owned(),
                NativeVerdict::Dnat(address, port) => {
                    format!(" -j DNAT --to-destination {address}:{port}")
                }
                NativeVerdict::Redirect(port) => format!(" -j REDIRECT --to-ports {port}"),
            }
    }
}

impl fmt::Display for NativeRule {
    /// As `nft list ruleset` shows it, without the counter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.iif {
            Some(IfacePattern::Exact(name)) => write!(f, "iifname \"{name}\" ")?,
            Some(IfacePattern::Prefix(prefix)) => write!(f, "iifname \"{prefix}*\" ")?,
            None => {}
        }
        if let Some(cgroup) = &self.cgroup {
            let (level, path) = (cgroup.level(), &cgroup.path);
            write!(f, "socket cgroupv2 level {level} \"{path}\" ")?;
        }
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        write!(f, "{family} daddr {}", self.dst)?;
        if let Some(port) = self.tcp_port {
            write!(f, " tcp dport {port}")?;
        }
        match self.verdict {
            NativeVerdict::Drop => write!(f, " drop"),
            NativeVerdict::Dnat(address, port) => write!(f, " dnat ip to {address}:{port}"),
            NativeVerdict::Redirect(port) => write!(f, " redirect to :{port}"),
        }
    }
}

/// The seal as a layer of rules that the proof walks first.
#[must_use]
pub fn as_rulesets(rules: &[NativeRule]) -> BTreeMap<Family, Ruleset> {
    let mut rulesets: BTreeMap<Family, Ruleset> = BTreeMap::new();
    for rule in rules {
        let Ok(parsed) = parse_rule(rule.family, &rule.spec()) else {
            continue;
        };
        let (table, chain) = rule.hook.iptables();
        let ruleset = rulesets
            .entry(rule.family)
            .or_insert_with(|| Ruleset::new(rule.family));
        let table = ruleset.tables.entry(table.to_owned()).or_default();
        let chain = table
            .chains
            .entry(chain.to_owned())
            .or_insert_with(|| Chain {
                policy: Some(Policy::Accept),
                rules: Vec::new(),
            });
        chain.rules.push(parsed);
    }
    rulesets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verdict: NativeVerdict) -> NativeRule {
        NativeRule {
            guarantee: Guarantee::ImdsBlock,
            hook: NativeHook::Forward,
            family: Family::V4,
            iif: IfacePattern::parse("br-+"),
            cgroup: None,
            dst: IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
            tcp_port: Some(80),
            verdict,
        }
    }

    #[test]
    fn a_rule_in_words() {
        let mut drop = rule(NativeVerdict::Drop);
        assert_eq!(
            drop.to_string(),
            r#"iifname "br-*" ip daddr 169.254.169.254 tcp dport 80 drop"#
        );
        drop.iif = None;
        drop.tcp_port = None;
        assert_eq!(drop.to_string(), "ip daddr 169.254.169.254 drop");
        drop.cgroup = Some(Cgroup {
            path: "a.slice/b".to_owned(),
            id: 4711,
        });
        assert_eq!(
            drop.to_string(),
            r#"socket cgroupv2 level 2 "a.slice/b" ip daddr 169.254.169.254 drop"#
        );
        assert_eq!(
            drop.spec(),
            "-d 169.254.169.254 -m cgroup --path a.slice/b \
             -m comment --comment \"the seal: imds-block (cgroup 4711)\" -j DROP"
        );
    }

    #[test]
    fn every_rule_becomes_one_for_the_proof() {
        let verdicts = [
            NativeVerdict::Drop,
            NativeVerdict::Dnat(Ipv4Addr::LOCALHOST, 51679),
            NativeVerdict::Redirect(51679),
        ];
        let rulesets = as_rulesets(&verdicts.map(rule));
        let rules = &rulesets[&Family::V4].tables["filter"].chains["FORWARD"].rules;
        let texts: Vec<&str> = rules.iter().map(|rule| rule.text.as_str()).collect();
        let matches = "-d 169.254.169.254 -i br-+ -p tcp -m tcp --dport 80";
        let comment = "-m comment --comment \"the seal: imds-block\"";
        assert_eq!(
            texts,
            [
                format!("{matches} {comment} -j DROP"),
                format!("{matches} {comment} -j DNAT --to-destination 127.0.0.1:51679"),
                format!("{matches} {comment} -j REDIRECT --to-ports 51679"),
            ]
        );
    }
}
