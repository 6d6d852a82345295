//! Traps left of the `=`.

use super::found::{Found, MOST_INSPECTED};
use crate::config::envfile::{self, Assignment};
use crate::config::known::{self, is_meant};
use crate::config::parsed::EnvFile;
use crate::config::sanitize::sanitize;
use crate::config::trap::TrapKind;
use crate::config::variables::{self, Reader};

const BOM: char = '\u{feff}';
const COMMENT: [char; 2] = ['#', ';'];
const QUOTES: [char; 2] = ['"', '\''];

pub(super) fn find(file: &EnvFile<'_>) -> Vec<Found> {
    let unset: Vec<_> = variables::ALL
        .into_iter()
        .map(|v| v.name)
        .filter(|name| {
            [&file.agent, &file.systemd]
                .into_iter()
                .all(|all| envfile::last(all, name).is_none())
        })
        .collect();
    let mut out: Vec<_> = file
        .agent
        .iter()
        .take(MOST_INSPECTED)
        .filter_map(|a| key(a, &unset).or_else(|| buried(a)))
        .collect();
    out.extend(without_name(file));
    out.extend(without_equals(file.text));
    out.extend(duplicates(file));
    out
}

fn key(a: &Assignment, unset: &[&str]) -> Option<Found> {
    let key = a.key.as_str();
    if key == known::DEAD {
        let message = format!(
            "{key} is in the ECS agent's README, but no code reads it any more; remove it (the introspection port \
             is closed to every interface but loopback and Docker's default bridge)"
        );
        return Some(Found::new(TrapKind::DeadVariable, a.line, key, message));
    }
    if known::is_known(key) {
        return None;
    }
    let found = |kind, name: &str, message| Some(Found::new(kind, a.line, name, message));
    let value = sanitize(&a.value);

    if key.starts_with(COMMENT) {
        let name = key.trim_start_matches(COMMENT).trim();
        // An example above the real line is no trap.
        if !unset.contains(&name) {
            return None;
        }
        return found(
            TrapKind::CommentedKey,
            name,
            format!(
                "{name} is not set: the line is commented out; remove the {} if {name}={value} is meant",
                &key[..1]
            ),
        );
    }
    let (kind, name) = slip(key)?;
    // systemd, through which ecs-init reads its own variables, does take the blank off.
    if kind == TrapKind::BlankBeforeEquals
        && variables::find(&name).is_some_and(|v| v.reader == Reader::EcsInit)
    {
        return None;
    }
    let written = sanitize(key.trim_end());
    let message = match kind {
        TrapKind::ByteOrderMark => format!(
            "a byte order mark stands before {name}, and becomes part of the name, so that {name} is not set; save \
             the file as UTF-8 without it"
        ),
        TrapKind::QuotedName => format!(
            "the quote before {name} becomes part of the name, so that {name} is not set; write {name}={}",
            unquoted(&value)
        ),
        TrapKind::ExportPrefix => format!(
            "the ECS software does not support `export`: this sets a variable named \"export {name}\", and {name} is not \
             set; write {name}={value}"
        ),
        TrapKind::BlankBeforeEquals => format!(
            "the blank before = becomes part of the name for the ECS agent, so that {name} is not set; write \
             {name}={}",
            value.trim_start()
        ),
        TrapKind::LowercaseKey => format!(
            "the ECS software takes {written} as another variable than {name}, which is not set; write {name}={value}"
        ),
        _ => {
            format!("the ECS software knows no {written}; if {name} is meant, write {name}={value}")
        }
    };
    found(kind, &name, message)
}

/// What a name that the ECS software does not know was meant to be, and what is wrong with it.
fn slip(key: &str) -> Option<(TrapKind, String)> {
    let known = |name: &str| is_meant(name).then(|| name.to_owned());
    if let Some(name) = key.strip_prefix(BOM).and_then(|name| known(name.trim())) {
        return Some((TrapKind::ByteOrderMark, name));
    }
    if let Some(name) = key.strip_prefix(QUOTES).and_then(|name| known(name.trim())) {
        return Some((TrapKind::QuotedName, name));
    }
    let mut words = key.split_whitespace();
    if let (Some("export"), Some(name), None) = (words.next(), words.next(), words.next())
        && let Some(name) = known(name)
    {
        return Some((TrapKind::ExportPrefix, name));
    }
    let name = key.trim_end();
    if name != key
        && let Some(name) = known(name)
    {
        return Some((TrapKind::BlankBeforeEquals, name));
    }
    let upper = name.to_ascii_uppercase();
    if upper != name && is_meant(&upper) {
        return Some((TrapKind::LowercaseKey, upper));
    }
    Some((TrapKind::Misspelt, known::nearest(&upper)?.to_owned()))
}

