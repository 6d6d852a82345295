//! One guard at a time: an advisory lock on a file in the runtime directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::sanitize;

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another guard holds it.
    #[error("{holder} already keeps this host's rules (lock {})", .path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// `ecs-netguard run (pid 812)`.
        holder: String,
    },
    /// The file could not be made or locked.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The lock, held until it is dropped or the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock for `command` (`run`, `apply`, `release`), or says who has it.
    pub fn take(runtime_dir: &Path, command: &str) -> Result<Self, Error> {
        let path = runtime_dir.join("lock");
        let io = |operation| {
            let path = path.clone();
            move |source| Error::Io {
                path,
                operation,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(runtime_dir)
            .map_err(io("create the directory of"))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io("open"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let holder = format!("ecs-netguard {command} (pid {})\n", std::process::id());
                file.set_len(0).map_err(io("truncate"))?;
                file.write_all(holder.as_bytes()).map_err(io("write"))?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let read = file
                    .rewind()
                    .and_then(|()| file.read_to_string(&mut holder));
                let holder = match read {
                    Ok(length) if length > 0 => sanitize(holder.trim()),
                    _ => "another ecs-netguard".to_owned(),
                };
                Err(Error::Held { path, holder })
            }
            Err((_, errno)) => Err(io("lock")(errno.into())),
        }
    }
}
