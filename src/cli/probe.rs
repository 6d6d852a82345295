//! `ecs-netguard probe`: proves with packets.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::check;
use super::common::{Common, Exit, print_json};
use crate::config::sanitize_line;
use crate::config::settings::Settings;
use crate::desired;
use crate::facts::Facts;
use crate::guarantee::{Cgroup, Guarantee, TaskCgroup};
use crate::inputs::Inputs;
use crate::os::privilege;
use crate::out;
use crate::probe::model::{Asked, Expected, Kind, Place, Row, Seen, Tried};
use crate::probe::record::{self, Record};
use crate::probe::verdict::Verdict;
use crate::probe::{self, host_tasks};
use crate::report::Report;
use crate::ruleset::Family;
use crate::state::Store;
use crate::tasks::{Mode, Power, Task};
use crate::verdict::Standing;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Probe from these places only, and from the host, which is the control
    #[arg(long, value_enum, value_name = "WHERE")]
    only: Option<Only>,
    /// Write the outcome to probe.json in the state directory, where the daemon finds it and makes an
    /// event and a metric of it
    #[arg(long, conflicts_with = "only")]
    record: bool,
}

/// Where to probe from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// A throwaway container on each bridge
    Bridges,
    /// Each task with a network interface of its own, and the cgroup of tasks on the host's network
    Tasks,
    /// The host itself
    Host,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        privilege::can_probe(),
        "`probe` needs root (CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_PTRACE) to make network \
         namespaces, enter those of tasks and send packets from there: run it with sudo"
    );
    let began = Instant::now();
    let (store, warning) = Store::peek(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), &store.state.inputs)?;
    inputs.require_readable()?;
    let (facts, proved) = check::prove(common, &inputs, &store);
    let bridges = probe::bridges().context("list the host's bridges")?;
    let mut notes: Vec<String> = warning.into_iter().collect();
    notes.extend_from_slice(&proved.input_warnings);
    let mut asked = places(&inputs.settings, &facts, &proved, bridges, &mut notes);
    if let Some(only) = arguments.only {
        asked.retain(|asked| only.takes(&asked.place));
    }
    let places = probe::run(&asked, &own_program()?)?;
    let guarantees = proved.guarantees.iter();
    let check: BTreeMap<Guarantee, Standing> = guarantees
        .map(|guarantee| (guarantee.name, guarantee.standing))
        .collect();
    let mut verdict = Verdict::of(&places, &check);
    verdict.notes.extend(notes);
    let report = record::Report {
        record: Record::new(SystemTime::now(), began.elapsed(), verdict),
        places,
    };
    if arguments.record {
        report.record.write(&common.state_dir)?;
    }
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(match report.record.verdict.verdict {
        Standing::Held | Standing::NotRequired => Exit::Held,
        Standing::Violated => Exit::Violated,
        Standing::Undecided => Exit::Undecided,
    })
}

/// Tries from a cgroup, for [`run`].
pub(super) fn child(asked: &str) -> anyhow::Result<Exit> {
    let found = host_tasks::child(asked)?;
    out::json().write_all(found.as_bytes())?;
    Ok(Exit::Held)
}

/// This very program, also where its file was replaced meanwhile.
fn own_program() -> anyhow::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    anyhow::ensure!(link.exists(), "/proc is not mounted");
    Ok(link)
}

impl Only {
    fn takes(self, place: &Place) -> bool {
        match place {
            Place::Host => true,
            Place::Bridge { .. } => self == Self::Bridges,
            Place::Task { .. } | Place::HostTasks { .. } => self == Self::Tasks,
        }
    }
}

/// Where to send from on this host, and what is required there.
fn places(
    settings: &Settings,
    facts: &Facts,
    proved: &Report,
    bridges: Vec<String>,
    notes: &mut Vec<String>,
) -> Vec<Asked> {
    let scope = desired::scope(settings, facts);
    let requires = |name| proved.guarantee(name).is_some_and(|of| of.required);
    let required = |guarantee| requires(guarantee).then_some(guarantee);
    let credentials = requires(Guarantee::TaskCredentials);
    let mut asked = vec![Asked {
        place: Place::Host,
        block: None,
        ipv6: false,
        credentials,
        frames: false,
        netns: None,
    }];
    asked.extend(bridges.into_iter().map(|name| {
        let covered = scope.covers(&name);
        Asked {
            block: required(Guarantee::ImdsBlock).filter(|_| covered),
            ipv6: scope.families.contains(&Family::V6),
            credentials: credentials && covered,
            frames: true,
            netns: None,
            place: Place::Bridge { name },
        }
    }));
    let raw = |task: &&Task| task.powers.contains(&Power::NetRaw);
    let awsvpc = proved.tasks.iter().filter(|task| task.mode == Mode::Awsvpc);
    asked.extend(awsvpc.map(|task| Asked {
        place: Place::Task {
            id: sanitize_line(&task.id),
        },
        block: required(Guarantee::AwsvpcImdsBlock),
        ipv6: true,
        credentials,
        frames: raw(&task),
        netns: task.netns,
    }));
    if let Some(block) = required(Guarantee::HostImdsBlock) {
        match &facts.task_cgroup {
            Some(TaskCgroup::Present(Cgroup { path, .. })) => asked.push(Asked {
                place: Place::HostTasks {
                    cgroup: path.clone(),
                },
                block: Some(block),
                ipv6: scope.families.contains(&Family::V6),
                credentials,
                frames: proved
                    .tasks
                    .iter()
                    .any(|task| task.mode == Mode::Host && raw(&task)),
                netns: None,
            }),
            _ => notes.push(
                "host tasks were not probed: there is no cgroup of version 2 for them now"
                    .to_owned(),
            ),
        }
    }
    asked
}

