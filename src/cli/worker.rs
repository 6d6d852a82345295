//! `ecs-netguard keep-tasks` and `enter-tasks`: the processes that go into tasks' namespaces. The daemon starts
//! them; they have no other use.

use anyhow::Context as _;
use clap::Args;

use super::common::Exit;
use crate::tasks::supervisor;

const WHAT: &str = "keep tasks away from the metadata service";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How the one before it ended
    #[arg(long)]
    ended: Option<String>,
    /// A network namespace to be left alone
    #[arg(long)]
    aside: Vec<u64>,
}

pub(super) fn supervise() -> anyhow::Result<Exit> {
    supervisor::supervise().context(WHAT)?;
    Ok(Exit::Held)
}

pub(super) fn work(arguments: Arguments) -> anyhow::Result<Exit> {
    let aside = arguments.aside.into_iter().collect();
    supervisor::work(arguments.ended, aside).context(WHAT)?;
    Ok(Exit::Held)
}
