//! What the kernel takes for what nobody can do without: what every other figure is to be compared with.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ecs_netguard::os::nft::{Batch, Proto, Socket};

use crate::options::Options;
use crate::report::Figure;
use crate::time::times;
use lab::Lab;

pub(crate) const ID: &str = "floor";
pub(crate) const KERNEL: &str = "the kernel";
pub(crate) const ROUND_TRIP: &str = "a question by netlink";
pub(crate) const COMMIT: &str = "a commit of one table";
pub(crate) const PROGRAM: &str = "fork and exec of /bin/true";

/// Enough for a 99th percentile; each waits for an RCU grace period on the way out.
const COMMITS: usize = 200;

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "what the kernel takes for itself");
    let lab = Lab::new();
    let round_trips = lab.host.run(|| {
        let mut socket = Socket::open().expect("nf_tables");
        times(move || {
            socket.generation().expect("nf_tables answers");
        })
    });
    figure.add_times(KERNEL, ROUND_TRIP, &round_trips);
    figure.add_times(KERNEL, COMMIT, &lab.host.run(commits));
    let program = || {
        let run = Command::new("/bin/true").stdout(Stdio::null()).status();
        assert!(run.expect("it can be run").success());
    };
    figure.add_times(KERNEL, PROGRAM, &times(program));
    figure
}

fn commits() -> Vec<Duration> {
    let mut socket = Socket::open().expect("nf_tables");
    let mut once = || {
        let mut make = Batch::default();
        make.table(Proto::Inet, "floor", 0);
        let began = Instant::now();
        make.commit(&mut socket, None).expect("root may");
        let took = began.elapsed();
        let mut remove = Batch::default();
        remove.delete_table(Proto::Inet, "floor");
        remove.commit(&mut socket, None).expect("root may");
        took
    };
    (0..COMMITS).map(|_| once()).collect()
}
