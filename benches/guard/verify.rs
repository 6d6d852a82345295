//! What one look at the rules costs, beside many others.

use std::time::Duration;

use ecs_netguard::config::settings::Settings;
use ecs_netguard::os::facts;
use ecs_netguard::os::nft::generation;
use ecs_netguard::posture::Posture;
use ecs_netguard::reconcile::{Tools, resolve};
use ecs_netguard::sentinel::Orders;
use ecs_netguard::sentinel::chains::{Found, Hand};

use crate::defence::{ECS_CONFIG, run_once};
use crate::options::Options;
use crate::report::Figure;
use crate::rules::fill;
use crate::time::times;
use lab::Lab;
use lab::tamper::Backend;

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

const LOOKS: [(&str, Look); 4] = [
    (SENTINEL, |lab| lab.host.run(sentinel)),
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

/// What the sentinel does when another program committed: every one of its chains is read and compared.
fn sentinel() -> Vec<Duration> {
    let settings = Settings::default();
    let posture = Posture::everything("measured");
    let (desired, host) = resolve(
        &settings,
        &posture,
        (facts::read(&settings), Tools::find(&settings, None)),
        &[],
    );
    let generation = generation().expect("nf_tables answers");
    let orders = Orders::read_back(&desired, &host, false, generation, |_| true)
        .expect("what was applied stands there");
    assert!(!orders.chains.is_empty(), "there is something to look at");
    let mut hand = Hand::open().expect("nf_tables answers");
    hand.generation = generation;
    times(|| {
        for chain in &orders.chains {
            let found = hand.keep(chain, true).expect("nf_tables answers");
            assert!(matches!(found, Found::Right), "{found:?}");
        }
    })
}

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
