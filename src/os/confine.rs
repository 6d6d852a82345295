//! What the process that goes into tasks' namespaces is confined to: its signals, and the system
//! calls that it needs and no others (seccomp(2)).
//!
//! A call that is not on the list fails with EPERM instead of ending the process: were one forgotten,
//! something would be reported as trouble, and not the whole daemon start over and over.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Calls that take whatever arguments.
const PLAIN: &[libc::c_long] = &[
    // Sockets that are there, and files that are open.
    libc::SYS_bind,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_lseek,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_write,
    // Names.
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    // Memory, time, and the end.
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
];

/// Makes the calling thread one that goes on whatever signals ask it to end, since its parent decides
/// (systemd sends SIGTERM to both), and that ends with its parent.
pub fn obey_parent() -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        // SAFETY: no handler is installed, so that nothing runs when the signal comes.
        unsafe { sigaction(signal, &ignore) }?;
    }
    // SAFETY: it takes a number.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    Errno::result(result)?;
    Ok(())
}

/// Confines the calling thread, and all that it starts from now on, for good.
pub fn confine() -> io::Result<()> {
    let filter = filter().map_err(io::Error::other)?;
    // It sets PR_SET_NO_NEW_PRIVS first.
    apply_filter(&filter).map_err(io::Error::other)
}

fn filter() -> Result<Vec<seccompiler::sock_filter>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in PLAIN {
        rules.insert(*call, Vec::new());
    }
    let mut only = |call: libc::c_long, argument: u8, mask: u64, value: u64| {
        let condition = SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(mask),
            value,
        )?;
        let rule = SeccompRule::new(vec![condition])?;
        rules.entry(call).or_default().push(rule);
        Ok::<(), seccompiler::BackendError>(())
    };
    const ALL: u64 = u32::MAX as u64;
    // Files are read. (O_TMPFILE contains a bit that only comes with writing.)
    let writing = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
    only(libc::SYS_openat, 2, writing as u64, 0)?;
    only(libc::SYS_socket, 0, ALL, libc::AF_NETLINK as u64)?;
    only(libc::SYS_setns, 1, ALL, libc::CLONE_NEWNET as u64)?;
    only(libc::SYS_ioctl, 1, ALL, libc::NS_GET_USERNS)?;
    // No memory becomes code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        only(call, 2, libc::PROT_EXEC as u64, 0)?;
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        ARCH,
    )?;
    filter.try_into()
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::net::UdpSocket;
    use std::thread;

    use nix::sched::{CloneFlags, setns, unshare};
    use nix::unistd::execv;

    use super::*;

    /// Of a thread that is confined: what it can and cannot do.
    #[test]
    fn what_is_confined_can_look_and_nothing_else() {
        let thread = thread::spawn(|| {
            let here = File::open("/proc/thread-self/ns/uts").unwrap();
            confine().unwrap();
            assert!(fs::read_to_string("/proc/self/status").is_ok());
            let refused = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
            };
            let program = CString::new("/bin/true").unwrap();
            refused(execv(&program, &[&program]).map(drop).map_err(Into::into));
            refused(File::create("/tmp/ecs-netguard-confined").map(drop));
            refused(File::options().append(true).open("/dev/null").map(drop));
            refused(UdpSocket::bind("127.0.0.1:0").map(drop));
            refused(unshare(CloneFlags::CLONE_NEWNS).map_err(Into::into));
            refused(setns(here, CloneFlags::CLONE_NEWUTS).map_err(Into::into));
            refused(fs::remove_file("/tmp/ecs-netguard-confined"));
            // SAFETY: the call is refused before it does anything.
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME) };
            refused(Errno::result(traced).map(drop).map_err(Into::into));
            // SAFETY: as above; the address and length name no memory.
            let code = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_eq!(code, libc::MAP_FAILED);
        });
        thread.join().unwrap();
    }
}
