//! `ecs-netguard status`: how the host stands, as the daemon knows it.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;

use super::screen::Look;
use super::{Common, Exit, asking};
use crate::status::client::{Client, Error};
use crate::status::model::{Overall, Status};

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
        let status: Status = client.read("/v1/status", &text)?;
        if arguments.json {
            io::stdout().write_all(&text)?;
        } else {
            io::stdout().write_all(look().screen(&status).as_bytes())?;
        }
        Ok(exit(status.state))
    })
}

async fn watch(client: &Client) -> anyhow::Result<Exit> {
    // First to follow, then to look: so no event falls between.
    let mut events = client.lines("/v1/events?follow&limit=0").await?;
    loop {
        let status: Status = client.json("/v1/status").await?;
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            // Home, and clear what was there.
            out.write_all(b"\x1b[H\x1b[2J")?;
        }
        out.write_all(look().screen(&status).as_bytes())?;
        out.flush()?;
        drop(out);
        if events.next().await?.is_none() {
            return Err(Error::gone(client).into());
        }
    }
}

fn look() -> Look {
    let terminal = io::stdout().is_terminal();
    Look {
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
        width: terminal
            .then(|| terminal_size::terminal_size().map(|(width, _)| width.0.into()))
            .flatten(),
    }
}

const fn exit(state: Overall) -> Exit {
    match state {
        Overall::Protected | Overall::NotRequired => Exit::Held,
        Overall::NotProtected => Exit::Violated,
        Overall::Undecided => Exit::Undecided,
    }
}
