//! Traps left of the `=`.

use super::found::{Found, MOST_INSPECTED};
use crate::config::envfile::{self, Assignment};
use crate::config::known::{self, is_meant};
use crate::config::parsed::EnvFile;
use crate::config::sanitize::sanitize;
use crate::config::trap::TrapKind;
use crate::config::variables::{self, Reader};

const BOM: char = '\u{feff}';

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

    if let Some(name) = key.strip_prefix(BOM).map(str::trim).filter(|n| is_meant(n)) {
        return found(
            TrapKind::ByteOrderMark,
            name,
            format!(
                "a byte order mark stands before {name}, and becomes part of the name, so that {name} is not set; \
                 save the file as UTF-8 without it"
            ),
        );
    }
    if key.starts_with(['#', ';']) {
        let name = key.trim_start_matches(['#', ';', ' ', '\t']).trim_end();
        // An example above the real line misleads nobody.
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
    let mut words = key.split_whitespace();
    if let (Some("export"), Some(name), None) = (words.next(), words.next(), words.next())
        && is_meant(name)
    {
        return found(
            TrapKind::ExportPrefix,
            name,
            format!(
                "the ECS software knows no export: this sets a variable named \"export {name}\", and {name} is not \
                 set; write {name}={value}"
            ),
        );
    }
    let name = key.trim_end();
    if name != key && is_meant(name) {
        // systemd, through which ecs-init reads its own variables, does take the blank off.
        if variables::find(name).is_some_and(|v| v.reader == Reader::EcsInit) {
            return None;
        }
        return found(
            TrapKind::BlankBeforeEquals,
            name,
            format!(
                "the blank before = becomes part of the name for the ECS agent, so that {name} is not set; write \
                 {name}={}",
                value.trim_start()
            ),
        );
    }
    let upper = name.to_ascii_uppercase();
    if upper != name && is_meant(&upper) {
        return found(
            TrapKind::LowercaseKey,
            &upper,
            format!(
                "the ECS software takes {} as another variable than {upper}, which is not set; write {upper}={value}",
                sanitize(name)
            ),
        );
    }
    let meant = known::nearest(&upper)?;
    found(
        TrapKind::Misspelt,
        meant,
        format!(
            "the ECS software knows no {}; if {meant} is meant, write {meant}={value}",
            sanitize(name)
        ),
    )
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

fn without_equals(text: &str) -> Vec<Found> {
    text.split('\n')
        .zip(1..)
        .filter(|(line, _)| !line.contains('='))
        .take(MOST_INSPECTED)
        .filter_map(|(line, number)| {
            let line = line.trim();
            let name = line.split([' ', '\t', ':', '\r']).next()?;
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
