//! The rulesets that are in force: those of the backend that the guard uses, and those of the other
//! one, which the kernel asks too.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::host::Host;
use crate::config::settings::Backend as BackendChoice;
use crate::desired::Desired;
use crate::guarantee::as_rulesets;
use crate::os::exec::{meanwhile, side_by_side};
use crate::os::ipset;
use crate::os::iptables::{Backend, Tool, legacy_tables};
use crate::os::nft::{Error, Inventory, Moment};
use crate::ruleset::native::NativeTable;
use crate::ruleset::{Chain, Family, Ipset, Policy, Ruleset, Shown, Table};
use crate::seal::SealReading;
use crate::seal::edge::EdgeReading;

/// How often the rules are read again because another program changed them meanwhile.
const ATTEMPTS: usize = 3;

/// iptables' tables (iptables(8), TABLES).
const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// What becomes of wanted tables that nf_tables does not hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// iptables is asked all the same: where it fails, that is said.
    Listed,
    /// They are about to be made, and are as empty as they will be then.
    Empty,
}

/// What was read.
#[derive(Default)]
pub(crate) struct Layers {
    /// The rulesets of the guard's own backend. A table that could not be read says so.
    pub(super) own: BTreeMap<Family, Ruleset>,
    /// Those of the other backend, where it holds any table.
    pub(super) other: Vec<Ruleset>,
    /// Native nftables of others.
    pub(crate) native: Vec<NativeTable>,
    /// The native layer.
    pub(crate) seal: SealReading,
    /// The layer at the interfaces by which packets leave.
    pub(super) edge: EdgeReading,
    /// Its rules in force, for the proof.
    pub(crate) sealed: BTreeMap<Family, Ruleset>,
    /// The moment of nf_tables that this is.
    pub(super) moment: Option<Moment>,
    /// What could not be read of the own backend, and why.
    pub(crate) unread: Vec<String>,
}

impl Layers {
    /// Reads everything as it stood at one moment.
    pub(crate) fn read(desired: &Desired, host: &Host, absent: Absent) -> Self {
        let mut layers = Self::default();
        for _ in 0..ATTEMPTS {
            let inventory = Inventory::take();
            layers = Self::once(desired, host, &inventory, absent);
            match (&inventory, Moment::read()) {
                (Ok(inventory), Ok(after)) if inventory.moment != after => {}
                _ => return layers,
            }
        }
        let why = format!("the rules changed during each of {ATTEMPTS} readings");
        layers.doubt(&why);
        layers
    }

    fn once(
        desired: &Desired,
        host: &Host,
        inventory: &Result<Inventory, Error>,
        absent: Absent,
    ) -> Self {
        let mut layers = Self::default();
        for (family, why) in &host.toolless {
            let mut ruleset = Ruleset::new(*family);
            for table in TABLES {
                ruleset.tables.insert(table.to_owned(), unreadable(why));
            }
            layers.own.insert(*family, ruleset);
            layers.unread.push(why.clone());
        }
        // While programs list the others.
        let own = || read_own(desired, host, inventory, absent);
        let (own, ()) = meanwhile(&own, || {
            if !desired.rules.native.is_empty() {
                layers.seal = SealReading::take(&desired.rules.native);
            }
            if !desired.rules.edge.is_empty() {
                layers.edge = EdgeReading::take(&desired.rules.edge);
            }
            layers.read_native(inventory);
        });
        for (tool, (ruleset, unread)) in host.tools.iter().zip(own) {
            layers.own.insert(tool.family, ruleset);
            layers.unread.extend(unread);
            if desired.claims_of(tool.family).next().is_some() {
                layers.other.extend(other_backend(tool, inventory));
            }
        }
        layers.sealed = as_rulesets(&layers.seal.rules);
        layers
    }

