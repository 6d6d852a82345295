//! What a proof costs after another program's change, beside many rules.

use std::time::{Duration, Instant};

use crate::defence::guard;
use crate::options::Options;
use crate::report::Figure;
use crate::rules::fill;
use crate::verify::beside;
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "change";
pub(crate) const WHO: &str = "the pass after a change";

const UNRELATED: [usize; 2] = [10, 50_000];
const CHANGES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "the proof after another program's change");
    for unrelated in UNRELATED {
        let lab = Lab::new();
        fill(&lab, unrelated);
        let _daemon = guard(&lab, Backend::Nft, true);
        let passes: Vec<Duration> = (0..CHANGES).map(|_| after_a_change(&lab)).collect();
        figure.add_times(WHO, &beside(unrelated), &passes);
    }
    figure
}

/// How long the pass took, as the daemon says it.
fn after_a_change(lab: &Lab) -> Duration {
    let verified = || {
        let status = lab.get("/v1/status").body;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let verification = &status["verification"];
        let count = verification["count"].as_u64();
        let seconds = verification["duration_seconds"].as_f64();
        count.zip(seconds).expect("the daemon verified")
    };
    let (before, _) = verified();
    lab.host.sh("iptables -A OUTPUT -d 192.0.2.1 -j ACCEPT");
    let began = Instant::now();
    loop {
        let (count, seconds) = verified();
        if count > before {
            return Duration::from_secs_f64(seconds);
        }
        assert!(began.elapsed() < PATIENCE, "no pass follows a change");
        std::thread::sleep(Duration::from_millis(20));
    }
}
