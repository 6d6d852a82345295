//! What the daemon is started with.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::settings::Backend as BackendChoice;
use crate::inputs::InputPaths;
use crate::seal::Lacking;
use crate::status::hub::Hub;
use crate::tasks::worker_client::WorkerClient;

/// The name under which systemd stores the seal's socket.
pub(super) const SEAL: &str = "seal";
/// The same for the socket that owns the edge.
pub(super) const EDGE: &str = "edge";

/// What the daemon was started with.
#[derive(Debug)]
pub struct Options {
    /// Where the inputs are.
    pub inputs: InputPaths,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// The backend, where the command line forces one.
    pub backend: Option<BackendChoice>,
    /// What of the kernel's abilities is not to be used.
    pub lacking: Option<Lacking>,
    /// Where reports are published and events recorded.
    pub hub: Arc<Hub>,
    /// The process that enters tasks' namespaces; none where they are to be left alone.
    pub worker: Option<WorkerClient>,
    /// What an operator should know of how the daemon was started.
    pub problems: Vec<String>,
}