    /// What others have natively, without what the seal and the edge account for.
    fn read_native(&mut self, inventory: &Result<Inventory, Error>) {
        match inventory {
            Ok(inventory) => {
                self.moment = Some(inventory.moment.clone());
                let families = [Family::V4, Family::V6].into_iter();
                self.native = families
                    .flat_map(|family| inventory.native.decode(family))
                    .collect();
                let (seal, edge) = (&self.seal, &self.edge);
                for table in &mut self.native {
                    let ours = |chain: &String| {
                        let name = format!("{} {chain}", table.name);
                        seal.accounts_for(&name) || edge.accounted.contains(&name)
                    };
                    table.chains.retain(|chain, _| !ours(chain));
                }
            }
            Err(error) if is_absent(error) => {}
            Err(error) => {
                let why = format!("nf_tables could not be read: {error}");
                self.native = [Family::V4, Family::V6]
                    .map(|family| NativeTable::unreadable(family, &why))
                    .into();
                self.unread.push(why);
            }
        }
    }

    /// The rulesets of a family, in the order in which the prover is to take them.
    pub(super) fn of(&self, family: Family) -> Vec<&Ruleset> {
        let other = self.other.iter().filter(|ruleset| ruleset.family == family);
        self.own.get(&family).into_iter().chain(other).collect()
    }

    /// The same with the seal in front.
    pub(crate) fn sealed(&self, family: Family) -> Vec<&Ruleset> {
        let seal = self.sealed.get(&family).into_iter();
        seal.chain(self.of(family)).collect()
    }

    /// What the sets of ipset hold that rules ask for. Of one that rules change, too, every packet may find another.
    pub(crate) fn ipsets(&self) -> io::Result<BTreeMap<String, Option<Ipset>>> {
        let rulesets = || self.own.values().chain(&self.other);
        let asked: BTreeSet<&str> = rulesets().flat_map(Ruleset::ipsets).collect();
        let mut sets = ipset::read(asked)?;
        for (name, set) in &mut sets {
            if rulesets().any(|ruleset| ruleset.may_change(name)) {
                *set = None;
            }
        }
        Ok(sets)
    }

    /// Takes back all trust in what was read; the chains stay, so that a plan can be made.
    fn doubt(&mut self, why: &str) {
        self.unread.push(why.to_owned());
        for ruleset in self.own.values_mut() {
            for table in ruleset.tables.values_mut() {
                table.shown = Shown::Unreadable(why.to_owned());
            }
        }
    }
}

/// Reads the tables of each tool.
fn read_own(
    desired: &Desired,
    host: &Host,
    inventory: &Result<Inventory, Error>,
    absent: Absent,
) -> Vec<(Ruleset, Vec<String>)> {
    let read = |tool: &Tool| {
        let wanted = |table: &str| desired.wants(tool.family, table);
        read_tables(tool, inventory, absent, wanted)
    };
    side_by_side(&host.tools, read)
}

/// Reads the tables that the kernel holds already, and those that are wanted.
fn read_tables(
    tool: &Tool,
    inventory: &Result<Inventory, Error>,
    absent: Absent,
    wanted: impl Fn(&str) -> bool,
) -> (Ruleset, Vec<String>) {
    let mut ruleset = Ruleset::new(tool.family);
    let mut unread = Vec::new();
    let with_use = TABLES.map(|name| (name, in_use(tool, inventory, name)));
    let meant = |(name, in_use): &(&str, bool)| *in_use || wanted(name);
    let meant: Vec<(&str, bool)> = with_use.into_iter().filter(meant).collect();
    let read = side_by_side(&meant, |(name, in_use)| {
        // To list a legacy table makes it, and reading changes nothing.
        if !in_use && (tool.backend == Backend::Legacy || absent == Absent::Empty) {
            return never_made(name);
        }
        let read = tool.list(name);
        read.unwrap_or_else(|error| unreadable(&error.to_string()))
    });
    for ((name, _), table) in meant.into_iter().zip(read) {
        if let Shown::Unreadable(why) = &table.shown {
            unread.push(why.clone());
        }
        ruleset.tables.insert(name.to_owned(), table);
    }
    if tool.backend == Backend::Nft {
        distrust(&mut ruleset, inventory, &mut unread);
    }
    unread.dedup();
    (ruleset, unread)
}

