//! `ecs-netguard events`: what happened.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use super::{Common, Exit, asking};
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
    let target = if arguments.follow {
        "/v1/events?follow"
    } else {
        "/v1/events"
    };
    asking(async {
        let mut lines = client.lines(target).await?;
        while let Some(text) = lines.next().await? {
            let line: Line = client.read(target, &text)?;
            let wanted = match &line {
                Line::Missed { .. } => true,
                Line::Event(event) => {
                    from.is_none_or(|from| event.time >= from)
                        && arguments
                            .guarantee
                            .as_deref()
                            .is_none_or(|name| event.guarantee.is_some_and(|g| g.name() == name))
                }
            };
            if !wanted {
                continue;
            }
            let mut out = io::stdout().lock();
            if arguments.json {
                out.write_all(&text)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", sanitize(&line))?;
            }
        }
        if arguments.follow {
            return Err(Error::gone(&client).into());
        }
        Ok(Exit::Held)
    })
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
