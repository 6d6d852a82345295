//! iptables and ip6tables: found, read, and changed in one transaction a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use ::iptables::IPTables;
use serde::Serialize;

use super::exec::{LIMIT, LOCK_WAIT_SECONDS, within};
use crate::config::sanitize_message;
use crate::config::settings::Backend as BackendChoice;
use crate::ruleset::{Family, ParseError, Table, parse_listing, parse_save};

/// Where the tools are looked for, in this order; never through `PATH`.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Which half of the kernel an iptables program talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// iptables-nft: the rules live in nf_tables.
    Nft,
    /// iptables-legacy: the rules live in the older xtables.
    Legacy,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
        })
    }
}

/// What went wrong with an iptables command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No program of that name in any of the directories.
    #[error("{names} not found in {}: install {}", DIRECTORIES.join(", "), if names == "nft" { "nftables" } else { "iptables" })]
    NotFound {
        /// The names that were looked for.
        names: String,
    },
    /// The program could not be started, or did not end.
    #[error("{command}: {source}")]
    Run {
        /// The command as one could type it.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The lock was held by another program for too long, or the kernel was out of resources (exit
    /// code 4).
    #[error(
        "{command}: {message} (iptables exited with 4: another program holds the lock, which \
         `fuser -v /run/xtables.lock` names, or the kernel is out of memory)"
    )]
    Busy {
        /// The command as one could type it.
        command: String,
        /// What the tool said.
        message: String,
    },
    /// The kernel or the tool does not have that table (exit code 3).
    #[error("{command}: the kernel has no such table: {message}")]
    NoTable {
        /// The command as one could type it.
        command: String,
        /// What the tool said.
        message: String,
    },
    /// Any other failure.
    #[error("{command}: exit code {code}: {message}")]
    Failed {
        /// The command as one could type it.
        command: String,
        /// The exit code, or −1 for a signal.
        code: i32,
        /// What the tool said.
        message: String,
    },
    /// The tool's output was not what iptables prints.
    #[error("{command}: its output could not be understood: {message}")]
    Output {
        /// The command as one could type it.
        command: String,
        /// Where and why.
        message: String,
    },
}

/// iptables or ip6tables of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// Which family it is for.
    pub family: Family,
    /// Which half of the kernel it talks to.
    pub backend: Backend,
    /// The absolute path that is run.
    pub path: &'static str,
    /// The version it names, without the `v`.
    pub version: String,
}

impl Tool {
    /// Finds the program for `family`; `auto` takes the system's own `iptables`, which is what
    /// Docker and the ECS agent use.
    pub fn find(family: Family, choice: BackendChoice) -> Result<Self, Error> {
        let base = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let names = match choice {
            BackendChoice::Auto => vec![
                base.to_owned(),
                format!("{base}-nft"),
                format!("{base}-legacy"),
            ],
            BackendChoice::Nft => vec![format!("{base}-nft")],
            BackendChoice::Legacy => vec![format!("{base}-legacy")],
        };
        let found = names.iter().find_map(|name| {
            DIRECTORIES
                .iter()
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.is_file())
        });
        let Some(path) = found else {
            return Err(Error::NotFound {
                names: names.join(", "),
            });
        };
        let path = intern(&path);
        let program = Program::of(path);
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(path).filter(|(then, _)| program == Some(*then));
        if let Some((_, tool)) = before {
            return Ok(tool.clone());
        }
        drop(known);
        let tool = Self::identify(family, path)?;
        if let Some(program) = program {
            let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(path, (program, tool.clone()));
        }
        Ok(tool)
    }

    fn identify(family: Family, path: &'static str) -> Result<Self, Error> {
        let (command, output) = run_to_end(Path::new(path), &["--version"], None)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // "iptables v1.8.9 (nf_tables)"; before 1.8 no parenthesis, and legacy was all there was.
        let version = text
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.strip_prefix('v'));
        let Some(version) = version else {
            return Err(Error::Output {
                command,
                message: sanitize_message(&text),
            });
        };
        let backend = if text.contains("(nf_tables)") {
            Backend::Nft
        } else {
            Backend::Legacy
        };
        Ok(Self {
            family,
            backend,
            path,
            version: version.to_owned(),
        })
    }

    /// Reads one table.
    pub fn list(&self, table: &str) -> Result<Table, Error> {
        match self.backend {
            Backend::Nft => self.list_nft(table),
            Backend::Legacy => self.list_legacy(table),
        }
    }

    /// By iptables-save, which reads a table at one moment and does not take the lock as `-S` does: an
    /// iptables without `-w` that finds the lock taken fails.
    fn list_legacy(&self, table: &str) -> Result<Table, Error> {
        let path = PathBuf::from(format!("{}-save", self.path));
        let arguments = ["-t", table];
        let (command, output) = run_to_end(&path, &arguments, None)?;
        let not_understood = |error: ParseError| Error::Output {
            command: command.clone(),
            message: error.to_string(),
        };
        let mut ruleset = parse_save(self.family, &output.stdout).map_err(not_understood)?;
        let read = ruleset.tables.remove(table);
        read.ok_or_else(|| Error::Output {
            command: command.clone(),
            message: format!("table {table} is missing"),
        })
    }

    fn list_nft(&self, table: &str) -> Result<Table, Error> {
        let arguments = format!("-w {LOCK_WAIT_SECONDS} -S");
        let command = format!("{} -t {table} {arguments}", self.path);
        // The wait is given by hand: the crate would add one without a limit. It also gets the
        // whole path, which its own constructor would look up in PATH.
        let tool = IPTables {
            cmd: self.path,
            has_check: true,
            has_wait: false,
            is_numeric: false,
        };
        let name = table.to_owned();
        let output = within(LIMIT, Path::new(self.path), move || {
            tool.execute(&name, &arguments)
                .map_err(|error| io::Error::other(error.to_string()))
        })
        .map_err(|source| Error::Run {
            command: command.clone(),
            source,
        })?;
        let output = succeed(&command, output)?;
        parse_listing(self.family, table, &output.stdout).map_err(|error| Error::Output {
            command,
            message: error.to_string(),
        })
    }

    /// All tables, as iptables-save prints them. Of iptables-legacy those that the kernel holds: none is
    /// made by looking.
    pub fn save(&self) -> Result<String, Error> {
        let path = PathBuf::from(format!("{}-save", self.path));
        let (_, output) = run_to_end(&path, &[], None)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Feeds one transaction to `iptables-restore --noflush`.
    pub fn restore(&self, input: &str) -> Result<(), Error> {
        let path = PathBuf::from(format!("{}-restore", self.path));
        let wait = LOCK_WAIT_SECONDS.to_string();
        let arguments = ["--noflush", "-w", &wait];
        run_to_end(&path, &arguments, Some(input.to_owned())).map(drop)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.backend, self.version, self.path)
    }
}

