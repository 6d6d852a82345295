//! The seal's tables as they should be, compared with what the kernel holds.

use std::collections::BTreeMap;

use super::abilities::Ability;
use crate::guarantee::{NativeHook, NativeRule};
use crate::os::nft::{BaseHook, Batch, Chain, ChainName, OWNER, PERSIST, Proto, Table, encode};
use crate::prove::Hook;

/// The name of the table that the daemon owns, and of the one in a task's namespace.
pub const TABLE: &str = "ecs_netguard";
/// The name of the table that remains where the kernel removes the owned one with its socket.
pub const TWIN: &str = "ecs_netguard_twin";

/// The family of both.
pub(super) const FAMILY: Proto = Proto::Inet;

/// The owned table and the chain in which a rule stands.
#[must_use]
pub fn place(rule: &NativeRule) -> String {
    format!("{} {TABLE} {}", FAMILY.name(), chain_name(rule.hook))
}

pub(super) const fn chain_name(hook: NativeHook) -> &'static str {
    match hook {
        NativeHook::Prerouting => "prerouting",
        NativeHook::Forward => "forward",
        NativeHook::Output => "output",
        NativeHook::OutputTurned => "output_turned",
        NativeHook::Postrouting => "postrouting",
        NativeHook::NatPrerouting => "nat_prerouting",
        NativeHook::NatOutput => "nat_output",
    }
}

/// The twin stands just behind, so that the owned table counts.
fn base(table: &str, hook: NativeHook) -> BaseHook {
    let (hook_at, priority) = match hook {
        NativeHook::Prerouting => (Hook::Prerouting, -300),
        NativeHook::Forward => (Hook::Forward, -10),
        NativeHook::Output => (Hook::Output, -300),
        NativeHook::OutputTurned => (Hook::Output, -10),
        NativeHook::Postrouting => (Hook::Postrouting, 300),
        NativeHook::NatPrerouting => (Hook::Prerouting, -101),
        NativeHook::NatOutput => (Hook::Output, -101),
    };
    BaseHook {
        kind: if hook.is_nat() { "nat" } else { "filter" }.to_owned(),
        number: hook_at.number(),
        priority: priority + i32::from(table == TWIN),
        device: None,
    }
}

/// The chains that hold these rules in that table.
pub(super) fn chains(table: &str, rules: &[NativeRule]) -> Vec<Chain> {
    let chain = |hook| {
        let rules = rules.iter().filter(|rule| rule.hook == hook).map(encode);
        let rules: Vec<_> = rules.collect();
        (!rules.is_empty()).then(|| Chain {
            name: chain_name(hook).to_owned(),
            base: Some(base(table, hook)),
            accepts: true,
            flags: 0,
            rules,
        })
    };
    NativeHook::ALL.into_iter().filter_map(chain).collect()
}

/// What of the rules the twin holds.
pub(super) fn drops(rules: &[NativeRule]) -> Vec<NativeRule> {
    let drops = rules.iter().filter(|rule| !rule.hook.is_nat());
    drops.cloned().collect()
}

/// Whether a table is awake and has exactly these chains, hooked in like this and with these rules in
/// order, and nothing else.
pub(super) fn holds(found: &Table, wanted: &[Chain]) -> bool {
    let same = |wanted: &Chain| found.chains.iter().any(|chain| is(chain, wanted));
    found.flags & !(OWNER | PERSIST) == 0
        && found.others == 0
        && found.chains.len() == wanted.len()
        && wanted.iter().all(same)
}

/// Whether a chain is named and hooked in like this, and has these rules in order.
pub(super) fn is(chain: &Chain, wanted: &Chain) -> bool {
    let seen = |of: &Chain| (of.accepts, of.flags, of.rules.len());
    (&chain.name, &chain.base, seen(chain)) == (&wanted.name, &wanted.base, seen(wanted))
        && chain
            .rules
            .iter()
            .zip(&wanted.rules)
            .all(|(is, wanted)| is.is(wanted))
}

