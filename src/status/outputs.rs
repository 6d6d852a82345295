//! Files for other programs, written after a pass or an event and never else: the metrics for
//! node_exporter's textfile collector, the inventory document for the SSM agent.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answer;
use super::exposition::Format;
use super::files;
use super::hub::{Hub, Publishing};
use super::inventory::Document;
use crate::events::{Event, Kind};

/// The least time between two writings: an attacker's hundred flushes are one or two.
const PAUSE: Duration = Duration::from_secs(2);
/// Other programs, of other users, read these files.
const MODE: u32 = 0o644;

/// Writes the files that config.toml names, whenever there is something new to tell.
pub async fn run(hub: Arc<Hub>) {
    let (mut passes, mut events) = (hub.follow_passes(), hub.follow_events());
    let mut files = Files::default();
    loop {
        let alive = tokio::select! {
            alive = passes.changed() => alive,
            alive = events.changed() => alive,
        };
        if alive.is_err() {
            return;
        }
        passes.mark_unchanged();
        events.mark_unchanged();
        // Without files there is no thread for them either, nor the memory that it would take.
        let publishing = hub.publishing();
        if publishing.textfile.is_none() && publishing.inventory.is_none() {
            continue;
        }
        let at_hand = Arc::clone(&hub);
        // Disks can be slow, and the socket is answered on this thread.
        let written = tokio::task::spawn_blocking(move || {
            files.write(&at_hand, &publishing);
            files
        });
        let Ok(back) = written.await else { return };
        files = back;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is remembered from one writing to the next.
#[derive(Debug, Default)]
struct Files {
    inventory: Vec<u8>,
    /// What could not be written the last time: reported when it is new.
    failures: Vec<String>,
}

impl Files {
    fn write(&mut self, hub: &Hub, publishing: &Publishing) {
        let mut failures = Vec::new();
        if let Some(path) = &publishing.textfile {
            let text = Format::Text.write(hub.metrics_text());
            failures.extend(failed(
                "metrics.textfile",
                path,
                write(path, text.as_bytes()),
            ));
        }
        if let Some(path) = &publishing.inventory {
            let document = serde_json::to_vec_pretty(&Document::new(&answer::status(hub)));
            let document = document.unwrap_or_default();
            if document != self.inventory || !path.exists() {
                let result = write(path, &document);
                if result.is_ok() {
                    self.inventory = document;
                }
                failures.extend(failed("fleet.ssm_inventory", path, result));
            }
        }
        for message in failures.iter().filter(|new| !self.failures.contains(new)) {
            hub.record(Event::new(Kind::Warning, message));
        }
        hub.note_unwritten(failures.clone());
        self.failures = failures;
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    files::replace(path, content, MODE)
}

fn failed(key: &str, path: &Path, result: io::Result<()>) -> Option<String> {
    let error = result.err()?;
    let directory = path.parent().unwrap_or(path).display();
    let remedy = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "the file system is read-only, or the unit's sandbox forbids it: run `systemctl edit \
             ecs-netguard`, add `ReadWritePaths={directory}` under [Service], and restart the daemon"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("permission denied: make root the owner of {directory}")
        }
        io::ErrorKind::NotFound => format!(
            "its directory does not exist: make {directory} and restart the daemon, whose sandbox \
             opens it at the start, or remove {key} from config.toml"
        ),
        _ => error.to_string(),
    };
    Some(format!("{key}: cannot write {}: {remedy}", path.display()))
}
