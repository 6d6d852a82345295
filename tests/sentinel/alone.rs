//! The sentinel without any slow side: its reports are not heard, and it gets no new orders.

use std::sync::mpsc;
use std::time::Duration;

use ecs_netguard::config::settings::{Edge, Seal, Settings};
use ecs_netguard::os::facts;
use ecs_netguard::os::nft::generation;
use ecs_netguard::posture::Posture;
use ecs_netguard::reconcile::{Tools, resolve};
use ecs_netguard::seal::edge::SharedEdge;
use ecs_netguard::seal::{Around, Lacking, Seal as Table};
use ecs_netguard::sentinel::{Orders, Report, Sentinel};

use super::{BOTH, UNSEALED, back, rules};
use lab::Lab;
use lab::imds::IMDS;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

/// Starts a sentinel in the lab's host, in this process, that keeps what `apply` has put there.
fn sentinel(lab: &Lab, tell: impl Fn(Report) + Send + 'static) -> Sentinel {
    lab.write("ecs.config", BOTH);
    lab.write("config.toml", UNSEALED);
    lab.netguard(["apply"]).run();
    lab.host.run(|| {
        let settings = Settings {
            seal: Seal { enabled: false },
            edge: Edge {
                enabled: false,
                ..Edge::default()
            },
            ..Settings::default()
        };
        let posture = Posture::everything("test");
        let (desired, host) = resolve(
            &settings,
            &posture,
            (facts::read(&settings), Tools::find(&settings, None)),
            &[],
        );
        let sentinel = Sentinel::start(tell, SharedEdge::default()).unwrap();
        let orders =
            Orders::read_back(&desired, &host, false, generation().unwrap(), |_| false).unwrap();
        sentinel.keep(orders);
        sentinel
    })
}

#[test]
fn it_repairs_though_no_receiver_listens() {
    let lab = Lab::new();
    let _sentinel = sentinel(&lab, |_| {});
    let before = rules(&lab.tamper(Backend::Nft).save());
    for command in ["iptables-nft -F FORWARD", "nft flush ruleset"] {
        lab.host.sh(command);
        back(&lab, Backend::Nft, &before, command);
    }
}

#[test]
fn of_thousands_of_commits_the_last_is_seen() {
    let lab = Lab::new();
    let (tell, told) = mpsc::sync_channel(1024);
    let _sentinel = sentinel(&lab, move |report| drop(tell.try_send(report)));
    let before = rules(&lab.tamper(Backend::Nft).save());
    let mut script = String::new();
    // One commit a line: in a file all would be one.
    for n in 0..3000 {
        script += &format!("add chain ip filter c{}\n", n % 500);
    }
    script += "flush chain ip filter FORWARD\nquit\n";
    lab.host.command("nft").arg("-i").stdin(script).run();
    eventually(LONG, "the rules are back after a storm", || {
        let now = rules(&lab.tamper(Backend::Nft).save());
        now == before
    });
    let changes = told
        .try_iter()
        .filter(|report| matches!(report, Report::Changed(_)))
        .count();
    assert!(changes > 0, "it heard of none");
}

#[test]
fn it_leaves_alone_what_is_on_hold() {
    let lab = Lab::new();
    let sentinel = sentinel(&lab, |_| {});
    let before = rules(&lab.tamper(Backend::Nft).save());
    sentinel.hold(Duration::from_secs(600));
    lab.host.sh("iptables-nft -F FORWARD");
    lab.host
        .sh("iptables-nft -A FORWARD -s 192.0.2.1/32 -j ACCEPT");
    std::thread::sleep(Duration::from_millis(300));
    let held = lab.tamper(Backend::Nft).save();
    assert!(!held.contains("-A FORWARD -d 169.254.169.254"), "{held}");
    lab.host
        .sh("iptables-nft -D FORWARD -s 192.0.2.1/32 -j ACCEPT");
    sentinel.resume();
    back(&lab, Backend::Nft, &before, "resumed");
}

/// As on kernels before 5.12, where the seal's only table is one that any root process can change.
#[test]
fn an_unowned_native_table_is_guarded_while_the_visible_layer_is_on_hold() {
    let lab = Lab::new();
    let (tell, told) = mpsc::sync_channel(1024);
    let (sentinel, _seal) = lab.host.run(move || {
        let posture = Posture::everything("test");
        let settings = Settings::default();
        let facts = facts::read(&settings);
        let native = resolve(
            &settings,
            &posture,
            (facts, Tools::find(&settings, None)),
            &[],
        )
        .0
        .rules
        .native;
        let sentinel = Sentinel::start(
            move |report| drop(tell.try_send(report)),
            SharedEdge::default(),
        )
        .unwrap();
        let mut seal = Table::open(None).unwrap().lacking(Lacking::Owner);
        let around = Around {
            before: &|| sentinel.hold_native(Duration::from_secs(600)),
            after: &|| sentinel.keep_native(&native),
        };
        assert!(seal.keep(&native, around).unwrap());
        sentinel.hold(Duration::from_secs(600));
        (sentinel, seal)
    });
    let drops = || {
        let table = lab.host.try_run("nft list table inet ecs_netguard");
        table.map_or(0, |table| table.matches(" drop").count())
    };
    let whole = drops();
    assert!(whole > 0);
    for tampering in [
        "nft flush chain inet ecs_netguard forward",
        "nft insert rule inet ecs_netguard prerouting accept",
        "nft delete table inet ecs_netguard",
        "nft flush ruleset",
    ] {
        lab.host.sh(tampering);
        eventually(LONG, tampering, || {
            let table = lab.host.try_run("nft list table inet ecs_netguard");
            drops() == whole && !table.unwrap().contains(" accept\n")
        });
        assert!(lab.docker.role_credentials_v1(IMDS).is_err(), "{tampering}");
    }
    let repairs = told.try_iter().filter_map(|report| match report {
        Report::Displaced(displaced) => Some(displaced.repaired),
        _ => None,
    });
    assert!(repairs.into_iter().all(|repaired| repaired.is_ok()));
    // A change of the seal itself is not taken for another program's.
    sentinel.hold_native(Duration::from_secs(600));
    lab.host.sh("nft flush chain inet ecs_netguard forward");
    std::thread::sleep(Duration::from_millis(300));
    assert!(drops() < whole);
    sentinel.resume();
    eventually(LONG, "it goes on", || drops() == whole);
}
