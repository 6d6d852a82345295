//! How the status socket bears many clients.

use crate::defence::guard;
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "crowd";
pub(crate) const WHO: &str = "GET /v1/status";
pub(crate) const WHAT: &str = "to the end of the answer";

const CLIENTS: u64 = 64;
const REQUESTS: u64 = 10_000;

pub(crate) fn measure(_: &Options) -> Figure {
    let title = format!("{REQUESTS} requests from {CLIENTS} clients, a connection each");
    let mut figure = Figure::new(ID, title);
    let lab = Lab::new();
    let _daemon = guard(&lab, Backend::Nft, true);
    let crowd = lab.crowd(CLIENTS, REQUESTS);
    figure.add_times(WHO, WHAT, &crowd.times);
    figure.add_one(WHO, "not answered", Unit::Count, crowd.failed as f64);
    let rate = crowd.times.len() as f64 / crowd.wall.as_secs_f64();
    figure.add_one(WHO, "answers", Unit::PerSecond, rate);
    figure
}
