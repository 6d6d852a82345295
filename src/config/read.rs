//! Reading files that others write without trusting them: one may be huge, binary, a FIFO, or gone. The only file of this
//! folder that reads anything.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::file::FileText;
use super::files::{EcsInputs, EcsPaths};
use super::settings::{Settings, SettingsError};

/// The most that is read of an input. A real ecs.config has some hundred bytes, one with every known variable
/// and large JSON values some ten thousand; a file beyond this is an accident (a log, an image) and would cost
/// the daemon memory at every look.
pub const MAX_INPUT_BYTES: u64 = MIB;

const MIB: u64 = 1024 * 1024;

/// Opens a regular file for reading, following symbolic links (some images link ecs.config to another place).
/// An error is a clause that follows the file's name.
///
/// Never blocks: that it is a regular file is judged on the opened descriptor, since the path may point elsewhere a
/// moment later. `O_NONBLOCK` makes opening a FIFO without a writer return at once.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let clause = |what, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| clause("cannot be opened", error))?;
    let meta = file
        .metadata()
        .map_err(|error| clause("cannot be examined", error))?;
    if meta.is_file() {
        return Ok(file);
    }
    let what = if meta.is_dir() {
        "a directory"
    } else {
        "a device, socket or FIFO"
    };
    Err(io::Error::other(format!(
        "is {what}; expected a regular file"
    )))
}

impl FileText {
    /// Reads a regular file of at most [`MAX_INPUT_BYTES`].
    pub fn read(path: &Path) -> Self {
        Self::read_at_most(path, MAX_INPUT_BYTES)
    }

    /// The same of a file that may have `limit` bytes, a number of MiB.
    pub fn read_at_most(path: &Path, limit: u64) -> Self {
        let file = match open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::Absent,
            Err(error) => return Self::Unreadable(error.to_string()),
        };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let mut bytes = Vec::new();
        // One byte more than allowed: the file may grow between the look at its size and the read.
        if let Err(e) = file.take(limit + 1).read_to_end(&mut bytes) {
            return Self::Unreadable(format!("cannot be read: {e}"));
        }
        let size = length.max(bytes.len() as u64);
        if size > limit {
            return Self::Unreadable(format!(
                "has {}; expected at most {} MiB",
                human_size(size),
                limit / MIB
            ));
        }
        Self::from_bytes(&bytes)
    }
}

impl EcsInputs {
    /// Reads the files. Never fails: what could not be read says so in its place.
    pub fn read(paths: &EcsPaths) -> Self {
        let read = |path: &PathBuf| (path.clone(), FileText::read(path));
        let config = read(&paths.config);
        let var_config = paths.var_config.as_ref().map(read);
        let ecs_init_present = paths.ecs_init().any(|path| path.exists());
        let unit = paths.units().find_map(|path| match FileText::read(&path) {
            FileText::Text(unit) => Some(unit),
            FileText::Absent | FileText::Unreadable(_) => None,
        });
        let texts = [Some(&config), var_config.as_ref()];
        let texts = texts.into_iter().flatten();
        let texts: Vec<&str> = texts.filter_map(|(_, text)| text.text()).collect();
        let candidates = paths.json(&texts, ecs_init_present);
        let mut json = candidates.iter().map(read);
        let json = json.find(|(_, text)| *text != FileText::Absent);
        let none = || {
            (
                candidates.first().unwrap_or(&paths.json).clone(),
                FileText::Absent,
            )
        };
        Self {
            json: json.unwrap_or_else(none),
            environment: paths.environment(unit.as_deref()),
            config,
            var_config,
            ecs_init_present,
        }
    }
}

impl Settings {
    /// Every error in the file at `path`.
    #[must_use]
    pub fn errors_in(path: &Path) -> Vec<SettingsError> {
        match Self::text(path) {
            Ok(text) => text.map_or_else(Vec::new, |text| Self::errors(path, &text)),
            Err(error) => vec![error],
        }
    }

    /// The text of config.toml; `None` where there is none. One that cannot be read is an error, since the wish in
    /// it is unknown.
    pub fn text(path: &Path) -> Result<Option<String>, SettingsError> {
        match FileText::read(path) {
            FileText::Absent => Ok(None),
            FileText::Text(text) => Ok(Some(text)),
            FileText::Unreadable(reason) => Err(SettingsError::Unreadable {
                path: path.to_owned(),
                reason,
            }),
        }
    }
}

fn human_size(bytes: u64) -> String {
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
        // One that were waited for would keep this test for ever.
        assert!(reason(&fifo).contains("FIFO"));
        assert!(reason(dir.path()).contains("directory"));
        assert!(reason(Path::new("/dev/zero")).contains("device"));
    }

    #[test]
    fn too_large_names_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big");
        fs::write(&big, vec![b'x'; 10 * 1024 * 1024]).unwrap();
        assert_eq!(reason(&big), "has 10 MiB; expected at most 1 MiB");
        fs::write(&big, vec![b'x'; 1024 * 1024]).unwrap();
        assert!(FileText::read(&big).text().is_some());
        fs::write(&big, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(reason(&big).contains("1048577 bytes"));
    }
}
