//! How many packets the guard's rules stopped, from the counters of its rules.
//!
//! A chain that is repaired is rebuilt, and its counters begin at nought: what they had counted
//! is kept here. What they count between the last look and that moment is lost, so that the sum is
//! never too high.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::facts::HostTask;
use crate::guarantee::{Guarantee, Rules, TAG_PREFIX, WantedRule};
use crate::os::host_tasks;
use crate::os::iptables::{Backend, Tool};
use crate::os::links::Interfaces;
use crate::os::nft::{self, ChainName};
use crate::reconcile::{self, Host};
use crate::report::{Layer, PacketCount};
use crate::ruleset::{Family, Match, Rule, Target};
use crate::seal;

/// One rule: of which guarantee, which family, for which interfaces.
type Key = (Guarantee, Family, String);

/// How often the counters are read at most, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// What no event reports, read on demand.
#[derive(Debug, Default)]
pub struct Reading {
    /// The packets stopped until now, in all layers.
    pub stopped: BTreeMap<Guarantee, Vec<PacketCount>>,
    /// The tasks on the host's own network.
    pub host_tasks: Vec<HostTask>,
}

/// The counters of the rules that the last pass wanted.
#[derive(Debug, Default)]
pub struct PacketCounters {
    wanted: Option<Arc<(Rules, Host)>>,
    tally: Tally,
    read: Option<Instant>,
    /// Stays open: right after a pass, to close it could wait for what that replaced.
    socket: Option<nft::Socket>,
}

impl PacketCounters {
    /// From now on these rules are the ones that count.
    pub fn of(&mut self, rules: Rules, host: Host) {
        self.wanted = Some(Arc::new((rules, host)));
        self.read = None;
    }

    /// Whether they were read a moment ago.
    #[must_use]
    pub fn are_fresh(&self) -> bool {
        self.read.is_some_and(|read| read.elapsed() < FRESH)
    }

    /// How it is now; `None` where that was read a moment ago, or cannot be.
    pub fn read(&mut self) -> Option<Reading> {
        let wanted = self.wanted.clone()?;
        let (rules, host) = &*wanted;
        if self.are_fresh() {
            return None;
        }
        self.read = Some(Instant::now());
        let socket = self.socket.take().map_or_else(nft::Socket::open, Ok);
        let counted = socket.map_err(anyhow::Error::from).and_then(|mut socket| {
            let counted = count(&mut socket, &mut self.tally, rules, &host.tools)?;
            self.socket = Some(socket);
            Ok(counted)
        });
        match counted {
            Ok((mut stopped, native)) => {
                for (guarantee, counts) in native {
                    stopped.entry(guarantee).or_default().extend(counts);
                }
                let cgroup = host.facts.task_cgroup.as_ref();
                Some(Reading {
                    stopped,
                    host_tasks: cgroup.map_or_else(Vec::new, host_tasks::below),
                })
            }
            Err(error) => {
                tracing::debug!("reading how many packets were stopped: {error}");
                None
            }
        }
    }
}

/// What the visible rules have stopped, and the native ones.
fn count(
    socket: &mut nft::Socket,
    tally: &mut Tally,
    rules: &Rules,
    tools: &[Tool],
) -> anyhow::Result<(Sums, Sums)> {
    let visible = tally.read(socket, rules, tools)?;
    let seal = seal::look(socket, &rules.native)?;
    let mut native = reconcile::stopped(&seal.stopped);
    if !rules.edge.is_empty() {
        let edge = seal::edge::look(socket, &mut Interfaces::open()?, &rules.edge);
        let at_the_edge = edge.unwrap_or_default().stopped.into_iter();
        let at_the_edge = at_the_edge.map(|(family, packets)| PacketCount {
            family,
            // Whatever interface they came from.
            interface: "+".to_owned(),
            layer: Layer::Edge,
            packets,
        });
        let counts = native.entry(rules.edge.guarantee()).or_default();
        counts.extend(at_the_edge);
    }
    Ok((visible, native))
}

/// The packets stopped by the rules of each guarantee.
type Sums = BTreeMap<Guarantee, Vec<PacketCount>>;

/// The sums since the daemon began.
#[derive(Debug, Default)]
pub struct Tally {
    sums: BTreeMap<Key, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    total: u64,
    last: u64,
}

