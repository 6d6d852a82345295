//! What the sentinel keeps: written by the slow side, after it has put it in place and proved it.

use std::io;
use std::time::Instant;

use crate::guarantee::{Guarantee, Rules, TAG_PREFIX, WantedRule};
use crate::kernel::iptables::Backend;
use crate::kernel::nftables::seal::{self, open_chains};
use crate::kernel::nftables::{BaseHook, ChainName, Proto, RawRule, Socket, first_of};
use crate::ruleset::{Family, IfacePattern, protocol};
use crate::turn::Target;

/// A word of the slow side to the sentinel.
#[derive(Debug)]
pub enum Order {
    /// From now on keep this.
    Keep(Box<Orders>),
    /// Leave the visible layer alone until then, or until there are new orders: the slow side is
    /// about to change it.
    Hold(Instant),
    /// Look at everything now.
    Look,
    /// End.
    Leave,
}

/// All that is kept.
#[derive(Debug, Default)]
pub struct Orders {
    /// The chains in nf_tables, those that keep packets out first.
    pub chains: Vec<Guarded>,
    /// Where `route_localnet` stands at 1.
    pub route_localnet: Vec<String>,
    /// Bridges on which it is to be set when they appear.
    pub bridges: Vec<IfacePattern>,
}

/// A chain whose first rules are the guard's.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// Which chain.
    pub name: ChainName,
    /// How it is made where it is gone.
    pub hook: BaseHook,
    /// The rules, in their order.
    pub rules: Vec<Replay>,
    /// Whether nothing else may stand in it.
    pub whole: bool,
    /// Whether the seal does the same, so that there is no harm in holding back.
    pub sealed: bool,
}

/// A rule that can be put back as it was.
#[derive(Debug, Clone)]
pub struct Replay {
    /// Whose rule it is.
    pub guarantee: Guarantee,
    /// What it is, for a person: `IPv4 filter FORWARD: -d 169.254.169.254/32 …`.
    pub object: String,
    /// As the kernel holds it.
    pub raw: RawRule,
    /// The protocol that its compat matches are tied to.
    pub protocol: Option<u8>,
}

impl Orders {
    /// Reads back from the kernel what stands there now, which has just been found to be right, at
    /// `generation`. [`io::ErrorKind::Interrupted`] where somebody committed since: take a turn.
    ///
    /// `sealed` tells which guarantees the seal keeps too.
    pub fn read_back(
        target: &Target,
        open_input: &[WantedRule],
        generation: u32,
        sealed: impl Fn(Guarantee) -> bool,
    ) -> io::Result<Self> {
        let mut socket = Socket::open()?;
        let mut orders = Self {
            route_localnet: route_localnet(&target.wanted),
            bridges: target.new_bridges.clone(),
            ..Self::default()
        };
        for (name, hook) in open_chains(&mut socket).map_err(io::Error::other)? {
            let rules = first_of(&mut socket, &name)?.rules;
            orders.chains.push(native(name, hook, rules));
        }
        for (name, hook, wanted) in visible(target, open_input) {
            let held = first_of(&mut socket, &name)?;
            let mut rules = Vec::new();
            for (wish, raw) in wanted.iter().zip(held.rules) {
                // What was found by its text stands in this place; a rule without the tag would mean
                // that the two readings are not of the same chain.
                if !raw.mentions(TAG_PREFIX) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                rules.push(Replay {
                    guarantee: wish.guarantee,
                    object: wish.object(),
                    raw,
                    protocol: tied_to(wish),
                });
            }
            if rules.len() < wanted.len() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let sealed = wanted.iter().all(|wish| sealed(wish.guarantee));
            orders.chains.push(Guarded {
                name,
                hook,
                rules,
                whole: false,
                sealed,
            });
        }
        if socket.generation()? == generation {
            Ok(orders)
        } else {
            Err(io::ErrorKind::Interrupted.into())
        }
    }
}

/// Which sysctls are to stand at 1.
pub fn route_localnet(wanted: &Rules) -> Vec<String> {
    let wishes = wanted.sysctls.iter();
    wishes.map(|wish| wish.interface.clone()).collect()
}

/// The chains of iptables-nft that hold wanted rules, FORWARD before the others.
fn visible<'a>(
    target: &'a Target,
    open_input: &'a [WantedRule],
) -> Vec<(ChainName, BaseHook, Vec<&'a WantedRule>)> {
    let mut chains: Vec<(ChainName, BaseHook, Vec<&WantedRule>)> = Vec::new();
    let of_nft = |family| {
        let mut tools = target.tools.iter();
        tools.any(|tool| tool.family == family && tool.backend == Backend::Nft)
    };
    for wish in target.wanted.iptables.iter().chain(open_input) {
        let Some(hook) = base_hook(wish).filter(|_| of_nft(wish.family)) else {
            continue;
        };
        let name = ChainName {
            proto: Proto::from(wish.family),
            table: wish.table.to_owned(),
            chain: wish.chain.to_owned(),
        };
        match chains.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., wishes)) => wishes.push(wish),
            None => chains.push((name, hook, vec![wish])),
        }
    }
    chains
}

/// How iptables-nft hooks its chains in (iptables/nft.c, xtables_ipv4).
fn base_hook(wish: &WantedRule) -> Option<BaseHook> {
    let (kind, number, priority) = match (wish.table, wish.chain) {
        ("filter", "INPUT") => ("filter", 1, 0),
        ("filter", "FORWARD") => ("filter", 2, 0),
        ("nat", "PREROUTING") => ("nat", 0, -100),
        ("nat", "OUTPUT") => ("nat", 3, -100),
        _ => return None,
    };
    Some(BaseHook {
        kind,
        number,
        priority,
    })
}

/// A chain of a native table that anybody may change.
fn native(name: ChainName, hook: BaseHook, rules: Vec<RawRule>) -> Guarded {
    let replay = |raw| Replay {
        guarantee: seal::guarantee_of(&name),
        object: format!("nftables inet {} {}", name.table, name.chain),
        raw,
        protocol: None,
    };
    Guarded {
        rules: rules.into_iter().map(replay).collect(),
        name: name.clone(),
        hook,
        whole: true,
        sealed: false,
    }
}

/// iptables ties `-m tcp` to the protocol where it keeps it as a compat match.
fn tied_to(wish: &WantedRule) -> Option<u8> {
    wish.spec.contains("-p tcp ").then_some(protocol::TCP)
}

/// The families whose visible rules are kept in nf_tables.
pub fn in_nftables(target: &Target) -> impl Iterator<Item = Family> {
    let tools = target.tools.iter();
    tools
        .filter(|tool| tool.backend == Backend::Nft)
        .map(|tool| tool.family)
}
