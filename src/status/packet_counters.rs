//! How many packets the guard's rules stopped, from the counters of its rules.
//!
//! A chain that is put right is built anew, and its counters begin at nought: what they had counted
//! is kept here. What they count between the last look and that moment is lost, so that the sum is
//! never too high.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::model::{Layer, Stopped};
use crate::guarantee::{Guarantee, TAG_PREFIX, WantedRule};
use crate::os::host_tasks::{self, HostTask};
use crate::os::iptables::Backend;
use crate::os::nft::{self, ChainName};
use crate::reconcile::{self, Target};
use crate::ruleset::Family;
use crate::seal::{self, SealReading};

/// One rule: of which guarantee, which family, for which interfaces.
type Key = (Guarantee, Family, String);

/// How often the counters are read at most, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// What nobody tells of, read for whoever asks.
#[derive(Debug, Default)]
pub struct Now {
    /// The packets stopped until now, in both layers.
    pub stopped: BTreeMap<Guarantee, Vec<Stopped>>,
    /// The tasks on the host's own network.
    pub host_tasks: Vec<HostTask>,
}

/// Counts for whoever asks, for what the last turn wanted.
#[derive(Debug, Default)]
pub struct Counting {
    target: Option<Arc<Target>>,
    tally: Tally,
    read: Option<Instant>,
}

impl Counting {
    /// From now on these rules are the ones that count.
    pub fn of(&mut self, target: Arc<Target>) {
        self.target = Some(target);
        self.read = None;
    }

    /// How it is now; `None` where that was read a moment ago, or cannot be.
    pub fn read(&mut self) -> Option<Now> {
        let target = self.target.clone()?;
        if self.read.is_some_and(|read| read.elapsed() < FRESH) {
            return None;
        }
        self.read = Some(Instant::now());
        match read(&mut self.tally, &target) {
            Ok((mut stopped, seal)) => {
                for counted in reconcile::stopped(&seal.stopped) {
                    stopped.entry(counted.guarantee).or_default().push(Stopped {
                        family: counted.family,
                        interface: counted.interface,
                        layer: Layer::Sealed,
                        packets: counted.packets,
                    });
                }
                let cgroup = target.facts.task_cgroup.as_ref();
                Some(Now {
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

fn read(tally: &mut Tally, target: &Target) -> anyhow::Result<(Sums, SealReading)> {
    let visible = tally.read(target)?;
    let seal = seal::look(&mut nft::Socket::open()?, &target.wanted.native)?;
    Ok((visible, seal))
}

/// The packets stopped by the rules of each guarantee.
type Sums = BTreeMap<Guarantee, Vec<Stopped>>;

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
    /// Reads the counters of the rules that `target` wants, which are the first that bear the guard's
    /// tag, in order, and adds what is new. Only iptables-nft's rules are counted: iptables-legacy would
    /// have to be asked by running it.
    pub fn read(&mut self, target: &Target) -> Result<Sums, nft::Error> {
        for tool in target.tools.iter().filter(|t| t.backend == Backend::Nft) {
            let wanted = &target.wanted.iptables;
            for chain in ["FORWARD", "INPUT", "OUTPUT"] {
                let in_chain = |rule: &&WantedRule| {
                    (rule.family, rule.table, rule.chain) == (tool.family, "filter", chain)
                };
                let rules: Vec<&WantedRule> = wanted.iter().filter(in_chain).collect();
                if !rules.is_empty() {
                    let chain = ChainName {
                        proto: tool.family.into(),
                        table: "filter".to_owned(),
                        chain: chain.to_owned(),
                    };
                    let counts = nft::packets_of(&chain, TAG_PREFIX)?;
                    self.add(&rules, &counts);
                }
            }
        }
        Ok(self.sums())
    }

    /// Adds what the counters of a chain's tagged rules have grown by. Where some of the rules are
    /// gone again nobody knows whose counter is whose; the next look will.
    fn add(&mut self, rules: &[&WantedRule], counts: &[Option<u64>]) {
        if counts.len() < rules.len() {
            return;
        }
        for (rule, count) in rules.iter().zip(counts) {
            let (Some(count), Some(interface)) = (count, stops(&rule.spec)) else {
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
            sums.entry(*guarantee).or_default().push(Stopped {
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
fn stops(spec: &str) -> Option<String> {
    let words: Vec<&str> = spec.split(' ').collect();
    if !spec.ends_with("-j DROP") {
        return None;
    }
    if words.contains(&"cgroup") {
        return Some(reconcile::HOST_TASKS.to_owned());
    }
    let Some(at) = words.iter().position(|word| *word == "-i") else {
        return Some("any".to_owned());
    };
    let name = words.get(at + 1)?;
    let not = at > 0 && words[at - 1] == "!";
    Some(if not {
        format!("! {name}")
    } else {
        (*name).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: &str) -> WantedRule {
        WantedRule {
            guarantee: Guarantee::ImdsBlock,
            family: Family::V4,
            table: "filter",
            chain: "FORWARD",
            spec: spec.to_owned(),
        }
    }

    fn sums(tally: &Tally) -> Vec<(String, u64)> {
        let sums = tally.sums().into_values().flatten();
        sums.map(|s| (s.interface, s.packets)).collect()
    }

    #[test]
    fn counters_that_begin_anew_go_on_here() {
        let (docker, accept) = (rule("-d x -i docker+ -j DROP"), rule("-i a -j ACCEPT"));
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
        let of = |spec| stops(spec).unwrap();
        assert_eq!(of("! -i lo -p tcp -j DROP"), "! lo");
        assert_eq!(of("-d 127.0.0.0/8 -j DROP"), "any");
        assert_eq!(of("-d x -m cgroup --path a.slice -j DROP"), "host tasks");
        assert_eq!(stops("-i docker0 -j ACCEPT"), None);
    }
}
