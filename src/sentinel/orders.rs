//! What the sentinel keeps: written by the slow side, after it has put it in place and proved it.

use std::time::Instant;

use crate::desired::Desired;
use crate::guarantee::{Guarantee, NativeRule, TAG_PREFIX, WantedRule, task_credentials};
use crate::os::iptables::Backend;
use crate::os::nft::{BaseHook, Batch, ChainName, Error, RawRule, Socket, first_of};
use crate::prove::Hook;
use crate::reconcile::Host;
use crate::ruleset::{Family, IfacePattern, Match};
use crate::seal::{OpenChain, open_chains};

/// A word of the slow side to the sentinel.
#[derive(Debug)]
pub enum Order {
    /// From now on keep this.
    Keep(Box<Orders>),
    /// Leave the visible layer alone until then, or until there are new orders: the slow side is
    /// about to change it. Tables of the seal that anybody may change are guarded all the while.
    Hold(Instant),
    /// Leave those alone too, until there are new orders for their chains: the slow side is about to change
    /// them.
    HoldNative(Instant),
    /// These are the chains of the seal that anybody may change. What holds for the rest stays.
    KeepNative(Vec<Guarded>),
    /// Go on, and look at everything now.
    Resume,
    /// End.
    Leave,
}

/// All that is kept.
#[derive(Debug, Default)]
pub struct Orders {
    /// The chains in nf_tables, those that keep packets out first.
    pub chains: Vec<Guarded>,
    /// Whether iptables-legacy holds rules of the guard, so that uses of its lock matter.
    pub legacy: bool,
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

/// A rule that can be restored as it was.
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
    /// `generation`. [`Error::Stale`] where nf_tables changed since: reconcile again.
    ///
    /// `sealed` tells which guarantees the seal keeps too.
    pub fn read_back(
        desired: &Desired,
        host: &Host,
        open_input: bool,
        generation: u32,
        sealed: impl Fn(Guarantee) -> bool,
    ) -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        let mut orders = Self {
            chains: native_chains(&mut socket, &desired.rules.native)?,
            ..Self::without_nftables(desired, host)
        };
        let opened = opened(open_input);
        for (place, wanted) in chains(desired, host, &opened) {
            let Some((kind, hook, priority)) = place.base_hook() else {
                continue;
            };
            let sealed = wanted.iter().all(|wish| sealed(wish.guarantee));
            let name = ChainName::of_iptables(place.family, place.table, place.chain);
            let held = first_of(&mut socket, &name)?;
            let mut rules = Vec::new();
            for (wish, raw) in wanted.iter().zip(held.rules) {
                // What was found by its text stands in this place; a rule without the tag would mean
                // that the two readings are not of the same chain.
                if !raw.mentions(TAG_PREFIX) {
                    return Err(Error::Stale);
                }
                rules.push(Replay {
                    guarantee: wish.guarantee,
                    object: wish.object(),
                    raw: raw.counting(0),
                    protocol: tied_to(wish),
                });
            }
            if rules.len() < wanted.len() {
                return Err(Error::Stale);
            }
            orders.chains.push(Guarded {
                name,
                hook: BaseHook {
                    kind: kind.to_owned(),
                    number: hook.number(),
                    priority,
                    device: None,
                },
                rules,
                whole: false,
                sealed,
            });
        }
        if socket.generation()? == generation {
            Ok(orders)
        } else {
            Err(Error::Stale)
        }
    }

    /// Replaces the visible rules by equal ones that are quicker to restore
    /// ([`RawRule::lightened`]), chain by chain where all of them can be. Where anything was replaced, the
    /// socket that did it, which should not be closed at once (see [`Socket`]); [`Error::Stale`] where
    /// nf_tables changed since `generation`.
    pub fn lighten(&mut self, generation: u32) -> Result<Option<Socket>, Error> {
        let mut batch = Batch::default();
        for chain in self.chains.iter_mut().filter(|chain| !chain.whole) {
            let rules = chain.rules.iter();
            let Some(light) = rules
                .map(|rule| rule.raw.lightened())
                .collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            for (rule, light) in chain.rules.iter_mut().zip(light).rev() {
                batch.delete(&chain.name, rule.raw.handle);
                batch.replay(&chain.name, &light, None);
                rule.raw = light;
            }
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let mut socket = Socket::open()?;
        batch.commit(&mut socket, Some(generation))?;
        Ok(Some(socket))
    }

    /// What is kept where this kernel has no nf_tables: the sysctls.
    #[must_use]
    pub fn without_nftables(desired: &Desired, host: &Host) -> Self {
        let wishes = desired.rules.sysctls.iter();
        let mut tools = host.tools.iter();
        Self {
            legacy: tools.any(|tool| tool.backend == Backend::Legacy),
            route_localnet: wishes.map(|wish| wish.interface.clone()).collect(),
            bridges: desired.new_bridges.clone(),
            ..Self::default()
        }
    }
}

