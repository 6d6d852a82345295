//! A real Docker daemon in the lab's host, with real containers, for the tests that want to see
//! what Docker itself does.
//!
//! It is not installed: `get-docker.sh` unpacks it below `target/`. It runs in a PID namespace of
//! its own, so that containerd, its shims and the containers, which all detach themselves, end with
//! one process, and its data are in the host's memory. What remains to be tidied by hand are the
//! cgroups, which are the machine's.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::cgroup::{is_gone, owner};
use super::daemon::Daemon;
use super::namespace::{Namespace, NsCommand};
use super::wait::{LONG, within};

const SOCKET: &str = "unix:///run/docker.sock";
const PIDFILE: &str = "/run/docker.pid";
/// What its containers are made of.
pub const IMAGE: &str = "lab-busybox";
/// Cgroups are named after the process that runs the lab, so that those of one that is gone can be found.
const CGROUP_PREFIX: &str = "ecs-netguard-lab-";

/// `dockerd` as the first process of its PID namespace, kept from the machine's sysctls: it raises
/// some that belong to no namespace (kernel.keys.*).
const START: &str = r#"
mount -o bind /proc/sys /proc/sys
mount -o bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
rm -f "$PIDFILE"
exec dockerd --host "$SOCKET" --pidfile "$PIDFILE" --data-root /run/docker-data \
    --exec-root /run/docker-exec --storage-driver vfs --cgroup-parent "$CGROUP_PARENT" \
    --log-level warn "$@"
"#;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs(Option<PathBuf>);

impl Programs {
    /// Fetches Docker where it is missing, into `ECS_NETGUARD_LAB_DOCKER` or `target/lab-docker`.
    /// The error says what to do.
    pub fn get() -> Result<Self, String> {
        let root = super::repository();
        let dir = std::env::var_os("ECS_NETGUARD_LAB_DOCKER")
            .map_or_else(|| root.join("target/lab-docker"), PathBuf::from);
        let script = root.join("tests/lab/get-docker.sh");
        let status = Command::new(&script)
            .arg(&dir)
            .stdin(Stdio::null())
            .status()
            .map_err(|e| format!("{}: {e}", script.display()))?;
        if !status.success() {
            return Err(format!("{} {} failed", script.display(), dir.display()));
        }
        Ok(Self(dir.join("complete").exists().then_some(dir)))
    }

    fn path(&self) -> OsString {
        let own = self
            .0
            .iter()
            .flat_map(|dir| ["usr/sbin", "usr/bin"].map(|bin| dir.join(bin)));
        let given = std::env::var_os("PATH").unwrap_or_default();
        // The machine's own after them: iptables must be the machine's.
        let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let all = own.chain(std::env::split_paths(&given)).chain(sbin);
        std::env::join_paths(all).unwrap_or(given)
    }

    /// Where the unpacked packages have their libraries; older ones put some directly below /lib.
    fn libraries(&self) -> Option<OsString> {
        let dir = self.0.as_ref()?;
        let arch = std::env::consts::ARCH;
        let libraries = ["usr/lib", "lib"].map(|lib| dir.join(format!("{lib}/{arch}-linux-gnu")));
        std::env::join_paths(libraries).ok()
    }

    fn busybox(&self) -> Result<PathBuf, String> {
        let own = self
            .0
            .iter()
            .flat_map(|dir| ["bin/busybox", "usr/bin/busybox"].map(|b| dir.join(b)));
        own.chain(std::env::split_paths(&self.path()).map(|dir| dir.join("busybox")))
            .find(|path| path.is_file())
            .ok_or_else(|| "no busybox: a static one is needed to make an image of".to_owned())
    }

    fn equip<'a>(&self, command: NsCommand<'a>) -> NsCommand<'a> {
        let command = command.env("PATH", self.path());
        match self.libraries() {
            Some(dirs) => command.env("LD_LIBRARY_PATH", dirs),
            None => command,
        }
    }
}

