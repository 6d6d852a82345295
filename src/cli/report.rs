//! `ecs-netguard report`: everything that a bug report needs, in one file of plain text.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::common::{Common, Exit, Patience, asking, need_net_admin};
use super::screen::Look;
use super::{check, config};
use crate::config::FileText;
use crate::config::settings::Backend as Choice;
use crate::facts::Facts;
use crate::inputs::Inputs;
use crate::os::iptables::{Tool, nft_ruleset};
use crate::os::self_usage;
use crate::out;
use crate::ruleset::Family;
use crate::state::Store;
use crate::status::history::History;
use crate::timestamp;

/// A line with one of these, in any case, is left out: registry passwords in ecs.config, credentials in
/// a comment or an environment.
const SECRETS: [&str; 8] = [
    "auth_data",
    "passw",
    "secret",
    "token",
    "access_key",
    "private key",
    "akia",
    "asia",
];
const LEFT_OUT: &str = "(left out: this line may hold a secret)";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to write it; "-" is standard output [default: ecs-netguard-report-<time>.txt, here]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    need_net_admin("report")?;
    let now = timestamp::seconds(SystemTime::now()).to_string();
    let text = out::safe(&without_secrets(&bundle(common, arguments, &now)?));
    let named = arguments.output.clone();
    let path =
        named.unwrap_or_else(|| format!("ecs-netguard-report-{}.txt", now.replace(':', "")).into());
    if path.as_os_str() == "-" {
        out::text().write_all(text.as_bytes())?;
        return Ok(Exit::Held);
    }
    let mut file = OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    file.open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))?;
    let shown = path.display();
    writeln!(
        out::text(),
        "{shown}\nRead it before you send it: it names hosts, addresses, tasks and rules."
    )?;
    Ok(Exit::Held)
}

fn bundle(common: &Common, arguments: &Arguments, now: &str) -> anyhow::Result<String> {
    let mut out = format!("ecs-netguard report, {now}\n");
    section(&mut out, "versions", &versions());
    let (store, _) = Store::peek(&common.state_dir);
    let inputs = Inputs::read_or_keep(&common.inputs(), None, &store.state.inputs);
    let mut written = Vec::new();
    config::print(
        &mut written,
        common,
        &inputs,
        &inputs.posture(&Facts::default()),
    )?;
    section(&mut out, "config", &String::from_utf8_lossy(&written));
    let client = arguments.patience.client(common);
    let status = asking(async { Ok(client.get("/v1/status").await) })?;
    section(
        &mut out,
        "status",
        &match status {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => error.to_string(),
        },
    );
    let (_, report) = check::prove(common, &inputs, &store);
    let look = Look {
        colour: false,
        width: None,
    };
    section(&mut out, "check", &look.screen(&report));
    section(
        &mut out,
        "verdicts",
        &serde_json::to_string_pretty(&report)?,
    );
    section(
        &mut out,
        "events",
        &match History::peek(&common.state_dir) {
            Ok(events) => events
                .iter()
                .map(|event| {
                    let time = timestamp::micros(event.time);
                    format!("{time} {} {}\n", event.kind.name(), event.sentence())
                })
                .collect(),
            Err(error) => error.to_string(),
        },
    );
    for family in [Family::V4, Family::V6] {
        for choice in [Choice::Nft, Choice::Legacy] {
            let saved = Tool::find(family, choice).and_then(|tool| tool.save());
            let title = format!("rules: {family}, {choice:?}");
            section(
                &mut out,
                &title,
                &saved.unwrap_or_else(|error| error.to_string()),
            );
        }
    }
    let ruleset = nft_ruleset().unwrap_or_else(|error| error.to_string());
    section(&mut out, "rules: nf_tables", &ruleset);
    Ok(out)
}

fn versions() -> String {
    let mut lines = format!(
        "ecs-netguard {}\nkernel {}\nhost {}\n",
        env!("CARGO_PKG_VERSION"),
        self_usage::kernel(),
        self_usage::host_name(),
    );
    let release = FileText::read(Path::new("/etc/os-release"));
    let name = release
        .text()
        .unwrap_or_default()
        .lines()
        .find(|line| line.starts_with("PRETTY_NAME="));
    lines.extend(name.map(|name| format!("{name}\n")));
    for family in [Family::V4, Family::V6] {
        let _infallible = match Tool::find(family, Choice::Auto) {
            Ok(tool) => writeln!(lines, "{family}: {tool}"),
            Err(error) => writeln!(lines, "{family}: {error}"),
        };
    }
    lines
}

fn section(out: &mut String, title: &str, text: &str) {
    let _infallible = write!(out, "\n==== {title}\n\n{}\n", text.trim_end());
}

fn without_secrets(text: &str) -> String {
    let line = |line: &str| {
        let lower = line.to_lowercase();
        let secret = SECRETS.iter().any(|word| lower.contains(word));
        if secret {
            LEFT_OUT.to_owned()
        } else {
            line.to_owned()
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_may_hold_a_secret_is_left_out() {
        let text = "ECS_ENGINE_AUTH_DATA={\"r\": 1}\n-A X --comment \"Password=1\"\nkey AKIA123\n-j DROP\n";
        let expected = format!("{LEFT_OUT}\n{LEFT_OUT}\n{LEFT_OUT}\n-j DROP\n");
        assert_eq!(without_secrets(text), expected);
    }
}
