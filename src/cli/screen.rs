//! A report as a person reads it, on one screen: the overall word first.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use super::common::print_json;
use crate::config::{sanitize, sanitize_line};
use crate::out;
use crate::report::{GuaranteeReport, Report};
use crate::tasks::{Power, Task};
use crate::timestamp;
use crate::verdict::{Overall, Standing};

/// How wide the name of a guarantee is.
const NAME: usize = 22;
/// How wide the word for how it stands is.
const WORD: usize = 14;
/// How wide a task is: its id has 32 digits.
const TASK: usize = 44;

/// Prints a report, as a screen or as JSON.
pub(super) fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(report);
    }
    let screen = Look::of_stdout().screen(report);
    Ok(out::coloured().write_all(screen.as_bytes())?)
}

/// How the screen is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Whether colours may be used.
    pub(super) colour: bool,
    /// How wide the terminal is; no limit if absent.
    pub(super) width: Option<usize>,
}

impl Look {
    /// As standard output can show it.
    pub(super) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let size = || terminal_size::terminal_size().map(|(width, _)| width.0.into());
        Self {
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            width: terminal.then(size).flatten(),
        }
    }

    /// The whole screen.
    pub(super) fn screen(&self, report: &Report) -> String {
        let mut out = Text {
            look: *self,
            text: String::new(),
        };
        let word = self.painted(colour(report.state), &report.headline());
        let host = report.host.as_deref().map(sanitize_line);
        let host = host.map_or_else(String::new, |host| format!("  {host}"));
        match &report.imds_open {
            Some(why) if report.state == Overall::ImdsOpen => {
                let line = out.wrapped(0, &format!("IMDS OPEN: {}", sanitize_line(why)));
                out.raw(&self.painted(colour(report.state), &line));
            }
            Some(why) => {
                out.raw(&format!("{word}{host}"));
                out.line(2, &format!("! IMDS OPEN: {why}"));
            }
            None => out.raw(&format!("{word}{host}")),
        }
        if let Some(why) = &report.stale {
            out.line(2, &format!("! {why}"));
        }
        for guarantee in &report.guarantees {
            self.guarantee(&mut out, guarantee);
        }
        if !report.tasks.is_empty() {
            out.raw("\nTasks");
        }
        for task in &report.tasks {
            self.task(&mut out, task);
        }
        let privileged = report.privileged.iter();
        let privileged = privileged.map(|of| format!("{of}: {}", of.capabilities()));
        out.section("Privileged containers", "", privileged);
        // A daemon has repaired them, or says in its events why not.
        let drifts = report.drifts.iter().filter(|_| report.daemon.is_none());
        let drifts =
            drifts.map(|drift| format!("{}: {} {}", drift.guarantee, drift.object, drift.kind));
        out.section("Drift", "", drifts);
        out.section(
            "Changed",
            "",
            report.changes.iter().filter(|_| report.daemon.is_none()),
        );
        let failures = report.failures.iter().map(|failure| &failure.message);
        out.section("FAILED", "! ", failures);
        if !report.recent_drifts.is_empty() {
            out.raw("\nLast drifts");
        }
        for event in &report.recent_drifts {
            let ago = ago(report.time, event.time);
            out.hanging(2, 14, &ago, &event.sentence());
        }
        let traps = report.traps.iter();
        let traps = traps.map(|t| format!("{}:{}: {}", t.path.display(), t.line, t.message));
        out.section("Traps", "! ", traps);
        let warnings = report.input_warnings.iter().chain(&report.warnings);
        out.section("Warnings", "! ", warnings);
        out.raw("");
        out.line(0, &footer(report));
        out.text
    }

    fn guarantee(&self, out: &mut Text, guarantee: &GuaranteeReport) {
        let word = word(guarantee.standing);
        let colour = colour_of(guarantee.standing);
        let name = format!("{:<NAME$}", guarantee.name);
        let word = self.painted(colour, &format!("{word:<WORD$}"));
        let indent = 2 + NAME + WORD;
        let reason = out.wrapped(indent, &sanitize_line(&guarantee.reason));
        out.raw(&format!("  {name}{word}{}", reason.trim_start()));
        if let Some(details) = details(guarantee) {
            out.line(indent, &details);
        }
        for problem in &guarantee.problems {
            out.line(4, &format!("! {problem}"));
        }
    }

    fn task(&self, out: &mut Text, task: &Task) {
        let (line, details) = task_lines(task);
        let standing = self.painted(colour_of(task.standing), word(task.standing));
        out.raw(&format!("  {line:<TASK$}{standing}"));
        for detail in details {
            out.line(4, &detail);
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour && !colour.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const GREEN: &str = "32";
const RED: &str = "1;31";
const YELLOW: &str = "33";
const PLAIN: &str = "";

const fn colour(state: Overall) -> &'static str {
    match state {
        Overall::Protected => GREEN,
        Overall::NotProtected => RED,
        Overall::Undecided | Overall::ImdsOpen => YELLOW,
    }
}

const fn colour_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Held => GREEN,
        Standing::Violated => RED,
        Standing::Undecided => YELLOW,
        Standing::NotRequired => PLAIN,
    }
}

