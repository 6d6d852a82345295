//! What was measured: kept as samples' statistics, printed as tables, written as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use lab::figures::percentile;
use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Seconds,
    Packets,
    Count,
    PerSecond,
    Percent,
    Bytes,
}

impl Unit {
    /// A number of this unit as a person reads it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value >= 1.0 => format!("{value:.2} s"),
            Self::Seconds if value >= 1e-3 => format!("{:.2} ms", value * 1e3),
            Self::Seconds if value.abs() < 1e-6 => format!("{:.1} ns", value * 1e9),
            Self::Seconds => format!("{:.1} µs", value * 1e6),
            Self::Packets | Self::Count => format!("{value:.0}"),
            Self::PerSecond if value >= 1000.0 => format!("{value:.0} /s"),
            Self::PerSecond => format!("{value:.2} /s"),
            Self::Percent => format!("{value:.2} %"),
            Self::Bytes => format!("{:.2} MiB", value / f64::from(1 << 20)),
        }
    }
}

/// One row of one table: `what` was measured of `who`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) who: String,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    /// How many samples; 0 where the value is computed from others.
    pub(crate) n: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// One table. Its `id` is what `--only` names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
    /// What must be known to read it.
    pub(crate) notes: Vec<String>,
}

impl Figure {
    pub(crate) fn new(id: &str, title: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds samples.
    pub(crate) fn add(&mut self, who: &str, what: &str, unit: Unit, mut samples: Vec<f64>) {
        samples.sort_unstable_by(f64::total_cmp);
        let (Some(p50), Some(p99), Some(max)) = (
            percentile(&samples, 50),
            percentile(&samples, 99),
            samples.last().copied(),
        ) else {
            return;
        };
        self.push(who, what, unit, samples.len(), [p50, p99, max]);
    }

    /// Adds durations.
    pub(crate) fn add_times(&mut self, who: &str, what: &str, samples: &[Duration]) {
        let seconds = samples.iter().map(Duration::as_secs_f64).collect();
        self.add(who, what, Unit::Seconds, seconds);
    }

    /// Adds one number.
    pub(crate) fn add_one(&mut self, who: &str, what: &str, unit: Unit, value: f64) {
        self.add(who, what, unit, vec![value]);
    }

    /// Adds what was not measured but follows: p50, p99 and the largest.
    pub(crate) fn add_computed(&mut self, who: &str, what: &str, unit: Unit, values: [f64; 3]) {
        self.push(who, what, unit, 0, values);
    }

    fn push(&mut self, who: &str, what: &str, unit: Unit, n: usize, values: [f64; 3]) {
        let [p50, p99, max] = values;
        self.rows.push(Row {
            who: who.into(),
            what: what.into(),
            unit,
            n,
            p50,
            p99,
            max,
        });
    }

    /// The row of that name.
    pub(crate) fn row(&self, who: &str, what: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.who == who && row.what == what)
    }

    /// The table as text.
    pub(crate) fn show(&self) -> String {
        let widest = |of: fn(&Row) -> &str| {
            let widths = self.rows.iter().map(|row| of(row).chars().count());
            widths.max().unwrap_or(0)
        };
        let (who, what) = (widest(|row| &row.who), widest(|row| &row.what));
        let mut text = format!("\n== {}: {}\n", self.id, self.title);
        let _ = writeln!(
            text,
            "   {:who$}  {:what$}{:>10}{:>13}{:>13}{:>13}",
            "", "", "n", "p50", "p99", "max"
        );
        for row in &self.rows {
            let n = match row.n {
                0 => "computed".to_owned(),
                n => n.to_string(),
            };
            let _ = writeln!(
                text,
                "   {:who$}  {:what$}{n:>10}{:>13}{:>13}{:>13}",
                row.who,
                row.what,
                row.unit.show(row.p50),
                row.unit.show(row.p99),
                row.unit.show(row.max)
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "   {note}");
        }
        text
    }
}

/// All tables of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    /// A table, where it was measured.
    pub(crate) fn get(&self, id: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.id == id)
    }

    /// A row, where it was measured.
    pub(crate) fn row(&self, figure: &str, who: &str, what: &str) -> Option<&Row> {
        self.get(figure)?.row(who, what)
    }
}
