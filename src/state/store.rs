//! Reading the state at the start, and keeping it on the disk.

use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, Unusable};
use super::{HISTORY, PROBE, Remembered, State, boot_id, machine_id};

/// The state, and what of it is on the disk.
#[derive(Debug)]
pub struct Store {
    /// What is to be kept; [`Store::save`] writes it.
    pub state: State,
    dir: PathBuf,
    written: Option<State>,
}

impl Store {
    /// Reads the state in `dir`; the second value says what was wrong with it. A file that cannot be
    /// used is set aside, and its previous copy taken; another machine's files are removed. Where no
    /// copy can be used what was asked for is unknown.
    #[must_use]
    pub fn open(dir: &Path) -> (Self, Option<String>) {
        Self::read(dir, set_aside, discard)
    }

    /// Like [`Self::open`], but changes nothing.
    #[must_use]
    pub fn peek(dir: &Path) -> (Self, Option<String>) {
        Self::read(dir, |_| String::new(), |_| "it is not used".to_owned())
    }

    fn read(
        dir: &Path,
        unusable: fn(&Path) -> String,
        anothers: fn(&Path) -> String,
    ) -> (Self, Option<String>) {
        let (current, previous) = (dir.join(file::CURRENT), dir.join(file::PREVIOUS));
        let (read, warning) = match file::read(&current) {
            Ok(state) => (Some(state), None),
            Err(why) => match (file::read(&previous), why) {
                (Err(Unusable::Absent), Unusable::Absent) => (None, None),
                (found, why) => {
                    let aside = match why {
                        Unusable::Absent => String::new(),
                        _ => unusable(&current),
                    };
                    let instead = match &found {
                        Ok(_) => format!("{} is used instead", previous.display()),
                        Err(_) => "what the inputs asked for before is unknown".to_owned(),
                    };
                    let warning = format!("{} {why}; {aside}{instead}", current.display());
                    (found.ok(), Some(warning))
                }
            },
        };
        let Some(mut state) = read else {
            let mut state = State::empty();
            if warning.is_some() {
                state.inputs = Remembered::LOST;
            }
            return (Self::unwritten(dir, state), warning);
        };
        let machine = machine_id();
        // A machine that does not know its own name cannot know that this is another's.
        if !machine.is_empty() && state.machine_id != machine {
            let warning = format!(
                "{} is of another machine, from which this one was made as an image; {}",
                current.display(),
                anothers(dir)
            );
            return (Self::unwritten(dir, State::empty()), Some(warning));
        }
        let on_disk = warning.is_none().then(|| state.clone());
        let boot = boot_id();
        if state.boot_id != boot {
            state.boot_id = boot;
            state.route_localnet.clear();
        }
        let store = Self {
            state,
            dir: dir.to_owned(),
            written: on_disk,
        };
        (store, warning)
    }

    fn unwritten(dir: &Path, state: State) -> Self {
        Self {
            state,
            dir: dir.to_owned(),
            written: None,
        }
    }

    /// Whether the disk holds the state as it is.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.written.as_ref() == Some(&self.state) && self.dir.join(file::CURRENT).exists()
    }

    /// Brings it onto the disk, where it is not there yet. Returns what an operator should know where
    /// that fails, the same sentence as long as the reason is the same; the next call tries again.
    pub fn save(&mut self) -> Option<String> {
        if self.is_saved() {
            return None;
        }
        let error = self.write().err()?;
        Some(format!(
            "{error}; the rules stay in place, but after a restart the daemon will not know what \
             ecs.config and config.toml asked for while they were readable, and `release` not what a sysctl was before: \
             make {} writable, with room for a few kilobytes",
            self.dir.display()
        ))
    }

    /// Writes the state to the disk.
    pub fn write(&mut self) -> Result<(), file::Error> {
        let result = file::write(&self.dir, &self.state);
        self.written = result.is_ok().then(|| self.state.clone());
        result
    }
}

/// Removes everything that the guard keeps in `dir`, so that an image takes nothing of this host
/// along. Returns what was removed.
pub fn forget(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for name in file::NAMES.into_iter().chain([HISTORY, PROBE]) {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            file::remove(&path)
                .map_err(|e| io::Error::new(e.kind(), format!("remove {}: {e}", path.display())))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Removes all that another machine's guard kept in `dir`, previous copies too. A clause that says so.
fn discard(dir: &Path) -> String {
    let removed: io::Result<()> = file::NAMES
        .into_iter()
        .try_for_each(|name| file::remove(&dir.join(name)));
    match removed {
        Ok(()) => "it is discarded".to_owned(),
        Err(error) => format!("it is not used, and could not be removed: {error}"),
    }
}

/// Moves a file away that cannot be used. A clause that says so.
fn set_aside(path: &Path) -> String {
    let aside = path.with_file_name(file::ASIDE);
    match std::fs::rename(path, &aside) {
        Ok(()) => format!("it was set aside as {}, and ", aside.display()),
        Err(error) => format!("it could not be set aside ({error}), and "),
    }
}
