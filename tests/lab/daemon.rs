//! Programs that keep running: the daemon under test, and whatever else a test starts.

use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::namespace::NsCommand;
use super::wait::{LONG, within};

/// The built program: `ECS_NETGUARD_BIN`, or the one that was built beside this test, example or bench.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ECS_NETGUARD_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .skip(1)
        .map(|dir| dir.join("ecs-netguard"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no ecs-netguard beside {}: build it, or set ECS_NETGUARD_BIN",
                own.display()
            )
        })
}

/// The command, pointed at the lab's files.
pub fn with_paths<'a>(command: NsCommand<'a>, lab: &Lab) -> NsCommand<'a> {
    command
        .env("ECS_NETGUARD_CONFIG", lab.inside("config.toml"))
        .env("ECS_NETGUARD_ECS_CONFIG", lab.inside("ecs.config"))
        .env("ECS_NETGUARD_STATE_DIR", lab.inside("state"))
        .env("ECS_NETGUARD_RUNTIME_DIR", lab.inside("run"))
}

/// What a process has written so far, filled by a thread that reads its pipe.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process in a namespace, with its log. It ends with the value, and with the namespace.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    exit: Option<ExitStatus>,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts `command`; its standard error is the log, its standard output goes nowhere.
    #[track_caller]
    pub fn start(command: NsCommand<'_>) -> Self {
        let mut child = command
            .spawn(Stdio::null(), Stdio::piped())
            .unwrap_or_else(|e| panic!("starting a daemon by setpriv (util-linux): {e}"));
        let log = Arc::new(Log::default());
        let reader = child.stderr.take().map(|pipe| {
            let log = Arc::clone(&log);
            thread::spawn(move || follow(pipe, &log))
        });
        Self {
            child,
            exit: None,
            log,
            reader,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Waits until `text` stands in the log; panics, with the log, where it does not in time.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        let mut log = self.log.lock();
        while !log.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {timeout:?} in vain for {text:?} in the log:\n{log}"
            );
            log = self
                .log
                .grown
                .wait_timeout(log, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        log.clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.try_exit().is_none()
    }

    /// Asks it to end (SIGTERM) and waits; panics where it does not.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(LONG)
    }

    /// Ends it without asking (SIGKILL).
    #[track_caller]
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait(LONG)
    }

    /// Tells it to read its configuration again (SIGHUP).
    #[track_caller]
    pub fn hangup(&mut self) {
        self.signal(Signal::SIGHUP);
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let exit = within(timeout, || self.try_exit());
        let exit = exit.unwrap_or_else(|| {
            let threads = threads(self.pid());
            panic!("still running after {timeout:?}:\n{threads}{}", self.log())
        });
        if let Some(reader) = self.reader.take() {
            // The pipe closes with its last holder; a child that inherited it may be one.
            within(Duration::from_secs(1), || reader.is_finished());
        }
        exit
    }

    /// Sends a signal, unless it has ended: its number may by then be another program's.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if self.try_exit().is_none() {
            kill(self.pid(), signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.pid()));
        }
    }

    fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.try_exit().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether the process runs. One that has ended is a zombie for as long as its parent has not waited for it, and what
/// is process 1 of a PID namespace may never do that.
pub fn runs(pid: impl Display) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Each thread of a process: its name, its state, and where in the kernel it waits.
fn threads(pid: Pid) -> String {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    tasks
        .flatten()
        .map(|task| task.path())
        .map(|task| format!("{}{}\n", read(task.join("stat")), read(task.join("stack"))))
        .collect()
}

fn follow(pipe: impl io::Read, log: &Log) {
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        log.lock().push_str(&String::from_utf8_lossy(&line));
        log.grown.notify_all();
        line.clear();
    }
}
