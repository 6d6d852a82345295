//! A script in the kernel's place, for fuzz targets: what every netlink socket of this thread receives.
//! Sockets are opened as ever, but nothing is sent to the kernel and nothing is read from it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

/// The length of a message's header.
const HEADER: usize = size_of::<nix::libc::nlmsghdr>();

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

#[derive(Default)]
struct Script {
    /// The datagrams that come in answer to requests.
    answers: VecDeque<Vec<u8>>,
    /// Those that come by themselves, each with the number of the namespace that it is from.
    notices: VecDeque<(Option<i32>, Vec<u8>)>,
    /// The socket that asked last, and the number of its request.
    asked: Option<(RawFd, [u8; 4])>,
}

/// Answers all requests from now on with these datagrams. Before each stand its length in two bytes, the
/// lower one first, and where it comes from in one. A message whose number is 0 gets that of the last
/// request.
pub fn answer(bytes: &[u8]) {
    let answers = datagrams(bytes).map(|(_, datagram)| datagram.to_vec());
    let answers = answers.collect();
    SCRIPT.replace(Script {
        answers,
        ..Script::default()
    });
}

/// Sends these datagrams to whoever listens. 0 is the socket's own namespace.
pub fn notify(bytes: &[u8]) {
    let notices = datagrams(bytes).map(|(from, datagram)| {
        let from = (from > 0).then_some(i32::from(from));
        (from, datagram.to_vec())
    });
    SCRIPT.with_borrow_mut(|script| script.notices = notices.collect());
}

fn datagrams(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let ([low, high, from], after) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        Some((*from, datagram))
    })
}

/// As send(2).
#[allow(clippy::unnecessary_wraps, reason = "as send(2)")]
pub(super) fn send(fd: RawFd, bytes: &[u8], _: MsgFlags) -> nix::Result<usize> {
    let sequence = bytes.get(8..).and_then(|rest| rest.first_chunk().copied());
    SCRIPT.with_borrow_mut(|script| script.asked = Some((fd, sequence.unwrap_or_default())));
    Ok(bytes.len())
}

/// As recv(2) with MSG_TRUNC. After the last answer nothing comes any more.
pub(super) fn recv(_: RawFd, buffer: &mut [u8], _: MsgFlags) -> nix::Result<usize> {
    SCRIPT.with_borrow_mut(|script| {
        let mut datagram = script.answers.pop_front().ok_or(Errno::EAGAIN)?;
        if let Some((_, sequence)) = script.asked {
            number(&mut datagram, sequence);
        }
        copy(&datagram, buffer);
        Ok(datagram.len())
    })
}

/// What comes by itself, or in answer to a request of this socket.
pub(super) fn receive_from(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> nix::Result<(Option<usize>, Option<i32>)> {
    let asked = SCRIPT.with_borrow(|script| script.asked.map(|(fd, _)| fd));
    if asked == Some(fd.as_raw_fd()) {
        let length = recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?;
        return Ok(((length <= buffer.len()).then_some(length), None));
    }
    let notice = SCRIPT.with_borrow_mut(|script| script.notices.pop_front());
    let (from, datagram) = notice.ok_or(Errno::EAGAIN)?;
    copy(&datagram, buffer);
    let length = datagram.len();
    Ok(((length <= buffer.len()).then_some(length), from))
}

fn copy(datagram: &[u8], buffer: &mut [u8]) {
    for (to, from) in buffer.iter_mut().zip(datagram) {
        *to = *from;
    }
}

/// Gives the messages without a number the request's.
fn number(datagram: &mut [u8], sequence: [u8; 4]) {
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk_mut::<HEADER>() {
        let length = header.first_chunk().copied().map_or(0, u32::from_ne_bytes) as usize;
        if let [_, _, _, _, _, _, _, _, place @ .., _, _, _, _] = header
            && *place == [0; 4]
        {
            *place = sequence;
        }
        let next = length.next_multiple_of(4).max(HEADER);
        rest = rest.get_mut(next..).unwrap_or_default();
    }
}
