//! Rules that look alive and match no process. Pure.

use crate::guarantee::Guarantee;
use crate::ruleset::{Listed, Ruleset};

/// A line for each rule of the guard's that was made for another cgroup than the one that bears that
/// path `now`.
pub(super) fn dead<'r>(
    rulesets: impl Iterator<Item = &'r Ruleset>,
    path: &str,
    now: Option<u64>,
) -> Vec<String> {
    let own = |listed: &&Listed| Guarantee::owning(&listed.rule).is_some();
    let mut lines = Vec::new();
    for ruleset in rulesets {
        for (table, content) in &ruleset.tables {
            for (chain, content) in &content.chains {
                for Listed { rule, text } in content.rules.iter().filter(own) {
                    if rule.cgroup_noted().is_some_and(|noted| now != Some(noted)) {
                        lines.push(format!(
                            "dead rule: the cgroup {path} was deleted, or made again since, and this rule \
                             matches no process: {} {table} {chain}: {text}",
                            ruleset.family
                        ));
                    }
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Family, parse_save};

    #[test]
    fn only_the_guards_rules_for_another_cgroup_are_dead() {
        let text = "*filter
:OUTPUT ACCEPT [0:0]
-A OUTPUT -m cgroup --path \"a.slice\" -m comment --comment \"ecs-netguard: host-imds-block (cgroup 7)\" -j DROP
-A OUTPUT -m cgroup --path \"a.slice\" -m comment --comment \"mine (cgroup 6)\" -j DROP
-A OUTPUT -m comment --comment \"ecs-netguard: imds-block\" -j DROP
COMMIT
";
        let ruleset = parse_save(Family::V4, text.as_bytes()).unwrap();
        let found = |now| dead(std::iter::once(&ruleset), "a.slice", now);
        assert_eq!(found(Some(7)), Vec::<String>::new());
        for now in [None, Some(8)] {
            let lines = found(now);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains("a.slice") && lines[0].contains("(cgroup 7)"));
        }
    }
}