impl Tally {
    /// Reads the counters of the wanted rules, which are the first that bear the guard's
    /// tag, in order, and adds what is new. Only iptables-nft's rules are counted: iptables-legacy would
    /// have to be asked by running it.
    pub fn read(
        &mut self,
        socket: &mut nft::Socket,
        rules: &Rules,
        tools: &[Tool],
    ) -> Result<Sums, nft::Error> {
        for tool in tools.iter().filter(|t| t.backend == Backend::Nft) {
            let wanted = &rules.iptables;
            for chain in ["FORWARD", "INPUT", "OUTPUT"] {
                let in_chain = |rule: &&WantedRule| {
                    (rule.family, rule.table, rule.chain) == (tool.family, "filter", chain)
                };
                let rules: Vec<&WantedRule> = wanted.iter().filter(in_chain).collect();
                if !rules.is_empty() {
                    let chain = ChainName::of_iptables(tool.family, "filter", chain);
                    let counts = nft::packets_of(socket, &chain, TAG_PREFIX)?;
                    self.add(&rules, &counts);
                }
            }
        }
        Ok(self.sums())
    }

    /// Adds what the counters of a chain's tagged rules have grown by. Where some of the rules are
    /// gone again which counter is whose is not known; the next look will.
    fn add(&mut self, rules: &[&WantedRule], counts: &[Option<u64>]) {
        if counts.len() < rules.len() {
            return;
        }
        for (rule, count) in rules.iter().zip(counts) {
            let (Some(count), Some(interface)) = (count, stops(&rule.listed.rule)) else {
                continue;
            };
            let key = (rule.guarantee, rule.family, interface);
            let sum = self.sums.entry(key).or_insert(Sum {
                total: 0,
                last: *count,
            });
            // A lower number is a new counter's.
            sum.total += count.checked_sub(sum.last).unwrap_or(*count);
            sum.last = *count;
        }
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::new();
        for ((guarantee, family, interface), sum) in &self.sums {
            sums.entry(*guarantee).or_default().push(PacketCount {
                family: *family,
                interface: interface.clone(),
                layer: Layer::Visible,
                packets: sum.total,
            });
        }
        sums
    }
}

/// For which interfaces a rule stops packets, as iptables writes it; `None` for one that stops none.
fn stops(rule: &Rule) -> Option<String> {
    if rule.target != Target::Drop {
        return None;
    }
    let interface = rule.matches.iter().find_map(|m| match m {
        Match::Cgroup(_) => Some(reconcile::HOST_TASKS.to_owned()),
        Match::In(test) if test.negated => Some(format!("! {}", test.value)),
        Match::In(test) => Some(test.value.to_string()),
        _ => None,
    });
    Some(interface.unwrap_or_else(|| "any".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{IfacePattern, Listed, Test};

    fn wanted(interface: &str, target: Target) -> WantedRule {
        let interface = IfacePattern::parse(interface).unwrap();
        WantedRule {
            guarantee: Guarantee::ImdsBlock,
            family: Family::V4,
            table: "filter",
            chain: "FORWARD",
            listed: Listed {
                rule: Rule {
                    matches: vec![Match::In(Test::is(interface))],
                    target,
                },
                text: String::new(),
            },
        }
    }

    fn sums(tally: &Tally) -> Vec<(String, u64)> {
        let sums = tally.sums().into_values().flatten();
        sums.map(|s| (s.interface, s.packets)).collect()
    }

    #[test]
    fn counters_that_restart_go_on_here() {
        let (docker, accept) = (wanted("docker+", Target::Drop), wanted("a", Target::Accept));
        let rules = [&accept, &docker];
        let mut tally = Tally::default();
        for count in [100, 107, 0, 5] {
            tally.add(&rules, &[Some(9), Some(count), Some(1000)]);
        }
        assert_eq!(sums(&tally), [("docker+".to_owned(), 12)]);
        tally.add(&rules, &[Some(9), None]);
        tally.add(&rules, &[Some(99)]);
        assert_eq!(sums(&tally), [("docker+".to_owned(), 12)]);
    }

    #[test]
    fn for_which_interfaces() {
        let docker = || IfacePattern::Prefix("docker".to_owned());
        let of = |m, target| {
            let matches = vec![Match::Comment("a tag".to_owned()), m];
            stops(&Rule { matches, target })
        };
        let tasks = Match::Cgroup(Test::is("a.slice".to_owned()));
        for (m, interface) in [
            (Match::In(Test::is(docker())), "docker+"),
            (Match::In(Test::not(docker())), "! docker+"),
            (Match::Header, "any"),
            (tasks, "host tasks"),
        ] {
            assert_eq!(of(m, Target::Drop).as_deref(), Some(interface));
        }
        assert_eq!(of(Match::In(Test::is(docker())), Target::Accept), None);
    }
}
