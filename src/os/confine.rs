//! What the daemon's two processes are confined to by seccomp(2): the one that goes into tasks' namespaces to
//! the system calls that it needs and no others, and the daemon itself, which starts iptables, to all but those
//! by which it could get more power than it has.
//!
//! A call that is not allowed fails with EPERM instead of ending the process: were one forgotten,
//! something would be reported as trouble, and not the whole daemon start over and over.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, sock_filter,
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
    libc::SYS_pwrite64,
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

/// What the daemon does not get back, nor does what it starts.
///
/// Whoever talks to the sockets of Docker, containerd, D-Bus or systemd as uid 0 is root, with all capabilities.
/// One has to connect to each of them, and where others are is not known: so the daemon connects to nothing. To
/// the journal and to systemd's notification socket it sends datagrams, which make nobody root. The rest is what
/// would get around this filter (io_uring), reach into other processes or the kernel's memory, or is allowed by
/// the unit since the process that goes into tasks' namespaces needs it.
///
/// Calls of another architecture are not compared; the unit allows none (`SystemCallArchitectures=native`).
const GIVEN_UP: &[libc::c_long] = &[
    libc::SYS_capset,
    libc::SYS_connect,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    // Namespaces and mounts.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Other processes.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // The kernel.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_seccomp,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_userfaultfd,
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

/// Confines the calling thread, which goes into tasks' namespaces, and all that it starts from now on, for good.
pub fn confine_worker() -> io::Result<()> {
    apply(worker_filter())
}

/// Confines the calling thread, the daemon's, and all that it starts from now on, for good.
pub fn confine_daemon() -> io::Result<()> {
    let rules = GIVEN_UP.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCH,
    );
    apply(filter.and_then(TryInto::try_into))
}

fn apply(filter: Result<Vec<sock_filter>, BackendError>) -> io::Result<()> {
    // It sets PR_SET_NO_NEW_PRIVS first.
    apply_filter(&filter.map_err(io::Error::other)?).map_err(io::Error::other)
}

fn worker_filter() -> Result<Vec<sock_filter>, BackendError> {
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
        Ok::<(), BackendError>(())
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
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::thread;

    use nix::sched::{CloneFlags, setns, unshare};
    use nix::unistd::execv;

    use super::*;

    fn refused(result: io::Result<()>) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn the_daemon_connects_to_nothing_and_gets_no_power_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let receiver = UnixDatagram::bind(dir.path().join("journal")).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        let thread = thread::spawn(move || {
            let here = File::open("/proc/thread-self/ns/net").unwrap();
            confine_daemon().unwrap();
            refused(UnixStream::connect(&path).map(drop));
            let sender = UnixDatagram::unbound().unwrap();
            sender
                .send_to(b"heard", dir.path().join("journal"))
                .unwrap();
            let done = std::process::Command::new("sh")
                .args(["-c", "true"])
                .status();
            assert!(done.unwrap().success());
            refused(unshare(CloneFlags::CLONE_NEWNS).map_err(Into::into));
            refused(setns(here, CloneFlags::CLONE_NEWNET).map_err(Into::into));
            for call in GIVEN_UP {
                // SAFETY: the call is refused before it does anything.
                let result = unsafe { libc::syscall(*call, -1, 0, 0, 0, 0, 0) };
                refused(Errno::result(result).map(drop).map_err(Into::into));
            }
        });
        thread.join().unwrap();
        let mut heard = [0; 5];
        receiver.recv(&mut heard).unwrap();
        assert_eq!(&heard, b"heard");
    }

    /// Of the thread that goes into tasks' namespaces: what it can and cannot do.
    #[test]
    fn the_worker_can_look_and_nothing_else() {
        let thread = thread::spawn(|| {
            let here = File::open("/proc/thread-self/ns/uts").unwrap();
            confine_worker().unwrap();
            assert!(fs::read_to_string("/proc/self/status").is_ok());
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
