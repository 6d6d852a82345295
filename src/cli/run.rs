//! `ecs-netguard run`: the daemon.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::common::{Common, Exit, need_net_admin};
use crate::config::settings::{Awsvpc, Log, LogFormat, LogLevel, Settings};
use crate::daemon::{self, Options};
use crate::inputs::Inputs;
use crate::log;
use crate::os::inherited::Inherited;
use crate::os::lock::Lock;
use crate::os::memory;
use crate::state::Store;
use crate::status::{self, hub::Hub};
use crate::tasks::worker_client::{self, WorkerClient};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Log this and what is more urgent, whatever [log] level in config.toml says; debug says what woke
    /// the daemon, what it compared and what it skipped
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// How lines on standard error look, whatever [log] format in config.toml says
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(
    common: &Common,
    arguments: &Arguments,
    inherited: &mut Inherited,
) -> anyhow::Result<Exit> {
    memory::spare();
    need_net_admin("run")?;
    let inputs = common.inputs();
    let (store, _) = Store::peek(&common.state_dir);
    let settings = Inputs::read_or_keep(&inputs, None, &store.state.inputs).settings;
    let _lock = Lock::take(&common.runtime_dir, "run")?;
    // While there is one thread: what it gives up no later one has.
    let (worker, problem) = worker(&settings)?;
    let logging = log::start(&Log {
        level: arguments.log_level.unwrap_or(settings.log.level),
        format: arguments.log_format.unwrap_or(settings.log.format),
        ..settings.log
    });
    let _logging = logging.context("start the thread that writes the log")?;
    let missing = common.missing().err();
    let missing = missing.map(|error| {
        format!("{error}; until it does, what it said before or its defaults are in force")
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the event loop")?;
    let hub = Hub::open(&common.state_dir);
    let options = Options {
        inputs,
        state_dir: common.state_dir.clone(),
        backend: common.backend,
        lacking: common.kernel_lacking,
        hub: Arc::clone(&hub),
        worker,
        problems: problem.into_iter().chain(missing).collect(),
    };
    let socket = inherited.named("status");
    let result = runtime.block_on(async {
        // Behind the first pass, which has a thread of its own: to look the socket's group up can take milliseconds.
        let answers = async { status::start(&common.runtime_dir, socket, &hub) };
        let (ended, ()) = tokio::join!(daemon::run(options, inherited), answers);
        status::finish(hub).await;
        ended.context("the daemon's loop")
    });
    // A tool that hangs is killed after its limit; leaving does not wait for that.
    runtime.shutdown_background();
    result.map(|()| Exit::Held)
}

/// Starts the process that enters tasks' namespaces, unless they are to be left alone, and drops the
/// capabilities for that here.
fn worker(settings: &Settings) -> anyhow::Result<(Option<WorkerClient>, Option<String>)> {
    let worker = if settings.imds.awsvpc == Awsvpc::Never {
        None
    } else {
        let started = WorkerClient::start();
        Some(started.context("start the process that goes into tasks' network namespaces")?)
    };
    let problem = worker_client::give_up_powers().context("give up capabilities")?;
    Ok((worker, problem))
}
