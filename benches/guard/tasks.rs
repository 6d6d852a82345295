//! Tasks with a network interface of their own: a pass over many namespaces, and how quickly what is
//! removed in one is back.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use ecs_netguard::guarantee::awsvpc_imds_block;
use ecs_netguard::os::nft::Socket;
use ecs_netguard::seal::task::{TaskTable, keep, look};
use ecs_netguard::tasks::Wish;
use ecs_netguard::tasks::discovery::Survey;

use nix::sys::socket::{MsgFlags, recv};

use crate::defence::{ECS_CONFIG, PATIENCE, guard};
use crate::edge::link_events;
use crate::options::Options;
use crate::report::Figure;
use crate::time::times;
use lab::Lab;
use lab::namespace::{Kind, Namespace};
use lab::tamper::Backend;
use lab::task::Plan;

pub(crate) const ID: &str = "tasks";
pub(crate) const PASS: &str = "safety-net pass";
pub(crate) const REPAIR: &str = "table taken out";
pub(crate) const CLOSED: &str = "until it is back";
pub(crate) const NEW: &str = "a new task";
pub(crate) const BLOCKED: &str = "until it is blocked";

/// How many namespaces there are at most.
const MANY: usize = 500;

/// Fewer than what counts as a fight, after which the guard rests between repairs.
const ROUNDS: usize = 25;
const TASKS: usize = 50;
const LABS: usize = 8;

/// As the table names a number of namespaces.
pub(crate) fn over(namespaces: usize) -> String {
    format!("over {namespaces} tasks")
}

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "tasks in awsvpc mode");
    for namespaces in [10, MANY] {
        figure.add_times(PASS, &over(namespaces), &passes(namespaces));
    }
    let repairs: Vec<Duration> = (0..LABS).flat_map(|_| repairs()).collect();
    figure.add_times(REPAIR, CLOSED, &repairs);
    figure.add_times(NEW, BLOCKED, &new_tasks());
    figure
}

/// From the first event of its port on the agent's bridge until both tables stand in it.
fn new_tasks() -> Vec<Duration> {
    let lab = Lab::new();
    let _daemon = guard(&lab, Backend::Nft, true);
    let mut keep = Vec::new();
    let mut once = |number: usize| {
        let task = Namespace::new("task", Kind::Network).expect("a namespace");
        let netns = task.netns().display().to_string();
        lab.host.sh(&format!(
            "mkdir -p /run/docker/netns; touch /run/docker/netns/{number}
             mount --bind {netns} /run/docker/netns/{number}"
        ));
        // So that nothing is left to be done.
        std::thread::sleep(Duration::from_millis(300));
        let line = format!(
            "link add t{number} type veth peer name ecs-eth0 netns {netns}\n\
             link set t{number} master ecs-bridge up\n"
        );
        let began = lab.host.run(|| {
            let events = link_events().expect("rtnetlink");
            move || {
                recv(events.as_raw_fd(), &mut [0; 8192], MsgFlags::empty()).expect("an event");
                Instant::now()
            }
        });
        let ip = lab.host.command("ip").args(["-batch", "-"]).stdin(line);
        let began = std::thread::scope(|scope| {
            let heard = scope.spawn(began);
            ip.run();
            heard.join().expect("the event is heard")
        });
        let blocked = task.run(move || {
            let wanted = awsvpc_imds_block::drops();
            let mut socket = Socket::open().expect("nf_tables answers");
            while look(&mut socket, &wanted).expect("it can be read") != TaskTable::Intact {
                assert!(began.elapsed() < PATIENCE, "it is not blocked");
            }
            began.elapsed()
        });
        keep.push(task);
        blocked
    };
    (0..TASKS).map(&mut once).collect()
}

fn passes(namespaces: usize) -> Vec<Duration> {
    let lab = Lab::new();
    let make = |_| Namespace::new("task", Kind::Network).expect("a namespace");
    let tasks: Vec<Namespace> = (0..namespaces).map(make).collect();
    let mut links = String::new();
    let mut mounts = String::from("mkdir -p /run/docker/netns; cd /run/docker/netns\n");
    for (number, task) in tasks.iter().enumerate() {
        let netns = task.netns();
        let netns = netns.display();
        links += &format!(
            "link add t{number} type veth peer name ecs-eth0 netns {netns}\n\
             link set t{number} master ecs-bridge up\n"
        );
        mounts += &format!("touch {number}; mount --bind {netns} {number}\n");
    }
    lab.host
        .command("ip")
        .args(["-batch", "-"])
        .stdin(links)
        .run();
    lab.host.command("sh").arg("-e").stdin(mounts).run();
    lab.host.run(move || {
        let mut survey = Survey::open().expect("the host's namespace");
        let mut pass = || {
            let news = survey.pass(Wish::Keep, true).expect("a pass");
            assert!(news.troubles.is_empty(), "{news:?}");
            survey.tasks().count()
        };
        assert_eq!(pass(), namespaces, "all are found");
        times(|| assert_eq!(pass(), namespaces))
    })
}

fn repairs() -> Vec<Duration> {
    let lab = Lab::new();
    let _daemon = lab.start_daemon(ECS_CONFIG);
    let task = lab.task(Plan::default());
    task.ns.run(|| {
        let wanted = awsvpc_imds_block::drops();
        let mut socket = Socket::open().expect("nf_tables answers");
        let mut closed = move || {
            let began = Instant::now();
            while look(&mut socket, &wanted).expect("it can be read") != TaskTable::Intact {
                assert!(began.elapsed() < Duration::from_secs(20), "it is not back");
            }
            began.elapsed()
        };
        let _first = closed();
        let mut other = Socket::open().expect("nf_tables answers");
        let once = |_| {
            assert!(keep(&mut other, &[]).expect("root may"), "it was there");
            closed()
        };
        (0..ROUNDS).map(once).collect()
    })
}