/// A running Docker daemon. It ends, with all its containers, when dropped.
#[derive(Debug)]
pub struct Docker<'a> {
    host: &'a Namespace,
    programs: Programs,
    cgroup: String,
    args: Vec<String>,
    /// `unshare`, whose end is the end of everything inside.
    process: Option<Daemon>,
}

impl Lab {
    /// Starts a Docker daemon in the host of a lab made `without_docker0`, with an image to run.
    #[track_caller]
    pub fn start_docker(&self, programs: &Programs) -> Docker<'_> {
        self.start_docker_with(programs, &[])
    }

    /// As [`Lab::start_docker`], with more of dockerd's options (`--ipv6`, `--bridge none`).
    #[track_caller]
    pub fn start_docker_with(&self, programs: &Programs, args: &[&str]) -> Docker<'_> {
        sweep_cgroups();
        let mut docker = Docker {
            host: &self.host,
            programs: programs.clone(),
            cgroup: cgroup_name(),
            args: args.iter().map(ToString::to_string).collect(),
            process: None,
        };
        docker.start();
        docker.import();
        docker
    }
}

impl Docker<'_> {
    /// Starts the daemon; to be called only after [`Docker::stop`] or [`Docker::kill`].
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "dockerd runs already");
        let command = self
            .host
            .command("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-ec",
                START,
                "dockerd",
            ])
            .args(&self.args)
            .env("SOCKET", SOCKET)
            .env("PIDFILE", PIDFILE)
            .env("CGROUP_PARENT", format!("/{}", self.cgroup));
        let process = self
            .process
            .insert(Daemon::start(self.programs.equip(command)));
        let (host, programs) = (self.host, &self.programs);
        let up = within(LONG, || {
            assert!(process.is_running(), "dockerd ended:\n{}", process.log());
            client(host, programs, &["version"])
                .status()
                .is_ok_and(|status| status.success())
        });
        assert!(
            up.is_some(),
            "dockerd does not answer after {LONG:?}:\n{}",
            process.log()
        );
    }

    /// Stops the daemon as `systemctl stop docker` does; containers stop with it.
    #[track_caller]
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if let Some(dockerd) = child_of(process.pid()) {
            // It may end by itself in this moment; that is what is wanted.
            let _ = kill(dockerd, Signal::SIGTERM);
        }
        process.wait(LONG);
    }

    /// Ends the daemon and everything it started at once. Its rules stay, as after a crash.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        // The first process of its PID namespace: the kernel ends all others with it. `unshare` is
        // left to reap it; killed first, it would leave a zombie to its new parent.
        if let Some(dockerd) = child_of(process.pid()) {
            let _ = kill(dockerd, Signal::SIGKILL);
            within(Duration::from_secs(5), || !process.is_running());
        }
    }

    /// `systemctl restart docker`
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// What dockerd has written since it was last started.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Runs the docker client; panics where it fails. Returns what it printed, trimmed.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        client(self.host, &self.programs, args)
            .run()
            .trim()
            .to_owned()
    }

    /// Runs a container that sleeps, on a network (`bridge` is the default one).
    #[track_caller]
    pub fn container(&self, name: &str, network: &str) {
        self.docker(&[
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            network,
            "--stop-timeout",
            "1",
            IMAGE,
            "sleep",
            "1000000",
        ]);
    }

    /// Runs a command in a container: what it printed, or the same as an error.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let output = client(
            self.host,
            &self.programs,
            &[&["exec", container], command].concat(),
        )
        .output()
        .map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!(
                "{}: {} {}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            ))
        }
    }

    /// Fetches a URL from inside a container, with `wget`, for at most two seconds.
    pub fn wget(&self, container: &str, url: &str) -> Result<String, String> {
        // Not wget's own -T: that crashes in Debian 12's busybox.
        self.exec(container, &["timeout", "2", "wget", "-q", "-O", "-", url])
    }

    /// The main process of a container, as the daemon's PID namespace numbers it: it is this number
    /// that `docker inspect` tells, and that a program started by [`Docker::beside`] sees.
    #[track_caller]
    pub fn container_pid(&self, container: &str) -> i32 {
        let text = self.docker(&["inspect", "--format", "{{.State.Pid}}", container]);
        text.parse()
            .unwrap_or_else(|e| panic!("docker inspect: {text:?}: {e}"))
    }

    /// Where its containers' cgroups are, below every cgroup root.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// A command in dockerd's own PID and mount namespaces: for programs that look up what
    /// `docker inspect` reports them in /proc, as if they ran on the same host. They end with it.
    #[track_caller]
    pub fn beside(&self, program: &str) -> NsCommand<'_> {
        let process = self.process.as_ref().expect("dockerd runs");
        let dockerd = child_of(process.pid()).expect("dockerd runs");
        let command = self
            .host
            .command("nsenter")
            .arg("--target")
            .arg(dockerd.to_string());
        self.programs
            .equip(command.args(["--mount", "--pid", "--", program]))
    }

    /// Makes an image of a static busybox: no registry is asked for anything.
    #[track_caller]
    fn import(&self) {
        let busybox = self.programs.busybox().unwrap_or_else(|e| panic!("{e}"));
        let script = format!(
            r#"
            mkdir -p /run/image/bin
            cp "$BUSYBOX" /run/image/bin/busybox
            for applet in sh sleep wget timeout ip ping nc; do
                ln -sf busybox "/run/image/bin/$applet"
            done
            tar -C /run/image -c . | docker --host {SOCKET} import - {IMAGE} >&2
            rm -r /run/image
            "#
        );
        let command = self
            .host
            .command("sh")
            .args(["-ec", &script])
            .env("BUSYBOX", busybox);
        self.programs.equip(command).run();
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        // Not asked politely: there is nothing to keep, and stopping containers takes seconds.
        self.kill();
        // The kernel lets go of the last processes a little after they have been killed.
        let gone = within(LONG, || remove_cgroups(&self.cgroup).is_ok());
        if gone.is_none() {
            eprintln!("cgroups named {} could not be removed", self.cgroup);
        }
    }
}

