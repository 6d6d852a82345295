//! What a look at the rules and putting them in place cost, against what scripts do, in one run and
//! one namespace: medians of whole processes, and the ratio, which is the figure to quote.

#![allow(
    clippy::expect_used,
    reason = "a measurement stops where it goes wrong"
)]

#[allow(dead_code, reason = "the bench needs a part of what the tests need")]
#[path = "../tests/lab/mod.rs"]
mod lab;

use std::time::{Duration, Instant};

use lab::Lab;
use lab::tamper::Backend;

const RUNS: usize = 15;
const ECS_CONFIG: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// What a careful script does every so often: ask for each rule.
const CHECKS: &str = "
    iptables-nft -C FORWARD -d 169.254.169.254/32 -i docker+ -m comment --comment 'ecs-netguard: imds-block' -j DROP
    iptables-nft -C FORWARD -d 169.254.169.254/32 -i br-+ -m comment --comment 'ecs-netguard: imds-block' -j DROP
    iptables-nft -t nat -C PREROUTING -d 169.254.170.2/32 -p tcp --dport 80 -m comment --comment 'ecs-netguard: task-credentials' -j DNAT --to-destination 127.0.0.1:51679
    iptables-nft -t nat -C OUTPUT -d 169.254.170.2/32 -p tcp --dport 80 -m comment --comment 'ecs-netguard: task-credentials' -j REDIRECT --to-ports 51679";

fn main() {
    println!("medians of {RUNS} runs each, milliseconds; unrelated rules are in filter FORWARD\n");
    println!(
        "{:>10}{:>12}{:>16}{:>16}{:>12}{:>12}",
        "rules", "check", "iptables -C x4", "iptables-save", "/ -C x4", "/ save"
    );
    for unrelated in [0, 1_000, 10_000] {
        let lab = Lab::new();
        fill(&lab, unrelated);
        lab.write("ecs.config", ECS_CONFIG);
        lab.netguard(["apply"]).run();
        let check = median(|| drop(lab.netguard(["check"]).run()));
        let asked = median(|| drop(lab.host.sh(CHECKS)));
        let saved = median(|| drop(lab.host.sh("iptables-nft-save; ip6tables-nft-save")));
        println!(
            "{unrelated:>10}{:>12.1}{:>16.1}{:>16.1}{:>12.2}{:>12.2}",
            ms(check),
            ms(asked),
            ms(saved),
            check.as_secs_f64() / asked.as_secs_f64(),
            check.as_secs_f64() / saved.as_secs_f64()
        );
    }
    let lab = Lab::new();
    lab.write("ecs.config", ECS_CONFIG);
    let apply = median(|| {
        lab.tamper(Backend::Nft).flush("filter", None);
        lab.tamper(Backend::Nft).flush("nat", None);
        drop(lab.netguard(["apply"]).run());
    });
    let flush = median(|| {
        lab.tamper(Backend::Nft).flush("filter", None);
        lab.tamper(Backend::Nft).flush("nat", None);
    });
    println!(
        "\napply after a flush: {:.1} ms",
        ms(apply.saturating_sub(flush))
    );

    println!("\na saved ruleset of 10,000 rules, `check --ruleset`:");
    let lab = Lab::new();
    lab.write("ecs.config", ECS_CONFIG);
    lab.netguard(["apply"]).run();
    let own = lab.tamper(Backend::Nft).save();
    let others: String = lines(10_000);
    let below = own.replacen("-A FORWARD", &format!("{others}-A FORWARD"), 1);
    let last = own
        .rfind("-A FORWARD")
        .expect("the guard's rules are saved");
    let end = last + own[last..].find('\n').expect("lines end") + 1;
    let above = format!("{}{others}{}", &own[..end], &own[end..]);
    for (what, text) in [("below the guard's", above), ("above the guard's", below)] {
        lab.write("saved", text);
        let time = median(|| {
            drop(
                lab.netguard(["check", "--ruleset", "/run/lab/saved"])
                    .output(),
            )
        });
        println!("  other rules {what}: {:.1} ms", ms(time));
    }
}

fn lines(rules: usize) -> String {
    let rule = |n| {
        format!(
            "-A FORWARD -s 198.18.{}.{}/32 -j ACCEPT\n",
            n / 256,
            n % 256
        )
    };
    (0..rules).map(rule).collect()
}

/// Rules that look at sources nobody has.
fn fill(lab: &Lab, rules: usize) {
    let lines = lines(rules);
    lab.tamper(Backend::Nft)
        .restore_snapshot(&format!("*filter\n{lines}COMMIT\n"));
}

fn median(mut work: impl FnMut()) -> Duration {
    work();
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
