//! The program that made a change: what the process table says of a process while it is there.

use std::fs;
use std::path::Path;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use crate::config::{FileText, sanitize};
use crate::events::By;

/// Programs that only run others, by the names that the kernel has of them: the person who is paged at
/// night wants to know which program ran *these*.
const SHELLS: [&str; 31] = [
    "ash",
    "bash",
    "busybox",
    "chroot",
    "dash",
    "doas",
    "env",
    "fish",
    "flock",
    "ip",
    "ionice",
    "ksh",
    "nice",
    "nohup",
    "nsenter",
    "parallel",
    "runuser",
    "screen",
    "script",
    "setpriv",
    "setsid",
    "sh",
    "stdbuf",
    "su",
    "sudo",
    "systemd-run",
    "timeout",
    "tmux",
    "unshare",
    "xargs",
    "zsh",
];

/// How many ancestors are named at most.
const ANCESTORS: usize = 4;

/// Endings of the units that processes run in (systemd.unit(5)); slices only hold other units.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// The initial PID namespace's number (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL: &str = "pid:[4026531836]";

/// What can be known of the thread `pid` that called itself `comm` when it made the change. In a PID
/// namespace that is all: the kernel numbers the processes of nf_tables as the initial namespace does
/// (task_pid_nr() in nf_tables_fill_gen_info()), and the same number here is another process's.
#[must_use]
pub fn who(pid: u32, comm: &str) -> By {
    let own = fs::read_link("/proc/self/ns/pid");
    if own.is_ok_and(|own| own.as_os_str() != INITIAL) {
        return By {
            pid,
            comm: comm.to_owned(),
            hidden: true,
            ..By::default()
        };
    }
    visible(pid, comm)
}

/// The same, where /proc numbers processes as the kernel does. It may be gone since, and its number
/// another process's: where the name differs, nothing more is said.
fn visible(pid: u32, comm: &str) -> By {
    let mut by = By {
        pid,
        comm: comm.to_owned(),
        ..By::default()
    };
    let Some(process) = process_of(pid, comm) else {
        return by;
    };
    // Without /proc there is nothing more to say.
    let Ok(mut system) = System::new() else {
        return by;
    };
    let what = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_exe(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    let Some(found) = look(&mut system, process, what) else {
        return by;
    };
    by.exe = found.exe().map(|exe| exe.display().to_string());
    by.user = found.user_id().map(|user| user_name(**user));
    by.started =
        std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(found.start_time()));
    let parent = found.parent();
    by.parent = ancestors(&mut system, parent);
    by.unit = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .ok()
        .and_then(|text| unit(&text));
    by
}

