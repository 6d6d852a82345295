//! Reading one input file without trusting it: it may be huge, binary, a FIFO, or gone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The most that is read of an input. A real ecs.config has some hundred bytes, one with every known variable
/// and large JSON values some ten thousand; a file beyond this is an accident (a log, an image) and would cost
/// the daemon memory at every look.
pub const MAX_INPUT_BYTES: u64 = 1024 * 1024;

/// What reading one input file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileText {
    /// There is no such file. For every input that is a normal state, not an error.
    Absent,
    /// Its text. Bytes that are no UTF-8 have become U+FFFD: the agent takes bytes as they are, and a wish in a
    /// readable line must not be lost to a broken comment elsewhere in the file.
    Text(String),
    /// It is there, but what it says is not known: the reason, as a clause ready for a person.
    Unreadable(String),
}

impl FileText {
    /// Reads `path`, following symbolic links (some images link ecs.config to another place).
    ///
    /// Never blocks: only a regular file is read, and that is judged on the opened descriptor, since the path
    /// may point elsewhere a moment later. `O_NONBLOCK` makes opening a FIFO without a writer return at once.
    pub fn read(path: &Path) -> Self {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Self::Absent,
            Err(e) => return Self::Unreadable(format!("cannot be opened: {e}")),
        };
        let meta = match file.metadata() {
            Ok(meta) => meta,
            Err(e) => return Self::Unreadable(format!("cannot be examined: {e}")),
        };
        if !meta.is_file() {
            let what = if meta.is_dir() {
                "a directory"
            } else {
                "a device, socket or FIFO"
            };
            return Self::Unreadable(format!("is {what}; expected a regular file"));
        }
        let mut bytes = Vec::new();
        // One byte more than allowed: the file may grow between the look at its size and the read.
        if let Err(e) = file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes) {
            return Self::Unreadable(format!("cannot be read: {e}"));
        }
        let size = meta.len().max(bytes.len() as u64);
        if size > MAX_INPUT_BYTES {
            return Self::Unreadable(format!(
                "has {}; expected at most 1 MiB of KEY=value lines",
                human_size(size)
            ));
        }
        Self::from_bytes(&bytes)
    }

    /// The text of bytes already read.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if let Some(at) = bytes.iter().position(|&b| b == 0) {
            let line = 1 + bytes.iter().take(at).filter(|&&b| b == b'\n').count();
            return Self::Unreadable(format!(
                "is binary (a NUL byte in line {line}); expected text"
            ));
        }
        Self::Text(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The text, where there is any.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

fn human_size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match bytes / MIB {
        0 | 1 => format!("{bytes} bytes"),
        mib => format!("{mib} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    fn reason(path: &Path) -> String {
        match FileText::read(path) {
            FileText::Unreadable(reason) => reason,
            other => panic!("expected unreadable, got {other:?}"),
        }
    }

    #[test]
    fn missing_and_dangling_are_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FileText::read(&dir.path().join("none")), FileText::Absent);
        let link = dir.path().join("link");
        symlink(dir.path().join("none"), &link).unwrap();
        assert_eq!(FileText::read(&link), FileText::Absent);
    }

    #[test]
    fn a_link_to_a_regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "A=b\n").unwrap();
        let link = dir.path().join("link");
        symlink(&target, &link).unwrap();
        assert_eq!(FileText::read(&link), FileText::Text("A=b\n".into()));
    }

    #[test]
    fn nothing_but_a_regular_file_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let start = Instant::now();
        assert!(reason(&fifo).contains("FIFO"));
        assert!(reason(dir.path()).contains("directory"));
        assert!(reason(Path::new("/dev/zero")).contains("device"));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn too_large_names_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big");
        fs::write(&big, vec![b'x'; 10 * 1024 * 1024]).unwrap();
        assert_eq!(
            reason(&big),
            "has 10 MiB; expected at most 1 MiB of KEY=value lines"
        );
        fs::write(&big, vec![b'x'; 1024 * 1024]).unwrap();
        assert!(FileText::read(&big).text().is_some());
        fs::write(&big, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(reason(&big).contains("1048577 bytes"));
    }

    #[test]
    fn nul_is_binary_and_broken_utf8_is_not() {
        assert_eq!(
            FileText::from_bytes(b"A=b\nC=\0d"),
            FileText::Unreadable("is binary (a NUL byte in line 2); expected text".into())
        );
        assert_eq!(
            FileText::from_bytes(b"A=\xff\n"),
            FileText::Text("A=\u{fffd}\n".into())
        );
    }
}
