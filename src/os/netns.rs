//! Network namespaces: opening one, knowing which it is, doing something in it.
//!
//! Nothing here keeps a namespace alive for longer than the value that was opened: an open handle,
//! and a socket made inside, pin it, and with it the interfaces that should go back to the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    /// The number of the file system that handles are files of.
    device: u64,
    /// Its number, by which `/proc/PID/ns/net` names it: no other that lives has the same.
    pub inode: u64,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Netns {
    /// Opens one by its handle, `/proc/PID/ns/net` or a mount of it. [`io::ErrorKind::InvalidInput`]
    /// where the file is none: Docker makes an ordinary file and mounts the handle over it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let of = file.metadata()?;
        let (device, inode) = (of.dev(), of.ino());
        Ok(Self {
            file,
            device,
            inode,
        })
    }

    /// The inode of the namespace of which `path` is a handle, without opening it; `None` where it is
    /// no handle, as of this one.
    pub fn identify(&self, path: &Path) -> io::Result<Option<u64>> {
        let of = std::fs::metadata(path)?;
        // All handles are files of the one nsfs.
        Ok((of.dev() == self.device).then(|| of.ino()))
    }

    /// That of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Does `work` inside and comes back. The calling thread must be one that does nothing else
    /// meanwhile. The outer error: it could not be entered.
    ///
    /// A thread that cannot come back to `home` would do in a task's namespace what it means to do on
    /// the host: that ends the process.
    pub fn with<T>(&self, home: &Self, work: impl FnOnce() -> T) -> io::Result<T> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        let result = work();
        if setns(&home.file, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
        Ok(result)
    }

    /// The inode of the user namespace that owns it: only a process with a capability there has it here.
    pub fn owner(&self) -> io::Result<u64> {
        // SAFETY: the request takes no argument, and answers with a new descriptor or an error
        // (ioctl_ns(2)).
        let fd = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::NS_GET_USERNS) };
        let fd = Errno::result(fd)?;
        // SAFETY: the kernel opened it just now, for this call alone.
        let owner = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(owner.metadata()?.ino())
    }
}

/// The number that a socket's network namespace has for as long as the machine runs, unlike the inode,
/// which is given again; `None` before Linux 5.14.
#[must_use]
pub fn cookie(socket: BorrowedFd<'_>) -> Option<u64> {
    /// asm-generic/socket.h.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut value: u64 = 0;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option gives a u64, for which there is room, as `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}