/// A value without the quote that closes the one before its name.
fn unquoted(value: &str) -> &str {
    value.trim_end_matches(QUOTES)
}

/// The last line that was meant to set a variable and does not, because its name is not quite right: its value,
/// the line and its number. What is commented out is not meant.
pub(super) fn near_miss<'t>(text: &'t str, variable: &str) -> Option<(&'t str, &'t str, usize)> {
    let meant = text.split('\n').zip(1..).filter_map(|(line, number)| {
        let line = line.trim();
        Some((meant_by(line, variable)?, line, number))
    });
    meant.last()
}

fn meant_by<'t>(line: &'t str, variable: &str) -> Option<&'t str> {
    if line.starts_with(COMMENT) {
        return None;
    }
    let is_it = |key: &str| {
        known::may_mean(key, variable) && slip(key).is_some_and(|(_, name)| name == variable)
    };
    match line.split_once('=') {
        Some((key, _)) if key == variable => None,
        Some((key, value)) if is_it(key) => Some(match key.starts_with(QUOTES) {
            true => unquoted(value),
            false => value,
        }),
        // `ECS_CLUSTER=a ECS_AWSVPC_BLOCK_IMDS=true`: up to the next blank, or a literal `\n`.
        Some((_, value)) => {
            let (_, buried) = value.split_once(&format!("{variable}="))?;
            buried.split([' ', '\t', '\r', '\\']).next()
        }
        None => {
            let name = first_word(line);
            let value = line
                .get(name.len()..)?
                .trim_start_matches([' ', '\t', ':', '\r']);
            (name == variable || is_it(name)).then_some(value)
        }
    }
}

/// The name at the beginning of a line that has no `=`.
fn first_word(line: &str) -> &str {
    line.split([' ', '\t', ':', '\r']).next().unwrap_or(line)
}

/// `ECS_CLUSTER=a ECS_AWSVPC_BLOCK_IMDS=true`, or the same with a literal `\n`, as `echo` without `-e` leaves it.
fn buried(a: &Assignment) -> Option<Found> {
    let name = variables::ALL
        .into_iter()
        .map(|v| v.name)
        .find(|name| a.value.contains(&format!("{name}=")))?;
    let message = format!(
        "the assignment to {name} stands inside the value of {}, so that {name} is not set by it; write it on a line \
         of its own",
        sanitize(&a.key)
    );
    Some(Found::new(TrapKind::BuriedKey, a.line, name, message))
}

/// `=true`, which ecs-init hands on as it is.
fn without_name(file: &EnvFile<'_>) -> Option<Found> {
    let at = file.agent.iter().find(|a| a.key.is_empty())?;
    let message = "there is no name before the =: Docker refuses to make the ECS agent's container (\"invalid environment \
                   variable\"), so that it does not start; remove the line";
    Some(Found::new(
        TrapKind::NoName,
        at.line,
        "",
        message.to_owned(),
    ))
}

fn without_equals(text: &str) -> Vec<Found> {
    text.split('\n')
        .zip(1..)
        .filter(|(line, _)| !line.contains('='))
        .take(MOST_INSPECTED)
        .filter_map(|(line, number)| {
            let line = line.trim();
            let name = first_word(line);
            is_meant(name).then(|| {
                let message = format!(
                    "there is no = in \"{}\", so that the ECS software skips the line and {name} is not set; write \
                     {name}=value",
                    sanitize(line)
                );
                Found::new(TrapKind::NoEquals, number, name, message)
            })
        })
        .collect()
}

fn duplicates(file: &EnvFile<'_>) -> Vec<Found> {
    let mut out = Vec::new();
    for (all, init) in [(&file.agent, false), (&file.systemd, true)] {
        for (n, a) in all.iter().enumerate() {
            let by_init = variables::find(&a.key).is_some_and(|v| v.reader == Reader::EcsInit);
            if by_init != init || !known::is_known(&a.key) {
                continue;
            }
            // Told once, at the line that wins.
            if all[n + 1..].iter().any(|b| b.key == a.key) {
                continue;
            }
            let other = all[..n]
                .iter()
                .rev()
                .find(|b| b.key == a.key && b.value.trim() != a.value.trim());
            if let Some(other) = other {
                let message = format!(
                    "{key}={} here, and {key}={} in line {}; the last one wins; remove one of the two",
                    sanitize(&a.value),
                    sanitize(&other.value),
                    other.line,
                    key = a.key,
                );
                out.push(Found::new(TrapKind::DuplicateKey, a.line, &a.key, message));
            }
        }
    }
    out
}