/// The rules of nf_tables as `nft list ruleset` prints them.
pub fn nft_ruleset() -> Result<String, Error> {
    let paths = DIRECTORIES.iter().map(|dir| Path::new(dir).join("nft"));
    let path = paths.into_iter().find(|path| path.is_file());
    let path = path.ok_or_else(|| Error::NotFound {
        names: "nft".to_owned(),
    })?;
    let (_, output) = run_to_end(&path, &["list", "ruleset"], None)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The tables of a family that the older xtables half of the kernel holds. Listing one that does not
/// exist would make it.
#[must_use]
pub fn legacy_tables(family: Family) -> Vec<String> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Absent where the kernel has no xtables.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Runs a program that has to succeed. Returns the command as one could type it, and its output.
fn run_to_end(
    path: &Path,
    arguments: &[&str],
    input: Option<String>,
) -> Result<(String, Output), Error> {
    let command = format!("{} {}", path.display(), arguments.join(" "));
    let output = run(path, arguments, input).map_err(|source| Error::Run {
        command: command.clone(),
        source,
    })?;
    Ok((command.clone(), succeed(&command, output)?))
}

fn run(path: &Path, arguments: &[&str], input: Option<String>) -> io::Result<Output> {
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    within(LIMIT, path, move || {
        let mut child = command.spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A tool that refuses its input early says why on stderr: that is the error to report.
            let _told_by_the_tool = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    })
}

/// Turns a failed command into the error that its exit code stands for (iptables(8), exit codes;
/// include/xtables.h: 2 usage, 3 version, 4 resource).
fn succeed(command: &str, output: Output) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let command = command.to_owned();
    let message = sanitize_message(&String::from_utf8_lossy(&output.stderr));
    Err(match output.status.code() {
        Some(3) => Error::NoTable { command, message },
        Some(4) => Error::Busy { command, message },
        code => Error::Failed {
            command,
            code: code.unwrap_or(-1),
            message,
        },
    })
}

/// The tools that said which they are, by path; they are asked again where the program is another one.
static KNOWN: Mutex<BTreeMap<&str, (Program, Tool)>> = Mutex::new(BTreeMap::new());

/// A program's file, as it differs from one that is installed in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Program {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Program {
    /// That of a path which leads to iptables' own program; `None` for any other, such as a script, which may run
    /// something else the next time.
    fn of(path: &str) -> Option<Self> {
        let file = std::fs::canonicalize(path).ok()?;
        let own = ["xtables-nft-multi", "xtables-legacy-multi"];
        let is_own = file
            .file_name()
            .is_some_and(|name| own.iter().any(|own| name == *own));
        let of = file.metadata().ok().filter(|_| is_own)?;
        Some(Self {
            device: of.dev(),
            inode: of.ino(),
            changed: (of.ctime(), of.ctime_nsec()),
        })
    }
}

/// The crate wants a `&'static str`. There are at most a handful of paths; each is kept once.
fn intern(path: &Path) -> &'static str {
    static PATHS: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    let path = path.to_string_lossy();
    if let Some(known) = paths.get(path.as_ref()) {
        return known;
    }
    let kept: &'static str = Box::leak(path.into_owned().into_boxed_str());
    paths.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_known_again_until_another_one_stands_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let of = |name: &str| Program::of(&path(name));
        fs::write(path("xtables-nft-multi"), "one").unwrap();
        fs::write(path("wrapper"), "#!/bin/sh").unwrap();
        symlink("xtables-nft-multi", path("iptables")).unwrap();
        let first = of("iptables");
        assert!(first.is_some());
        assert_eq!(of("iptables"), first);
        fs::write(path("new"), "two").unwrap();
        fs::rename(path("new"), path("xtables-nft-multi")).unwrap();
        assert!(of("iptables").is_some_and(|now| Some(now) != first));
        // What a script runs is not known by its file.
        assert_eq!(of("wrapper"), None);
        assert_eq!(of("nothing"), None);
    }
}
