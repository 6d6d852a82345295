//! What Docker keeps in files: its default bridge, and its containers' names, labels and network namespaces.
//!
//! Docker itself is not asked. Whoever may talk to its socket is root, and the daemon gives away the right to
//! talk to any ([`super::confine::confine_daemon`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;

use crate::config::FileText;

/// Where dockerd notes its number while it runs.
const PIDFILE: &str = "/run/docker.pid";
const CONFIG: &str = "/etc/docker/daemon.json";

/// The name that the default bridge has by default (dockerd(8), "bridge").
const USUAL: &str = "docker0";
/// Where Docker's data are by default (dockerd(8), "data-root").
const DATA: &str = "/var/lib/docker";

/// A run of dockerd: its number as text, and when it noted that.
type Run = (String, SystemTime);

/// How the running dockerd was configured, which does not change as long as it runs; its daemon.json may.
static CONFIGURED: Mutex<Option<(Run, Configured)>> = Mutex::new(None);

/// What dockerd is configured to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Configured {
    /// `None` where it is to have no default bridge.
    bridge: Option<String>,
    data: PathBuf,
}

/// The name of the default bridge; `None` where Docker is configured to have none. `problems` gets what could not be read,
/// ready for a person.
pub fn default_bridge(problems: &mut Vec<String>) -> Option<String> {
    configured(problems).bridge
}

fn configured(problems: &mut Vec<String>) -> Configured {
    let Some(run) = running() else {
        return Configured::read(&[], problems);
    };
    let mut known = CONFIGURED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((of, configured)) if *of == run => configured.clone(),
        _ => {
            let before = problems.len();
            let configured = Configured::read(&command_line(&run.0), problems);
            // What could not be read now may be later.
            *known = (problems.len() == before).then(|| (run, configured.clone()));
            configured
        }
    }
}

fn running() -> Option<Run> {
    let number = FileText::read(Path::new(PIDFILE)).text()?.trim().to_owned();
    let noted = fs::metadata(PIDFILE)
        .and_then(|meta| meta.modified())
        .ok()?;
    Some((number, noted))
}

/// A container as Docker keeps it (moby/moby, daemon/container/container.go: `config.v2.json`, which it writes
/// whenever the container changes).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name, without the slash that Docker has before it.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The handle on its network namespace.
    pub sandbox_key: String,
}

impl Container {
    /// The one with this id, where Docker has it and its file can be read.
    #[must_use]
    pub fn with_id(id: &str) -> Option<Self> {
        let mut directories = directories().into_iter();
        directories.find_map(|directory| Self::read(&directory.join(id).join(FILE)).ok())
    }

    /// The one that a file describes. The error is a clause that follows the file's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        match FileText::read(path) {
            FileText::Absent => Err("is gone".to_owned()),
            FileText::Unreadable(problem) => Err(problem),
            FileText::Text(text) => Self::parse(&text),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let kept: Kept = serde_json::from_str(text)
            .map_err(|error| format!("is not what Docker writes: {error}"))?;
        let name = kept.name.trim_start_matches('/');
        Ok(Self {
            name: (!name.is_empty()).then(|| name.to_owned()),
            labels: kept.config.labels.unwrap_or_default(),
            sandbox_key: kept.network_settings.sandbox_key,
        })
    }
}

/// The file of each container, with the time of its last change.
#[must_use]
pub fn container_files() -> Vec<(PathBuf, SystemTime)> {
    let entries = directories().into_iter().flat_map(fs::read_dir).flatten();
    let files = entries.flatten().filter_map(|entry| {
        let path = entry.path().join(FILE);
        let changed = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
        Some((path, changed))
    });
    files.collect()
}

const FILE: &str = "config.v2.json";

/// Where containers' directories are: with `userns-remap`, below one that is named after the user and group
/// (dockerd(8): `/var/lib/docker/231072.231072`).
fn directories() -> Vec<PathBuf> {
    // What is wrong with its configuration is reported with the default bridge.
    let data = configured(&mut Vec::new()).data;
    let entries = fs::read_dir(&data).into_iter().flatten().flatten();
    let remapped = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        name.and_then(|name| name.split_once('.'))
            .is_some_and(|(user, group)| digits(user) && digits(group))
    });
    let roots = remapped.chain([data.clone()]);
    roots.map(|root| root.join("containers")).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(default)]
    name: String,
    config: Config,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    sandbox_key: String,
}

/// The arguments of the process, where it is dockerd.
fn command_line(number: &str) -> Vec<String> {
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let mut words = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned());
    match words.next() {
        Some(program) if program.rsplit('/').next() == Some("dockerd") => words.collect(),
        _ => Vec::new(),
    }
}

/// The last value of an option: `--bridge br0`, `--bridge=br0`, `-b br0`, `-b=br0`, `-bbr0`.
fn option<'a>(arguments: &'a [String], long: &str, short: &str) -> Option<&'a str> {
    let mut value = None;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == long || (word == short && !short.is_empty()) {
            value = words.next();
        } else if let Some(rest) = word
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='))
        {
            value = Some(rest);
        } else if !short.is_empty()
            && !word.starts_with("--")
            && let Some(rest) = word.strip_prefix(short)
        {
            value = Some(rest.strip_prefix('=').unwrap_or(rest));
        }
    }
    value.filter(|value| !value.is_empty())
}

impl Configured {
    /// By dockerd's arguments, and by the daemon.json that they name.
    fn read(arguments: &[String], problems: &mut Vec<String>) -> Self {
        let file = option(arguments, "--config-file", "").unwrap_or(CONFIG);
        let file = Self::in_file(Path::new(file), problems);
        let bridge = option(arguments, "--bridge", "-b");
        // `--graph` until Docker 23.
        let data = option(arguments, "--data-root", "").or(option(arguments, "--graph", "-g"));
        Self {
            bridge: bridge.map_or(file.bridge, |name| {
                Some(name.to_owned()).filter(|n| n != "none")
            }),
            data: data.map_or(file.data, PathBuf::from),
        }
    }

