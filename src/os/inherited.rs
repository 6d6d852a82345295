//! The descriptors that systemd hands to the process at its start (sd_listen_fds(3)): those that an
//! earlier run put into its store.

use std::os::fd::{FromRawFd as _, OwnedFd};

/// Descriptors by name. What is not taken out is closed when this is dropped.
#[derive(Debug, Default)]
pub struct Inherited {
    fds: Vec<(String, OwnedFd)>,
    problem: Option<String>,
}

impl Inherited {
    /// Takes what `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` announce, marks it close-on-exec
    /// and removes the variables, so that no child sees them. Nothing where they are absent or mean
    /// another process.
    ///
    /// To be called at the start of `main`, before any thread exists and before anything is opened.
    /// A second call finds nothing.
    #[must_use]
    pub fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        // SAFETY: no other thread exists yet, so nothing reads the environment meanwhile.
        let announced = unsafe {
            std::env::remove_var("LISTEN_FDNAMES");
            sd_notify::listen_fds_and_unset_env()
        };
        // A name that is missing is "unknown", as in sd_listen_fds_with_names(3).
        let names = names.split(':').chain(std::iter::repeat("unknown"));
        match announced {
            Ok(announced) => Self {
                fds: announced
                    .zip(names)
                    .map(|(fd, name)| {
                        // SAFETY: systemd opened it for this process alone, nothing else has been
                        // notified of it, the variables that named it are gone, and the look at its
                        // flags while they were read found it open.
                        (name.to_owned(), unsafe { OwnedFd::from_raw_fd(fd) })
                    })
                    .collect(),
                problem: None,
            },
            Err(error) => Self {
                fds: Vec::new(),
                problem: Some(format!(
                    "the descriptors that systemd kept (LISTEN_PID, LISTEN_FDS) cannot be taken \
                     back: {error}"
                )),
            },
        }
    }

    /// Why nothing could be taken although something was announced; ready for a person.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes out the first one of that name.
    pub fn named(&mut self, name: &str) -> Option<OwnedFd> {
        let index = self.fds.iter().position(|(known, _)| known == name)?;
        Some(self.fds.remove(index).1)
    }
}
