//! `status` as a person reads it: one screen, the overall word first. Pure.

use std::time::{Duration, SystemTime};

use super::show::{NAME, TASK, WORD, task_lines, word};
use crate::config::sanitize_line;
use crate::reconcile::Standing;
use crate::status::model::{GuaranteeStatus, Overall, Status};
use crate::tasks::Task;

/// How the screen is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Whether colours may be used.
    pub(super) colour: bool,
    /// How wide the terminal is; no limit if absent.
    pub(super) width: Option<usize>,
}

impl Look {
    /// The whole screen.
    pub(super) fn screen(&self, status: &Status) -> String {
        let mut out = Text {
            look: *self,
            text: String::new(),
        };
        let word = self.painted(colour(status.state), status.state.headline());
        let host = sanitize_line(&status.host);
        out.raw(&format!("{word}  {host}"));
        if let Some(why) = &status.stale {
            out.line(2, &format!("! {why}"));
        }
        for guarantee in &status.guarantees {
            self.guarantee(&mut out, guarantee);
        }
        if !status.tasks.is_empty() {
            out.raw("\nTasks");
        }
        for task in &status.tasks {
            self.task(&mut out, task);
        }
        if !status.drifts.is_empty() {
            out.raw("\nLast drifts");
        }
        for event in &status.drifts {
            let ago = ago(status.time, event.time);
            out.hanging(2, 14, &ago, &event.sentence());
        }
        if !status.traps.is_empty() {
            out.raw("\nTraps");
        }
        for trap in &status.traps {
            let place = format!("{}:{}", trap.path.display(), trap.line);
            out.line(2, &format!("! {place}: {}", trap.message));
        }
        if !status.warnings.is_empty() {
            out.raw("\nWarnings");
        }
        for warning in &status.warnings {
            out.line(2, &format!("! {warning}"));
        }
        out.raw("");
        out.line(0, &footer(status));
        out.text
    }

    fn guarantee(&self, out: &mut Text, guarantee: &GuaranteeStatus) {
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
        Overall::Undecided => YELLOW,
        Overall::NotRequired => PLAIN,
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
fn details(guarantee: &GuaranteeStatus) -> Option<String> {
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
        details.push(format!("{packets} packets stopped"));
    }
    (!details.is_empty()).then(|| details.join("; "))
}

/// What runs here: `iptables-nft 1.8.9 · kernel 6.1.0 · seal owned · up 3h 2m · 4.2 MiB · …`
fn footer(status: &Status) -> String {
    let mut backends: Vec<String> = status
        .backends
        .iter()
        .map(|backend| format!("{} {}", backend.name, backend.version))
        .collect();
    backends.dedup();
    let mut parts = vec![format!("ecs-netguard {}", status.version)];
    parts.extend(backends);
    parts.push(format!("kernel {}", status.kernel));
    if let Some(seal) = &status.seal {
        parts.push(format!("seal {} ({})", seal.state.name(), seal.explanation));
    }
    let uptime = Duration::try_from_secs_f64(status.daemon.uptime_seconds).unwrap_or_default();
    parts.push(format!("up {}", rough(uptime)));
    if let Some(bytes) = status.daemon.memory_bytes {
        parts.push(format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)));
    }
    if let Some(last) = status.verification.last {
        parts.push(format!("verified {}", ago(status.time, last)));
    }
    parts.join(" · ")
}

fn ago(now: SystemTime, then: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(age) if age < Duration::from_secs(1) => "just now".to_owned(),
        Ok(age) => format!("{} ago", rough(age)),
        // The clock was set back meanwhile.
        Err(_) => humantime::format_rfc3339_seconds(then).to_string(),
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