/// What the layers and the counters say of a guarantee, where they say something.
fn details(guarantee: &GuaranteeReport) -> Option<String> {
    let mut details = Vec::new();
    if let Some(sealed) = guarantee.layers.sealed {
        let visible = guarantee.layers.visible;
        details.push(format!(
            "visible {}, sealed {}",
            visible.name(),
            sealed.name()
        ));
    }
    if !guarantee.stopped.is_empty() {
        let packets: u64 = guarantee.stopped.iter().map(|s| s.packets).sum();
        let noun = if packets == 1 { "packet" } else { "packets" };
        details.push(format!("{packets} {noun} stopped"));
    }
    (!details.is_empty()).then(|| details.join("; "))
}

/// A task's id and mode, and what is to be known of it.
fn task_lines(task: &Task) -> (String, Vec<String>) {
    let id = sanitize(&task.id);
    let line = format!("{id} ({})", task.mode.name());
    let problems = task.problems.iter().map(|problem| format!("! {problem}"));
    // What it can write ends at its own interfaces or at the host's edge.
    let harmless = |power: &Power| *power == Power::NetRaw && task.frames_stopped;
    let powers = task.powers.iter().filter(|power| !harmless(power));
    let powers: Vec<String> = powers.map(ToString::to_string).collect();
    let powers = (!powers.is_empty()).then(|| powers.join(", "));
    let details = problems.chain(task.notes.iter().cloned()).chain(powers);
    (line, details.collect())
}

/// How a guarantee stands, in a word.
const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Held => "held",
        Standing::Violated => "VIOLATED",
        Standing::Undecided => "undecided",
        Standing::NotRequired => "not required",
    }
}

/// What runs here: `iptables-nft 1.8.9 · kernel 6.1.0 · seal intact, owned by the daemon; … · up 3h 2m · …`
fn footer(report: &Report) -> String {
    let mut parts = vec![format!("ecs-netguard {}", report.version)];
    let backends = report.backends.iter();
    parts.extend(backends.map(|backend| format!("{} {}", backend.name, backend.version)));
    parts.dedup();
    let kernel = report.kernel.iter();
    parts.extend(kernel.map(|kernel| format!("kernel {kernel}")));
    let seal = report.seal.iter();
    parts.extend(seal.map(|seal| format!("seal {}", seal.explanation)));
    let edge = report.edge.iter();
    parts.extend(edge.map(|edge| format!("edge {}", edge.explanation)));
    if let Some(daemon) = &report.daemon {
        let uptime = Duration::try_from_secs_f64(daemon.uptime_seconds).unwrap_or_default();
        parts.push(format!("up {}", rough(uptime)));
        let memory = daemon.memory_bytes.iter();
        parts.extend(memory.map(|bytes| format!("{:.1} MiB", *bytes as f64 / (1024.0 * 1024.0))));
    }
    if let Some(last) = report.verification.last {
        parts.push(format!("verified {}", ago(report.time, last)));
    }
    parts.join(" · ")
}

fn ago(now: SystemTime, then: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(age) if age < Duration::from_secs(1) => "just now".to_owned(),
        Ok(age) => format!("{} ago", rough(age)),
        // The clock was set back meanwhile.
        Err(_) => timestamp::seconds(then).to_string(),
    }
}

/// A duration by its two largest units: `3h 2m`.
fn rough(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    let units: Vec<&str> = text.split(' ').take(2).collect();
    units.join(" ")
}

/// Lines within the width.
struct Text {
    look: Look,
    text: String,
}

impl Text {
    fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A headline and lines under it; nothing where there are no lines.
    fn section(&mut self, head: &str, mark: &str, lines: impl Iterator<Item = impl AsRef<str>>) {
        for (at, line) in lines.enumerate() {
            if at == 0 {
                self.raw(&format!("\n{head}"));
            }
            self.line(2, &format!("{mark}{}", line.as_ref()));
        }
    }

    /// Text from elsewhere, wrapped and indented.
    fn line(&mut self, indent: usize, text: &str) {
        let wrapped = self.wrapped(indent, &sanitize_line(text));
        self.raw(&wrapped);
    }

    /// A short word and beside it a text, wrapped under itself.
    fn hanging(&mut self, indent: usize, width: usize, word: &str, text: &str) {
        let wrapped = self.wrapped(indent + width, &sanitize_line(text));
        let blank = " ".repeat(indent);
        self.raw(&format!("{blank}{word:<width$}{}", wrapped.trim_start()));
    }

    fn wrapped(&self, indent: usize, text: &str) -> String {
        let blank = " ".repeat(indent);
        let room = match self.look.width {
            // On a terminal as narrow as that nothing helps.
            Some(width) => width.saturating_sub(indent).max(20),
            None => usize::MAX,
        };
        let mut lines = vec![String::new()];
        let mut length = 0;
        for word in text.split(' ') {
            let chars = word.chars().count();
            if length > 0 && length + 1 + chars > room {
                lines.push(String::new());
                length = 0;
            }
            let line = lines.len() - 1;
            if length > 0 {
                lines[line].push(' ');
                length += 1;
            }
            lines[line].push_str(word);
            length += chars;
        }
        let lines: Vec<String> = lines.iter().map(|line| format!("{blank}{line}")).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
