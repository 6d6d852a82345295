//! Cgroups as the ECS agent makes them for tasks, under names of the test's own: the hierarchy is the
//! machine's, since there is but one.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::daemon::{Daemon, runs};
use super::namespace::Namespace;
use super::wait::{LONG, eventually};

/// Where cgroups are mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// Gives a lab's host cgroups of version 2 alone, as Amazon Linux 2023 has them, whatever the machine runs.
pub fn unify(host: &Namespace) {
    host.sh(&format!("mount -t cgroup2 none {MOUNT}"));
}

/// This process, in the names of cgroups that it makes: one hierarchy serves all PID namespaces.
pub fn owner() -> String {
    format!("{}x{}", pid_namespace("self"), std::process::id())
}

/// Whether the process that [`owner`] named is gone; false where that cannot be seen from here.
pub fn is_gone(owner: &str) -> bool {
    let Some((namespace, pid)) = owner.split_once('x') else {
        return false;
    };
    if namespace == pid_namespace("self") {
        return !runs(pid);
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut seen = processes.map(|process| pid_namespace(&process.file_name().to_string_lossy()));
    pid_namespace("self") == INITIAL && !seen.any(|other| other == namespace)
}

/// The initial PID namespace, in which all processes can be seen (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL: &str = "4026531836";

/// The number of a process's PID namespace; empty where there is no such process.
fn pid_namespace(process: &str) -> String {
    let link = fs::read_link(format!("/proc/{process}/ns/pid")).unwrap_or_default();
    let digits = |c: &char| c.is_ascii_digit();
    link.to_string_lossy().chars().filter(digits).collect()
}

/// Whether the kernel's numbers of processes mean nothing here: this is not the initial PID namespace.
pub fn in_pid_namespace() -> bool {
    pid_namespace("self") != INITIAL
}

/// A slice for tasks, which goes with the value.
#[derive(Debug)]
pub struct TaskSlice {
    /// Its name, which is its path from the root of the hierarchy.
    pub name: String,
    directory: PathBuf,
}

impl TaskSlice {
    /// A name that no other has; the slice is not there yet.
    pub fn named() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("netguard-lab{}x{number}.slice", owner());
        Self {
            directory: hierarchy().join(&name),
            name,
        }
    }

    /// The slice, and in it that of one task with a scope for its container.
    #[track_caller]
    pub fn new() -> Self {
        let slice = Self::named();
        slice.make();
        slice
    }

    /// The same where this machine may have no cgroups of version 2.
    pub fn try_new() -> io::Result<Self> {
        let slice = Self::named();
        fs::create_dir_all(slice.container())?;
        Ok(slice)
    }

    /// Makes it, as it is when the first task starts.
    #[track_caller]
    pub fn make(&self) {
        fs::create_dir_all(self.container()).expect("a cgroup can be made");
    }

    /// Takes it away, as it is after the last task.
    #[track_caller]
    pub fn remove(&self) {
        remove(&self.directory).expect("the cgroup can be removed");
    }

    /// The names of the cgroups directly in it.
    #[track_caller]
    pub fn within(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).expect("the slice is there");
        let cgroups = entries.flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = cgroups
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Makes an empty cgroup directly in it.
    #[track_caller]
    pub fn leave_behind(&self, name: &str) {
        fs::create_dir(self.directory.join(name)).expect("a cgroup can be made");
    }

    /// The kernel's number for it; `None` where it is not there.
    pub fn id(&self) -> Option<u64> {
        fs::metadata(&self.directory).map(|found| found.ino()).ok()
    }

    /// The cgroup of the task's container.
    fn container(&self) -> PathBuf {
        self.directory.join(self.task()).join("docker-0f.scope")
    }

    fn task(&self) -> String {
        self.name.replace(".slice", "-0f.slice")
    }

    /// The file by which a process of a [unified](unify) host enters that cgroup.
    fn entry(&self) -> String {
        let (name, task) = (&self.name, self.task());
        format!("{MOUNT}/{name}/{task}/docker-0f.scope/cgroup.procs")
    }

    /// What a container on a [unified](unify) host's network prints that runs this script of bash; `None`
    /// where it fails.
    pub fn run(&self, host: &Namespace, script: &str) -> Option<String> {
        bash(host, &format!("echo 0 > {}\n{script}", self.entry()))
    }

    /// A container that sleeps, started by this command (`unshare -n`, or nothing), until the value
    /// goes.
    #[track_caller]
    pub fn sleeper(&self, host: &Namespace, by: &str) -> Daemon {
        let script = format!("echo 0 > {}; exec {by} sleep 600", self.entry());
        let sleeper = Daemon::start(host.command("sh").args(["-ec", &script]));
        // The same process all the way: each of these programs becomes the next.
        let comm = format!("/proc/{}/comm", sleeper.pid());
        eventually(LONG, "the container sleeps", || {
            fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n")
        });
        sleeper
    }
}

impl Drop for TaskSlice {
    fn drop(&mut self) {
        let _ = remove(&self.directory);
    }
}

/// Runs a script of bash as a program of the host's own, such as the ECS agent.
pub fn bash(host: &Namespace, script: &str) -> Option<String> {
    let output = host.command("bash").arg("-ec").arg(script).output();
    let output = output.expect("bash starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(printed)
}

/// A script that asks `imds` for the name of the instance's role, and prints the answer. Packets that are
/// dropped are not waited for.
pub fn asks(imds: IpAddr) -> String {
    let (path, to) = (super::imds::ROLES_PATH, shell(SocketAddr::new(imds, 80)));
    format!(
        "timeout 1 bash -c 'exec 3<>/dev/tcp/{to}; printf \"GET {path} HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'"
    )
}

/// A script that sends one UDP packet; that it is dropped it cannot tell, or by an error.
pub fn sends(to: IpAddr) -> String {
    let to = shell(SocketAddr::new(to, 9));
    format!("echo lab > /dev/udp/{to} || true")
}

/// An address as bash's `/dev/tcp` takes it.
fn shell(to: SocketAddr) -> String {
    format!("{}/{}", to.ip(), to.port())
}

/// Where the hierarchy of version 2 is mounted: alone, or beside those of version 1.
fn hierarchy() -> PathBuf {
    let mount = Path::new(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        mount.to_owned()
    } else {
        mount.join("unified")
    }
}

/// Only directories can be removed in a cgroup, the innermost first.
fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}
