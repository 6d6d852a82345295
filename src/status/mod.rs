//! Asking the daemon: what it knows is put on a [`hub`] by the guard, and read from there by the
//! status socket, metrics, files for other programs, and commands.

pub mod answer;
mod body;
pub mod client;
mod connections;
pub mod exporter;
pub mod exposition;
mod files;
pub mod history;
pub mod hub;
mod inventory;
pub mod metrics;
pub mod outputs;
pub mod packet_counters;
mod probes;
pub mod request;
pub mod server;
mod serving;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::hub::Hub;
use self::server::Server;
use crate::events::{Event, Kind};

/// How long the last events may take to be written when the daemon ends.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// Starts everything that tells what is on the hub, within the runtime: the status socket
/// (`inherited` is systemd's, where it made one) and the files for other programs. That clients cannot
/// ask is no reason not to keep the rules: what fails here is said, and the daemon goes on.
pub fn start(runtime_dir: &Path, inherited: Option<OwnedFd>, hub: &Arc<Hub>) {
    match Server::new(runtime_dir, inherited, Arc::clone(hub)) {
        Ok(server) => drop(tokio::spawn(server.run())),
        Err(error) => {
            let path = runtime_dir.join(server::SOCKET);
            let message = format!(
                "status socket {}: {error}; `status` and `events` do not work",
                path.display()
            );
            hub.record(Event::new(Kind::Warning, message));
        }
    }
    tokio::spawn(outputs::run(Arc::clone(hub)));
    tokio::spawn(use_disk(Arc::clone(hub)));
}

/// Has the hub do what waits for a disk after every pass and event, and one at a time.
async fn use_disk(hub: Arc<Hub>) {
    let (mut passes, mut events) = (hub.follow_passes(), hub.follow_events());
    loop {
        passes.mark_unchanged();
        events.mark_unchanged();
        let at_hand = Arc::clone(&hub);
        if tokio::task::spawn_blocking(move || at_hand.use_disk())
            .await
            .is_err()
        {
            return;
        }
        let alive = tokio::select! {
            alive = passes.changed() => alive,
            alive = events.changed() => alive,
        };
        if alive.is_err() {
            return;
        }
    }
}

/// Writes the last events down, unless the disk hangs.
pub async fn finish(hub: Arc<Hub>) {
    let written = tokio::task::spawn_blocking(move || hub.use_disk());
    let _late = tokio::time::timeout(LAST_WRITE, written).await;
}
