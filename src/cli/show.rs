//! A turn as a person reads it.

use std::io::{self, Write as _};

use crate::turn::{Outcome, Standing, Turn};

/// Prints the overall word, a line per guarantee, what was changed, and what to know besides.
pub(super) fn turn(turn: &Turn) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let tools: Vec<String> = turn.tools.iter().map(ToString::to_string).collect();
    writeln!(out, "{}", headline(turn))?;
    for outcome in &turn.outcomes {
        let (word, name) = (word(outcome), outcome.guarantee);
        writeln!(out, "  {name:<22}{word:<14}{}", outcome.reason)?;
        for problem in &outcome.problems {
            writeln!(out, "  {:<22}! {problem}", "")?;
        }
    }
    for step in &turn.done {
        writeln!(out, "done: {step}")?;
    }
    for note in &turn.notes {
        writeln!(out, "note: {note}")?;
    }
    let milliseconds = turn.elapsed.as_secs_f64() * 1000.0;
    writeln!(
        out,
        "{} in {milliseconds:.0} ms",
        if tools.is_empty() {
            "no iptables".into()
        } else {
            tools.join(", ")
        }
    )
}

fn headline(turn: &Turn) -> &'static str {
    let none = turn
        .outcomes
        .iter()
        .all(|o| o.standing == Standing::NotRequired);
    match turn.overall() {
        _ if none => "NOT REQUIRED",
        Standing::Violated => "NOT PROTECTED",
        Standing::Undecided => "UNDECIDED",
        Standing::Held | Standing::NotRequired => "PROTECTED",
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome.standing {
        Standing::Held => "held",
        Standing::Violated => "VIOLATED",
        Standing::Undecided => "undecided",
        Standing::NotRequired => "not required",
    }
}
