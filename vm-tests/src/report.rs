//! What is printed and written of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How one scenario went on one machine.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) machine: String,
    pub(crate) tier: u8,
    pub(crate) scenario: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
    /// Packets of containers that arrived at the metadata service.
    pub(crate) packets: Option<u64>,
    pub(crate) measured: Vec<(String, String)>,
    /// What failed.
    pub(crate) error: Option<String>,
    /// Where the failed machine's logs are.
    pub(crate) logs: Option<PathBuf>,
}

/// The three ways in which a scenario ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Failed,
    /// The machine cannot do what the scenario needs.
    Skipped,
}

impl Line {
    /// As tests print it: "ok (12.3 s, 0 packets)".
    pub(crate) fn told(&self) -> String {
        match self.outcome {
            Outcome::Skipped => "skipped: this machine cannot do it".to_owned(),
            Outcome::Ok => format!("ok ({})", self.figures()),
            Outcome::Failed => format!("FAILED ({})", self.figures()),
        }
    }

    fn figures(&self) -> String {
        let packets = self.packets.map(|packets| format!(", {packets} packets"));
        format!("{:.1} s{}", self.seconds, packets.unwrap_or_default())
    }
}

/// All lines of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Table {
    pub(crate) lines: Vec<Line>,
}

impl Table {
    /// The scenarios down, the machines across; then what was measured, then what failed, then how long all of it took.
    pub(crate) fn print(&self, took: Duration) {
        let machines = unique(self.lines.iter().map(|line| line.machine.as_str()));
        let scenarios = unique(self.lines.iter().map(|line| line.scenario));
        print!("\n{:20}", "scenario");
        for machine in &machines {
            print!("  {machine:>28}");
        }
        println!();
        for scenario in scenarios {
            print!("{scenario:20}");
            for machine in &machines {
                let cell = self
                    .lines
                    .iter()
                    .find(|line| line.scenario == scenario && line.machine == **machine)
                    .map_or_else(String::new, cell);
                print!("  {cell:>28}");
            }
            println!();
        }
        for line in &self.lines {
            for (name, value) in &line.measured {
                println!("{}, {}: {name}: {value}", line.machine, line.scenario);
            }
        }
        for line in &self.lines {
            if let Some(error) = &line.error {
                println!("\nFAILED {} on {}: {error}", line.scenario, line.machine);
            }
            if let Some(logs) = &line.logs {
                println!("  its logs: {}", logs.display());
            }
        }
        let failed = self.failed();
        let ok = self
            .lines
            .iter()
            .filter(|l| l.outcome == Outcome::Ok)
            .count();
        println!("\n{ok} ok, {failed} failed, in {} s", took.as_secs());
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| line.outcome == Outcome::Failed)
            .count()
    }

    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))
    }
}

fn cell(line: &Line) -> String {
    match line.outcome {
        Outcome::Skipped => "–".to_owned(),
        Outcome::Ok => line.figures(),
        Outcome::Failed => format!("FAILED, {}", line.figures()),
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unique: Vec<&str> = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}
