//! The loop that ties it together: wait for a reason to look, take a turn, say what happened.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::settings::Backend as BackendChoice;
use crate::event::{Event, Kind};
use crate::guarantee::Rules;
use crate::inputs::{InputPaths, Inputs};
use crate::kernel::watch::Watch;
use crate::posture::Posture;
use crate::report::{self, Reporter};
use crate::state::State;
use crate::status::board::Board;
use crate::status::published::{Published, Sealed};
use crate::status::stopped::Tally;
use crate::turn::{self, Memory, Target, Turn};

/// What the daemon was started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the inputs are.
    pub inputs: InputPaths,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// The backend, where the command line forces one.
    pub backend: Option<BackendChoice>,
    /// Where what is found and what happens is put up.
    pub board: Arc<Board>,
}

/// Why a turn is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Start,
    Interval,
    Inputs,
    Hangup,
}

/// Runs until SIGTERM or SIGINT. The rules stay in place.
pub async fn run(options: Options) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let watch = Watch::new(options.inputs.files())?;
    let board = Arc::clone(&options.board);
    let mut guard = Guard::new(options);
    let mut cause = Cause::Start;
    loop {
        // A turn runs iptables and waits for it; signals and notifications are heard meanwhile and
        // answered right after.
        guard = tokio::task::spawn_blocking(move || {
            guard.turn(cause);
            guard
        })
        .await
        .map_err(io::Error::other)?;
        let interval = guard.interval();
        cause = tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => Cause::Hangup,
            () = watch.changed() => Cause::Inputs,
            () = tokio::time::sleep(interval) => Cause::Interval,
        };
    }
    let message = "leaving; the rules stay in place (`ecs-netguard release` removes them)";
    report::tell(&board, Event::new(Kind::Stopped, message));
    Ok(())
}

/// What the loop keeps from turn to turn: nothing that the kernel or the files could tell.
struct Guard {
    options: Options,
    inputs: Option<Inputs>,
    state: State,
    reporter: Reporter,
    last_wanted: Option<Rules>,
    stopped: Tally,
}

impl Guard {
    fn new(options: Options) -> Self {
        let (state, warning) = State::load(&options.state_dir);
        if let Some(warning) = warning {
            report::tell(&options.board, Event::new(Kind::Warning, warning));
        }
        Self {
            options,
            inputs: None,
            state,
            reporter: Reporter::default(),
            last_wanted: None,
            stopped: Tally::default(),
        }
    }

    fn interval(&self) -> Duration {
        self.inputs
            .as_ref()
            .map_or(Duration::from_secs(5), |inputs| {
                inputs.settings.verify.interval
            })
    }

    fn turn(&mut self, cause: Cause) {
        let inputs = Inputs::read_or_keep(&self.options.inputs, self.inputs.as_ref());
        if cause == Cause::Inputs && self.inputs.as_ref() == Some(&inputs) {
            return;
        }
        let posture = Posture::resolve(&inputs.settings, &inputs.ecs);
        let target = Target::resolve(&inputs.settings, self.options.backend, &posture);
        let events = self.reporter.inputs(&inputs, &posture);
        self.tell(events);
        let memory = &mut Memory {
            state: &mut self.state,
            dir: &self.options.state_dir,
        };
        let turn = turn::apply(&target, &posture, memory);
        self.publish(&inputs, &posture, &target, &turn);
        self.report(cause, &target, &turn);
        self.last_wanted = Some(target.wanted);
        self.inputs = Some(inputs);
    }

    /// Puts up what the turn found, for whoever asks.
    fn publish(&mut self, inputs: &Inputs, posture: &Posture, target: &Target, turn: &Turn) {
        let stopped = self.stopped.read(target).unwrap_or_else(|error| {
            tracing::debug!("reading how many packets were stopped: {error}");
            BTreeMap::new()
        });
        let sealed = Sealed {
            stopped,
            ..Sealed::default()
        };
        let published = Published::new(inputs, posture, target, turn, sealed);
        self.options.board.publish(published);
    }

    /// What differed is somebody's doing only where the wish is the same as at the last turn.
    fn report(&mut self, cause: Cause, target: &Target, turn: &Turn) {
        let same_wish = self.last_wanted.as_ref() == Some(&target.wanted);
        let events = if same_wish {
            self.reporter.drift(turn)
        } else {
            self.reporter.installed(turn)
        };
        self.tell(events);
        let events = self.reporter.standing(turn, cause == Cause::Start);
        self.tell(events);
    }

    fn tell(&self, events: Vec<Event>) {
        for event in events {
            report::tell(&self.options.board, event);
        }
    }
}
