//! What one look at the rules costs, beside many others.

use std::time::Duration;

use crate::Options;
use crate::defence::{ECS_CONFIG, run_once};
use crate::lab::Lab;
use crate::lab::tamper::Backend;
use crate::report::Figure;
use crate::rules::fill;
use crate::time::times;

pub(crate) const ID: &str = "verify";
/// The sentinel's row.
pub(crate) const SENTINEL: &str = "sentinel";
pub(crate) const SAVE: &str = "iptables-save";

/// Rules that are none of the guard's business, in the same table.
const UNRELATED: [usize; 4] = [10, 1_000, 10_000, 50_000];

/// As the table names a number of unrelated rules.
pub(crate) fn beside(rules: usize) -> String {
    format!("beside {rules} rules")
}

/// Times one kind of look.
type Look = fn(&Lab) -> Vec<Duration>;

const LOOKS: [(&str, Look); 3] = [
    ("iptables -C, four times", |lab| {
        times(|| run_once(lab, "check.sh", Backend::Nft))
    }),
    (SAVE, |lab| {
        times(|| drop(lab.host.command("iptables-nft-save").run()))
    }),
    ("ecs-netguard check (proves)", |lab| {
        times(|| drop(lab.netguard(["check"]).run()))
    }),
];

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "one look at the rules, beside unrelated ones in filter");
    for unrelated in UNRELATED {
        let lab = Lab::new();
        fill(&lab, unrelated);
        lab.write("ecs.config", ECS_CONFIG);
        lab.netguard(["apply"]).run();
        for (who, look) in LOOKS {
            figure.add_times(who, &beside(unrelated), &look(&lab));
        }
    }
    figure
}
