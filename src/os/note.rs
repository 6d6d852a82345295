//! A number that outlives the process that wrote it: in memory that its parent has, too.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// The note; 0 stands for none.
#[derive(Debug)]
pub struct Note(File);

impl Note {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create(c"ecs-netguard", MFdFlags::MFD_CLOEXEC)?);
        file.write_all_at(&[0; 8], 0)?;
        Ok(Self(file))
    }

    /// The one that was handed to this process.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// Hands it to a process that is about to start.
    pub fn handed(&self) -> io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }

    /// Writes a number, or none. Where that fails the note says what it said.
    pub fn write(&self, number: Option<u64>) {
        let _kept = self.0.write_all_at(&number.unwrap_or(0).to_ne_bytes(), 0);
    }

    /// The number. Afterwards there is none.
    #[must_use]
    pub fn take(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        self.write(None);
        Some(u64::from_ne_bytes(bytes)).filter(|number| *number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_taken_once() {
        let note = Note::new().unwrap();
        assert_eq!(note.take(), None);
        note.write(Some(7));
        assert_eq!(note.take(), Some(7));
        assert_eq!(note.take(), None);
        note.write(Some(8));
        note.write(None);
        assert_eq!(note.take(), None);
    }
}