/// The process of the thread, if it still bears that name. The kernel tells the number and name of
/// the thread that made the change (nf_tables_fill_gen_info(), net/netfilter/nf_tables_api.c), which
/// in a Go program is seldom the first one.
fn process_of(thread: u32, comm: &str) -> Option<Pid> {
    let name = fs::read(format!("/proc/{thread}/comm")).ok()?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned();
    if name != comm {
        return None;
    }
    let status = fs::read(format!("/proc/{thread}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    process.trim().parse().ok().map(Pid::from_u32)
}

fn look(system: &mut System, pid: Pid, what: ProcessRefreshKind) -> Option<&Process> {
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    system.process(pid)
}

/// `dockerd (pid 812)`; for what a shell ran, on to the first that is none:
/// `bash (pid 97) ← sudo (pid 95) ← sshd (pid 60)`.
fn ancestors(system: &mut System, first: Option<Pid>) -> Option<String> {
    let what = ProcessRefreshKind::nothing().without_tasks();
    let mut words = Vec::new();
    let mut next = first;
    while let Some(pid) = next
        && words.len() < ANCESTORS
        && let Some(process) = look(system, pid, what)
    {
        let name = process.name().to_string_lossy();
        words.push(format!("{} (pid {pid})", sanitize(&name)));
        next = process.parent().filter(|_| SHELLS.contains(&name.as_ref()));
    }
    (!words.is_empty()).then(|| words.join(" ← "))
}

/// The name from /etc/passwd, else the number. Not from the other sources of getpwuid(3): those may
/// ask the network.
fn user_name(id: u32) -> String {
    let passwd = FileText::read(Path::new("/etc/passwd"));
    named_in(passwd.text().unwrap_or_default(), id).unwrap_or_else(|| id.to_string())
}

fn named_in(passwd: &str, id: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// The unit in the lines of a /proc/…/cgroup (cgroups(7)): the innermost one of systemd's own
/// hierarchy, which on cgroup v1 is `name=systemd` and else the one numbered 0.
fn unit(cgroup: &str) -> Option<String> {
    let path = |controllers: &str| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controllers).then(|| fields.next())?
        })
    };
    let innermost = |path: &str| {
        let is_unit = |part: &&str| UNITS.iter().any(|ending| part.ends_with(ending));
        path.rsplit('/').find(is_unit).map(str::to_owned)
    };
    ["name=systemd", ""]
        .into_iter()
        .filter_map(path)
        .find_map(innermost)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(command: &mut Command) -> Running {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::null());
        Running(piped.spawn().unwrap())
    }

    /// The process's only child, once it is called that.
    fn child(parent: u32, name: &str) -> u32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let path = format!("/proc/{parent}/task/{parent}/children");
            let children = fs::read_to_string(path).unwrap();
            let is = |pid: &&str| {
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|comm| comm.trim() == name)
            };
            if let Some(pid) = children.split_whitespace().find(is) {
                return pid.parse().unwrap();
            }
            assert!(Instant::now() < deadline, "{parent} has no child {name}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn own_name() -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", std::process::id()));
        name.unwrap().trim().to_owned()
    }

    #[test]
    fn a_child_is_described() {
        let me = format!("{} (pid {})", own_name(), std::process::id());
        // A second command keeps the shells from becoming what they run.
        let script = "bash -c 'cat; true'; true";
        let shell = start(Command::new("sh").args(["-c", script]));
        let outer = shell.0.id();
        let inner = child(outer, "bash");
        let cat = child(inner, "cat");
        let by = visible(cat, "cat");
        assert!(by.exe.as_deref().unwrap().ends_with("/cat"), "{by:?}");
        assert_eq!(
            by.user.as_deref(),
            Some(user_name(nix::unistd::getuid().as_raw()).as_str())
        );
        let parents = format!("bash (pid {inner}) ← sh (pid {outer}) ← {me}");
        assert_eq!(by.parent, Some(parents));
        let age = SystemTime::now().duration_since(by.started.unwrap());
        assert!(age.unwrap_or_default() < Duration::from_secs(60), "{by:?}");
        assert_eq!((by.pid, by.comm.as_str()), (cat, "cat"));
    }

    #[test]
    fn no_more_than_four_ancestors() {
        let script = "sh -c \"sh -c 'sh -c \\\"cat; true\\\"; true'; true\"; true";
        let shell = start(Command::new("sh").args(["-c", script]));
        let mut pid = shell.0.id();
        for _ in 0..3 {
            pid = child(pid, "sh");
        }
        let parent = visible(child(pid, "cat"), "cat").parent.unwrap();
        assert_eq!(parent.matches("sh (pid").count(), 4, "{parent}");
        assert_eq!(parent.matches(" ← ").count(), 3, "{parent}");
    }

    #[test]
    fn of_another_name_nothing_is_said() {
        let cat = start(&mut Command::new("cat"));
        let by = visible(cat.0.id(), "iptables");
        let bare = By {
            pid: cat.0.id(),
            comm: "iptables".into(),
            ..By::default()
        };
        assert_eq!(by, bare);
        let gone = cat.0.id();
        drop(cat);
        assert_eq!(visible(gone, "cat").exe, None);
    }

    #[test]
    fn a_thread_stands_for_its_process() {
        let work = || (nix::unistd::gettid().as_raw().cast_unsigned(), who_am_i());
        fn who_am_i() -> By {
            visible(nix::unistd::gettid().as_raw().cast_unsigned(), "a-thread")
        }
        let thread = std::thread::Builder::new().name("a-thread".into());
        let (tid, by) = thread.spawn(work).unwrap().join().unwrap();
        assert_eq!(by.pid, tid);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(by.exe.as_deref(), exe.to_str());
        let parent = format!("(pid {})", std::os::unix::process::parent_id());
        assert!(by.parent.as_deref().unwrap().contains(&parent), "{by:?}");
    }

    #[test]
    fn units() {
        let of = |text: &str| unit(text);
        let is = |unit: &str| Some(unit.to_owned());
        assert_eq!(
            of("0::/system.slice/docker.service\n"),
            is("docker.service")
        );
        let v1 = "12:pids:/user.slice/a.scope\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n\
                  0::/system.slice/wrong.service\n";
        assert_eq!(of(v1), is("session-3.scope"));
        let task = "0::/ecstasks.slice/ecstasks-1f.slice/docker-ab.scope\n";
        assert_eq!(of(task), is("docker-ab.scope"));
        let nested = "0::/user.slice/user@1000.service/app.slice/x.service/sub\n";
        assert_eq!(of(nested), is("x.service"));
        assert_eq!(of("9:name=systemd:/\n0::/\n"), None);
        assert_eq!(
            of("1:name=systemd:/\n0::/system.slice/a:b.service\n"),
            is("a:b.service")
        );
        assert_eq!(of("0::/init.scope\n"), is("init.scope"));
        assert_eq!(of("nonsense"), None);
    }

    #[test]
    fn users() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nec2-user:x:1000:1000::/:/bin/sh\n";
        assert_eq!(named_in(passwd, 1000).as_deref(), Some("ec2-user"));
        assert_eq!(named_in(passwd, 7), None);
    }
}
