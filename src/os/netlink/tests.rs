//! What is lost, breaks off or changes is never taken for complete.

use super::*;

fn datagram(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, (kind, NLM_F_MULTI, 1), payload, &[]);
    bytes
}

fn end(kind: u16, payload: &[u8]) -> Option<Result<(), Option<i32>>> {
    let bytes = datagram(kind, payload);
    let message = split(&bytes).next().unwrap().unwrap();
    let end = message.end();
    end.map(|end| end.map_err(|error| error.raw_os_error()))
}

#[test]
fn a_list_that_breaks_off_is_an_error() {
    let code = |code: i32| code.to_ne_bytes();
    assert_eq!(end(NLMSG_DONE, &code(0)), Some(Ok(())));
    assert_eq!(end(NLMSG_DONE, &[]), Some(Ok(())));
    let too_large = Errno::EMSGSIZE as i32;
    assert_eq!(
        end(NLMSG_DONE, &code(-too_large)),
        Some(Err(Some(too_large)))
    );
    assert_eq!(end(NLMSG_ERROR, &code(0)), Some(Ok(())));
    assert_eq!(end(NLMSG_ERROR, &code(-1)), Some(Err(Some(1))));
    assert_eq!(end(NLMSG_ERROR, &[]), Some(Err(None)));
    assert_eq!(end(16, &code(-1)), None);
}

/// Both ends of what stands in for the kernel.
fn pair() -> (Socket, OwnedFd) {
    let (ours, theirs) = nix::sys::socket::socketpair(
        AddressFamily::Unix,
        SockType::Datagram,
        None,
        SockFlag::empty(),
    )
    .unwrap();
    let socket = Socket {
        fd: ours,
        port: 0,
        sequence: 1,
        changed: false,
        buffer: vec![0; 64],
    };
    (socket, theirs)
}

#[test]
fn a_datagram_that_is_larger_than_the_buffer_is_asked_for_again() {
    let (mut socket, kernel) = pair();
    let answer = || {
        for bytes in [datagram(16, &[7; 400]), datagram(NLMSG_DONE, &[0; 4])] {
            send(kernel.as_raw_fd(), &bytes, MsgFlags::empty()).unwrap();
        }
    };
    let read = |socket: &mut Socket| {
        let mut lengths = Vec::new();
        let each = &mut |message: &Message<'_>| lengths.push(message.payload.len());
        let result = socket.converse(&[0; 16], each);
        (result.map_err(|error| error.to_string()), lengths)
    };
    answer();
    let stale = Error::Stale.to_string();
    assert_eq!(read(&mut socket), (Err(stale), vec![]));
    answer();
    assert_eq!(read(&mut socket), (Ok(()), vec![400]));
}

#[test]
fn a_notification_that_is_larger_than_the_buffer_is_lost() {
    let (socket, kernel) = pair();
    let mut buffer = [0; 64];
    send(kernel.as_raw_fd(), &[0; 65], MsgFlags::empty()).unwrap();
    send(kernel.as_raw_fd(), &[0; 64], MsgFlags::empty()).unwrap();
    for lost in [true, false] {
        let next = hear(socket.fd.as_fd(), &mut buffer).unwrap();
        assert_eq!(matches!(next, Next::Lost), lost);
    }
    send(kernel.as_raw_fd(), &[0; 65], MsgFlags::empty()).unwrap();
    let (next, _) = hear_from(socket.fd.as_fd(), &mut buffer).unwrap();
    assert!(matches!(next, Next::Lost));
}

#[test]
fn a_list_that_changed_while_it_was_read_is_stale() {
    let (mut socket, kernel) = pair();
    let mut bytes = Vec::new();
    append(&mut bytes, (16, NLM_F_MULTI | NLM_F_DUMP_INTR, 1), &[], &[]);
    append(&mut bytes, (NLMSG_DONE, NLM_F_MULTI, 1), &[0; 4], &[]);
    send(kernel.as_raw_fd(), &bytes, MsgFlags::empty()).unwrap();
    let result = socket.converse(&[0; 16], &mut |_| {});
    assert!(matches!(result, Err(Error::Stale)), "{result:?}");
}
