//! Which namespaces are tasks', and what is no task's is left alone.

use ecs_netguard::tasks::Wish;
use ecs_netguard::tasks::discovery::Survey;
use ecs_netguard::verdict::Standing;

use super::*;
use lab::imds::IMDS;
use lab::namespace::{Kind, Namespace};
use lab::task::{Eni, Plan};

#[track_caller]
fn wait_until_none_is_listed(lab: &Lab, daemon: &Daemon) {
    let listed = || json(lab, "status").0["tasks"].take();
    let none = within(LONG, || listed() == serde_json::json!([]));
    assert!(
        none.is_some(),
        "still listed: {:#}\n{}\n{}",
        listed(),
        lab.host
            .sh("ip -br link; ps -eo pid,ppid,stat,wchan:30,etimes,args | grep ecs-netguard"),
        daemon.log()
    );
}

#[test]
fn what_is_no_task_is_left_as_it_is() {
    let lab = Lab::new();
    let stranger = Namespace::new("stranger", Kind::Network).unwrap();
    stranger
        .sh("ip link add eth0 type veth peer name other; ip addr add 10.9.9.9/24 dev eth0; ip link set eth0 up");
    let processes = [&stranger, &lab.docker, &lab.user].map(|ns| {
        // A process makes a namespace visible to everybody.
        Daemon::start(ns.command("sleep").arg("infinity"))
    });
    let before = [&stranger, &lab.docker, &lab.user].map(everything);
    let _daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    assert_eq!([&stranger, &lab.docker, &lab.user].map(everything), before);
    let (status, _) = json(&lab, "status");
    assert_eq!(status["tasks"].as_array().unwrap().len(), 1, "{status}");
    drop(processes);
}

#[test]
fn a_task_without_a_port_is_known_by_its_cgroup_and_by_name() {
    let _alone = alone();
    let lab = Lab::new();
    let mut daemon = daemon(&lab);
    let task = lab.task(Plan {
        bridged: false,
        eni: Eni::Macvlan,
        cgroup: true,
        setpriv: vec!["--bounding-set=-net_admin,-sys_admin".into()],
        ..Plan::default()
    });
    // Nothing tells of a process that moves into a cgroup.
    let found = eventually(LONG, "the task is found", || {
        lab.host
            .sh("ip link add poke type bridge; ip link del poke");
        listed(&json(&lab, "status").0, &task)
    });
    assert_eq!(found["id"], task.id, "{found}");
    assert_eq!(found["standing"], "held", "{found}");
    // It may have been seen on the way to its program, before it gave its capabilities up.
    eventually(LONG, "its capabilities are known", || {
        daemon.hangup();
        std::thread::sleep(Duration::from_millis(200));
        powers(&lab, &task) == ["net-raw"]
    });
}

/// What a task is reported to be able to do.
fn powers(lab: &Lab, task: &Task) -> Vec<Value> {
    let found = listed(&json(lab, "status").0, task).unwrap_or_default();
    found["powers"].as_array().cloned().unwrap_or_default()
}

#[test]
fn capabilities_that_a_process_gives_up_do_not_count() {
    let lab = Lab::new();
    let mut daemon = daemon(&lab);
    let without = "--bounding-set=-net_admin,-sys_admin";
    let task = lab.task(Plan {
        setpriv: vec![without.into()],
        ..Plan::default()
    });
    wait_until_held(&lab, &task);
    let pipe = lab.dir().join("go");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let read = format!("read go <{}", pipe.display());
    let script = format!("{read}; exec setpriv {without} sleep infinity");
    let _other = Daemon::start(task.ns.command("sh").args(["-c", &script]));
    eventually(
        LONG,
        "another process with all capabilities is seen",
        || {
            daemon.hangup();
            std::thread::sleep(Duration::from_millis(200));
            powers(&lab, &task).len() == 3
        },
    );
    std::fs::write(&pipe, "go\n").unwrap();
    eventually(LONG, "it is seen to have given them up", || {
        daemon.hangup();
        std::thread::sleep(Duration::from_millis(200));
        powers(&lab, &task) == ["net-raw"]
    });
}

#[test]
fn a_task_that_cuts_its_cable_is_not_forgotten() {
    let lab = Lab::new();
    let daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    task.ns
        .sh("ip link del ecs-eth0; nft flush ruleset; ip route del blackhole 169.254.169.254/32");
    daemon.wait_for_log("missing in the network namespace of task", LONG);
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    wait_until_held(&lab, &task);
}

/// As the plugins do it: with NLM_F_EXCL, and with success reported even where that fails, before the task has
/// its default route (aws/amazon-vpc-cni-plugins, plugins/vpc-eni).
#[test]
fn the_agents_blackhole_finds_its_place_free_although_the_guards_stands_already() {
    let lab = Lab::new();
    let _daemon = daemon(&lab);
    let task = lab.task(Plan {
        blackholes: false,
        ..Plan::default()
    });
    wait_until_held(&lab, &task);
    task.ns.sh(
        "ip route add blackhole 169.254.169.254/32; ip -6 route add blackhole fd00:ec2::254/128",
    );
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    wait_until_held(&lab, &task);
}

