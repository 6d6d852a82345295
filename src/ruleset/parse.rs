//! Reads what `iptables-save` and `iptables -S` print.

use super::command::Draft;
use super::line::{ParseError, lines};
use super::{Family, Ruleset, Shown, Table};

/// Reads the output of `iptables-save` or `ip6tables-save`, of either backend, with or without
/// counters, or a file for `iptables-restore`, as that reads it into empty tables.
pub fn parse_save(family: Family, text: impl AsRef<[u8]>) -> Result<Ruleset, ParseError> {
    let mut ruleset = Ruleset::new(family);
    let mut notes: Vec<(String, Shown)> = Vec::new();
    let mut open: Option<Draft> = None;
    let mut last_line = 1;
    for line in lines(text.as_ref()) {
        last_line = line.number;
        let first = line.text.chars().next();
        match (first, &mut open) {
            (None, _) => {}
            (Some('#'), _) => notes.extend(note(&line.text)),
            (Some('*'), None) => {
                let name = line.text.get(1..).unwrap_or_default().trim_end();
                if name.is_empty() || name.contains(char::is_whitespace) {
                    return Err(line.error(1, "`*` must be followed by the name of one table"));
                }
                if ruleset.tables.contains_key(name) {
                    return Err(line.error(1, format!("table {name} appears twice")));
                }
                open = Some(Draft::new(family, name));
            }
            (Some('*'), Some(Draft { name, .. })) => {
                return Err(line.error(0, format!("table {name} has no COMMIT before this")));
            }
            (Some(_), None) => return Err(line.error(0, "this stands outside a table")),
            (Some(':'), Some(draft)) => draft.declare(&line)?,
            (Some(_), Some(draft)) if line.text.trim_end() != "COMMIT" => draft.run(&line)?,
            (Some(_), Some(_)) => {
                let committed = open.take().map(|draft| (draft.name, draft.table));
                ruleset.tables.extend(committed);
            }
        }
    }
    if let Some(Draft { name, .. }) = open {
        return Err(ParseError {
            line: last_line,
            column: 1,
            message: format!("the text ends within table {name}: COMMIT is missing"),
        });
    }
    for (name, shown) in notes {
        ruleset.tables.entry(name).or_default().shown = shown;
    }
    Ok(ruleset)
}

/// Reads the output of `iptables -t TABLE -S`.
pub fn parse_listing(
    family: Family,
    table: &str,
    text: impl AsRef<[u8]>,
) -> Result<Table, ParseError> {
    let mut read = Draft::new(family, table);
    let mut shown = Shown::Whole;
    for line in lines(text.as_ref()) {
        if line.text.starts_with('#') {
            if let Some((_, note)) = note(&line.text).filter(|(name, _)| name == table) {
                shown = note;
            }
        } else if !line.text.trim().is_empty() {
            read.run(&line)?;
        }
    }
    read.table.shown = shown;
    Ok(read.table)
}

/// What a comment says of a table. nft_is_table_compatible and its like print these to the same
/// stream as the tables, and the exit code stays 0.
fn note(comment: &str) -> Option<(String, Shown)> {
    let (table, rest) = comment.strip_prefix("# Table `")?.split_once('\'')?;
    let shown = match rest.trim_start() {
        rest if rest.starts_with("contains incompatible base-chains") => {
            Shown::Partly("it has base chains that iptables cannot show".to_owned())
        }
        _ => Shown::Unreadable(comment.trim_start_matches("# ").to_owned()),
    };
    Some((table.to_owned(), shown))
}
