//! What a guarantee puts into the seal: native nftables rules.
//!
//! A drop there is final whatever iptables' chains say. Of every block there are two: at prerouting
//! −300, before anything else, and at forward −10, which sees the address that another program's DNAT put
//! in; packets of the host's own processes meet the like of them at output. Credentials are redirected at −101, before iptables' own NAT chains at −100.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{Cgroup, Guarantee};
use crate::ruleset::{
    Chain, Family, IfacePattern, Listed, Match, Net, Place, Policy, Rewrite, Rule, Ruleset, Side,
    Target, Test, protocol,
};

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
    pub(crate) const fn iptables(self) -> (&'static str, &'static str) {
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
    /// It goes on with this, by which the edge knows it.
    Mark(EdgePass),
}

/// What packets bear that the edge lets pass though no socket of the host sent them: a mark and a priority, which
/// no container knows. Marks alone a container on an interface of the uplink's could try one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgePass {
    /// The packet's mark.
    pub mark: u32,
    /// Its priority.
    pub priority: u32,
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
    /// The rule of iptables that means the same, for the proof; `None` for one that decides nothing.
    fn rule(&self) -> Option<Rule> {
        let mut matches = vec![Match::Addr(Side::Dst, Test::is(Net::host(self.dst)))];
        if let Some(iif) = &self.iif {
            matches.push(Match::In(Test::is(iif.clone())));
        }
        if let Some(port) = self.tcp_port {
            matches.push(Match::Protocol(Test::is(protocol::TCP)));
            matches.push(Match::Port(Side::Dst, Test::is(vec![port.into()])));
        }
        if let Some(cgroup) = &self.cgroup {
            let (sockets, noted) = cgroup.sockets();
            matches.push(sockets);
            matches.push(Match::Comment(format!("{}{noted}", self.guarantee)));
        }
        let target = match self.verdict {
            NativeVerdict::Drop => Target::Drop,
            NativeVerdict::Dnat(address, port) => Target::Dnat(Rewrite {
                addrs: Some((address.into(), address.into())),
                ports: Some(port.into()),
            }),
            NativeVerdict::Redirect(port) => Target::Redirect(Some(port.into())),
            NativeVerdict::Mark(_) => return None,
        };
        Some(Rule { matches, target })
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
            // What they are does not matter.
            NativeVerdict::Mark(_) => write!(f, " meta mark set … meta priority set …"),
        }
    }
}

/// The seal as a layer of rules that the proof walks first.
#[must_use]
pub fn as_rulesets(rules: &[NativeRule]) -> BTreeMap<Family, Ruleset> {
    let mut rulesets: BTreeMap<Family, Ruleset> = BTreeMap::new();
    let means = |native: &NativeRule| {
        let rule = native.rule()?;
        let text = native.to_string();
        Some((native.hook, native.family, Listed { rule, text }))
    };
    for (hook, family, listed) in rules.iter().filter_map(means) {
        let (table, chain) = hook.iptables();
        let ruleset = rulesets.entry(family).or_insert_with(|| Ruleset {
            place: Place::Seal,
            ..Ruleset::new(family)
        });
        let table = ruleset.tables.entry(table.to_owned()).or_default();
        let chain = table
            .chains
            .entry(chain.to_owned())
            .or_insert_with(|| Chain {
                policy: Some(Policy::Accept),
                rules: Vec::new(),
            });
        chain.rules.push(listed);
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
    }

    #[test]
    fn a_mark_decides_nothing_and_is_not_shown() {
        let pass = EdgePass {
            mark: 4711,
            priority: 4712,
        };
        let mark = rule(NativeVerdict::Mark(pass));
        assert!(!mark.to_string().contains("471"), "{mark}");
        assert!(as_rulesets(&[mark]).is_empty());
    }

    /// What the proof is shown of a rule, and the rule in iptables' words.
    fn proved(native: &NativeRule) -> (String, String) {
        let mut rulesets = as_rulesets(std::slice::from_ref(native));
        let ruleset = rulesets.remove(&native.family).unwrap();
        assert!(rulesets.is_empty());
        let mut chains = ruleset.tables.into_iter().flat_map(|(table, content)| {
            let name = move |(chain, content)| (format!("{table} {chain}"), content);
            content.chains.into_iter().map(name)
        });
        let (place, chain) = chains.next().unwrap();
        assert_eq!(chain.policy, Some(Policy::Accept));
        let [listed] = chain.rules.as_slice() else {
            panic!("{chain:?}");
        };
        assert_eq!(listed.text, native.to_string());
        (place, listed.rule.print(native.family).unwrap())
    }

    #[test]
    fn for_the_proof_a_rule_means_what_it_does() {
        let mut native = rule(NativeVerdict::Drop);
        let matches = "-d 169.254.169.254/32 -i br-+ -p tcp -m tcp --dport 80";
        for (verdict, target) in [
            (NativeVerdict::Drop, "DROP"),
            (
                NativeVerdict::Dnat(Ipv4Addr::LOCALHOST, 51679),
                "DNAT --to-destination 127.0.0.1:51679",
            ),
            (NativeVerdict::Redirect(51679), "REDIRECT --to-ports 51679"),
        ] {
            assert_eq!(proved(&rule(verdict)).1, format!("{matches} -j {target}"));
        }
        native.iif = None;
        native.tcp_port = None;
        native.cgroup = Some(Cgroup {
            path: "a.slice/b".to_owned(),
            id: 4711,
        });
        assert_eq!(
            proved(&native).1,
            "-d 169.254.169.254/32 -m cgroup --path a.slice/b \
             -m comment --comment \"imds-block (cgroup 4711)\" -j DROP"
        );
    }

    #[test]
    fn for_the_proof_a_rule_stands_where_packets_meet_it() {
        let place = |hook| {
            let rule = rule(NativeVerdict::Drop);
            proved(&NativeRule { hook, ..rule }).0
        };
        assert_eq!(
            NativeHook::ALL.map(place),
            [
                "raw PREROUTING",
                "filter FORWARD",
                "raw OUTPUT",
                "filter OUTPUT",
                "mangle POSTROUTING",
                "nat PREROUTING",
                "nat OUTPUT",
            ]
        );
    }

    #[test]
    fn rules_of_one_chain_keep_their_order() {
        let first = rule(NativeVerdict::Drop);
        let second = rule(NativeVerdict::Redirect(1));
        let v6 = NativeRule {
            family: Family::V6,
            dst: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ..first.clone()
        };
        let rulesets = as_rulesets(&[first.clone(), second.clone(), v6.clone()]);
        let texts = |family| {
            let chain = &rulesets[&family].tables["filter"].chains["FORWARD"];
            let rules = chain.rules.iter();
            rules.map(|listed| listed.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(texts(Family::V4), [first.to_string(), second.to_string()]);
        assert_eq!(texts(Family::V6), [v6.to_string()]);
    }

    #[test]
    fn only_translations_are_nat() {
        let nat = NativeHook::ALL.into_iter().filter(|hook| hook.is_nat());
        let nat: Vec<NativeHook> = nat.collect();
        assert_eq!(nat, [NativeHook::NatPrerouting, NativeHook::NatOutput]);
    }
}
