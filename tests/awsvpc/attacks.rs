//! What a task's own root and its other processes do to reach the metadata service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ecs_netguard::os::nft::{Batch, ChainName, OWNER, Proto, Socket, Table};
use ecs_netguard::seal::TABLE;
use ecs_netguard::tasks::Wish;
use ecs_netguard::tasks::discovery::Survey;

use super::*;
use lab::imds::{IMDS, IMDS6};
use lab::namespace::{Kind, Namespace};
use lab::task::Plan;

/// Sends a packet by a socket that names its interface.
fn names_its_interface(ns: &Namespace, to: IpAddr) {
    ns.run(move || {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&fd, sockopt::BindToDevice, &"eth0".into()).unwrap();
        let socket = std::net::UdpSocket::from(fd);
        // EPERM where a rule of the namespace dropped it.
        let _ = socket.send_to(b"lab", SocketAddr::new(to, 53));
    });
}

/// Nothing that the task sends by such a socket arrives.
#[track_caller]
fn no_packet_arrives(lab: &Lab, task: &Task) {
    lab.counter().reset();
    for service in [IMDS, IMDS6] {
        names_its_interface(&task.ns, service);
    }
    // What might still be on its way would have arrived by then.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.counter().arrived().total(), 0);
}

#[test]
fn a_socket_that_names_its_interface_gets_past_blackholes_and_not_past_the_guard() {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    let task = lab.task(Plan::default());
    assert!(
        task.ns.role_credentials_v1(IMDS).is_err(),
        "the agent's blackhole"
    );
    for service in [IMDS, IMDS6] {
        lab.counter().reset();
        names_its_interface(&task.ns, service);
        eventually(LONG, "it arrives past the blackhole", || {
            lab.counter().arrived().total() > 0
        });
    }
    let (checked, code) = json(&lab, "check");
    let found = listed(&checked, &task).unwrap();
    assert_eq!(
        (found["standing"].as_str(), code),
        (Some("violated"), 1),
        "{checked}"
    );
    let problem = found["problems"][0].as_str().unwrap();
    assert!(problem.contains("names its interface ("), "{problem}");

    let daemon = daemon(&lab);
    wait_until_held(&lab, &task);
    no_packet_arrives(&lab, &task);
    assert_eq!(json(&lab, "check").1, 0);
    drop(daemon);
}

#[test]
fn what_the_tasks_root_deletes_is_back() {
    let lab = Lab::new();
    let daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    let stop = Arc::new(AtomicBool::new(false));
    let sender = task.ns.thread({
        let (stop, to) = (Arc::clone(&stop), SocketAddr::new(IMDS, 53));
        move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut tried = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // Refused, while the block stands.
                let _ = socket.send_to(b"lab", to);
                tried += 1;
            }
            tried
        }
    });
    task.ns.sh(
        "nft flush ruleset; ip route del blackhole 169.254.169.254/32
        ip -6 route del blackhole fd00:ec2::254/128",
    );
    let log = daemon.wait_for_log("missing in the network namespace of task", LONG);
    eventually(LONG, "everything is back", || {
        let shown = task
            .ns
            .sh("ip route; ip -6 route; nft list table inet ecs_netguard || true");
        shown.matches("blackhole").count() == 2 && shown.matches(" drop").count() == 2
    });
    stop.store(true, Ordering::Relaxed);
    let tried = sender.join().unwrap();
    println!("{tried} tried, arrived: {:?}", lab.counter().arrived());
    assert!(log.contains(&format!("netns {}", inode(&task))), "{log}");
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    let events = lab.netguard(["events", "--json"]).run();
    let drift = events
        .lines()
        .find(|line| line.contains("\"awsvpc-imds-block\"") && line.contains("\"drift\""));
    let drift: Value = serde_json::from_str(drift.unwrap()).unwrap();
    assert!(drift["repair_seconds"].as_f64().unwrap() > 0.0, "{drift}");
}

#[test]
fn a_way_around_by_a_routing_rule_is_named_and_stopped() {
    let lab = Lab::new();
    let _daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    task.ns.sh("ip route add default via 10.0.0.1 table 100; ip rule add to 169.254.169.254 table 100 pref 100");
    let found = eventually(LONG, "the way around is named", || {
        let found = listed(&json(&lab, "status").0, &task)?;
        found["notes"]
            .to_string()
            .contains("table 100")
            .then_some(found)
    });
    assert_eq!(found["standing"], "held", "{found}");
    assert!(
        found["notes"].to_string().contains("priority 100"),
        "{found}"
    );
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    assert_eq!(json(&lab, "check").1, 0);
}

