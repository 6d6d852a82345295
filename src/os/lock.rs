//! One guard at a time: an advisory lock on a file in the runtime directory, and one on a file of the
//! network namespace in [`NAMESPACES`], so that guards with different runtime directories exclude each
//! other too.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::sanitize;

/// Where the locks of network namespaces are, whatever the runtime directory is. Root's alone: a lock
/// that any process could take would be a way to keep the guard out.
const NAMESPACES: &str = "/run/ecs-netguard";

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another guard holds it.
    #[error(
        "{holder} is running, and only one program may keep this host's rules: stop it first \
         (systemctl stop ecs-netguard); it holds {}", .path.display()
    )]
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
    _files: Vec<Flock<File>>,
}

impl Lock {
    /// Takes the lock for `command` (`run`, `apply`, `release`), or says which process holds it. Where
    /// [`NAMESPACES`] cannot be written to, the one in `runtime_dir` has to do.
    pub fn take(runtime_dir: &Path, command: &str) -> Result<Self, Error> {
        let mut files = vec![lock(runtime_dir, "lock", command)?];
        if let Ok(namespace) = std::fs::metadata("/proc/thread-self/ns/net") {
            let name = format!("netns-{}.lock", namespace.ino());
            match lock(Path::new(NAMESPACES), &name, command) {
                Ok(file) => files.push(file),
                Err(held @ Error::Held { .. }) => return Err(held),
                Err(Error::Io { .. }) => {}
            }
        }
        Ok(Self { _files: files })
    }
}

fn lock(dir: &Path, name: &str, command: &str) -> Result<Flock<File>, Error> {
    let path = dir.join(name);
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
        .create(dir)
        .map_err(io("create the directory of"))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("open"))?;
    // Whoever may open it may lock it. One that is there may be older, or another program's.
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(io("set the mode of"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let holder = format!("ecs-netguard {command} (pid {})\n", std::process::id());
            file.set_len(0).map_err(io("truncate"))?;
            file.write_all(holder.as_bytes()).map_err(io("write"))?;
            Ok(file)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_can_open_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mode = || std::fs::metadata(&path).unwrap().mode() & 0o777;
        drop(lock(dir.path(), "lock", "run").unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(lock(dir.path(), "lock", "run").unwrap());
        assert_eq!(mode(), 0o600);
    }
}