/// The rules that are wanted besides where INPUT would drop what goes to the agent.
fn opened(open_input: bool) -> Vec<WantedRule> {
    if open_input {
        task_credentials::open_input().iptables
    } else {
        Vec::new()
    }
}

/// A chain of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    family: Family,
    table: &'static str,
    chain: &'static str,
}

impl Place {
    /// Of what kind the chain is, where and at which priority it is hooked in (iptables/nft.c,
    /// xtables_ipv4).
    fn base_hook(&self) -> Option<(&'static str, Hook, i32)> {
        match (self.table, self.chain) {
            ("filter", "INPUT") => Some(("filter", Hook::Input, 0)),
            ("filter", "OUTPUT") => Some(("filter", Hook::Output, 0)),
            ("filter", "FORWARD") => Some(("filter", Hook::Forward, 0)),
            ("nat", "PREROUTING") => Some(("nat", Hook::Prerouting, -100)),
            ("nat", "OUTPUT") => Some(("nat", Hook::Output, -100)),
            _ => None,
        }
    }
}

/// The chains of iptables-nft that hold wanted rules, FORWARD before the others.
fn chains<'a>(
    desired: &'a Desired,
    host: &Host,
    open_input: &'a [WantedRule],
) -> Vec<(Place, Vec<&'a WantedRule>)> {
    let mut chains: Vec<(Place, Vec<&WantedRule>)> = Vec::new();
    let wanted = desired.rules.iptables.iter().chain(open_input);
    for wish in wanted.filter(|wish| {
        let tool = host.tool(wish.family);
        tool.is_some_and(|tool| tool.backend == Backend::Nft)
    }) {
        let place = Place {
            family: wish.family,
            table: wish.table,
            chain: wish.chain,
        };
        match chains.iter_mut().find(|(known, _)| *known == place) {
            Some((_, wishes)) => wishes.push(wish),
            None => chains.push((place, vec![wish])),
        }
    }
    chains
}

/// The chains of the seal that anybody may change. [`Error::Stale`] where one does not hold what is
/// wanted.
pub fn native_chains(socket: &mut Socket, wanted: &[NativeRule]) -> Result<Vec<Guarded>, Error> {
    let open = open_chains(socket, wanted)?.ok_or(Error::Stale)?;
    Ok(open.into_iter().map(native).collect())
}

fn native(open: OpenChain) -> Guarded {
    let replay = |raw: &RawRule| Replay {
        guarantee: open.guarantee,
        object: format!("nftables inet {} {}", open.name.table, open.name.chain),
        raw: raw.counting(0),
        protocol: None,
    };
    Guarded {
        rules: open.rules.iter().map(replay).collect(),
        name: open.name,
        hook: open.base,
        whole: true,
        sealed: false,
    }
}

/// iptables ties `-m tcp` and its like to the rule's protocol where it keeps them as compat matches.
fn tied_to(wish: &WantedRule) -> Option<u8> {
    wish.listed.rule.matches.iter().find_map(|m| match m {
        Match::Protocol(test) if !test.negated => Some(test.value),
        _ => None,
    })
}
