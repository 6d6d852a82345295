//! The cgroup by which tasks on the host's own network are distinguished.

use std::fmt;

use super::name::Guarantee;
use crate::ruleset::{Match, Test};

/// A cgroup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path from the hierarchy's root, without a `/` at either end.
    pub path: String,
    /// The kernel's number for it.
    pub id: u64,
}

impl Cgroup {
    /// The match on its processes' sockets, and what is to be noted of the rule.
    pub(super) fn sockets(&self) -> (Match, String) {
        let path = Match::Cgroup(Test::is(self.path.clone()));
        (path, format!(" (cgroup {})", self.id))
    }

    /// How far below the root it is: 1 for the root's children.
    #[must_use]
    pub fn level(&self) -> u32 {
        let deeper = self.path.bytes().filter(|&byte| byte == b'/').count();
        u32::try_from(deeper).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// The cgroup below which all tasks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskCgroup {
    /// It is there.
    Present(Cgroup),
    /// It is not there: no task runs.
    Absent {
        /// Where it will be.
        path: String,
    },
    /// Tasks cannot be distinguished by it on this host.
    Useless {
        /// The one that was asked for.
        path: String,
        /// Why not, as a clause.
        why: String,
    },
}

impl TaskCgroup {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Present(cgroup) => &cgroup.path,
            Self::Absent { path } | Self::Useless { path, .. } => path,
        }
    }

    /// Its path with its number, or with none where it is not there; `None` where that is not known.
    #[must_use]
    pub fn known(&self) -> Option<(String, Option<u64>)> {
        match self {
            Self::Present(Cgroup { path, id }) => Some((path.clone(), Some(*id))),
            Self::Absent { path } => Some((path.clone(), None)),
            Self::Useless { .. } => None,
        }
    }

    /// What an operator should know of it, although nothing is wrong.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Self::Absent { path } = self else {
            return None;
        };
        Some(format!(
            "{}: there is no cgroup {path} now, so there is nothing to stop; it is covered when it \
             appears",
            Guarantee::HostImdsBlock
        ))
    }
}

impl fmt::Display for TaskCgroup {
    /// The claim as a whole, where it cannot be asked packet by packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "what processes in cgroup {} send to the instance metadata service is dropped",
            self.path()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_known_by_its_path_and_its_number_while_it_exists() {
        let path = || "a.slice".to_owned();
        let why = "of version 1".to_owned();
        let present = TaskCgroup::Present(Cgroup {
            path: path(),
            id: 7,
        });
        let useless = TaskCgroup::Useless { path: path(), why };
        let absent = TaskCgroup::Absent { path: path() };
        for (tasks, known, noted) in [
            (present, Some((path(), Some(7))), false),
            (absent, Some((path(), None)), true),
            (useless, None, false),
        ] {
            assert_eq!(tasks.path(), "a.slice");
            assert_eq!((tasks.known(), tasks.note().is_some()), (known, noted));
            let claim = "what processes in cgroup a.slice send to the instance metadata service is \
                         dropped";
            assert_eq!(tasks.to_string(), claim);
        }
    }

    #[test]
    fn levels_are_counted_from_the_root() {
        let level = |path: &str| {
            let path = path.to_owned();
            Cgroup { path, id: 1 }.level()
        };
        assert_eq!((level("a.slice"), level("a/b/c")), (1, 3));
    }
}