#[test]
fn a_task_that_undoes_it_in_a_loop_is_named_once_and_still_kept() {
    use ecs_netguard::seal::task;
    let lab = Lab::new();
    let daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    let stop = Arc::new(AtomicBool::new(false));
    let enemy = task.ns.thread({
        let stop = Arc::clone(&stop);
        move || {
            let mut socket = Socket::open().unwrap();
            let mut undone = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // Where the guard is quicker than the reading, the next time does it.
                undone += u64::from(task::keep(&mut socket, &[]).unwrap_or(false));
            }
            undone
        }
    });
    let log = daemon.wait_for_log("again and again", LONG);
    assert!(
        log.contains(&format!("task netns {}", inode(&task))),
        "{log}"
    );
    stop.store(true, Ordering::Relaxed);
    println!("undone {} times", enemy.join().unwrap());
    wait_until_held(&lab, &task);
    eventually(LONG, "the table is back", || {
        let table = task.ns.try_run("nft list table inet ecs_netguard");
        table.is_ok_and(|table| table.matches(" drop").count() == 2)
    });
    assert_eq!(daemon.log().matches("again and again").count(), 1);
    assert!(
        daemon.log().matches("repaired").count() < 30,
        "they are summed up"
    );
}

/// The table of raw frames goes with the interface, without a commit, and the interface is the same again.
#[test]
fn an_interface_that_leaves_and_comes_back_has_its_chain_again() {
    let lab = Lab::new();
    let _daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    let chains = || task.ns.sh("nft list table netdev ecs_netguard || true");
    let hooked = |chains: &str| chains.matches("hook egress").count();
    let before = chains();
    assert_eq!(hooked(&before), 2, "{before}");
    let elsewhere = Namespace::new("else", Kind::Network).unwrap();
    let index = task.ns.sh("ip -o link show eth0 | cut -d: -f1");
    let address = task.ns.sh("ip -br -4 addr show eth0 | awk '{print $3}'");
    let (there, back) = (elsewhere.netns(), task.ns.netns());
    task.ns
        .sh(&format!("ip link set eth0 netns {}", there.display()));
    elsewhere.sh(&format!("ip link set eth0 netns {}", back.display()));
    task.ns.sh(&format!(
        "ip link set eth0 up; ip addr add {} dev eth0; ip route add default via 10.0.0.1",
        address.trim()
    ));
    let now = task.ns.sh("ip -o link show eth0 | cut -d: -f1");
    assert_eq!(now, index, "the same number");
    eventually(LONG, "the chain is back", || {
        (hooked(&chains()) == 2).then_some(())
    });
}

/// A pass looks closely only where something is not as it was, and every change is such a thing, also one without a
/// commit. No event is heard here.
#[test]
fn a_pass_repairs_everything_by_itself() {
    let lab = Lab::new();
    let task = lab.task(Plan::default());
    let netns = inode(&task);
    let mut survey = Some(lab.host.run(|| Survey::open().unwrap()));
    let mut repaired = || {
        let mut own = survey.take().unwrap();
        let (own, news) = lab.host.run(move || {
            let news = own.pass(Wish::Keep, true).unwrap();
            (own, news)
        });
        survey = Some(own);
        let repairs = news.repairs.into_iter();
        let objects = repairs.filter(|repair| repair.netns == netns);
        objects
            .flat_map(|repair| repair.objects)
            .collect::<Vec<_>>()
    };
    assert!(repaired().is_empty(), "it is new");
    let (inet, netdev) = (
        "nftables table inet ecs_netguard",
        "nftables table netdev ecs_netguard",
    );
    for (tamper, objects) in [
        ("nft delete table inet ecs_netguard", vec![inet]),
        ("nft delete table netdev ecs_netguard", vec![netdev]),
        (
            "nft insert rule inet ecs_netguard postrouting accept",
            vec![inet],
        ),
        ("nft flush chain netdev ecs_netguard raw", vec![netdev]),
        ("nft flush ruleset", vec![inet, netdev]),
        ("ip link add extra type bridge", vec![netdev]),
        ("ip link set extra name other", vec![netdev]),
        (
            "ip route flush type blackhole; ip route show",
            vec!["blackhole 169.254.169.254"],
        ),
    ] {
        // What was repaired is looked at once more; what is right, and was seen to be, is not.
        assert_eq!(
            [repaired(), repaired(), repaired()].concat(),
            [""; 0],
            "before {tamper}"
        );
        task.ns.sh(tamper);
        assert_eq!(repaired(), objects, "{tamper}");
    }
}

/// The sockets of a look after an event stay open for a moment: not where nothing is wanted any more.
#[test]
fn what_is_forgotten_is_not_kept_alive() {
    let lab = Lab::new();
    let task = lab.task(Plan::default());
    let netns = inode(&task);
    let _survey = lab.host.run(move || {
        let mut survey = Survey::open().unwrap();
        let mut news = survey.pass(Wish::Keep, true).unwrap();
        survey.tend(netns, Wish::Keep, &mut news).unwrap();
        assert!(survey.forget().contains(&netns));
        survey
    });
    let cable = || lab.host.sh("ip -br link").contains("vethe");
    assert!(cable());
    drop(task);
    eventually(LONG, "its cable is gone", || !cable());
}

/// Replaces the guard's table in the calling thread's network namespace by a copy that this socket owns:
/// it goes with the socket, without a commit.
fn own_a_copy() -> Socket {
    copy(OWNER, "filter")
}

