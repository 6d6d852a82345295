//! `ecs-netguard status`: how the host stands, as the daemon knows it.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;

use super::common::{Common, Exit, asking};
use super::screen;
use crate::report::Report;
use crate::status::client::{Client, Error};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the daemon's own answer, JSON, instead of text
    #[arg(long)]
    json: bool,
    /// Draw anew with every event, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = Client::new(&common.runtime_dir);
    asking(async {
        if arguments.watch {
            return watch(&client).await;
        }
        let text = client.get("/v1/status").await?;
        let report: Report = client.read("/v1/status", &text)?;
        if arguments.json {
            io::stdout().write_all(&text)?;
        } else {
            io::stdout().write_all(screen::Look::of_stdout().screen(&report).as_bytes())?;
        }
        Ok(report.state.into())
    })
}

async fn watch(client: &Client) -> anyhow::Result<Exit> {
    // First to follow, then to look: so no event falls between.
    let mut events = client.lines("/v1/events?follow&limit=0").await?;
    loop {
        let report: Report = client.json("/v1/status").await?;
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            // Home, and clear what was there.
            out.write_all(b"\x1b[H\x1b[2J")?;
        }
        out.write_all(screen::Look::of_stdout().screen(&report).as_bytes())?;
        out.flush()?;
        drop(out);
        if events.next().await?.is_none() {
            return Err(Error::gone(client).into());
        }
    }
}
