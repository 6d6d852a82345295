//! Finds the places where a file does not say what its writer thinks: [`TrapKind`] lists them.

mod found;
mod keys;
mod values;

use found::{Found, MOST_INSPECTED};

use super::envfile;
use super::json::{self, Reading};
use super::known;
use super::parsed::{EnvFile, Parsed, is_broken};
use super::sanitize::sanitize;
use super::source::Source;
use super::trap::{Trap, TrapKind};
use super::variables::{self, Reader, Variable};

/// How many traps of a file are reported.
const MOST_TRAPS: usize = 100;

/// A line that was meant to set a variable and does not, because its name is not quite right.
pub(crate) struct NearMiss {
    pub(crate) value: String,
    /// As it is written.
    pub(crate) line: String,
    pub(crate) source: Source,
}

/// The one that counts: in the file that counts most the last one.
pub(crate) fn near_miss(parsed: &Parsed<'_>, variable: &Variable) -> Option<NearMiss> {
    let in_json = || {
        let entries = parsed.json.as_ref().ok()?.iter();
        let mut meant = entries.filter(|entry| {
            known::may_mean(&entry.key, variable.json.unwrap_or(variable.name))
                && misspelt_json_key(&entry.key) == variable.json
        });
        let entry = meant.next_back()?;
        Some(NearMiss {
            value: entry.raw.clone(),
            line: format!("\"{}\": {}", entry.key, entry.raw),
            source: Source::File {
                path: parsed.json_path.to_owned(),
                line: entry.line,
            },
        })
    };
    let mut in_files = parsed.files().filter_map(|file| {
        let (value, text, line) = keys::near_miss(file.text, variable.name)?;
        Some(NearMiss {
            value: value.to_owned(),
            line: text.to_owned(),
            source: Source::File {
                path: file.path.to_owned(),
                line,
            },
        })
    });
    in_files.next().or_else(in_json)
}

/// All traps, by file and line.
pub(crate) fn traps(parsed: &Parsed<'_>) -> Vec<Trap> {
    let mut out = Vec::new();
    let lesser = parsed.var_config.as_ref();
    for (file, is_lesser) in [(Some(&parsed.config), false), (lesser, true)] {
        let Some(file) = file else { continue };
        let mut found = keys::find(file);
        found.extend(values::find(file, parsed.ecs_init));
        found.extend(not_utf8(file));
        if !parsed.is_environment(file) {
            found.extend(not_read_there(file));
        } else if !is_lesser {
            found.extend(swallowed(file));
        }
        if !is_lesser {
            found.extend(json_elsewhere(parsed));
            if parsed.ecs_init && parsed.is_environment(file) {
                found.extend(external_read_twice(file));
            }
        }
        found.sort_by_key(|f| (f.line, f.kind));
        out.extend(found.into_iter().take(MOST_TRAPS).map(|f| f.at(file.path)));
    }
    let mut found = json_traps(parsed);
    found.sort_by_key(|f| (f.line, f.kind));
    out.extend(
        found
            .into_iter()
            .take(MOST_TRAPS)
            .map(|f| f.at(parsed.json_path)),
    );
    out
}

fn not_utf8(file: &EnvFile<'_>) -> Option<Found> {
    let (_, line) = file
        .text
        .split('\n')
        .zip(1..)
        .find(|(text, _)| is_broken(text))?;
    Some(Found::new(
        TrapKind::NotUtf8,
        line,
        "",
        "the line holds bytes that are no UTF-8: the ECS agent takes them as they are, but unless they stand in a \
         comment systemd ignores the whole file, and ecs-init sees none of its variables; write the line in UTF-8"
            .to_owned(),
    ))
}

fn by_ecs_init() -> impl Iterator<Item = &'static Variable> {
    variables::ALL
        .into_iter()
        .filter(|v| v.reader == Reader::EcsInit)
}

fn not_read_there(file: &EnvFile<'_>) -> Vec<Found> {
    by_ecs_init()
        .filter_map(|v| {
            let at = envfile::last(&file.systemd, v.name)?;
            Some(Found::new(
                TrapKind::NotReadThere,
                at.line,
                v.name,
                format!(
                    "{} is read by ecs-init from its own environment, and its unit does not read this file \
                     (EnvironmentFile=), so that it has no effect here; see `systemctl cat ecs`",
                    v.name
                ),
            ))
        })
        .collect()
}

/// Lines that look like an assignment and that systemd does not see as one.
fn swallowed(file: &EnvFile<'_>) -> Vec<Found> {
    // A file that systemd ignores as a whole has been named already.
    if file.systemd.is_empty() && is_broken(file.text) {
        return Vec::new();
    }
    by_ecs_init()
        .filter_map(|v| {
            let at = envfile::last(&file.agent, v.name)?;
            let seen = file.systemd.iter().any(|s| s.key == v.name && s.line == at.line);
            (!seen).then(|| {
                Found::new(
                    TrapKind::SwallowedLine,
                    at.line,
                    v.name,
                    format!(
                        "systemd, through which ecs-init reads {}, takes this line as part of an earlier one: look \
                         above it for a quote that is not closed or a backslash at the end of a line",
                        v.name
                    ),
                )
            })
        })
        .collect()
}

