//! journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde_json::{Map, Value};
use tracing::{Level, Metadata};

const SOCKET: &str = "/run/systemd/journal/socket";

/// A socket to journald, where that listens.
pub(super) fn open() -> io::Result<UnixDatagram> {
    // What is sent may wait for journald; this asks only whether it is there.
    UnixDatagram::unbound()?.connect(SOCKET)?;
    UnixDatagram::unbound()
}

/// Sends an entry: by itself, or in a sealed memory file where it is too large for that.
pub(super) fn send(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    send_to(socket, Path::new(SOCKET), entry)
}

fn send_to(socket: &UnixDatagram, journald: &Path, entry: &[u8]) -> io::Result<()> {
    match socket.send_to(entry, journald) {
        Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {}
        sent => return sent.map(drop),
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"ecs-netguard", flags)?);
    file.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    let files = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&files)];
    let to = UnixAddr::new(journald)?;
    sendmsg(
        socket.as_raw_fd(),
        &[],
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        Some(&to),
    )?;
    Ok(())
}

/// An event as an entry. Names of fields become upper case.
pub(super) fn entry(of: &Metadata<'_>, fields: &Map<String, Value>) -> Vec<u8> {
    let mut entry = Vec::new();
    // A guarantee that is violated is critical.
    let priority = match *of.level() {
        Level::ERROR => "2",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    };
    put(&mut entry, "PRIORITY", priority);
    put(&mut entry, "SYSLOG_IDENTIFIER", "ecs-netguard");
    put(&mut entry, "TARGET", of.target());
    for (name, value) in fields {
        let name = name.to_uppercase().replace('.', "_");
        match value {
            Value::String(text) => put(&mut entry, &name, text),
            other => put(&mut entry, &name, &other.to_string()),
        }
    }
    entry
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn what_is_too_large_for_a_message_goes_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let entry = vec![b'x'; 4 << 20];
        send_to(&UnixDatagram::unbound().unwrap(), &path, &entry).unwrap();
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let got = recvmsg::<()>(
            journald.as_raw_fd(),
            &mut [],
            Some(&mut space),
            MsgFlags::empty(),
        );
        let got = got.unwrap().cmsgs().unwrap().next();
        let Some(ControlMessageOwned::ScmRights(files)) = got else {
            panic!("{got:?}");
        };
        let read = std::fs::read(format!("/proc/self/fd/{}", files[0])).unwrap();
        assert!(read == entry);
    }

    #[test]
    fn a_value_of_several_lines_has_its_length() {
        let mut entry = Vec::new();
        put(&mut entry, "A", "b=c");
        put(&mut entry, "D", "e\nf");
        assert_eq!(entry, b"A=b=c\nD\n\x03\0\0\0\0\0\0\0e\nf\n");
    }
}
