//! Network namespaces without names and without helper processes.
//!
//! A [`Namespace`] is a thread. The thread alone has moved into a network namespace of its own (and
//! a mount namespace, so that what it mounts is seen by no other process), and does what it is sent.
//! Nothing refers to the namespace but this thread and what was started from it: when the process
//! ends, by whatever means, the kernel takes everything back. A named namespace (`ip netns add`)
//! would outlive a killed test.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// How much of a machine of its own a namespace needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Network, and a /run of its own.
    Network,
    /// Also a /sys that shows this namespace's interfaces: for what believes to run on a host.
    Host,
}

/// A network namespace with a private /run, entered by sending it closures and commands.
#[derive(Debug)]
pub struct Namespace {
    name: &'static str,
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: Pid,
    /// Milliseconds a probe waits for an answer; see [`Namespace::set_patience`].
    patience: AtomicU64,
}

impl Namespace {
    /// Makes the namespace, with its loopback interface down as the kernel makes it.
    pub fn new(name: &'static str, kind: Kind) -> io::Result<Self> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(16);
        let (report, entered) = mpsc::sync_channel(1);
        // Fifteen bytes are what the kernel keeps of a thread's name.
        let thread = thread::Builder::new()
            .name(format!("lab-{name}"))
            .spawn(move || {
                let result = enter(kind);
                let ok = result.is_ok();
                // The other side waits for this; it is gone only if its thread was killed.
                let _ = report.send(result.map(|()| gettid()));
                if ok {
                    for job in todo {
                        job();
                    }
                }
            })?;
        let tid = entered.recv().map_err(io::Error::other)??;
        Ok(Self {
            name,
            jobs: Some(jobs),
            thread: Some(thread),
            tid,
            patience: AtomicU64::new(300),
        })
    }

    /// The name given at the start, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs `work` inside and returns what it returns. A panic inside goes on in the caller.
    ///
    /// Threads and processes that `work` starts stay inside. The worker does one thing at a time;
    /// what takes long is better given a thread ([`Namespace::thread`]) of its own.
    pub fn run<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if gettid() == self.tid {
            return work(); // Already inside: sending it to ourselves would wait for ever.
        }
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            let _ = answer.send(panic::catch_unwind(AssertUnwindSafe(work)));
        });
        let sent = self
            .jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "namespace {} has ended", self.name);
        match result.recv().expect("the worker answers every job") {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// Starts a thread inside. As long as it runs, the namespace lives.
    pub fn thread<T, F>(&self, work: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.run(|| thread::spawn(work))
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> NsCommand<'_> {
        NsCommand {
            ns: self,
            command: Command::new(program),
            stdin: None,
            listen_fds: Vec::new(),
        }
    }

    /// Runs a shell script inside and returns what it printed; panics where it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.command("sh").arg("-ec").arg(script).run()
    }

    /// Runs a shell script inside: what it printed on both streams, or the same as an error.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        let output = self
            .command("sh")
            .arg("-ec")
            .arg(script)
            .output()
            .map_err(|e| e.to_string())?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{}: {text}", output.status))
        }
    }

    /// Reads a sysctl by its path below /proc/sys, as the namespace sees it.
    #[track_caller]
    pub fn sysctl(&self, path: &str) -> String {
        let file = format!("/proc/sys/{path}");
        let text = self.run({
            let file = file.clone();
            move || fs::read_to_string(file)
        });
        text.unwrap_or_else(|e| panic!("{}: {file}: {e}", self.name))
            .trim()
            .to_owned()
    }

    /// Writes a sysctl of the network namespace. Others belong to the whole machine: refused.
    #[track_caller]
    pub fn set_sysctl(&self, path: &str, value: &str) {
        self.try_set_sysctl(path, value)
            .unwrap_or_else(|e| panic!("{}: /proc/sys/{path}: {e}", self.name));
    }

    /// As [`Namespace::set_sysctl`], where the key may be absent.
    pub fn try_set_sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        assert!(
            path.starts_with("net/"),
            "{path} belongs to the whole machine"
        );
        let (file, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.run(move || fs::write(file, value))
    }

    /// How long a probe waits for an answer before it calls the way blocked. 300 ms by default:
    /// an answer in the lab takes far less, and every blocked probe costs this much.
    pub fn set_patience(&self, patience: Duration) {
        self.patience.store(
            u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }

    /// The kernel's handle on the network namespace, for `ip … netns` and `nsenter`.
    pub fn netns(&self) -> PathBuf {
        self.proc("ns/net")
    }

    /// The root directory as seen inside, reachable from outside. It vanishes with the namespace.
    pub fn root(&self) -> PathBuf {
        self.proc("root")
    }

    /// The identities (`net:[4026532…]`) of the namespaces: what to look for to see them gone.
    pub fn identities(&self) -> Vec<String> {
        ["ns/net", "ns/mnt"]
            .iter()
            .filter_map(|ns| fs::read_link(self.proc(ns)).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect()
    }

    fn proc(&self, what: &str) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/task/{}/{what}",
            std::process::id(),
            self.tid
        ))
    }

    /// Puts the file `with` in the place of `over`, for this namespace's processes alone.
    pub fn shadow(&self, with: &Path, over: &Path) -> io::Result<()> {
        let (with, over) = (with.to_owned(), over.to_owned());
        self.run(move || bind(&with, &over, MsFlags::MS_BIND))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into namespaces of its own.
fn enter(kind: Kind) -> io::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|e| io::Error::other(format!("the lab needs root to make namespaces: {e}")))?;
    // Without this every mount below would appear on the machine itself.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // iptables-legacy's lock, Docker's sockets and handles: all below /run.
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=0755"),
    )?;
    if kind == Kind::Host {
        own_sys()?;
    }
    Ok(())
}