fn client<'a>(host: &'a Namespace, programs: &Programs, args: &[&str]) -> NsCommand<'a> {
    programs.equip(host.command("docker").args(["--host", SOCKET]).args(args))
}

/// The one child of a process that has one: `unshare --fork`.
fn child_of(parent: Pid) -> Option<Pid> {
    fs::read_dir("/proc")
        .ok()?
        .filter_map(Result::ok)
        .find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which may contain anything: state, then the parent.
            let ppid: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            (ppid == parent.as_raw()).then(|| Pid::from_raw(pid))
        })
}

fn cgroup_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{CGROUP_PREFIX}{}-{number}", owner())
}

/// The directories in which cgroups of this name may stand: version 1 has one a controller.
fn cgroup_roots() -> impl Iterator<Item = PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let below = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let below: Vec<_> = below
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    std::iter::once(root).chain(below)
}

fn remove_cgroups(name: &str) -> io::Result<()> {
    for dir in cgroup_roots()
        .map(|root| root.join(name))
        .filter(|dir| dir.is_dir())
    {
        remove_tree(&dir)?;
    }
    Ok(())
}

/// A cgroup's files cannot be deleted and need not be: only directories, the innermost first.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// Removes the empty cgroups of labs that were killed: the one thing the kernel does not take back.
fn sweep_cgroups() {
    for root in cgroup_roots() {
        for entry in fs::read_dir(root)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(CGROUP_PREFIX)
                .and_then(|rest| rest.split_once('-'));
            if owner.is_some_and(|(owner, _)| is_gone(owner)) {
                let _ = remove_tree(&entry.path()); // Another lab may be doing the same.
            }
        }
    }
}
