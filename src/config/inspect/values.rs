//! Traps right of the `=`, for the variables whose value matters here.

use super::found::Found;
use crate::config::envfile;
use crate::config::gobool::{before_comment, parse_bool, unquote};
use crate::config::parsed::EnvFile;
use crate::config::sanitize::sanitize;
use crate::config::trap::TrapKind;
use crate::config::variables::{self, Reader, Variable};

pub(super) fn find(file: &EnvFile<'_>, ecs_init: bool) -> Vec<Found> {
    variables::ALL
        .into_iter()
        .filter_map(|v| {
            let all = match v.reader {
                Reader::Agent | Reader::AgentPlain => &file.agent,
                Reader::EcsInit => &file.systemd,
            };
            // Only the last one counts; what it hides is a duplicate, and named as one.
            let at = envfile::last(all, v.name)?;
            let (kind, message) = value(v, &at.value, ecs_init)?;
            Some(Found::new(kind, at.line, v.name, message))
        })
        .collect()
}

fn value(v: &Variable, written: &str, ecs_init: bool) -> Option<(TrapKind, String)> {
    let name = v.name;
    let text = match v.reader {
        Reader::Agent | Reader::AgentPlain => written.trim(),
        Reader::EcsInit => written,
    };
    if text.is_empty() {
        // Where the defaults agree, an empty value changes nothing.
        let default = v.init_default.filter(|on| *on != v.default && ecs_init)?;
        return Some((
            TrapKind::EmptyValue,
            format!(
                "{name} is set to nothing, which hides ecs-init's default ({default}) and leaves the ECS agent's \
                 own ({}); write {name}={default}, or remove the line",
                v.default
            ),
        ));
    }
    if parse_bool(text).is_some() {
        return None;
    }
    let reader = match v.reader {
        Reader::Agent | Reader::AgentPlain => "the ECS agent",
        Reader::EcsInit => "ecs-init",
    };
    let outcome = format!("{reader} treats it as unset ({})", v.default);
    // A blank at an end, which systemd's quotes preserve, would be overlooked.
    let shown_text = match text.trim() == text {
        true => sanitize(text),
        false => format!("\"{}\"", sanitize(text)),
    };
    let go = |text: &str| parse_bool(text.trim());

    if let Some(inner) = unquote(text)
        && (inner.trim().is_empty() || go(inner).is_some())
    {
        let inner = match inner.trim() {
            "" => "true or =false",
            inner => inner,
        };
        return Some((
            TrapKind::QuotedBoolean,
            format!(
                "{name} is {shown_text}, quoted: {reader} does not strip quotes and treats the variable as unset \
                 ({}); write {name}={inner}",
                v.default
            ),
        ));
    }
    if let Some(before) = before_comment(text)
        && let Some(on) = go(before).or_else(|| unquote(before).and_then(go))
    {
        return Some((
            TrapKind::InlineComment,
            format!(
                "the comment behind {name}={} is part of its value ({shown_text}); {outcome}; write {name}={on}, and \
                 the comment on a line of its own",
                sanitize(before)
            ),
        ));
    }
    Some((
        TrapKind::NotABoolean,
        format!(
            "{name} is {shown_text}, not a boolean; {outcome}; write {name}=true or {name}=false"
        ),
    ))
}
