//! Realtime scheduling for the sentinel's thread, and the brake on it; the processor time of a thread.
//!
//! A realtime thread that never sleeps again takes a processor from everybody else. The brake is
//! RLIMIT_RTTIME (setrlimit(2)): how long a realtime thread of the process may run without sleeping.
//! At the soft limit the kernel sends SIGXCPU to the process, which **ends it unless it is handled**;
//! at the hard limit SIGKILL. So the slow side first listens, then lets the sentinel call
//! [`realtime`], and answers with [`demote`]:
//!
//! ```no_run
//! # async fn slow_side(sentinel: nix::unistd::Pid) -> std::io::Result<()> {
//! use tokio::signal::unix::{SignalKind, signal};
//! let mut overrun = signal(SignalKind::from_raw(nix::libc::SIGXCPU))?;
//! // … the sentinel starts …
//! overrun.recv().await;
//! ecs_netguard::os::sched::demote(sentinel)?;
//! # Ok(())
//! # }
//! ```

use std::io;
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;

/// The lowest realtime priority: enough to run before every normal thread, and behind every other
/// realtime thread, such as the kernel's interrupt threads (50, sched_set_fifo() in
/// kernel/sched/syscalls.c).
pub const PRIORITY: u8 = 1;

/// The soft limit. Reading ten thousand rules, the most that the sentinel does without sleeping,
/// takes 61 ms.
pub const OVERRUN: Duration = Duration::from_millis(100);

/// The hard limit. The slow side must get to run before: also on a single processor it does, as the
/// kernel keeps 5 % of every second for normal threads (sched_rt_runtime_us, sched(7)), and here it
/// has two of those.
pub const RUNAWAY: Duration = Duration::from_secs(2);

/// How the calling thread is scheduled now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_FIFO with [`PRIORITY`], and the brake is on.
    Realtime,
    /// As before: what was refused, ready for a person.
    Normal {
        /// Why.
        reason: String,
    },
}

/// Makes the calling thread a realtime thread whose children are normal ones (reset-on-fork), after
/// it has put the brake on the process. To be called again after a [`demote`], it restores both.
#[must_use]
pub fn realtime() -> Scheduling {
    let refused = |what: &str, error: io::Error| Scheduling::Normal {
        reason: format!("{what}: {error}"),
    };
    // Without the brake rather no realtime.
    if let Err(error) = brake() {
        return refused("limit realtime processor time (RLIMIT_RTTIME)", error);
    }
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    match set(0, policy, i32::from(PRIORITY)) {
        Ok(()) => Scheduling::Realtime,
        Err(error) => refused(
            "realtime scheduling (SCHED_FIFO; needs CAP_SYS_NICE or LimitRTPRIO=1)",
            error,
        ),
    }
}

/// The processor time that the calling thread has used (CLOCK_THREAD_CPUTIME_ID, clock_gettime(2)); zero where the
/// kernel does not tell.
#[must_use]
pub fn cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().map_or(Duration::ZERO, Duration::from)
}

/// Makes a thread of this process a normal one. It needs no privilege.
pub fn demote(thread: Pid) -> io::Result<()> {
    // Clearing reset-on-fork would need CAP_SYS_NICE (sched(7)); it does no harm.
    set(
        thread.as_raw(),
        libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK,
        0,
    )
}

/// Sets the limits, or leaves lower ones. With every SIGXCPU the kernel moves the soft limit up by a
/// second, above the hard one too (check_thread_timers(), kernel/time/posix-cpu-timers.c).
fn brake() -> io::Result<()> {
    let (_, allowed) = getrlimit(Resource::RLIMIT_RTTIME)?;
    let hard = allowed.min(microseconds(RUNAWAY));
    let soft = hard.min(microseconds(OVERRUN));
    setrlimit(Resource::RLIMIT_RTTIME, soft, hard)?;
    Ok(())
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn set(thread: libc::pid_t, policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the structure is whole and lives over the call, which only reads it.
    let result = unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use nix::unistd::gettid;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    /// Fields 40 and 41 of /proc/…/stat: priority and policy (proc_pid_stat(5)).
    fn scheduling(thread: Pid) -> (u32, i32) {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        let fields: Vec<&str> = text
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        (fields[37].parse().unwrap(), fields[38].parse().unwrap())
    }

    #[test]
    fn a_runaway_is_heard_of_and_demoted() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut overrun = signal(SignalKind::from_raw(libc::SIGXCPU)).unwrap();
            let (tell, told) = mpsc::sync_channel(1);
            static END: AtomicBool = AtomicBool::new(false);
            let runaway = std::thread::spawn(move || {
                let scheduling_of_child = || std::thread::spawn(|| scheduling(gettid())).join();
                let granted = realtime();
                let child = scheduling_of_child().unwrap();
                tell.send((gettid(), granted, child)).unwrap();
                while !END.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let (thread, granted, child) = told.recv().unwrap();
            assert_eq!(child, (0, libc::SCHED_OTHER), "reset on fork");
            match granted {
                Scheduling::Realtime => {
                    assert_eq!(scheduling(thread), (1, libc::SCHED_FIFO));
                    overrun.recv().await;
                    demote(thread).unwrap();
                    // The brake that was used up is whole again for the next one.
                    brake().unwrap();
                    let limits = getrlimit(Resource::RLIMIT_RTTIME).unwrap();
                    assert_eq!(limits, (100_000, 2_000_000));
                }
                Scheduling::Normal { reason } => assert!(reason.contains("SCHED_FIFO"), "{reason}"),
            }
            assert_eq!(scheduling(thread), (0, libc::SCHED_OTHER));
            END.store(true, Ordering::Relaxed);
            runaway.join().unwrap();
        });
    }
}
