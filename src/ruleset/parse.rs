//! Reads what `iptables-save` and `iptables -S` print.

use std::borrow::Cow;

use thiserror::Error;

use super::spec;
use super::target::Target;
use super::words::{self, Word};
use super::{Chain, Family, Listed, Policy, Ruleset, Shown, Table};

/// Why a text is not a ruleset, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads the output of `iptables-save` or `ip6tables-save`, of either backend, with or without
/// counters.
pub fn parse_save(family: Family, text: impl AsRef<[u8]>) -> Result<Ruleset, ParseError> {
    let mut ruleset = Ruleset::new(family);
    let mut notes: Vec<(String, Shown)> = Vec::new();
    let mut open: Option<(String, Table)> = None;
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
                open = Some((name.to_owned(), Table::default()));
            }
            (Some('*'), Some((name, _))) => {
                return Err(line.error(0, format!("table {name} has no COMMIT before this")));
            }
            (Some(_), None) => return Err(line.error(0, "this stands outside a table")),
            (Some(':'), Some((_, table))) => declare(table, &line)?,
            (Some(_), Some((_, table))) if line.text.trim_end() != "COMMIT" => {
                append(family, table, &line)?;
            }
            (Some(_), Some(_)) => {
                ruleset.tables.extend(open.take());
            }
        }
    }
    if let Some((name, _)) = open {
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
    let mut read = Table::default();
    let mut shown = Shown::Whole;
    for line in lines(text.as_ref()) {
        if line.text.starts_with('#') {
            if let Some((_, note)) = note(&line.text).filter(|(name, _)| name == table) {
                shown = note;
            }
            continue;
        }
        let words = line.words()?;
        match words.as_slice() {
            [] => {}
            [verb, chain, policy] if verb.is("-P") => {
                let policy = policy_of(&policy.text)
                    .ok_or_else(|| line.error(policy.start, "a policy is ACCEPT or DROP"))?;
                add_chain(&mut read, &line, chain, Some(policy))?;
            }
            [verb, chain] if verb.is("-N") => add_chain(&mut read, &line, chain, None)?,
            _ => append(family, &mut read, &line)?,
        }
    }
    read.shown = shown;
    Ok(read)
}

struct Line<'a> {
    number: usize,
    text: Cow<'a, str>,
}

impl Line<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        let column = 1 + self
            .text
            .get(..at)
            .map_or(0, |before| before.chars().count());
        ParseError {
            line: self.number,
            column,
            message: message.into(),
        }
    }

    fn words(&self) -> Result<Vec<Word<'_>>, ParseError> {
        words::split(&self.text).map_err(|bad| self.error(bad.at, bad.message))
    }
}

/// The lines of a text. Bytes that are not UTF-8 can stand in comments; no condition that counts as
/// understood can contain the character that takes their place.
fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(at, bytes)| Line {
            number: at + 1,
            text: String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)),
        })
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

fn policy_of(text: &str) -> Option<Policy> {
    match text {
        "ACCEPT" => Some(Policy::Accept),
        "DROP" => Some(Policy::Drop),
        _ => None,
    }
}

/// `:CHAIN POLICY [packets:bytes]`, with `-` as the policy of a user chain.
fn declare(table: &mut Table, line: &Line<'_>) -> Result<(), ParseError> {
    let words = line.words()?;
    let (chain, policy) = match words.as_slice() {
        [chain, policy] => (chain, policy),
        [chain, policy, counters] if is_counters(counters.raw) => (chain, policy),
        _ => return Err(line.error(0, "a chain is declared as `:CHAIN POLICY [packets:bytes]`")),
    };
    let policy = match policy.text.as_ref() {
        "-" => None,
        text => Some(
            policy_of(text)
                .ok_or_else(|| line.error(policy.start, "a policy is ACCEPT, DROP or -"))?,
        ),
    };
    let name = Word {
        raw: chain.raw.get(1..).unwrap_or_default(),
        ..chain.clone()
    };
    add_chain(table, line, &name, policy)
}

fn add_chain(
    table: &mut Table,
    line: &Line<'_>,
    name: &Word<'_>,
    policy: Option<Policy>,
) -> Result<(), ParseError> {
    if name.raw.is_empty() || name.raw.starts_with('"') {
        return Err(line.error(name.start, "a chain needs a name"));
    }
    let chain = Chain {
        policy,
        rules: Vec::new(),
    };
    match table.chains.insert(name.raw.to_owned(), chain) {
        None => Ok(()),
        Some(_) => Err(line.error(name.start, format!("chain {} appears twice", name.raw))),
    }
}

/// `[packets:bytes] -A CHAIN words…`
fn append(family: Family, table: &mut Table, line: &Line<'_>) -> Result<(), ParseError> {
    let words = line.words()?;
    let words = match words.as_slice() {
        [counters, rest @ ..] if is_counters(counters.raw) => rest,
        all => all,
    };
    let (chain, spec) = match words {
        [verb, chain, spec @ ..] if verb.is("-A") => (chain, spec),
        _ => {
            return Err(line.error(
                words.first().map_or(0, |w| w.start),
                "not a rule: no -A CHAIN",
            ));
        }
    };
    let mut read = rule(family, line, spec);
    // A native nft chain may be called DROP, and a jump to it prints as `-j DROP`.
    let jump = matches!(read.rule.target, Target::Jump(_) | Target::Goto(_));
    let named = spec.iter().skip_while(|word| !word.is("-j")).nth(1);
    if let Some(name) = named.filter(|name| !jump && table.chains.contains_key(name.raw)) {
        read.rule.target = Target::Unknown(format!(
            "-j {}: a chain that is named like a target",
            name.raw
        ));
    }
    match table.chains.get_mut(chain.raw) {
        Some(known) => {
            known.rules.push(read);
            Ok(())
        }
        None => Err(line.error(chain.start, format!("chain {} is not declared", chain.raw))),
    }
}

fn rule(family: Family, line: &Line<'_>, words: &[Word<'_>]) -> Listed {
    let text = words
        .first()
        .and_then(|first| line.text.get(first.start..))
        .unwrap_or_default();
    Listed {
        rule: spec::parse(family, words),
        text: text.trim_end_matches([' ', '\t']).to_owned(),
    }
}

fn is_counters(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    word.strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'))
        .and_then(|word| word.split_once(':'))
        .is_some_and(|(packets, bytes)| digits(packets) && digits(bytes))
}
