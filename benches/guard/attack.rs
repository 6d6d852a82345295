//! A program removes the rules as fast as a shell can while a container keeps asking for the
//! instance's credentials: how often it gets them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use ecs_netguard::os::nft::generation;

use crate::defence::{Defence, run_script};
use crate::options::Options;
use crate::report::{Figure, Unit};
use lab::Lab;
use lab::http::Request;
use lab::imds::{IMDS, ROLE, ROLES_PATH};
use lab::tamper::Backend;

pub(crate) const ID: &str = "attack";
pub(crate) const ANSWERED: &str = "requests answered by IMDS";

/// Requests under way at once, each given up early: a lost SYN is sent again only after a second.
const REQUESTERS: usize = 4;
const GIVE_UP: Duration = Duration::from_millis(20);

const DEFENCES: [Defence; 2] = [
    Defence::Guard { seal: false },
    Defence::Guard { seal: true },
];

pub(crate) fn measure(options: &Options) -> Figure {
    let title = format!(
        "`iptables -F FORWARD` in a loop while a container asks for credentials, {} s",
        options.seconds
    );
    let mut figure = Figure::new(ID, title);
    for defence in DEFENCES {
        attack(&mut figure, defence, options.duration());
    }
    figure
}

#[derive(Debug, Default)]
struct Tally {
    stop: AtomicBool,
    tried: AtomicU64,
    answered: AtomicU64,
}

fn attack(figure: &mut Figure, defence: Defence, duration: Duration) {
    let lab = Lab::new();
    let commits = || lab.host.run(generation).expect("the kernel counts commits");
    let _daemon = defence.start(&lab, Backend::Nft);
    let before = commits();
    let attacker = run_script(&lab, "attack.sh", Backend::Nft);
    let tally = Arc::new(Tally::default());
    let requesters: Vec<_> = (0..REQUESTERS)
        .map(|_| {
            let tally = Arc::clone(&tally);
            lab.docker.thread(move || request(&tally))
        })
        .collect();
    sleep(duration);
    tally.stop.store(true, Ordering::Relaxed);
    for requester in requesters {
        requester
            .join()
            .expect("a requester ends when it is asked to");
    }
    drop(attacker);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    for (what, number) in [
        (ANSWERED, count(&tally.answered)),
        ("requests tried", count(&tally.tried)),
        ("commits meanwhile", f64::from(commits() - before)),
    ] {
        figure.add_one(defence.name(), what, Unit::Count, number);
    }
}

fn request(tally: &Tally) {
    let path = format!("{ROLES_PATH}{ROLE}");
    while !tally.stop.load(Ordering::Relaxed) {
        tally.tried.fetch_add(1, Ordering::Relaxed);
        let answer = Request::get(&path).send(SocketAddr::new(IMDS, 80), GIVE_UP);
        if answer.is_ok_and(|answer| answer.status == 200) {
            tally.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}
