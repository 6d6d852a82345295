//! What the kernel holds, read for a target.

use std::collections::BTreeMap;

use super::{Memory, Target};
use crate::kernel::{iptables, sysctl};
use crate::plan::{Plan, Snapshot, plan};
use crate::ruleset::{Family, Ruleset, Shown};
use crate::state::State;

/// The tables that the guard ever puts rules into.
const TABLES: [&str; 2] = ["filter", "nat"];

/// A snapshot and what it means for the target.
pub(super) struct Reading {
    pub(super) snapshot: Snapshot,
    pub(super) plan: Plan,
    /// What could not be read, by family and object (a table, or `route_localnet`).
    pub(super) unread: BTreeMap<(Family, &'static str), String>,
}

impl Reading {
    pub(super) fn take(target: &Target, state: &State) -> Self {
        let mut snapshot = Snapshot::default();
        if target.sysctls {
            snapshot.previous.clone_from(&state.route_localnet);
        }
        let mut unread = BTreeMap::new();
        for (family, why) in &target.toolless {
            unread.extend(TABLES.map(|table| ((*family, table), why.clone())));
        }
        for tool in &target.tools {
            let mut ruleset = Ruleset::new(tool.family);
            let mut busy = None;
            for table in TABLES {
                if !target.wants(tool.family, table) && !tool.in_use(table) {
                    continue;
                }
                let read = match busy.clone() {
                    // Who holds the lock holds it for every table; one wait is enough.
                    Some(why) => Err(why),
                    None => tool.list(table).map_err(|error| {
                        if matches!(error, iptables::Error::Busy { .. }) {
                            busy = Some(error.to_string());
                        }
                        error.to_string()
                    }),
                };
                let read = read.and_then(|content| match content.shown {
                    Shown::Unreadable(why) => Err(why),
                    _ => Ok(content),
                });
                match read {
                    Ok(content) => drop(ruleset.tables.insert(table.to_owned(), content)),
                    Err(why) => drop(unread.insert((tool.family, table), why)),
                }
            }
            snapshot.rulesets.insert(tool.family, ruleset);
        }
        let wanted = target.wanted.sysctls.iter().map(|wish| &wish.interface);
        for interface in wanted.chain(snapshot.previous.keys()) {
            match sysctl::route_localnet(interface) {
                Ok(value) => drop(snapshot.route_localnet.insert(interface.clone(), value)),
                Err(error) => {
                    unread.insert((Family::V4, "route_localnet"), error.to_string());
                }
            }
        }
        let plan = plan(&target.wanted, &snapshot);
        Self {
            snapshot,
            plan,
            unread,
        }
    }

    /// Writes down what stood in a sysctl, before it is changed. Returns what the operator should
    /// know if that failed.
    pub(super) fn remember(&self, interface: &str, memory: &mut Memory<'_>) -> Option<String> {
        let current = self.snapshot.route_localnet.get(interface)?.clone()?;
        if memory.state.route_localnet.contains_key(interface) {
            return None;
        }
        memory
            .state
            .route_localnet
            .insert(interface.to_owned(), current);
        memory.save()
    }

    /// A value that has been put back, by the guard or by somebody else, is not the guard's to put
    /// back any more.
    pub(super) fn forget_undone(&self, target: &Target, memory: &mut Memory<'_>) -> Option<String> {
        if !target.sysctls {
            return None;
        }
        let before = memory.state.route_localnet.len();
        memory.state.route_localnet.retain(|interface, _| {
            let wanted = target
                .wanted
                .sysctls
                .iter()
                .any(|wish| wish.interface == *interface);
            let current = self
                .snapshot
                .route_localnet
                .get(interface)
                .cloned()
                .flatten();
            wanted || current.as_deref() == Some("1")
        });
        if memory.state.route_localnet.len() == before {
            None
        } else {
            memory.save()
        }
    }
}

impl Memory<'_> {
    fn save(&self) -> Option<String> {
        let error = self.state.save(self.dir).err()?;
        Some(format!(
            "{error}; the rules are not affected, but `release` will not know the sysctl's former \
             value: make the directory writable"
        ))
    }
}
