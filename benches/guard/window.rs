//! From a tampering to closed again: how long, and how many packets got through meanwhile.

use std::time::Duration;

use crate::defence::Defence;
use crate::flow::{Flow, Leak};
use crate::machine::{Cores, apart};
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::tamper::Backend;

/// No packet for this long, at a rate of some microseconds each: it is closed.
const QUIET: Duration = Duration::from_millis(20);

pub(crate) const WINDOW: &str = "window";
pub(crate) const PACKETS: &str = "packets through";

const TIMER: &str = "a timer, every 60 s";
const TIMER_SECONDS: f64 = 60.0;

const OFF: Defence = Defence::Guard { seal: false };
const ON: Defence = Defence::Guard { seal: true };

/// One tampering, and who is measured against it.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    title: &'static str,
    backend: Backend,
    tampering: fn(&Lab),
    defences: &'static [Defence],
}

pub(crate) const CASES: [Case; 3] = [
    Case {
        id: "window",
        title: "after `iptables -F FORWARD`, iptables-nft, a sender at full rate",
        backend: Backend::Nft,
        tampering: |lab| lab.tamper(Backend::Nft).flush("filter", Some("FORWARD")),
        defences: &[Defence::Poll, Defence::Event, OFF, ON],
    },
    Case {
        id: "window-legacy",
        title: "after `iptables -F FORWARD`, iptables-legacy, a sender at full rate",
        backend: Backend::Legacy,
        tampering: |lab| lab.tamper(Backend::Legacy).flush("filter", Some("FORWARD")),
        // There is no event that a script could wait for.
        defences: &[Defence::Poll, OFF, ON],
    },
    Case {
        id: "window-ruleset",
        title: "after `nft flush ruleset`, a sender at full rate",
        backend: Backend::Nft,
        tampering: |lab| drop(lab.host.sh("nft flush ruleset")),
        defences: &[Defence::Poll, Defence::Event, OFF, ON],
    },
];

impl Case {
    pub(crate) fn measure(&self, options: &Options) -> Figure {
        let mut figure = Figure::new(self.id, self.title);
        for defence in self.defences {
            let runs = match defence {
                Defence::Poll => options.repetitions.div_ceil(13),
                _ => options.repetitions,
            };
            let (leaks, interval) = apart(|cores| self.repeat(*defence, runs, cores));
            if leaks.len() < runs {
                let name = defence.name();
                figure.notes.push(format!(
                    "{name}: stayed open after {} of {runs}",
                    leaks.len()
                ));
            }
            let windows: Vec<Duration> = leaks.iter().map(|l| l.window(interval)).collect();
            let packets: Vec<f64> = leaks.iter().map(|l| l.packets as f64).collect();
            if *defence == Defence::Poll {
                let open: Duration = windows.iter().sum();
                timer(
                    &mut figure,
                    packets.iter().sum::<f64>() / open.as_secs_f64(),
                );
            }
            figure.add_times(defence.name(), WINDOW, &windows);
            figure.add(defence.name(), PACKETS, Unit::Packets, packets);
            let rate = 1.0 / interval.as_secs_f64();
            figure.add_one(defence.name(), "the sender's rate", Unit::PerSecond, rate);
        }
        figure
    }

    /// What each tampering let through, and the mean time between two packets.
    fn repeat(&self, defence: Defence, runs: usize, cores: &Cores) -> (Vec<Leak>, Duration) {
        let lab = Lab::new();
        let _daemon = defence.start(&lab, self.backend);
        let flow = Flow::start(&lab, cores).expect("packets flow");
        let leaks = flow.repeat(runs, QUIET, |run| {
            if defence == Defence::Poll {
                std::thread::sleep(phase(run));
            }
            (self.tampering)(&lab);
        });
        (leaks, flow.interval())
    }
}

/// A tampering comes at any moment between two looks: points spread evenly over one second.
fn phase(run: usize) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    Duration::from_secs_f64((run as f64 * GOLDEN).fract())
}

/// A tampering at a moment of its own between two runs of a timer waits for the rest of the time.
fn timer(figure: &mut Figure, packets_per_second: f64) {
    let windows = [0.5, 0.99, 1.0].map(|share| share * TIMER_SECONDS);
    figure.add_computed(TIMER, WINDOW, Unit::Seconds, windows);
    let packets = windows.map(|window| window * packets_per_second);
    figure.add_computed(TIMER, PACKETS, Unit::Packets, packets);
}