fn external_read_twice(file: &EnvFile<'_>) -> Option<Found> {
    let name = variables::EXTERNAL.name;
    let (agent, init) = (
        envfile::last(&file.agent, name),
        envfile::last(&file.systemd, name),
    );
    let agent_on = agent.is_some_and(|a| super::gobool::parse_bool(a.value.trim()) == Some(true));
    let init_on = init.is_some_and(|a| a.value == "true");
    let line = agent.or(init)?.line;
    let (yes, no) = match (agent_on, init_on) {
        (true, false) => ("the ECS agent", "ecs-init"),
        (false, true) => ("ecs-init", "the ECS agent"),
        _ => return None,
    };
    Some(Found::new(
        TrapKind::ReadersDisagree,
        line,
        name,
        format!(
            "{yes} takes {name} as on here, {no} does not; write {name}=true, without quotes or blanks"
        ),
    ))
}

fn json_elsewhere(parsed: &Parsed<'_>) -> Option<Found> {
    let name = variables::JSON_PATH_VARIABLE;
    let (file, at) = parsed.env(name)?;
    if file.path != parsed.config.path
        || parsed.json_path.ends_with(at.value.trim_start_matches('/')) && !at.value.is_empty()
    {
        return None;
    }
    let read = sanitize(&parsed.json_path.to_string_lossy());
    let message = match at.value.as_str() {
        "" => format!(
            "{name} is set to nothing, with which the ECS agent reads {read} and no ecs.config.json"
        ),
        value => format!(
            "{name} sends the ECS agent to {} (a path inside its container) for its JSON; what that file says is not \
             known here, where {read} is read",
            sanitize(value),
        ),
    };
    Some(Found::new(TrapKind::JsonElsewhere, at.line, name, message))
}

fn json_traps(parsed: &Parsed<'_>) -> Vec<Found> {
    let entries = match &parsed.json {
        Ok(entries) => entries,
        Err(invalid) => {
            let message = format!(
                "the file is not valid JSON ({}); the ECS agent does not start with it; correct it or remove it",
                sanitize(&invalid.reason)
            );
            return vec![Found::new(TrapKind::JsonInvalid, invalid.line, "", message)];
        }
    };
    let mut out = Vec::new();
    for entry in entries.iter().take(MOST_INSPECTED) {
        if let Some(meant) = misspelt_json_key(&entry.key) {
            let message = format!(
                "the ECS agent knows no key \"{}\" and ignores it; write {meant:?}{}",
                sanitize(&entry.key),
                if meant == "AWSVPCBlockInstanceMetdata" {
                    " (its own spelling)"
                } else {
                    ""
                },
            );
            out.push(Found::new(TrapKind::Misspelt, entry.line, meant, message));
        }
    }
    for variable in variables::ALL {
        out.extend(json_against_env(parsed, variable));
    }
    out
}

fn json_against_env(parsed: &Parsed<'_>, variable: &Variable) -> Option<Found> {
    let (entry, reading) = parsed.json_entry(variable)?;
    let (name, key) = (variable.name, variable.json?);
    let (kind, message) = match (reading, parsed.env(name)) {
        (Reading::Refused, _) => (
            TrapKind::JsonInvalid,
            format!(
                "{key} is {}, which the ECS agent does not take: it does not start with this file; write true or \
                 false, without quotes",
                sanitize(&entry.raw)
            ),
        ),
        (Reading::Value(json), Some((file, env))) => {
            let on = super::gobool::parse_bool(env.value.trim())?;
            let at = format!("{}:{}", sanitize(&file.path.to_string_lossy()), env.line);
            match (on, json) {
                (false, true) if variable.reader == Reader::AgentPlain => (
                    TrapKind::JsonWins,
                    format!(
                        "{key} is true here and {name} false in {at}; the ECS agent cannot tell that false from \
                         not set, so that this file wins; set it in one place only"
                    ),
                ),
                _ if on == json => return None,
                _ => (
                    TrapKind::JsonShadowed,
                    format!(
                        "{key} is {json} here, but {name} is {on} in {at}, which wins; set it in one place only"
                    ),
                ),
            }
        }
        (Reading::Value(json), None) => {
            let default = variable.init_default.filter(|_| parsed.ecs_init)?;
            if default == json {
                return None;
            }
            (
                TrapKind::JsonShadowed,
                format!(
                    "{key} is {json} here, but ecs-init sets {name}={default} unless ecs.config says otherwise, \
                     which wins; set {name}={json} in ecs.config"
                ),
            )
        }
        (Reading::Null, _) => return None,
    };
    Some(Found::new(kind, entry.line, name, message))
}

/// The key that was meant, for a key that Go's decoder ignores.
fn misspelt_json_key(key: &str) -> Option<&'static str> {
    if let Some(variable) = variables::find(key) {
        return variable.json;
    }
    let mut keys = variables::ALL.into_iter().filter_map(|v| v.json);
    if key.len() > 2 * "TaskIAMRoleEnabledForNetworkHost".len()
        || keys.any(|of| json::is_same(key, of))
    {
        return None;
    }
    let lower = key.to_ascii_lowercase();
    variables::ALL
        .into_iter()
        .filter_map(|v| v.json)
        .map(|name| {
            (
                strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|&(distance, name)| distance > 0 && distance <= 2 && name.len() > 10)
        .min()
        .map(|(_, name)| name)
}