/// A table that the kernel does not hold: its built-in chains accept everything.
fn never_made(table: &str) -> Table {
    let chains: &[&str] = match table {
        "raw" => &["PREROUTING", "OUTPUT"],
        "mangle" => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        _ => &["INPUT", "FORWARD", "OUTPUT"],
    };
    let chain = Chain {
        policy: Some(Policy::Accept),
        rules: Vec::new(),
    };
    Table {
        chains: (chains.iter())
            .map(|name| ((*name).to_owned(), chain.clone()))
            .collect(),
        ..Table::default()
    }
}

fn in_use(tool: &Tool, inventory: &Result<Inventory, Error>, table: &str) -> bool {
    match (tool.backend, inventory) {
        (Backend::Legacy, _) => legacy_tables(tool.family).iter().any(|name| name == table),
        (Backend::Nft, Ok(inventory)) => {
            inventory.tables.contains(&(tool.family, table.to_owned()))
        }
        // What cannot be ruled out is read; the tool's own error says more than netlink's.
        (Backend::Nft, Err(_)) => true,
    }
}

/// Takes back the trust in rules that iptables-nft lists and cannot list truthfully.
fn distrust(ruleset: &mut Ruleset, inventory: &Result<Inventory, Error>, unread: &mut Vec<String>) {
    match inventory {
        Ok(inventory) => {
            let family = ruleset.family;
            for table in ruleset.tables.values_mut() {
                // The base chains that it does not show are read as the kernel has them.
                if matches!(table.shown, Shown::Partly(_)) {
                    table.shown = Shown::Whole;
                }
            }
            for (_, name) in inventory.dormant.iter().filter(|(of, _)| *of == family) {
                if let Some(table) = ruleset.tables.get_mut(name) {
                    let why = format!("{family} {name} is dormant: no packet meets its rules");
                    table.shown = Shown::Unreadable(why.clone());
                    unread.push(why);
                }
            }
            for rule in inventory.rules.iter().filter(|rule| rule.family == family) {
                let place = (rule.table.as_str(), rule.chain.as_str(), rule.index);
                ruleset.distrust(place, rule.why.clone(), rule.does.clone());
            }
        }
        Err(error) => {
            let why = format!("nf_tables could not be asked what iptables leaves out: {error}");
            for table in ruleset.tables.values_mut() {
                table.shown = Shown::Unreadable(why.clone());
            }
            unread.push(why);
        }
    }
}

/// The tables of the backend that the guard does not use, where there are any: a packet has to pass
/// both.
fn other_backend(tool: &Tool, inventory: &Result<Inventory, Error>) -> Option<Ruleset> {
    let choice = match tool.backend {
        Backend::Nft => BackendChoice::Legacy,
        Backend::Legacy => BackendChoice::Nft,
    };
    let names = match (choice, inventory) {
        (BackendChoice::Legacy, _) => legacy_tables(tool.family),
        (_, Ok(inventory)) => {
            let own = inventory
                .tables
                .iter()
                .filter(|(family, _)| *family == tool.family);
            own.map(|(_, table)| table.clone()).collect()
        }
        (_, Err(_)) => Vec::new(),
    };
    if names.is_empty() {
        return None;
    }
    match Tool::find(tool.family, choice) {
        Ok(other) => Some(read_tables(&other, inventory, Absent::Listed, |_| false).0),
        Err(error) => {
            let mut ruleset = Ruleset::new(tool.family);
            for name in names {
                ruleset.tables.insert(name, unreadable(&error.to_string()));
            }
            Some(ruleset)
        }
    }
}

/// Whether the kernel has no nf_tables at all.
fn is_absent(error: &Error) -> bool {
    use nix::errno::Errno::{EAFNOSUPPORT, EINVAL, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT};
    let known = [EAFNOSUPPORT, EINVAL, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT];
    match error {
        Error::Kernel(error) => {
            let number = error.raw_os_error();
            known.iter().any(|errno| Some(*errno as i32) == number)
        }
        Error::Stale => false,
    }
}

fn unreadable(why: &str) -> Table {
    Table {
        shown: Shown::Unreadable(why.to_owned()),
        ..Table::default()
    }
}
