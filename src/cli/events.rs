//! `ecs-netguard events`: what happened.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use super::common::{Common, Exit, asking};
use crate::config::sanitize_line;
use crate::events::Event;
use crate::guarantee::Guarantee;
use crate::status::client::{Client, Error};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with every event that comes, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only events of the last while: "2h", "30m", "1d"
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Only events about this guarantee
    #[arg(long, value_name = "NAME", value_parser = names())]
    guarantee: Option<String>,
    /// Print the daemon's own lines, a JSON document each, instead of text
    #[arg(long)]
    json: bool,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Guarantee::ALL.map(Guarantee::name))
}

/// A line of `/v1/events`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Missed { missed: u64 },
    Event(Box<Event>),
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = Client::new(&common.runtime_dir);
    let from = arguments
        .since
        .and_then(|since| SystemTime::now().checked_sub(since));
    let print = |text: &[u8]| -> anyhow::Result<()> {
        let line: Line = client.read("/v1/events", text)?;
        if !arguments.wants(&line, from) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if arguments.json {
            out.write_all(text)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{}", sanitize(&line))?;
        }
        Ok(())
    };
    asking(async {
        if arguments.follow {
            let mut lines = client.lines("/v1/events?follow").await?;
            while let Some(text) = lines.next().await? {
                print(&text)?;
            }
            return Err(Error::gone(&client).into());
        }
        // All of it before the first line is printed: a pager may leave lines unread for long.
        let text = client.get("/v1/events").await?;
        text.split(|byte| *byte == b'\n')
            .filter(|text| !text.is_empty())
            .try_for_each(print)?;
        Ok(Exit::Held)
    })
}

impl Arguments {
    fn wants(&self, line: &Line, from: Option<SystemTime>) -> bool {
        let Line::Event(event) = line else {
            return true;
        };
        let about = event.guarantee.map(Guarantee::name);
        from.is_none_or(|from| event.time >= from)
            && (self.guarantee.is_none() || self.guarantee.as_deref() == about)
    }
}

fn sanitize(line: &Line) -> String {
    match line {
        Line::Missed { missed } => format!("… {missed} events are not kept any more"),
        Line::Event(event) => {
            let time = humantime::format_rfc3339_seconds(event.time);
            let kind = event.kind.name();
            format!("{time}  {kind:<13} {}", sanitize_line(&event.sentence()))
        }
    }
}
