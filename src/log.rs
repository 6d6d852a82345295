//! Where `tracing` events go: to journald with their fields where systemd runs the daemon, else to
//! stderr for a person.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::settings::{Log, LogLevel, LogTarget};

/// Starts logging. Under `target = "auto"` the journal is used where systemd connected stderr to it
/// (`JOURNAL_STREAM`, systemd.exec(5)); where it cannot be reached, stderr is.
pub fn start(settings: &Log) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let journal = match settings.target {
        LogTarget::Journal => true,
        LogTarget::Stderr => false,
        LogTarget::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
    };
    let registry = tracing_subscriber::registry().with(level);
    if journal {
        match tracing_journald::layer() {
            Ok(layer) => {
                // MESSAGE_ID must not have a prefix; our own fields are named with theirs.
                let layer = layer
                    .with_field_prefix(None)
                    .with_priority_mappings(PriorityMappings {
                        error: Priority::Critical,
                        ..PriorityMappings::new()
                    })
                    .with_syslog_identifier("ecs-netguard".to_owned());
                let _already_started = registry.with(layer).try_init();
                return;
            }
            Err(error) => eprintln!("ecs-netguard: journald: {error}; logging to stderr instead"),
        }
    }
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        // The message says it all; the fields are for programs that read the journal.
        .fmt_fields(debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            _ => Ok(()),
        }))
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let _already_started = registry.with(layer).try_init();
}
