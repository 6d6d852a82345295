//! Docker's default bridge, found out as ecs-init does it: Docker is asked (ecs-init/docker/docker.go,
//! `FindDefaultBridgeNetworkInterfaceName`). Where it does not answer, the command line of the running dockerd tells,
//! or else daemon.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::unix_http::{self, Failure};
use crate::config::FileText;

/// Docker's socket.
pub const SOCKET: &str = "/run/docker.sock";
/// Where dockerd notes its number while it runs. Without it Docker is not asked: systemd, which may listen in its
/// stead (docker.socket), would start it.
const PIDFILE: &str = "/run/docker.pid";
const CONFIG: &str = "/etc/docker/daemon.json";

/// Its networks by the driver `bridge`: `{"driver":["bridge"]}`, as a query has it.
const BRIDGES: &str = "/networks?filters=%7B%22driver%22%3A%5B%22bridge%22%5D%7D";
/// Docker's answer takes about a millisecond.
const LIMIT: Duration = Duration::from_millis(500);
/// The most bytes that the answer may have. A network takes about eight hundred.
const MAX_ANSWER: usize = 1024 * 1024;

/// The name that Docker has by default (dockerd(8), "bridge").
const USUAL: &str = "docker0";

/// A run of dockerd: its number as text, and when it noted that.
type Run = (String, SystemTime);

/// What dockerd answered, which does not change as long as it runs.
static ANSWERED: Mutex<Option<(Run, Option<String>)>> = Mutex::new(None);

/// The name of the default bridge; `None` where Docker is configured to have none. `problems` gets what could not be read,
/// ready for a person.
pub fn default_bridge(problems: &mut Vec<String>) -> Option<String> {
    let Some(run) = running() else {
        return in_file(Path::new(CONFIG), problems);
    };
    let mut answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*answered {
        Some((of, bridge)) if *of == run => return bridge.clone(),
        _ => {}
    }
    let answer = unix_http::get_now(Path::new(SOCKET), BRIDGES, MAX_ANSWER, LIMIT);
    if let Ok(bridge) = answer.and_then(|answer| in_answer(&answer)) {
        *answered = Some((run, bridge.clone()));
        return bridge;
    }
    let arguments = command_line(&run.0);
    match option(&arguments, "--bridge", "-b") {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => {
            let file = option(&arguments, "--config-file", "").unwrap_or(CONFIG);
            in_file(Path::new(file), problems)
        }
    }
}

/// Whether dockerd runs, so that asking it starts nothing.
#[must_use]
pub fn runs() -> bool {
    running().is_some()
}

fn running() -> Option<Run> {
    let number = FileText::read(Path::new(PIDFILE)).text()?.trim().to_owned();
    let noted = fs::metadata(PIDFILE)
        .and_then(|meta| meta.modified())
        .ok()?;
    Some((number, noted))
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    options: Option<BTreeMap<String, String>>,
}

/// The default bridge among Docker's networks.
fn in_answer(answer: &[u8]) -> Result<Option<String>, Failure> {
    let networks: Vec<Network> = serde_json::from_slice(answer)
        .map_err(|error| Failure::Broken(format!("not what Docker answers: {error}")))?;
    let options = networks.into_iter().filter_map(|network| network.options);
    let name = |mut options: BTreeMap<String, String>| {
        let default = options.get("com.docker.network.bridge.default_bridge")?;
        (default == "true").then(|| options.remove("com.docker.network.bridge.name"))?
    };
    Ok(options.filter_map(name).next())
}

/// The default bridge that a daemon.json names.
fn in_file(path: &Path, problems: &mut Vec<String>) -> Option<String> {
    let usual = Some(USUAL.to_owned());
    let mut doubt = |problem: String| {
        let path = path.display();
        problems.push(format!(
            "{path} {problem}; taking {USUAL} as the default bridge"
        ));
    };
    let text = match FileText::read(path) {
        FileText::Absent => return usual,
        FileText::Text(text) if text.trim().is_empty() => return usual,
        FileText::Text(text) => text,
        FileText::Unreadable(problem) => {
            doubt(problem);
            return usual;
        }
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => match value.get("bridge").and_then(serde_json::Value::as_str) {
            Some("none") => None,
            None | Some("") => usual,
            Some(name) => Some(name.to_owned()),
        },
        Err(error) => {
            doubt(format!("is not valid JSON: {error}"));
            usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bridge_is_the_one_that_docker_says_is() {
        let network = |default: &str, name: &str| {
            format!(
                r#"{{"Name":"n","Driver":"bridge","Options":{{"com.docker.network.bridge.default_bridge":"{default}",
                "com.docker.network.bridge.name":"{name}"}}}}"#
            )
        };
        let read =
            |networks: &[String]| in_answer(format!("[{}]", networks.join(",")).as_bytes()).ok();
        let custom = r#"{"Name":"custom","Driver":"bridge","Options":null}"#.to_owned();
        assert_eq!(
            read(&[custom.clone(), network("true", "mybr0")]),
            Some(Some("mybr0".into()))
        );
        assert_eq!(
            read(&[network("false", "br1"), network("true", "mybr0")]),
            Some(Some("mybr0".into()))
        );
        // `"bridge": "none"`
        assert_eq!(read(&[custom]), Some(None));
        assert_eq!(read(&[]), Some(None));
        assert!(in_answer(b"{}").is_err());
        assert!(in_answer(b"").is_err());
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
        let words = ["--config-file".to_owned(), "/etc/d.json".to_owned()];
        assert_eq!(option(&words, "--config-file", ""), Some("/etc/d.json"));
    }

    #[test]
    fn a_daemon_json_names_it_or_nothing_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let read = |text: Option<&str>| {
            drop(fs::remove_file(&path));
            text.iter().for_each(|text| fs::write(&path, text).unwrap());
            let mut problems = Vec::new();
            (in_file(&path, &mut problems), problems.len())
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
            (in_file(&path, &mut problems), problems.len()),
            (usual(), 1)
        );
        assert!(problems[0].contains("FIFO"), "{problems:?}");
    }
}