/// What has to be done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is as it should be.
    Nothing,
    /// It is not there.
    Make,
    /// It is intact and has no owner: become it.
    Adopt,
    /// It is there without any chain.
    Fill,
    /// It is something else: delete it and make it, in one transaction.
    Replace,
    /// No rule is wanted.
    Remove,
}

/// What has to be done to a table that should hold these chains, with these `flags`, owned by the
/// socket with that `port` if the flags ask for an owner. An error where another socket owns it: its
/// port.
pub(super) fn change(
    found: Option<&Table>,
    wanted: &[Chain],
    flags: u32,
    port: u32,
) -> Result<Change, u32> {
    let Some(table) = found else {
        return Ok(if wanted.is_empty() {
            Change::Nothing
        } else {
            Change::Make
        });
    };
    if table.owner != 0 && table.owner != port {
        return Err(table.owner);
    }
    let as_asked = table.flags & (OWNER | PERSIST) == flags;
    let in_hand = as_asked && (flags & OWNER == 0 || table.owner == port);
    Ok(match holds(table, wanted) {
        _ if wanted.is_empty() => Change::Remove,
        true if in_hand => Change::Nothing,
        true if as_asked => Change::Adopt,
        false if in_hand && table.chains.is_empty() && table.others == 0 => Change::Fill,
        _ => Change::Replace,
    })
}

/// A transaction, with what its messages need of the kernel.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) batch: Batch,
    needs: BTreeMap<u32, Ability>,
}

impl Draft {
    /// Adds what brings about a change. What the rules of a table that is replaced have counted is
    /// carried over.
    pub(super) fn add(
        &mut self,
        change: Change,
        (proto, name, flags): (Proto, &str, u32),
        found: Option<&Table>,
        wanted: &[Chain],
    ) {
        if matches!(change, Change::Replace | Change::Remove) {
            self.batch.delete_table(proto, name);
        }
        if !matches!(change, Change::Nothing | Change::Remove) {
            self.batch.table(proto, name, flags);
        }
        if matches!(change, Change::Make | Change::Fill | Change::Replace) {
            for chain in wanted {
                let counted = found.map_or(&[][..], |table| table.rules_of(&chain.name));
                self.chain(proto, name, chain, counted);
            }
        }
    }

    /// Replaces the chains that are not as wanted, and leaves the others as they are.
    pub(super) fn amend(&mut self, proto: Proto, table: &str, found: &[Chain], wanted: &[Chain]) {
        let name = |chain: &Chain| ChainName {
            proto,
            table: table.to_owned(),
            chain: chain.name.clone(),
        };
        for chain in found
            .iter()
            .filter(|chain| !wanted.iter().any(|w| is(chain, w)))
        {
            self.batch.delete_chain(&name(chain));
        }
        for chain in wanted.iter().filter(|w| !found.iter().any(|c| is(c, w))) {
            self.chain(proto, table, chain, &[]);
        }
    }

    fn chain(
        &mut self,
        proto: Proto,
        table: &str,
        chain: &Chain,
        counted: &[crate::os::nft::RawRule],
    ) {
        let name = ChainName {
            proto,
            table: table.to_owned(),
            chain: chain.name.clone(),
        };
        let base = chain.base.as_ref();
        let nat = base.is_some_and(|base| base.kind == "nat");
        let nat = nat.then_some(Ability::Nat);
        self.batch.chain(&name, base);
        self.need(nat);
        for rule in &chain.rules {
            let before = counted.iter().find(|before| before.was(rule));
            let packets = before.map_or(0, |before| before.packets());
            self.batch.add(&name, &rule.counting(packets));
            self.need(nat.or(rule.cgroup().map(|_| Ability::Cgroup)));
        }
    }

    fn need(&mut self, ability: Option<Ability>) {
        self.needs
            .extend(ability.map(|ability| (self.batch.last(), ability)));
    }

    /// The ability that a message of the batch needs.
    pub(super) fn needed_by(&self, message: u32) -> Option<Ability> {
        self.needs.get(&message).copied()
    }
}
