//! What is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures the guard, and what people use today, in network namespaces of its own.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Measure these alone (ids of tables, such as window,idle)
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub(crate) only: Vec<String>,
    /// How often each quick tampering is repeated
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) repetitions: usize,
    /// How long what takes a length of time lasts
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) seconds: u64,
    /// Measure nothing: compare two files that earlier runs wrote
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub(crate) compare: Vec<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// How long what takes a length of time lasts.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
