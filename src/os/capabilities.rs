//! Capabilities that the calling thread gives up (capabilities(7)). What is given up does not come
//! back, neither for it nor for what it starts.

use std::io;

use nix::errno::Errno;
use nix::libc;

/// Numbers of linux/capability.h.
pub const CAP_SETPCAP: u32 = 8;
/// Hearing what happens in other network namespaces.
pub const CAP_NET_BROADCAST: u32 = 11;
/// Changing routes and nf_tables.
pub const CAP_NET_ADMIN: u32 = 12;
/// Seeing the namespaces of other processes.
pub const CAP_SYS_PTRACE: u32 = 19;
/// Entering namespaces.
pub const CAP_SYS_ADMIN: u32 = 21;

/// No kernel has more (`CAP_LAST_CAP` is 40 in Linux 6.18).
const MOST: u32 = 63;

/// `_LINUX_CAPABILITY_VERSION_3`: masks of 64 bits, in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all that `keep` does not say yes to, from every set. Where the thread lacks CAP_SETPCAP
/// the bounding set stays as it is; true where it could be narrowed.
pub fn keep_only(keep: impl Fn(u32) -> bool) -> io::Result<bool> {
    let mut narrowed = true;
    for capability in (0..=MOST).filter(|capability| !keep(*capability)) {
        // SAFETY: it takes a number and changes a set of the calling thread.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) };
        match Errno::result(result) {
            // EINVAL: there is no such capability.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(Errno::EPERM) => narrowed = false,
            Err(errno) => return Err(errno.into()),
        }
    }
    // SAFETY: it takes no pointer and changes a set of the calling thread.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
            0,
            0,
            0,
        )
    };
    Errno::result(result)?;
    let mut halves = get()?;
    for (index, half) in halves.iter_mut().enumerate() {
        let bits = (0..32).filter(|bit| keep(*bit + 32 * index as u32));
        let mask = bits.fold(0, |mask, bit| mask | 1_u32 << bit);
        half.effective &= mask;
        half.permitted &= mask;
        half.inheritable &= mask;
    }
    set(&halves)?;
    Ok(narrowed)
}

fn get() -> io::Result<[Half; 2]> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut halves = [Half::default(); 2];
    // SAFETY: both are laid out as the call expects (capget(2)); this version writes two halves.
    let result = unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_mut(&mut header),
            halves.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    Ok(halves)
}

fn set(halves: &[Half; 2]) -> io::Result<()> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    // SAFETY: both are laid out as the call expects (capset(2)); this version reads two halves.
    let result = unsafe {
        libc::syscall(
            libc::SYS_capset,
            std::ptr::from_mut(&mut header),
            halves.as_ptr(),
        )
    };
    Errno::result(result)?;
    Ok(())
}
