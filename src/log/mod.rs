//! Where `tracing` events go: to journald with their fields where systemd runs the daemon, else to
//! stderr for a person. No thread that logs waits for either ([`queue`]).

mod queue;
mod record;

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::queue::Queue;
pub use self::queue::dropped;
use self::record::Capture;
use crate::config::settings::{Log, LogFormat, LogLevel, LogTarget};
use crate::out;
use crate::timestamp;

/// How long the last messages may take when the daemon ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The running log. What still waits is written when this is dropped.
#[derive(Debug)]
pub struct Logging(Arc<Queue>);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush(LAST_WORDS);
    }
}

/// Starts logging, on a thread of its own. Under `target = "auto"` the journal is used where systemd
/// connected stderr to it (`JOURNAL_STREAM`, systemd.exec(5)); where it cannot be reached, stderr is.
pub fn start(settings: &Log) -> io::Result<Logging> {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let writer = writer(settings);
    let queue = Queue::start(move |record| record.replay(&writer))?;
    let messages = Arc::clone(&queue);
    let capture = Capture::new(move |record| messages.push(record));
    let registry = tracing_subscriber::registry().with(level);
    let _already_started = registry.with(capture).try_init();
    Ok(Logging(queue))
}

/// What writes the events, and may wait for who reads them.
fn writer(settings: &Log) -> Dispatch {
    let registry = tracing_subscriber::registry();
    let journal = match settings.target {
        LogTarget::Journal => true,
        LogTarget::Stderr => false,
        LogTarget::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
    };
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
                return Dispatch::new(registry.with(layer));
            }
            Err(error) => eprintln!("ecs-netguard: journald: {error}; logging to stderr instead"),
        }
    }
    if settings.format == LogFormat::Json {
        return Dispatch::new(registry.with(Json));
    }
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(out::log)
        .with_timer(Time)
        .with_target(false)
        // The message says it all; the fields are for programs that read the journal.
        .fmt_fields(debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            _ => Ok(()),
        }))
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    Dispatch::new(registry.with(layer))
}

/// When it happened, which may be long before it is written.
struct Time;

impl FormatTime for Time {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", timestamp::micros(record::time()))
    }
}

/// Writes a JSON object a line to standard error: `time`, `level`, `message` and the event's fields.
struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        let time = timestamp::micros(record::time()).to_string();
        fields.0.insert("time".to_owned(), time.into());
        let level = event.metadata().level().as_str().to_lowercase();
        fields.0.insert("level".to_owned(), level.into());
        event.record(&mut fields);
        let _nowhere_to_complain = writeln!(out::json_log(), "{}", Value::Object(fields.0));
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
