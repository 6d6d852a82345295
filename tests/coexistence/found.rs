//! What `ecs-netguard check --json` says.

use std::collections::BTreeMap;

use serde_json::Value;

/// How each guarantee stands, and what there is to say of those that are not held.
pub(crate) struct Found {
    standings: BTreeMap<String, String>,
    drifts: Vec<Value>,
    /// The claims that are not held, and why.
    pub(crate) problems: String,
}

impl Found {
    pub(crate) fn read(turn: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut found = Self {
            standings: BTreeMap::new(),
            drifts: list(&turn["drifts"]),
            problems: String::new(),
        };
        for outcome in list(&turn["guarantees"]) {
            let standing = text(&outcome["standing"]);
            found.standings.insert(text(&outcome["name"]), standing);
            for claim in list(&outcome["claims"]) {
                if claim["verdict"] != "held" {
                    let (claim, why) = (text(&claim["claim"]), text(&claim["why"]));
                    found.problems.push_str(&format!("{claim}: {why}\n"));
                }
            }
        }
        found
    }

    /// Whether nothing is missing, and every guarantee is held but those named, which stand so.
    pub(crate) fn are(&self, other_than_held: &[(&str, &str)]) -> Result<(), String> {
        let expected = |guarantee: &str| {
            let named = other_than_held.iter().find(|(name, _)| *name == guarantee);
            // The one guarantee that is not asked for here.
            let usual = match guarantee {
                "host-imds-block" => "not-required",
                _ => "held",
            };
            named.map_or(usual, |(_, standing)| standing)
        };
        let wrong = self.standings.iter().find(|(g, s)| expected(g) != *s);
        if self.standings.is_empty() || wrong.is_some() || !self.drifts.is_empty() {
            let (standings, drifts) = (&self.standings, &self.drifts);
            return Err(format!("{standings:?} {drifts:?}\n{}", self.problems));
        }
        Ok(())
    }
}
