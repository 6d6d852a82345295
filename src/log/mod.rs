//! Where `tracing` events go: to journald with their fields where systemd runs the daemon, else to
//! stderr for a person. No thread that logs waits for either ([`queue`]).

mod journal;
mod queue;

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::queue::dropped;
use self::queue::{Queue, Writer};
use crate::config::settings::{Log, LogFormat, LogLevel, LogTarget};
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
    let journal = match settings.target {
        LogTarget::Journal => true,
        LogTarget::Stderr => false,
        LogTarget::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
    };
    let registry = tracing_subscriber::registry().with(level);
    if journal {
        match journal::open() {
            Ok(socket) => {
                let queue = Queue::start(move |entry| journal::send(&socket, entry))?;
                let layer = Entries(Arc::clone(&queue), journal::entry);
                let _already_started = registry.with(layer).try_init();
                return Ok(Logging(queue));
            }
            Err(error) => eprintln!("ecs-netguard: journald: {error}; logging to stderr instead"),
        }
    }
    let queue = Queue::start(|line| io::stderr().write_all(line))?;
    if settings.format == LogFormat::Json {
        let layer = Entries(Arc::clone(&queue), json);
        let _already_started = registry.with(layer).try_init();
        return Ok(Logging(queue));
    }
    let lines = Arc::clone(&queue);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || Writer(Arc::clone(&lines)))
        .with_target(false)
        // The message says it all; the fields are for programs that read the journal.
        .fmt_fields(debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            _ => Ok(()),
        }))
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let _already_started = registry.with(layer).try_init();
    Ok(Logging(queue))
}

/// Writes each event with its fields in one form.
struct Entries(
    Arc<Queue>,
    fn(&Metadata<'_>, &Map<String, Value>) -> Vec<u8>,
);

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.push((self.1)(event.metadata(), &fields.0));
    }
}

/// A JSON object a line: `time`, `level`, `message` and the event's fields.
fn json(of: &Metadata<'_>, fields: &Map<String, Value>) -> Vec<u8> {
    let mut object = Map::new();
    let time = timestamp::micros(SystemTime::now()).to_string();
    object.insert("time".to_owned(), time.into());
    let level = of.level().as_str().to_lowercase();
    object.insert("level".to_owned(), level.into());
    object.extend(fields.clone());
    format!("{}\n", Value::Object(object)).into_bytes()
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
