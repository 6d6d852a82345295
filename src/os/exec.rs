//! Running a tool with a limit on its time.

use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// How long one iptables command may take in all. It waits at most [`LOCK_WAIT_SECONDS`] for the
/// lock; what is left is for very large rulesets on slow machines.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How long iptables waits for the xtables lock (`-w`) before it gives up with exit code 4.
pub const LOCK_WAIT_SECONDS: u32 = 5;

/// Calls `work`, which runs `program` as a child and waits for it, on a thread of its own. When
/// `limit` is over the child is killed and the error is [`io::ErrorKind::TimedOut`].
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    program: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("tool".into())
        .spawn(move || {
            // The receiver is gone only after the limit; the result is then not needed.
            let _unwanted = sender.send(work());
        })?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            kill_children(program);
            let message = format!("did not finish within {} s and was killed", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other(
            "the thread that ran it ended without a result",
        )),
    }
}

/// Does some work for each item, all at the same time.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let begin = |item| {
            let thread = std::thread::Builder::new().name("side".into());
            (item, thread.spawn_scoped(scope, move || work(item)))
        };
        let begun: Vec<_> = items.iter().map(begin).collect();
        let end = |(item, thread): (&T, io::Result<ScopedJoinHandle<'_, R>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No thread can be made: one after the other, then.
            Err(_) => work(item),
        };
        begun.into_iter().map(end).collect()
    })
}

/// Does something on a thread of its own while something else is done here.
pub(crate) fn meanwhile<A: Send, B>(
    there: &(impl Fn() -> A + Sync),
    here: impl FnOnce() -> B,
) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("side".into());
        let thread = thread.spawn_scoped(scope, there);
        let done = here();
        let other = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => there(),
        };
        (other, done)
    })
}

/// Kills the children of this process that run `program`: the crate that starts iptables keeps
/// their pids to itself.
fn kill_children(program: &Path) {
    let me = sysinfo::Pid::from_u32(std::process::id());
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    // Without /proc the thread stays behind with its child; the caller has its error already.
    let Ok(mut system) = System::new() else {
        return;
    };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    for (pid, process) in system.processes() {
        let runs_it = process
            .cmd()
            .iter()
            .take(2)
            .any(|word| Path::new(word) == program);
        if process.parent() == Some(me)
            && runs_it
            && let Ok(pid) = i32::try_from(pid.as_u32())
        {
            // It can only have ended by itself meanwhile, which is as good.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_child_that_hangs_is_killed() {
        let started = Instant::now();
        let result = within(Duration::from_millis(200), Path::new("/bin/sleep"), || {
            Command::new("/bin/sleep").arg("600").output()
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it was waited for"
        );
        let mut system = System::new().unwrap();
        let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
        // The killed child is reaped by the thread that started it.
        for _ in 0..200 {
            system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
            let me = sysinfo::Pid::from_u32(std::process::id());
            let left = system.processes().values().any(|p| {
                p.parent() == Some(me) && p.cmd().first().is_some_and(|word| word == "/bin/sleep")
            });
            if !left {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the child is still there");
    }

    #[test]
    fn side_by_side_answers_in_order() {
        let barrier = std::sync::Barrier::new(3);
        let doubled = side_by_side(&[1, 2, 3], |n| {
            // No thread gets past here unless all are at it.
            barrier.wait();
            n * 2
        });
        assert_eq!(doubled, [2, 4, 6]);
    }

    #[test]
    fn both_are_done_at_the_same_time() {
        let barrier = std::sync::Barrier::new(2);
        let there = || {
            barrier.wait();
            "there"
        };
        let here = || {
            barrier.wait();
            "here"
        };
        assert_eq!(meanwhile(&there, here), ("there", "here"));
    }

    #[test]
    fn the_result_comes_through() {
        let result = within(LIMIT, Path::new("/bin/true"), || {
            Command::new("/bin/true").status()
        });
        assert!(result.unwrap().success());
    }
}
