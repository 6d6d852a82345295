//! Where `tracing` events go: to journald with their fields where systemd runs the daemon, else to
//! stderr for a person.

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::settings::{Log, LogFormat, LogLevel, LogTarget};
use crate::timestamp;

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
    if settings.format == LogFormat::Json {
        let _already_started = registry.with(Json).try_init();
        return;
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

/// Writes a JSON object a line to standard error: `time`, `level`, `message` and the event's fields.
struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        let time = timestamp::micros(SystemTime::now()).to_string();
        fields.0.insert("time".to_owned(), time.into());
        let level = event.metadata().level().as_str().to_lowercase();
        fields.0.insert("level".to_owned(), level.into());
        event.record(&mut fields);
        let _nowhere_to_complain = writeln!(io::stderr(), "{}", Value::Object(fields.0));
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