    fn in_file(path: &Path, problems: &mut Vec<String>) -> Self {
        let mut configured = Self {
            bridge: Some(USUAL.to_owned()),
            data: DATA.into(),
        };
        let problem = match FileText::read(path) {
            FileText::Absent => return configured,
            FileText::Text(text) if text.trim().is_empty() => return configured,
            FileText::Text(text) => match serde_json::from_str::<Value>(&text) {
                Ok(file) => {
                    let text = |key| file.get(key).and_then(Value::as_str);
                    match text("bridge") {
                        None | Some("") => {}
                        Some("none") => configured.bridge = None,
                        Some(name) => configured.bridge = Some(name.to_owned()),
                    }
                    let data = text("data-root").or(text("graph"));
                    configured.data = data.map_or(configured.data, PathBuf::from);
                    return configured;
                }
                Err(error) => format!("is not valid JSON: {error}"),
            },
            FileText::Unreadable(problem) => problem,
        };
        let path = path.display();
        problems.push(format!(
            "{path} {problem}; taking {USUAL} as the default bridge"
        ));
        configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_what_its_file_says() {
        let text = r#"{"State":{"Running":true},"ID":"aa","Name":"/web","Config":{"Image":"x","Labels":
            {"com.amazonaws.ecs.task-arn":"arn"}},"NetworkSettings":{"SandboxKey":"/run/docker/netns/0"}}"#;
        let labels = [("com.amazonaws.ecs.task-arn".to_owned(), "arn".to_owned())];
        assert_eq!(
            Container::parse(text).unwrap(),
            Container {
                name: Some("web".to_owned()),
                labels: labels.into(),
                sandbox_key: "/run/docker/netns/0".to_owned(),
            }
        );
        // One that has never run.
        let bare = Container::parse(r#"{"Config":{"Labels":null}}"#).unwrap();
        assert_eq!(bare, Container::default());
        let deep = "[".repeat(100_000);
        let odd = [
            "",
            "{}",
            "null",
            "<html>",
            "[1]",
            r#"{"Config":{"Labels":{"a":7}}}"#,
            &deep,
        ];
        for text in odd {
            let problem = Container::parse(text).unwrap_err();
            assert!(
                problem.starts_with("is not what Docker writes: "),
                "{problem}"
            );
        }
        let missing = Container::read(Path::new("/nonexistent/config.v2.json"));
        assert_eq!(missing, Err("is gone".to_owned()));
    }

    #[test]
    fn the_command_line_names_it_as_dockerd_reads_it() {
        let bridge = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            option(&words, "--bridge", "-b").map(str::to_owned)
        };
        for line in [
            "--bridge mybr0",
            "--bridge=mybr0",
            "-b mybr0",
            "-b=mybr0",
            "-bmybr0",
            "-b x --bridge mybr0",
        ] {
            assert_eq!(bridge(line).as_deref(), Some("mybr0"), "{line}");
        }
        for line in [
            "",
            "-H fd://",
            "--bip 172.17.0.1/16",
            "--bridge=",
            "--bridge",
        ] {
            assert_eq!(bridge(line), None, "{line}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.json");
        fs::write(
            &file,
            r#"{"bridge": "mybr0", "data-root": "/data", "mtu": 9001}"#,
        )
        .unwrap();
        let configured = |more: &str| {
            let line = format!("--config-file {} {more}", file.display());
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let mut problems = Vec::new();
            let Configured { bridge, data } = Configured::read(&words, &mut problems);
            assert_eq!(problems, [""; 0]);
            (bridge, data.display().to_string())
        };
        let of = |bridge: Option<&str>, data: &str| (bridge.map(str::to_owned), data.to_owned());
        assert_eq!(configured(""), of(Some("mybr0"), "/data"));
        assert_eq!(configured("-b none"), of(None, "/data"));
        assert_eq!(configured("-b br0 -g /old"), of(Some("br0"), "/old"));
        assert_eq!(configured("--data-root=/new"), of(Some("mybr0"), "/new"));
        fs::write(&file, r#"{"graph": "/old"}"#).unwrap();
        assert_eq!(configured(""), of(Some(USUAL), "/old"));
    }

    #[test]
    fn a_daemon_json_names_it_or_nothing_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let read = |text: Option<&str>| {
            drop(fs::remove_file(&path));
            text.iter().for_each(|text| fs::write(&path, text).unwrap());
            let mut problems = Vec::new();
            (
                Configured::in_file(&path, &mut problems).bridge,
                problems.len(),
            )
        };
        let usual = || Some(USUAL.to_owned());
        assert_eq!(read(None), (usual(), 0));
        assert_eq!(read(Some("\n")), (usual(), 0));
        assert_eq!(read(Some("{\"bridge\": \"\"}")), (usual(), 0));
        assert_eq!(
            read(Some("{\"bridge\": \"mybr0\"}")),
            (Some("mybr0".into()), 0)
        );
        assert_eq!(read(Some("{\"bridge\": \"none\"}")), (None, 0));
        assert_eq!(read(Some("{")), (usual(), 1));
        assert_eq!(read(Some(&" ".repeat(2 << 20))), (usual(), 1), "too large");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // One that were waited for would keep this test for ever.
        let mut problems = Vec::new();
        assert_eq!(
            (
                Configured::in_file(&path, &mut problems).bridge,
                problems.len()
            ),
            (usual(), 1)
        );
        assert!(problems[0].contains("FIFO"), "{problems:?}");
    }
}
