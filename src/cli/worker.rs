//! `ecs-netguard keep-tasks`: the process that goes into tasks' namespaces. The daemon starts it;
//! it has no other use.

use anyhow::Context as _;

use super::common::Exit;
use crate::tasks::worker_client;

pub(super) fn run() -> anyhow::Result<Exit> {
    worker_client::serve().context("keep tasks away from the metadata service")?;
    Ok(Exit::Held)
}
