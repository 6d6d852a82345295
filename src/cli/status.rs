//! `ecs-netguard status`: how the host stands, as the daemon knows it.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;

use super::common::{Common, Demand, Exit, Patience, asking};
use super::screen;
use crate::out;
use crate::report::Report;
use crate::status::client::{Client, Error};

/// How long `--watch` waits before it asks a daemon again that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the daemon's own answer, JSON, instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    demand: Demand,
    /// Redraw on every event until interrupted; reconnect when the daemon restarts
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = arguments.patience.client(common);
    asking(async {
        if arguments.watch {
            return watch(&client).await;
        }
        let text = client.get("/v1/status").await?;
        let report: Report = client.read("/v1/status", &text)?;
        if arguments.json {
            out::json().write_all(&text)?;
        } else {
            screen::print(&report, false)?;
        }
        Ok(arguments.demand.exit(&report))
    })
}

/// Redraws until interrupted. A daemon that answered once and is gone is asked again every second.
async fn watch(client: &Client) -> anyhow::Result<Exit> {
    let mut connected = false;
    loop {
        let Err(error) = follow(client, &mut connected).await;
        match error.downcast_ref() {
            Some(Error::Unreachable { .. }) if connected => {
                draw(&format!("{error}\nTrying again every second.\n"))?;
                tokio::time::sleep(PAUSE).await;
            }
            _ => return Err(error),
        }
    }
}

async fn follow(client: &Client, connected: &mut bool) -> anyhow::Result<Infallible> {
    // First to follow, then to look: so no event falls between.
    let mut events = client.lines("/v1/events?follow&limit=0").await?;
    loop {
        let report: Report = client.json("/v1/status").await?;
        draw(&screen::Look::of_stdout().screen(&report))?;
        *connected = true;
        if events.next().await?.is_none() {
            return Err(Error::gone(client).into());
        }
    }
}

fn draw(screen: &str) -> io::Result<()> {
    let mut terminal = io::stdout().lock();
    if terminal.is_terminal() {
        // Home, and clear what was there.
        terminal.write_all(b"\x1b[H\x1b[2J")?;
    }
    out::coloured().write_all(screen.as_bytes())?;
    terminal.flush()
}
