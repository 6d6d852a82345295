//! Commits to nf_tables and the programs that made them: the kernel tells it at the end of every commit.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockFlag;

use super::message::{Verb, number, string};
use super::socket::netfilter;
use crate::os::netlink::{self, Next};

/// The group NFNLGRP_NFTABLES (7, linux/netfilter/nfnetlink.h) in a mask of groups.
const GROUP: u32 = 1 << 6;

/// A commit that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its generation.
    pub generation: u32,
    /// The port of the socket that it came by.
    pub port: u32,
    /// The process that made it. In the kernel's own counting of processes.
    pub pid: u32,
    /// The process's name, at most 15 bytes.
    pub comm: String,
}

/// The commits in this network namespace, as they happen.
#[derive(Debug)]
pub struct Commits {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// What was waiting.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The commits, oldest first.
    pub commits: Vec<Commit>,
    /// Whether some were lost because there were too many to keep.
    pub lost: bool,
}

impl Commits {
    /// Begins to listen.
    ///
    /// Every rule that changes is heard too, so that one large commit overflows the socket's buffer
    /// and the end of it is lost. A filter lets nothing but that end in.
    pub fn listen() -> io::Result<Self> {
        let fd = netfilter(SockFlag::SOCK_NONBLOCK, GROUP)?;
        only_ends(fd.as_fd())?;
        Ok(Self {
            fd,
            buffer: vec![0; 4096],
        })
    }

    /// Begins to listen also in every other network namespace for which this one has a number.
    pub fn listen_everywhere() -> io::Result<Self> {
        let commits = Self::listen()?;
        netlink::listen_everywhere(commits.fd.as_fd())?;
        Ok(commits)
    }

    /// The commits in other namespaces that are waiting, each with the namespace's number; no commit
    /// where some were lost, and no number where that may have been anywhere.
    pub fn drain_everywhere(&mut self) -> io::Result<Vec<(Option<i32>, Option<Commit>)>> {
        let mut heard = Vec::new();
        self.each(|commit, nsid| {
            if commit.is_none() || nsid.is_some() {
                heard.push((nsid, commit));
            }
        })?;
        Ok(heard)
    }

    /// Everything that is waiting; empty where nothing is.
    pub fn drain(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        self.each(|commit, _| match commit {
            Some(commit) => heard.commits.push(commit),
            None => heard.lost = true,
        })?;
        Ok(heard)
    }

    /// Hands every commit that is waiting to `take`, with the number of its namespace where that is
    /// another one; `None` where some were lost.
    fn each(&mut self, mut take: impl FnMut(Option<Commit>, Option<i32>)) -> io::Result<()> {
        loop {
            match netlink::hear_from(self.fd.as_fd(), &mut self.buffer)? {
                (Next::Datagram(bytes), nsid) => {
                    for message in netlink::split(bytes) {
                        match message {
                            Ok(message) if message.kind == Verb::NewGen.kind() => {
                                take(Some(commit(message.port, message.attributes())), nsid);
                            }
                            Ok(_) => {}
                            Err(_) => take(None, nsid),
                        }
                    }
                }
                (Next::Lost, nsid) => take(None, nsid),
                (Next::Nothing, _) => return Ok(()),
            }
        }
    }
}

impl AsFd for Commits {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn commit(port: u32, attributes: &[u8]) -> Commit {
    // NFTA_GEN_ID, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME.
    Commit {
        generation: number(attributes, 1).unwrap_or_default(),
        port,
        pid: number(attributes, 2).unwrap_or_default(),
        comm: string(attributes, 3),
    }
}

/// Lets only NEWGEN messages through: a classic BPF program on the type in the netlink header.
fn only_ends(socket: BorrowedFd<'_>) -> io::Result<()> {
    const TYPE_OFFSET: u32 = 4;
    // BPF loads in network order what netlink has in the machine's own.
    let wanted = u16::from_be_bytes(Verb::NewGen.kind().to_ne_bytes());
    let step = |code: u32, yes, no, k| libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k,
    };
    let mut program = [
        step(
            libc::BPF_LD | libc::BPF_H | libc::BPF_ABS,
            0,
            0,
            TYPE_OFFSET,
        ),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            u32::from(wanted),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option takes a `struct sock_fprog`, whose pointer is to as many instructions as it
    // says; the kernel copies them and keeps neither pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
