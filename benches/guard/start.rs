//! From the start of the daemon, on a host that has none of its rules, to the last packet that gets through, and to
//! the first proof.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::defence::{ECS_CONFIG, PATIENCE, PROVED, configure};
use crate::flow::Flow;
use crate::machine::apart;
use crate::options::Options;
use crate::report::Figure;
use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;

pub(crate) const ID: &str = "start";
pub(crate) const WHO: &str = "ecs-netguard run";
pub(crate) const WHAT: &str = "to the first proof";
pub(crate) const CLOSED: &str = "to the last packet that passes";

const STARTS: usize = 20;

/// A service manager hears `READY=1` this soon after the log says so, or not at all.
const SOON: Duration = Duration::from_millis(200);

/// Long enough for a packet that got through to arrive.
const QUIET: Duration = Duration::from_millis(50);

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "from exec to proved and READY=1, no rules there before");
    // One lab for all: while the kernel takes an old one apart, it keeps locks that a start needs.
    let lab = Lab::new();
    configure(&lab, Backend::Nft, true);
    lab.write("ecs.config", ECS_CONFIG);
    let socket = lab.inside("notify");
    let manager = lab.host.run({
        let socket = socket.clone();
        move || UnixDatagram::bind(socket).expect("the lab's /run takes sockets")
    });
    let once = || {
        let command = lab.netguard(["run"]).env("NOTIFY_SOCKET", &socket);
        let start = Instant::now();
        let daemon = Daemon::start(command);
        daemon.wait_for_log(PROVED, PATIENCE);
        let logged = start.elapsed();
        let time = ready(&manager).map_or(logged, |()| start.elapsed());
        drop(daemon);
        as_before(&lab);
        time
    };
    let times: Vec<Duration> = (0..STARTS).map(|_| once()).collect();
    figure.add_times(WHO, CLOSED, &closings());
    figure.add_times(WHO, WHAT, &times);
    figure
}

/// A container sends all the while, on a core of its own.
fn closings() -> Vec<Duration> {
    apart(|cores| {
        let lab = Lab::new();
        configure(&lab, Backend::Nft, true);
        lab.write("ecs.config", ECS_CONFIG);
        let flow = Flow::start(&lab, cores).expect("packets flow");
        let once = |_| {
            let began = flow.forget();
            let daemon = Daemon::start(lab.netguard(["run"]));
            let (leak, closed) = flow.settle(QUIET);
            assert!(closed, "the daemon closes it");
            daemon.wait_for_log(PROVED, PATIENCE);
            drop(daemon);
            as_before(&lab);
            leak.until(flow.interval()).saturating_sub(began)
        };
        (0..STARTS).map(once).collect()
    })
}

/// A host on which the daemon never ran.
fn as_before(lab: &Lab) {
    lab.host.sh("nft flush ruleset; rm -rf /run/lab/state/*");
    lab.host.set_sysctl("net/ipv4/conf/all/route_localnet", "0");
}

fn ready(manager: &UnixDatagram) -> io::Result<()> {
    manager.set_read_timeout(Some(SOON))?;
    let mut message = [0; 512];
    loop {
        let length = manager.recv(&mut message)?;
        let text = String::from_utf8_lossy(&message[..length]);
        if text.lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}
