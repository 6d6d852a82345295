//! How often what was said.

use std::collections::BTreeMap;
use std::fmt;

use ecs_netguard::prove::{Claim, Expect};
use ecs_netguard::verdict::Verdict;

use super::judge::Judged;

/// Counts, and the contradictions in full.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rulesets: usize,
    pub(crate) contradictions: Vec<String>,
    verdicts: BTreeMap<(bool, &'static str, &'static str), usize>,
    judged: BTreeMap<String, usize>,
    whys: BTreeMap<String, usize>,
}

/// What a verdict is counted as.
pub(crate) fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Violated { .. } => "violated",
        Verdict::Undecided { why, .. } if why.starts_with("only this gets through") => {
            "undecided (an odd packet)"
        }
        Verdict::Undecided { .. } => "undecided",
    }
}

/// What packets said, in words.
pub(crate) fn said(judged: &Judged) -> String {
    match judged {
        Judged::Agrees => "agrees".to_owned(),
        Judged::NothingSaid => "nothing to compare".to_owned(),
        Judged::NotShown => "not shown: several chances at once".to_owned(),
        Judged::NotSendable(why) => format!("not sendable: {why}"),
        Judged::Contradicted(_) => "CONTRADICTED".to_owned(),
    }
}

impl Tally {
    pub(crate) fn count(&mut self, dark: bool, claim: &Claim, verdict: &Verdict, judged: &Judged) {
        let kind = if claim.expect == Expect::Dropped {
            "block"
        } else {
            "delivery"
        };
        if let (Verdict::Undecided { why, .. }, false) = (verdict, dark) {
            *self.whys.entry(why.clone()).or_default() += 1;
        }
        let key = (dark, kind, name(verdict));
        *self.verdicts.entry(key).or_default() += 1;
        *self.judged.entry(said(judged)).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.rulesets += other.rulesets;
        self.contradictions.extend(other.contradictions);
        for (key, count) in other.verdicts {
            *self.verdicts.entry(key).or_default() += count;
        }
        for (key, count) in other.judged {
            *self.judged.entry(key).or_default() += count;
        }
        for (key, count) in other.whys {
            *self.whys.entry(key).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rulesets", self.rulesets)?;
        for (dark, title) in [
            (false, "all matches understood"),
            (true, "some not understood"),
        ] {
            let of = |wanted: &str| -> usize {
                let some = self
                    .verdicts
                    .iter()
                    .filter(|((d, _, name), _)| *d == dark && name.starts_with(wanted));
                some.map(|(_, count)| count).sum()
            };
            let (all, undecided) = (of(""), of("undecided"));
            let share = 100.0 * undecided as f64 / all.max(1) as f64;
            writeln!(f, "{title}: {all} claims, {share:.2} % undecided")?;
            for ((d, kind, name), count) in &self.verdicts {
                if *d == dark {
                    writeln!(f, "  {kind} {name}: {count}")?;
                }
            }
        }
        for (what, count) in &self.judged {
            writeln!(f, "{what}: {count}")?;
        }
        let mut whys: Vec<_> = self.whys.iter().collect();
        whys.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (why, count) in whys.into_iter().take(12) {
            writeln!(f, "undecided though all is understood: {count} × {why}")?;
        }
        Ok(())
    }
}
