//! config.toml as a tree that knows its lines, for messages that point to them.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::SettingsError;
use crate::config::sanitize::sanitize;

pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

/// A key with where it and its value stand.
struct Place {
    key: String,
    at: usize,
    value: Range<usize>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(path: &'a Path, text: &'a str) -> Result<Self, SettingsError> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { path, text, root }),
            Err(e) => Err(SettingsError::Syntax {
                path: path.to_owned(),
                line: line_of(text, e.span().map_or(0, |s| s.start)),
                reason: sanitize_message(e.message()),
            }),
        }
    }

    /// Compares the keys and types that are there with those of the serialized default, so that there is no second
    /// list of keys to keep.
    pub(super) fn check_keys(&self, default: &toml::Table) -> Result<(), SettingsError> {
        self.check_table("", self.root.get_ref(), default, default)
    }

    /// What the document says, by serde.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, toml::de::Error> {
        T::deserialize(toml::Deserializer::from(self.root.clone()))
    }

    /// Removes a key with its value: `imds.block`. False where there is none.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        fn within(table: &mut DeTable<'_>, key: &str) -> bool {
            let (name, rest) = key
                .split_once('.')
                .map_or((key, None), |(n, rest)| (n, Some(rest)));
            match (rest, table.get_mut(name).map(Spanned::get_mut)) {
                (None, Some(_)) => table.remove(name).is_some(),
                (Some(rest), Some(DeValue::Table(table))) => within(table, rest),
                _ => false,
            }
        }
        within(self.root.get_mut(), key)
    }

    fn check_table(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        known: &toml::Table,
        all: &toml::Table,
    ) -> Result<(), SettingsError> {
        for (name, value) in table {
            let key = join(prefix, name.get_ref());
            let Some(default) = known.get(name.get_ref().as_ref()) else {
                return Err(SettingsError::UnknownKey {
                    path: self.path.to_owned(),
                    line: self.line(name.span().start),
                    advice: advice(prefix, name.get_ref(), known, all),
                    key: sanitize(&key),
                });
            };
            match (value.get_ref(), default) {
                (DeValue::Table(table), toml::Value::Table(known)) => {
                    self.check_table(&key, table, known, all)?;
                }
                (value_is, default) if value_is.type_str() != default.type_str() => {
                    return Err(self.wrong_type(key, value, default));
                }
                (DeValue::Array(items), toml::Value::Array(defaults)) => {
                    let Some(default) = defaults.first() else {
                        continue;
                    };
                    if let Some(item) = items
                        .iter()
                        .find(|i| i.get_ref().type_str() != default.type_str())
                    {
                        let what = item.get_ref().type_str();
                        let problem = format!(
                            "holds {} {what}; expected {}s such as {default}",
                            article(what),
                            default.type_str()
                        );
                        return Err(self.value(key, item.span().start, problem));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wrong_type(
        &self,
        key: String,
        value: &Spanned<DeValue<'_>>,
        default: &toml::Value,
    ) -> SettingsError {
        let is = value.get_ref().type_str();
        let expected = match default {
            toml::Value::Table(_) => format!("a table [{key}]"),
            other => format!(
                "{} {} such as {other}",
                article(other.type_str()),
                other.type_str()
            ),
        };
        let problem = format!("is {} {is}; expected {expected}", article(is));
        self.value(key, value.span().start, problem)
    }

    /// The error for a value of the right type that serde does not take.
    pub(super) fn value_error(&self, error: &toml::de::Error) -> SettingsError {
        let at = error.span().map_or(0, |s| s.start);
        // The innermost key that covers the place.
        let key = self
            .places()
            .into_iter()
            .filter(|p| p.value.contains(&at))
            .min_by_key(|p| p.value.len())
            .map_or_else(|| "the file".to_owned(), |p| p.key);
        self.value(
            key,
            at,
            format!("cannot be used: {}", sanitize_message(error.message())),
        )
    }

    /// The error for a key whose value makes no sense.
    pub(super) fn problem(&self, key: &str, problem: String) -> SettingsError {
        let places = self.places();
        // The value may be missing, and the default not fit what else is written.
        let at = places.iter().find(|p| p.key == key).map_or(0, |p| p.at);
        self.value(key.to_owned(), at, problem)
    }

    fn value(&self, key: String, at: usize, problem: String) -> SettingsError {
        SettingsError::Value {
            path: self.path.to_owned(),
            line: self.line(at),
            key,
            problem,
        }
    }

    fn places(&self) -> Vec<Place> {
        fn walk(prefix: &str, table: &DeTable<'_>, out: &mut Vec<Place>) {
            for (name, value) in table {
                let key = join(prefix, name.get_ref());
                if let DeValue::Table(inner) = value.get_ref() {
                    walk(&key, inner, out);
                }
                out.push(Place {
                    key,
                    at: name.span().start,
                    value: value.span(),
                });
            }
        }
        let mut out = Vec::new();
        walk("", self.root.get_ref(), &mut out);
        out
    }

    fn line(&self, at: usize) -> usize {
        line_of(self.text, at)
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&b| b == b'\n').count()
}

fn join(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// The key that was meant, if one is near, and else all there are. A key of another table counts too: the slip is
/// often the table.
fn advice(prefix: &str, name: &str, known: &toml::Table, all: &toml::Table) -> String {
    let near = known
        .keys()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .min()
        .filter(|&(distance, k)| distance <= 1 + k.len() / 4);
    if let Some((_, k)) = near {
        return format!("did you mean {}?", join(prefix, k));
    }
    let elsewhere = all
        .iter()
        .find(|(_, inner)| inner.as_table().is_some_and(|t| t.contains_key(name)));
    if let Some((table, _)) = elsewhere {
        return format!("did you mean {table}.{name}?");
    }
    let all: Vec<_> = known.keys().map(String::as_str).collect();
    let place = if prefix.is_empty() {
        "the tables are".to_owned()
    } else {
        format!("[{prefix}] has")
    };
    format!("{place} {}", all.join(", "))
}

/// A parser's message, which may quote the file.
fn sanitize_message(message: &str) -> String {
    message
        .lines()
        .map(|line| {
            line.chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .take(200)
                .collect::<String>()
        })
        .collect::<Vec<_>>()
        .join(", ")
}
