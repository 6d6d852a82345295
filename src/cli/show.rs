//! A turn as a person reads it.

use std::io::{self, Write as _};

use crate::config::{sanitize, sanitize_line};
use crate::reconcile::{Outcome, Standing, Turn};
use crate::status::model::Overall;
use crate::tasks::Task;

/// How wide the name of a guarantee is.
pub(super) const NAME: usize = 22;
/// How wide the word for how it stands is.
pub(super) const WORD: usize = 14;
/// How wide a task is: its id has 32 digits.
pub(super) const TASK: usize = 44;

/// Prints the overall word, a line per guarantee, what was changed or failed, and what to know
/// besides.
pub(super) fn turn(turn: &Turn) -> io::Result<()> {
    outcomes(&turn.outcomes)?;
    let mut out = io::stdout().lock();
    if !turn.tasks.is_empty() {
        writeln!(out, "Tasks")?;
    }
    for task in &turn.tasks {
        let word = word(task.standing);
        let (line, details) = task_lines(task);
        writeln!(out, "  {line:<TASK$}{word}")?;
        for detail in details {
            writeln!(out, "    {detail}")?;
        }
    }
    for step in &turn.done {
        writeln!(out, "done: {step}")?;
    }
    for failure in &turn.failures {
        writeln!(out, "FAILED: {}", failure.message)?;
    }
    for why in &turn.unread {
        writeln!(out, "could not be read: {why}")?;
    }
    for note in &turn.notes {
        writeln!(out, "note: {note}")?;
    }
    let tools: Vec<String> = turn.tools.iter().map(ToString::to_string).collect();
    let tools = if tools.is_empty() {
        "no iptables".to_owned()
    } else {
        tools.join(", ")
    };
    writeln!(
        out,
        "{tools}; {:.0} ms",
        turn.elapsed.as_secs_f64() * 1000.0
    )
}

/// Prints the overall word and a line per guarantee, with what keeps it from being held.
pub(super) fn outcomes(outcomes: &[Outcome]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", headline(outcomes))?;
    for outcome in outcomes {
        let (word, name) = (word(outcome.standing), outcome.guarantee);
        writeln!(out, "  {name:<NAME$}{word:<WORD$}{}", outcome.reason)?;
        for problem in outcome.problems() {
            writeln!(out, "    ! {problem}")?;
        }
    }
    Ok(())
}

fn headline(outcomes: &[Outcome]) -> &'static str {
    Overall::of(outcomes.iter().map(|outcome| outcome.standing)).headline()
}

/// A task's id and mode, and what is to be known of it.
pub(super) fn task_lines(task: &Task) -> (String, Vec<String>) {
    let id = sanitize(&task.id);
    let line = format!("{id} ({})", task.mode.name());
    let problems = task
        .problems
        .iter()
        .map(|problem| format!("! {}", sanitize_line(problem)));
    let notes = task.notes.iter().map(|note| sanitize_line(note));
    let powers: Vec<String> = task.powers.iter().map(ToString::to_string).collect();
    let powers = (!powers.is_empty()).then(|| powers.join(", "));
    (line, problems.chain(notes).chain(powers).collect())
}

/// How a guarantee stands, in a word.
pub(super) const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Held => "held",
        Standing::Violated => "VIOLATED",
        Standing::Undecided => "undecided",
        Standing::NotRequired => "not required",
    }
}
