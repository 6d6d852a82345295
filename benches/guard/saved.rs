//! What judging the saved rules of another host costs, where they are many.

use crate::defence::ECS_CONFIG;
use crate::options::Options;
use crate::report::Figure;
use crate::rules::lines;
use crate::time::times;
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "saved";

pub(crate) const WHO: &str = "ecs-netguard check";
pub(crate) const ABOVE: &str = "above the guard's";

const RULES: usize = 10_000;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, format!("`check --ruleset` of {RULES} saved rules"));
    let lab = Lab::new();
    lab.write("ecs.config", ECS_CONFIG);
    lab.netguard(["apply"]).run();
    let own = lab.tamper(Backend::Nft).save();
    let others = lines("FORWARD", RULES);
    let above = own.replacen("-A FORWARD", &format!("{others}-A FORWARD"), 1);
    let last = own
        .rfind("-A FORWARD")
        .expect("the guard's rules are saved");
    let end = last + own[last..].find('\n').expect("lines end") + 1;
    let below = format!("{}{others}{}", &own[..end], &own[end..]);
    for (where_, text) in [("below the guard's", below), (ABOVE, above)] {
        lab.write("saved", text);
        let check = || {
            drop(
                lab.netguard(["check", "--ruleset", "/run/lab/saved"])
                    .output(),
            )
        };
        figure.add_times(WHO, where_, &times(check));
    }
    figure
}