/// Replaces the guard's table in the calling thread's network namespace by one with these flags, whose
/// chain at postrouting is of this type.
fn copy(flags: u32, kind: &str) -> Socket {
    let mut socket = Socket::open().unwrap();
    let table = Table::read(&mut socket, Proto::Inet, TABLE)
        .unwrap()
        .unwrap();
    let mut batch = Batch::default();
    batch.delete_table(Proto::Inet, TABLE);
    batch.table(Proto::Inet, TABLE, flags);
    for chain in &table.chains {
        let name = ChainName {
            proto: Proto::Inet,
            table: TABLE.to_owned(),
            chain: chain.name.clone(),
        };
        let mut base = chain.base.clone().unwrap();
        if chain.name == "postrouting" {
            kind.clone_into(&mut base.kind);
        }
        batch.chain(&name, Some(&base));
        for rule in &chain.rules {
            batch.add(&name, rule);
        }
    }
    batch.commit(&mut socket, None).unwrap();
    socket
}

#[test]
fn a_copy_of_the_table_that_the_task_owns_counts_for_nothing_and_is_replaced_when_it_goes() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let _daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    let owner = task.ns.run(own_a_copy);
    eventually(LONG, "the task is violated", || {
        let found = listed(&json(&lab, "status").0, &task)?;
        let problems = found["problems"].to_string();
        (found["standing"] == "violated" && problems.contains("is owned by")).then_some(())
    });
    drop(owner);
    wait_until_held(&lab, &task);
    no_packet_arrives(&lab, &task);
}

/// Events larger than the buffer, from the routes and the interfaces of one task.
#[test]
fn large_events_of_a_task_end_nothing_and_other_tasks_are_repaired_meanwhile() {
    let _one_at_a_time = with_many_interfaces();
    let lab = Lab::new();
    let mut daemon = daemon(&lab);
    let (task, other) = (lab.task(Plan::default()), lab.task(Plan::default()));
    for task in [&task, &other] {
        wait_until_held(&lab, task);
    }
    // No task of this lab has such an address.
    let hop = |n| format!("route append 2001:db8::/32 via fd00:10::ffff:{n:x} dev eth0\n");
    lab.write("hops", (0..2500).map(hop).collect::<String>());
    let name = |n| {
        let name = format!("{n:04}{}", "x".repeat(120));
        format!("link property add dev eth0 altname {name}\n")
    };
    lab.write("names", (0..496).map(name).collect::<String>());
    let (hops, names) = (lab.dir().join("hops"), lab.dir().join("names"));
    task.ns.sh(&format!(
        "ip -batch {}; ip -6 -batch {}",
        names.display(),
        hops.display()
    ));
    let attack = "n=0; while n=$((n % 100 + 1)); do
            ip -6 route del 2001:db8::/32 via fd00:10::ffff:0 dev eth0
            ip -6 route append 2001:db8::/32 via fd00:10::ffff:0 dev eth0
            ip link set eth0 mtu $((1400 + n))
        done";
    let attack = Daemon::start(task.ns.command("sh").arg("-c").arg(attack));
    for _ in 0..5 {
        other.ns.sh("nft delete table inet ecs_netguard");
        eventually(LONG, "the table is back", || {
            other.ns.try_run("nft list table inet ecs_netguard").is_ok()
        });
    }
    drop(attack);
    assert!(daemon.is_running());
    wait_until_held(&lab, &task);
}

#[test]
fn thousands_of_interfaces_and_a_table_that_the_task_owns_end_nothing() {
    const MANY: usize = 4600;
    let _one_at_a_time = with_many_interfaces();
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let mut daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    let _owner = task.ns.run(own_a_copy);
    // Each of them is a way out that the blackholes do not close. Not bridges: the kernel holds its lock for half a
    // minute when thousands of those go with their namespace, and every other test waits.
    let name = |end, n| format!("{end}{n:x}xxxxxxxxxx");
    let pair = |n| {
        let (one, other) = (name('l', n), name('m', n));
        format!(
            "link add {one} type veth peer name {other}\nlink set {one} up\nlink set {other} up\n"
        )
    };
    lab.write("links", (0..MANY / 2).map(pair).collect::<String>());
    task.ns
        .sh(&format!("ip -batch {}", lab.dir().join("links").display()));
    let found = eventually(LONG, "the task is violated", || {
        listed(&json(&lab, "status").0, &task).filter(|found| found["standing"] == "violated")
    });
    assert!(found.to_string().len() < 64 * 1024);
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.is_running());
}

/// A chain of type nat sees no packet of which conntrack does not know.
#[test]
fn a_chain_of_another_type_is_no_block_and_is_replaced() {
    let lab = Lab::new();
    let _daemon = daemon(&lab);
    let task = lab.task(Plan::default());
    wait_until_held(&lab, &task);
    task.ns.sh("nft 'table inet untracked { chain output {
        type filter hook output priority -400
        ip daddr 169.254.169.254 notrack
        ip6 daddr fd00:ec2::254 notrack
    }; }'");
    drop(task.ns.run(|| copy(0, "nat")));
    eventually(LONG, "the chain is of its type again", || {
        let table = task.ns.sh("nft list table inet ecs_netguard");
        !table.contains("type nat") && table.contains("type filter hook postrouting")
    });
    no_packet_arrives(&lab, &task);
}
