//! The slow side: waits for a reason to look, takes a turn, says what happened, and tells the
//! sentinel what to keep.

mod changes;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::changes::Changes;
use crate::config::settings::Backend as BackendChoice;
use crate::guarantee::{Guarantee, Rules};
use crate::inputs::{InputPaths, Inputs};
use crate::kernel::exec::LIMIT;
use crate::kernel::inherited::Inherited;
use crate::kernel::nftables::seal::Seal;
use crate::kernel::sched::{self, Scheduling};
use crate::kernel::watch::Watch;
use crate::posture::Posture;
use crate::report::Reporter;
use crate::sentinel::{Orders, Report, Sentinel};
use crate::state::State;
use crate::systemd;
use crate::turn::{self, Hands, Memory, SealState, Target, Turn};

/// The name under which systemd stores the seal's socket.
const SEAL: &str = "seal";

/// How many reports of the sentinel may wait. One is a few hundred bytes.
const REPORTS: usize = 1024;

/// What the daemon was started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the inputs are.
    pub inputs: InputPaths,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// The backend, where the command line forces one.
    pub backend: Option<BackendChoice>,
}

/// Why a turn is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Start,
    Interval,
    Inputs,
    Hangup,
    /// Somebody changed something; the sentinel has already put right what was displaced.
    Changes,
}

/// Runs until SIGTERM or SIGINT. The rules stay in place.
pub async fn run(options: Options, mut inherited: Inherited) -> io::Result<()> {
    let mut signals = Signals::listen()?;
    let watch = Watch::new(options.inputs.files())?;
    let (told, mut reports) = mpsc::channel(REPORTS);
    // What nobody has room for is lost; the next turn sees the last state anyway.
    let sentinel = Sentinel::start(move |report| drop(told.try_send(report)))?;
    let seal = inherited.named(SEAL).map(|fd| Seal::open(Some(fd)));
    let mut guard = Guard::new(options, seal.transpose()?, sentinel);
    let mut changes = Changes::default();
    let mut cause = Cause::Start;
    loop {
        // A turn runs iptables and waits for it; what is told meanwhile is heard right after.
        guard = tokio::task::spawn_blocking(move || {
            guard.turn(cause);
            guard
        })
        .await
        .map_err(io::Error::other)?;
        if cause == Cause::Start {
            guard.ready();
        }
        changes.turn_ended(Instant::now(), guard.last_turn);
        cause = loop {
            let safety_net = guard.interval();
            let settled = changes.settles(Instant::now());
            tokio::select! {
                biased;
                leave = signals.leave() => break leave,
                () = signals.overrun() => guard.overrun(),
                Some(report) = reports.recv() => guard.hear(report, &mut changes),
                _ = signals.hangup.recv() => break Some(Cause::Hangup),
                () = watch.changed() => break Some(Cause::Inputs),
                () = until(settled) => break Some(Cause::Changes),
                () = tokio::time::sleep(safety_net) => break Some(Cause::Interval),
            }
        }
        .unwrap_or(Cause::Start);
        if cause == Cause::Start {
            break;
        }
    }
    guard.leave();
    Ok(())
}
