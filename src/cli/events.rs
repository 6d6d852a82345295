//! `ecs-netguard events`: what happened.

use std::io::Write as _;
use std::time::SystemTime;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Deserialize;

use super::common::{Common, Exit, Patience, asking, guarantees};
use crate::config::sanitize_line;
use crate::events::{Event, Kind};
use crate::guarantee::Guarantee;
use crate::out;
use crate::status::client::{Client, Error};
use crate::status::history::History;
use crate::timestamp;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Go on with every event that comes, until interrupted
    #[arg(long)]
    follow: bool,
    /// Only events since then: "2h", "30m", "1d", or a time in UTC: "2026-11-26", "2026-11-26 14:00:00",
    /// "2026-11-26T14:00:00Z"
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<SystemTime>,
    /// Only events about this guarantee
    #[arg(long, value_name = "NAME", value_parser = guarantees())]
    guarantee: Option<Guarantee>,
    /// Only events of this kind (repeatable)
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    kind: Vec<Kind>,
    /// Only the last N of them
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    limit: Option<usize>,
    /// Print the daemon's own lines, a JSON document each, instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    patience: Patience,
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(|name| {
        let mut all = Kind::ALL.into_iter();
        all.find(|of| of.name() == name).ok_or("no such kind")
    })
}

/// A time, or how long ago it was.
fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(age) = humantime::parse_duration(text) {
        let then = SystemTime::now().checked_sub(age);
        return then.ok_or_else(|| "that is before 1970".to_owned());
    }
    let date_alone = format!("{text} 00:00:00");
    let minutes_alone = format!("{text}:00");
    [text, &minutes_alone, &date_alone]
        .into_iter()
        .find_map(|text| humantime::parse_rfc3339_weak(text).ok())
        .ok_or_else(|| "expected 2h, 30m, 2026-11-26 or 2026-11-26 14:00:00 (UTC)".to_owned())
}

/// A line of `/v1/events`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Missed { missed: u64 },
    Event(Box<Event>),
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let client = arguments.patience.client(common);
    asking(async {
        if arguments.follow {
            let mut lines = client.lines("/v1/events?follow").await?;
            while let Some(text) = lines.next().await? {
                arguments.print(&[parse(&client, &text)?])?;
            }
            return Err(Error::gone(&client).into());
        }
        // All of it before the first line is printed: a pager may leave lines unread for long.
        let text = match client.get("/v1/events").await {
            Ok(text) => text,
            Err(error @ Error::Unreachable { .. }) => return arguments.history(common, error),
            Err(error) => return Err(error.into()),
        };
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.filter(|text| !text.is_empty());
        let lines: Vec<Line> = lines
            .map(|text| parse(&client, text))
            .collect::<anyhow::Result<_>>()?;
        arguments.print(&lines)?;
        Ok(Exit::Held)
    })
}

fn parse(client: &Client, text: &[u8]) -> anyhow::Result<Line> {
    Ok(client.read("/v1/events", text)?)
}

impl Arguments {
    /// Prints what the daemon wrote down before it ended; the error that it does not answer stays.
    fn history(&self, common: &Common, error: Error) -> anyhow::Result<Exit> {
        if let Ok(events) = History::peek(&common.state_dir) {
            let lines: Vec<Line> = events
                .into_iter()
                .map(|event| Line::Event(Box::new(event)))
                .collect();
            self.print(&lines)?;
        }
        Err(error.into())
    }

    fn print(&self, lines: &[Line]) -> anyhow::Result<()> {
        let wanted: Vec<&Line> = lines.iter().filter(|line| self.wants(line)).collect();
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut out = if self.json { out::json() } else { out::text() };
        for line in &wanted[wanted.len().saturating_sub(limit)..] {
            match line {
                Line::Missed { missed } if self.json => writeln!(out, "{{\"missed\":{missed}}}")?,
                Line::Event(event) if self.json => {
                    writeln!(out, "{}", serde_json::to_string(event)?)?;
                }
                line => writeln!(out, "{}", sanitize(line))?,
            }
        }
        Ok(())
    }

    fn wants(&self, line: &Line) -> bool {
        let Line::Event(event) = line else {
            return true;
        };
        self.since.is_none_or(|since| event.time >= since)
            && (self.guarantee.is_none() || self.guarantee == event.guarantee)
            && (self.kind.is_empty() || self.kind.contains(&event.kind))
    }
}

fn sanitize(line: &Line) -> String {
    match line {
        Line::Missed { missed } => format!("… {missed} earlier events are no longer kept"),
        Line::Event(event) => {
            let time = timestamp::seconds(event.time);
            let kind = event.kind.name();
            format!("{time}  {kind:<13} {}", sanitize_line(&event.sentence()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_a_duration_or_a_date() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000),
            ("2023-11-14 22:13", 1_699_999_980),
            ("2023-11-14", 1_699_920_000),
        ] {
            assert_eq!(since(text), Ok(at(expected)), "{text}");
        }
        let hour = SystemTime::now() - Duration::from_secs(3600);
        let ago = since("1h").unwrap();
        assert!(ago >= hour && ago <= SystemTime::now());
        for bad in ["", "yesterday", "2023-13-01", "1"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