#[test]
fn turned_off_the_guards_part_goes_and_the_agents_stays() {
    let lab = Lab::new();
    let blackholed = lab.task(Plan::default());
    let open = lab.task(Plan {
        blackholes: false,
        ..Plan::default()
    });
    let before = [&blackholed, &open].map(|task| everything(&task.ns));
    let mut daemon = daemon(&lab);
    wait_until_held(&lab, &blackholed);
    wait_until_held(&lab, &open);
    assert!(open.ns.role_credentials_v1(IMDS).is_err());
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=false\n");
    daemon.hangup();
    daemon.wait_for_log("removed", LONG);
    eventually(LONG, "nothing of the guard's is left", || {
        before == [&blackholed, &open].map(|task| everything(&task.ns))
    });
    assert!(open.ns.role_credentials_v1(IMDS).is_ok());
    assert!(blackholed.ns.role_credentials_v1(IMDS).is_err());
    wait_until_none_is_listed(&lab, &daemon);
}

#[test]
fn an_audit_judges_and_changes_nothing() {
    let lab = Lab::new();
    lab.write("config.toml", "[imds]\nawsvpc = \"audit\"\n");
    let task = lab.task(Plan {
        blackholes: false,
        ..Plan::default()
    });
    let before = everything(&task.ns);
    let _daemon = daemon(&lab);
    let (status, code) = json(&lab, "status");
    let found = listed(&status, &task).unwrap();
    assert_eq!(
        (found["standing"].as_str(), code),
        (Some("violated"), 1),
        "{status}"
    );
    assert_eq!(everything(&task.ns), before);
}

#[test]
fn release_takes_out_what_is_in_tasks_too() {
    let lab = Lab::new();
    let task = lab.task(Plan {
        blackholes: false,
        ..Plan::default()
    });
    let before = everything(&task.ns);
    let mut daemon = daemon(&lab);
    wait_until_held(&lab, &task);
    daemon.terminate();
    assert!(
        task.ns.role_credentials_v1(IMDS).is_err(),
        "stopped, the block stays"
    );
    let text = lab.netguard(["release"]).run();
    assert!(text.contains("nftables table inet ecs_netguard"), "{text}");
    assert_eq!(everything(&task.ns), before);
    assert!(task.ns.role_credentials_v1(IMDS).is_ok());
}

#[test]
fn of_200_tasks_none_is_missed_and_none_kept_alive() {
    let _one_at_a_time = with_many_interfaces();
    let lab = Lab::new();
    let daemon = daemon(&lab);
    let began = std::time::Instant::now();
    // Starting one takes the lab some forty processes.
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..5 {
                    let tasks: Vec<Task> = (0..20).map(|_| lab.task(Plan::default())).collect();
                    for task in &tasks {
                        eventually(LONG, "the task is kept from the service", || {
                            let table = task.ns.try_run("nft list table inet ecs_netguard");
                            table.is_ok_and(|table| table.matches(" drop").count() == 2)
                        });
                    }
                }
            });
        }
    });
    println!("200 tasks in {:?}", began.elapsed());
    // A namespace that a process keeps alive keeps its end of the cable, and so the host's.
    eventually(LONG, "all their cables are gone", || {
        !lab.host.sh("ip -br link").contains("vethe")
    });
    wait_until_none_is_listed(&lab, &daemon);
    assert!(
        !daemon.log().contains("cannot be looked into"),
        "{}",
        daemon.log()
    );
}

/// A look at all tasks needs descriptors for one of them at a time.
#[test]
fn more_tasks_than_the_worker_may_open_files_are_found() {
    let _one_at_a_time = with_many_interfaces();
    let lab = Lab::new();
    let tasks: Vec<Task> = (0..40).map(|_| lab.task(Plan::default())).collect();
    lab.write("ecs.config", BLOCK);
    let limited = lab.host.command("prlimit").arg("--nofile=64");
    let limited = limited.arg(binary()).arg("run");
    let daemon = Daemon::start(with_paths(limited, &lab));
    daemon.wait_for_log("the rules are kept with", LONG);
    for task in &tasks {
        wait_until_held(&lab, task);
    }
    let log = daemon.log();
    assert!(!log.contains("cannot be looked into"), "{log}");
}

/// Before a look at all processes, and so without one.
#[test]
fn a_new_task_behind_the_agents_bridge_is_held_at_once_where_there_is_a_handle_on_it() {
    let lab = Lab::new();
    let task = lab.task(Plan::default());
    let mut survey = Some(lab.host.run(|| Survey::open().unwrap()));
    let mut welcomed = || {
        let mut own = survey.take().unwrap();
        let (own, news) = lab.host.run(move || {
            let news = own.welcome(Wish::Keep);
            (own, news)
        });
        survey = Some(own);
        let changed = news.changed.into_iter();
        let found = changed.map(|task| (task.netns, task.standing));
        found.collect::<Vec<_>>()
    };
    assert_eq!(welcomed(), [], "a process alone");
    let handles = [&task.ns, &lab.docker].map(|ns| ns.netns().display().to_string());
    lab.host.sh(&format!(
        "mkdir -p /run/docker/netns; cd /run/docker/netns; touch task container
         mount --bind {} task; mount --bind {} container",
        handles[0], handles[1]
    ));
    let held = (Some(inode(&task)), Standing::Held);
    assert_eq!(welcomed(), [held], "the container is behind docker0");
    assert_eq!(welcomed(), [], "it is not new any more");
}
