//! The system calls by which datagrams come and go. Fuzz targets have a script in their place.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, recvmsg};
pub(super) use nix::sys::socket::{recv, send};

/// Receives a datagram where one is waiting: its length, unless the buffer is too small for it, and the
/// number (nsid) of the namespace that it came from, where that is not the socket's own.
pub(super) fn receive_from(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> nix::Result<(Option<usize>, Option<i32>)> {
    let mut space = nix::cmsg_space!(libc::c_int);
    let mut into = [IoSliceMut::new(buffer)];
    let (fd, flags) = (fd.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let message = loop {
        match recvmsg::<NetlinkAddr>(fd, &mut into, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let number = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(message)
            if message.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && message.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            message.data_bytes.first_chunk().copied()
        }
        _ => None,
    });
    let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
    let length = (!truncated).then_some(message.bytes);
    Ok((length, number.map(i32::from_ne_bytes)))
}