/// A line of the table: rows of which the same is to be said.
struct Line<'r> {
    rows: Vec<&'r Row>,
}

impl Line<'_> {
    fn fits(&self, row: &Row) -> bool {
        self.rows.iter().all(|of| {
            (of.to, of.expected, of.seen, of.layer, &of.by)
                == (row.to, row.expected, row.seen, row.layer, &row.by)
                && (of.what == Kind::Connect) == (row.what == Kind::Connect)
        })
    }
}

/// The rows of a place, those that say the same in one line.
fn lines(tried: &Tried) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in &tried.rows {
        match lines.iter_mut().find(|line| line.fits(row)) {
            Some(line) => line.rows.push(row),
            None => lines.push(Line { rows: vec![row] }),
        }
    }
    lines
}

fn print(report: &record::Report) -> io::Result<()> {
    let mut out = out::text();
    let table = table(&report.places);
    out.write_all(table.as_bytes())?;
    let record = &report.record;
    let verdict = &record.verdict;
    writeln!(out, "{}", verdict.summary)?;
    for compared in &verdict.guarantees {
        let packets = compared.packets.map_or("not tried", Standing::name);
        let (name, check) = (compared.name, compared.check.name());
        writeln!(out, "  {name:<22}packets: {packets:<14}check: {check}")?;
    }
    for disagreement in &verdict.disagreements {
        writeln!(out, "DISAGREE: {disagreement}")?;
    }
    for note in &verdict.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(out, "{:.1} s", record.elapsed.as_secs_f64())
}

fn table(places: &[Tried]) -> String {
    let head = ["FROM", "WHAT", "TO", "EXPECTED", "SEEN"].map(str::to_owned);
    let mut cells: Vec<[String; 5]> = vec![head];
    for tried in places {
        let mut from = tried.place.to_string();
        let mut say = |what: String, to: String, expected: String, seen: String| {
            cells.push([std::mem::take(&mut from), what, to, expected, seen]);
        };
        for line in lines(tried) {
            let Some(row) = line.rows.first() else {
                continue;
            };
            say(what(&line), to(row), expected(row), seen(row));
        }
        for text in tried
            .failure
            .iter()
            .map(|why| format!("NOT PROBED: {why}"))
            .chain(tried.notes.clone())
        {
            say(
                sanitize_line(&text),
                String::new(),
                String::new(),
                String::new(),
            );
        }
    }
    let width = |column: usize| {
        let of = cells
            .iter()
            .filter(|cells| !cells[2].is_empty() || column != 1);
        of.map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for cells in &cells {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths.into_iter().chain([0])) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The kinds of packets in a line; all kinds of frames are one word.
fn what(line: &Line<'_>) -> String {
    let kinds: Vec<Kind> = line.rows.iter().map(|row| row.what).collect();
    let whole = Kind::FRAMES.iter().all(|frame| kinds.contains(frame));
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        match Kind::FRAMES.contains(&kind) && whole {
            true if names.contains(&"frames") => {}
            true => names.push("frames"),
            false => names.push(kind.name()),
        }
    }
    names.join(" ")
}

fn to(row: &Row) -> String {
    match row.what {
        Kind::Connect if row.to.is_loopback() => format!("{}:51679", row.to),
        Kind::Connect => format!("{}:80", row.to),
        _ => row.to.to_string(),
    }
}

fn expected(row: &Row) -> String {
    let word = match row.expected {
        Expected::Stopped => "stopped",
        Expected::Answered => "answered",
        Expected::Anything => "-",
    };
    word.to_owned()
}

fn seen(row: &Row) -> String {
    let by = row.by.as_deref().map(sanitize_line).unwrap_or_default();
    let seen = match (row.seen, row.layer) {
        (Seen::Left, _) => format!("left by {by}"),
        (Seen::Stopped, Some(layer)) => format!("stopped by {} ({by})", layer.name()),
        (Seen::NotSent, _) => format!("not sent: {by}"),
        (seen, _) => seen.name().to_owned(),
    };
    match row.as_expected() {
        Some(false) => format!("{seen}  <== not as expected"),
        _ => seen,
    }
}
