//! With the seal on, nothing gets through whatever is done to the iptables rules.

use std::time::Duration;

use crate::defence::guard;
use crate::flow::Flow;
use crate::machine::{Cores, apart};
use crate::options::Options;
use crate::report::{Figure, Unit};
use crate::window::PACKETS;
use lab::Lab;
use lab::tamper::{Backend, Tamper};

pub(crate) const ID: &str = "sealed";

/// Long enough for a packet that got through to arrive, and for a repair.
const QUIET: Duration = Duration::from_millis(10);

/// What is done, with the rules of a host on which Docker had started and the guard had not.
type Tampering = fn(&Lab, &Tamper<'_>, &str);

const TAMPERINGS: [(&str, Tampering); 4] = [
    ("iptables -F", |_, tamper, _| tamper.flush("filter", None)),
    ("nft flush ruleset", |lab, _, _| {
        drop(lab.host.sh("nft flush ruleset"))
    }),
    ("iptables-restore", |_, tamper, before| {
        tamper.restore_snapshot(before)
    }),
    ("Docker 25 restarts", |_, tamper, _| {
        tamper.docker25_restart()
    }),
];

pub(crate) fn measure(options: &Options) -> Figure {
    let mut figure = Figure::new(
        ID,
        "packets through with the seal on, a sender at full rate",
    );
    for backend in Backend::ALL {
        for (name, tampering) in TAMPERINGS {
            let who = format!("{name} ({})", backend.iptables());
            let runs = options.repetitions;
            let packets = apart(|cores| repeat(backend, tampering, runs, cores));
            figure.add(&who, PACKETS, Unit::Packets, packets);
        }
    }
    figure
}

fn repeat(backend: Backend, tampering: Tampering, runs: usize, cores: &Cores) -> Vec<f64> {
    let lab = Lab::new();
    let tamper = lab.tamper(backend);
    tamper.docker25_restart();
    let before = tamper.save();
    let _daemon = guard(&lab, backend, true);
    let flow = Flow::start(&lab, cores).expect("packets flow");
    let leaks = flow.repeat(runs, QUIET, |_| tampering(&lab, &tamper, &before));
    leaks.iter().map(|leak| leak.packets as f64).collect()
}
