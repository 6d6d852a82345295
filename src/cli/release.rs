//! `ecs-netguard release`: takes everything out again.

use std::io::{self, Write as _};

use clap::Args;
use serde::Serialize;

use super::common::{Common, Exit, need_net_admin, print_json};
use crate::config::settings::Backend as Choice;
use crate::guarantee::TAG_PREFIX;
use crate::os::iptables::{Backend, Tool, legacy_tables};
use crate::os::lock::Lock;
use crate::os::nft::{self, Socket};
use crate::out;
use crate::posture::Posture;
use crate::reconcile::{self, Hands, Pass};
use crate::ruleset::Family;
use crate::seal::edge::{self, SharedEdge};
use crate::seal::{self, Around};
use crate::state::{self, Remembered, Store};
use crate::tasks;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Prepare a golden image: also forget what the guard remembers of this host (the configuration
    /// stays, and the guard goes on at the next boot)
    #[arg(long)]
    image: bool,
}

#[derive(Serialize)]
struct Released {
    removed: Vec<String>,
    forgotten: Vec<String>,
    kept: Vec<String>,
    failures: Vec<String>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    need_net_admin("release")?;
    let _lock = Lock::take(&common.runtime_dir, "release")?;
    let (mut store, warning) = Store::open(&common.state_dir);
    let backends = reconcile::nothing();
    let (tables, mut left) = remove_native();
    let in_tasks = tasks::once::pass(tasks::Wish::Nothing);
    let passes: Vec<Pass> = backends
        .iter()
        .map(|(nothing, host)| {
            let hands = &mut Hands {
                seal: &mut None,
                edge: &SharedEdge::default(),
                before_change: &|| {},
                around_seal: Around::NOTHING,
                prove_before: false,
                sealed: None,
                paused: &[],
            };
            reconcile::apply(nothing, host, &Posture::default(), &mut store, hands)
        })
        .collect();
    let (tagged, unsearched) = without_iptables();
    left.extend(unsearched);
    // Nothing is required any more.
    store.state.inputs = Remembered::default();
    let (forgotten, unforgotten) = if arguments.image {
        forget(common)
    } else {
        let error = store.write().err();
        let line = error.map(|error| format!("the state could not be updated: {error}"));
        (Vec::new(), line)
    };
    let released = Released {
        removed: passes
            .iter()
            .flat_map(|pass| pass.report.drifts.iter().filter(|d| !pass.left.contains(d)))
            .map(|drift| drift.object.clone())
            .chain(tagged)
            .chain(tables.iter().map(|table| format!("nftables table {table}")))
            .chain(in_tasks.released)
            .collect(),
        forgotten,
        kept: store
            .state
            .route_localnet
            .keys()
            .map(|interface| kept(interface))
            .collect(),
        failures: warning
            .into_iter()
            .chain(left)
            .chain(in_tasks.tasks.unknown)
            .chain(unforgotten)
            .chain(
                passes
                    .iter()
                    .flat_map(|pass| pass.report.failures.iter().map(|f| f.message.clone())),
            )
            .chain(passes.iter().flat_map(|pass| pass.unread.iter().cloned()))
            .collect(),
    };
    if arguments.json {
        print_json(&released)?;
    } else {
        print(&released)?;
    }
    Ok(if released.failures.is_empty() {
        Exit::Held
    } else {
        Exit::Undecided
    })
}

/// Removes what no iptables here can reach, since the program that made it is gone: what was there, and
/// what could not be removed.
fn without_iptables() -> (Vec<String>, Vec<String>) {
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for family in [Family::V4, Family::V6] {
        let is =
            |backend, choice| Tool::find(family, choice).is_ok_and(|tool| tool.backend == backend);
        let has = |backend, choice| is(backend, Choice::Auto) || is(backend, choice);
        if !has(Backend::Nft, Choice::Nft) && nft::generation().is_ok() {
            let removed = Socket::open()
                .map_err(nft::Error::from)
                .and_then(|mut socket| nft::delete_tagged(&mut socket, family, TAG_PREFIX));
            match removed {
                Ok(removed) => gone.extend(removed),
                Err(error) => left.push(format!("remove {family} rules from nf_tables: {error}")),
            }
        }
        let tables = legacy_tables(family);
        if !has(Backend::Legacy, Choice::Legacy) && !tables.is_empty() {
            left.push(format!(
                "rules of iptables-legacy ({family} {}) cannot be removed: iptables-legacy is not \
                 installed; install it and run `ecs-netguard release` again, or reboot",
                tables.join(", ")
            ));
        }
    }
    (gone, left)
}

/// Removes what the guard remembers: what there was, and what could not be removed.
fn forget(common: &Common) -> (Vec<String>, Option<String>) {
    match state::forget(&common.state_dir) {
        Ok(paths) => {
            let shown = paths.iter().map(|path| path.display().to_string());
            (shown.collect(), None)
        }
        Err(error) => (Vec::new(), Some(error.to_string())),
    }
}

/// Removes the seal and the edge: what was there, and what could not be removed.
fn remove_native() -> (Vec<String>, Vec<String>) {
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    let Ok(mut socket) = Socket::open() else {
        // Without nf_tables there is neither.
        return (gone, left);
    };
    for (family, removed) in [
        ("netdev", edge::remove_all(&mut socket)),
        ("inet", seal::remove_all(&mut socket)),
    ] {
        match removed {
            Ok(tables) => gone.extend(tables.iter().map(|table| format!("{family} {table}"))),
            Err(error) if error.is_unsupported() => {}
            Err(error) => left.push(error.to_string()),
        }
    }
    (gone, left)
}

fn kept(interface: &str) -> String {
    format!(
        "net.ipv4.conf.{interface}.route_localnet stays 1: a NAT rule of another program \
         (ecs-init's own) still sends packets to 127.0.0.1"
    )
}

fn print(released: &Released) -> io::Result<()> {
    let mut out = out::text();
    let nothing = released.removed.is_empty() && released.forgotten.is_empty();
    if nothing && released.failures.is_empty() {
        writeln!(out, "Nothing to remove.")?;
    }
    for object in &released.removed {
        writeln!(out, "removed  {object}")?;
    }
    for path in &released.forgotten {
        writeln!(out, "forgot   {path}")?;
    }
    for line in &released.kept {
        writeln!(out, "kept     {line}")?;
    }
    for line in &released.failures {
        writeln!(out, "FAILED   {line}")?;
    }
    Ok(())
}
