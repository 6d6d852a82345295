//! What of a batch makes, changes and removes the seal's tables.

use netlink_packet_core::NLM_F_CREATE;

use super::found::Found;
use super::{OWNER, PERSIST, TABLE, TWIN, drops};
use crate::guarantee::{NativeHook, NativeRule};
use crate::os::nft::batch::Batch;
use crate::os::nft::message::{Attributes, Proto, Verb};
use crate::os::nft::native;
use crate::os::nft::rules::{BaseHook, ChainName};

/// The twin is there only where an owned table would vanish with its socket.
pub(super) fn plan_twin(
    batch: &mut Batch,
    found: Option<&Found>,
    flags: u32,
    wanted: &[NativeRule],
) {
    let needed = flags & OWNER != 0 && flags & PERSIST == 0;
    let drops = if needed { drops(wanted) } else { Vec::new() };
    match found {
        Some(twin) if !drops.is_empty() && twin.holds(TWIN, &drops) => {}
        Some(twin) => {
            let counted = twin.counted(&drops);
            remove(batch, TWIN);
            build(batch, TWIN, 0, &counted, &drops);
        }
        None => build(batch, TWIN, 0, &[], &drops),
    }
}

pub(super) fn new_table(batch: &mut Batch, table: &str, flags: u32) {
    // NFTA_TABLE_NAME, NFTA_TABLE_FLAGS.
    let attributes = Attributes::default().text(1, table).number(2, flags);
    batch.push(Verb::NewTable, NLM_F_CREATE, Proto::Inet, &attributes.0);
}

pub(super) fn remove(batch: &mut Batch, table: &str) {
    let attributes = Attributes::default().text(1, table);
    batch.push(Verb::DelTable, 0, Proto::Inet, &attributes.0);
}

/// Makes the table with its chains and rules; `counted` is what each rule begins to count at.
pub(super) fn build(
    batch: &mut Batch,
    table: &str,
    flags: u32,
    counted: &[u64],
    rules: &[NativeRule],
) {
    if rules.is_empty() {
        return;
    }
    new_table(batch, table, flags);
    for hook in NativeHook::ALL {
        if rules.iter().any(|rule| rule.hook == hook) {
            batch.base_chain(&chain(table, hook), base_hook(table, hook));
        }
    }
    for (place, rule) in rules.iter().enumerate() {
        let packets = counted.get(place).copied().unwrap_or(0);
        batch.add(&chain(table, rule.hook), &native::encode(rule, packets));
    }
}

/// The owned table and the chain in which a rule stands.
#[must_use]
pub fn place(rule: &NativeRule) -> String {
    format!("{TABLE} {}", chain_name(rule.hook))
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

pub(super) fn chain(table: &str, hook: NativeHook) -> ChainName {
    ChainName {
        proto: Proto::Inet,
        table: table.to_owned(),
        chain: chain_name(hook).to_owned(),
    }
}

/// The twin stands just behind, so that the owned table counts.
pub(super) fn base_hook(table: &str, hook: NativeHook) -> BaseHook {
    let (kind, number, priority) = match hook {
        NativeHook::Prerouting => ("filter", 0, -300),
        NativeHook::Forward => ("filter", 2, -10),
        NativeHook::Output => ("filter", 3, -300),
        NativeHook::OutputTurned => ("filter", 3, -10),
        NativeHook::Postrouting => ("filter", 4, 300),
        NativeHook::NatPrerouting => ("nat", 0, -101),
        NativeHook::NatOutput => ("nat", 3, -101),
    };
    BaseHook {
        kind,
        number,
        priority: priority + i32::from(table == TWIN),
    }
}
