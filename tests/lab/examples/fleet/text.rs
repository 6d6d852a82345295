//! What a daemon answered to scrapes, and what it would answer at another time: its counters go on as they did,
//! its times move with the clock.

use std::collections::HashMap;

/// An answer to a scrape. Times are in seconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    at: f64,
    lines: Vec<Line>,
    values: HashMap<String, f64>,
}

#[derive(Debug, Clone)]
enum Line {
    Comment(String),
    Sample(String, Kind),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Stays what it is.
    Gauge,
    /// Grows; in whole steps, or not.
    Counter { whole: bool },
    /// The time of something that happened.
    Time,
    /// When the daemon last verified: goes along with the clock.
    Verified,
}

impl Shot {
    /// Reads the text that was answered at a time.
    pub(super) fn new(at: f64, text: &str) -> Self {
        let mut grows = false;
        let (mut lines, mut values) = (Vec::new(), HashMap::new());
        for line in text.lines() {
            if line.starts_with('#') {
                if line.starts_with("# TYPE ") {
                    grows = line.ends_with(" counter") || line.ends_with(" histogram");
                }
                lines.push(Line::Comment(line.to_owned()));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a name and a value");
            let name = series.split('{').next().unwrap_or(series);
            let kind = match () {
                () if grows => Kind::Counter {
                    whole: !value.contains('.'),
                },
                () if name.ends_with("last_verification_timestamp_seconds") => Kind::Verified,
                () if name.ends_with("_timestamp_seconds")
                    || name.ends_with("start_time_seconds") =>
                {
                    Kind::Time
                }
                () => Kind::Gauge,
            };
            values.insert(series.to_owned(), value.parse().expect("a number"));
            lines.push(Line::Sample(series.to_owned(), kind));
        }
        Self { at, lines, values }
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.values.get(series).copied()
    }
}

/// What was recorded of one daemon.
#[derive(Debug, Clone)]
pub(super) struct Story {
    /// Twice while all was well.
    pub(super) well: [Shot; 2],
    /// Twice after that was over; `None` where nothing happened.
    pub(super) then: Option<[Shot; 2]>,
}

/// When it is told: in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The beginning of the run.
    pub(super) start: f64,
    /// When what happened to the host happened, if it has.
    pub(super) turned: Option<f64>,
    /// The time of which the figures are.
    pub(super) now: f64,
    /// The time at which the daemon was last awake.
    pub(super) awake: f64,
}

impl Story {
    /// The text that the host answers with.
    pub(super) fn text(&self, times: Times) -> String {
        let shown = match (&self.then, times.turned) {
            (Some([_, last]), Some(_)) => last,
            _ => &self.well[1],
        };
        let mut out = String::new();
        for line in &shown.lines {
            match line {
                Line::Comment(text) => out.push_str(text),
                Line::Sample(series, kind) => {
                    let value = self.value(series, *kind, times);
                    out.push_str(&format!("{series} {value}"));
                }
            }
            out.push('\n');
        }
        out
    }

    fn value(&self, series: &str, kind: Kind, times: Times) -> f64 {
        let (Some(then), Some(turned)) = (&self.then, times.turned) else {
            return moved(&self.well, series, kind, times.start, times);
        };
        let before = self.well[1].value(series);
        match kind {
            Kind::Counter { .. } => {
                let now = turned;
                let until = moved(
                    &self.well,
                    series,
                    kind,
                    times.start,
                    Times { now, ..times },
                );
                // The second two go on from what the first two have come to.
                until + moved(then, series, kind, turned, times) - before.unwrap_or(0.0)
            }
            Kind::Time if before.is_some() && before == then[1].value(series) => {
                moved(&self.well, series, kind, times.start, times)
            }
            _ => moved(then, series, kind, turned, times),
        }
    }
}

/// The value that a series of two shots has at another time, as if they had been taken when it `began`.
fn moved(shots: &[Shot; 2], series: &str, kind: Kind, began: f64, times: Times) -> f64 {
    let [first, last] = shots;
    let Some(value) = last.value(series) else {
        return 0.0;
    };
    let earlier = first.value(series);
    match kind {
        Kind::Gauge => value,
        Kind::Counter { whole } => {
            let earlier = earlier.unwrap_or(0.0);
            let slope = (value - earlier).max(0.0) / (last.at - first.at).max(1.0);
            let now = earlier + slope * (times.now - began);
            if whole { now.floor() } else { now }
        }
        Kind::Verified => value + times.awake - last.at,
        // Nought: it has not happened yet.
        Kind::Time if value == 0.0 => value,
        // It happens again and again.
        Kind::Time if earlier.is_some_and(|earlier| earlier != value) => {
            value + times.awake - last.at
        }
        Kind::Time => value + began - last.at,
    }
}
