//! How long `ecs-netguard probe` takes on a large host.

use crate::defence::guard;
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::tamper::Backend;
use lab::task::Plan;

pub(crate) const ID: &str = "probe";
pub(crate) const WHO: &str = "20 bridges, 50 tasks";
pub(crate) const WHAT: &str = "whole probe";

const BRIDGES: usize = 20;
const TASKS: usize = 50;
const TIMES: usize = 5;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "packets from everywhere, and what became of them");
    let lab = Lab::new();
    for number in 2..BRIDGES {
        let name = format!("br-{number:012x}");
        lab.host.sh(&format!(
            "ip link add {name} type bridge; ip addr add 172.30.{number}.1/24 dev {name}
             ip -6 addr add fd00:30:{number:x}::1/64 dev {name} nodad; ip link set {name} up"
        ));
    }
    let _daemon = guard(&lab, Backend::Nft, true);
    let _tasks: Vec<_> = (0..TASKS).map(|_| lab.task(Plan::default())).collect();
    let probe = |_| {
        let output = lab.netguard(["probe", "--json"]).output().expect("it runs");
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let places = found["places"].as_array().map_or(0, Vec::len);
        assert!(places >= BRIDGES + TASKS, "{places} places: {found:#}");
        found["elapsed_seconds"].as_f64().expect("a time")
    };
    let times = (0..TIMES).map(probe).collect();
    figure.add(WHO, WHAT, Unit::Seconds, times);
    figure
}