/// A sysfs shows the interfaces of the namespace in which it was mounted: mount one here. It hides
/// the cgroup mounts below the old one, which Docker needs: carry them over.
///
/// Where a sysfs may not be mounted (in some containers), the old one does for most tests.
fn own_sys() -> io::Result<()> {
    let none: Option<&str> = None;
    let (cgroup, aside) = (Path::new("/sys/fs/cgroup"), Path::new("/run/.cgroup"));
    fs::create_dir(aside)?;
    bind(cgroup, aside, MsFlags::MS_BIND | MsFlags::MS_REC)?;
    let fresh = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none);
    match fresh {
        Ok(()) => bind(aside, cgroup, MsFlags::MS_MOVE)?,
        Err(_) => umount2(aside, MntFlags::MNT_DETACH)?,
    }
    fs::remove_dir(aside)
}

fn bind(from: &Path, to: &Path, how: MsFlags) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(Some(from), to, none, how, none).map_err(io::Error::from)
}

/// A [`Command`] that runs in a namespace.
#[derive(Debug)]
pub struct NsCommand<'a> {
    ns: &'a Namespace,
    command: Command,
    stdin: Option<Vec<u8>>,
    listen_fds: Vec<(String, OwnedFd)>,
}

impl NsCommand<'_> {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// What the command reads from standard input; nothing by default.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Descriptors for what [`NsCommand::spawn`] starts, handed over as systemd does: from 3 on, and
    /// named in the environment (sd_listen_fds(3)).
    pub(super) fn listen_fds(mut self, fds: Vec<(String, OwnedFd)>) -> Self {
        self.listen_fds = fds;
        self
    }

    /// Runs it to its end. It starts inside; the waiting is done here, so that the namespace can
    /// meanwhile do other things.
    pub fn output(mut self) -> io::Result<Output> {
        assert!(self.listen_fds.is_empty(), "only spawn() hands them over");
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        self.command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = self.command;
        let mut child = self.ns.run(move || command.spawn())?;
        let writer = self
            .stdin
            .take()
            .zip(child.stdin.take())
            .map(|(text, mut pipe)| {
                // Its own thread: a command that prints before it has read all would block both.
                thread::spawn(move || pipe.write_all(&text))
            });
        let output = child.wait_with_output();
        if let Some(writer) = writer {
            let _ = writer.join(); // A command that ended without reading all is no error of ours.
        }
        output
    }

    /// Runs it to its end and returns its standard output; panics where it fails.
    #[track_caller]
    pub fn run(self) -> String {
        let line = describe(self.ns, &self.command);
        let output = self.output().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(
            output.status.success(),
            "{line}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it to its end for its exit status alone.
    pub fn status(self) -> io::Result<ExitStatus> {
        self.output().map(|output| output.status)
    }

    /// Starts it, to be ended when the namespace ends: `prctl(PR_SET_PDEATHSIG)` is bound to the
    /// thread that started the process, and that is the namespace's.
    pub(super) fn spawn(self, stdout: Stdio, stderr: Stdio) -> io::Result<Child> {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"]);
        if !self.listen_fds.is_empty() {
            // The process id is known only to the process itself, and stays over both execs.
            tied.args(["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]);
            let (names, fds): (Vec<String>, Vec<OwnedFd>) = self.listen_fds.into_iter().unzip();
            tied.env("LISTEN_FDS", fds.len().to_string());
            tied.env("LISTEN_FDNAMES", names.join(":"));
            let mappings = (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
            tied.fd_mappings(mappings.collect())
                .map_err(io::Error::other)?;
        }
        tied.arg(self.command.get_program());
        tied.args(self.command.get_args());
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => tied.env(key, value),
                None => tied.env_remove(key),
            };
        }
        tied.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        self.ns.run(move || tied.spawn())
    }
}

fn describe(ns: &Namespace, command: &Command) -> String {
    let words: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_owned)
        .collect();
    format!(
        "{}: {}",
        ns.name,
        words.join(OsStr::new(" ")).to_string_lossy()
    )
}
