//! What changed from one reading of the inputs to the next, in words. Pure.

use super::Inputs;
use crate::config::ecs::Setting;
use crate::config::sanitize;
use crate::config::settings::Settings;

impl Inputs {
    /// What differs from an earlier reading: `config.toml: verify.interval "60s" → "1s"`. Empty where
    /// nothing does.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let (before, after) = (flat(&earlier.settings), flat(&self.settings));
        for ((key, before), (_, after)) in before.iter().zip(&after) {
            if before != after {
                changes.push(format!("config.toml: {key} {before} → {after}"));
            }
        }
        for (before, after) in earlier.ecs.settings().into_iter().zip(self.ecs.settings()) {
            let (was, is) = (written(before), written(after));
            if was != is {
                changes.push(format!("{} {was} → {is}", after.variable));
            }
        }
        changes
    }
}

/// Every key with its value as TOML, in one order.
fn flat(settings: &Settings) -> Vec<(String, String)> {
    let tables = toml::Table::try_from(settings).unwrap_or_default();
    let keys = tables.iter().flat_map(|(table, keys)| {
        let keys = keys.as_table().into_iter().flatten();
        keys.map(move |(key, value)| (format!("{table}.{key}"), value.to_string()))
    });
    keys.collect()
}

fn written(setting: &Setting) -> String {
    setting
        .raw
        .as_deref()
        .map_or_else(|| "(not set)".to_owned(), sanitize)
}
