//! netfilter-persistent, which restores a snapshot as iptables-services do: everything else in its
//! tables is gone.

use super::scene::{CLOSED, OPEN, Scene};
use lab::Lab;
use lab::tamper::Backend;

fn netfilter_persistent(lab: &Lab, what: &str) {
    lab.host.command("netfilter-persistent").arg(what).run();
}

/// Has a rule of an administrator's.
fn scene(backend: Backend, sealed: bool) -> Scene {
    let scene = Scene::new("netfilter-persistent", backend, sealed);
    scene.lab.install_firewalls();
    scene.lab.host.sh("mkdir -p /etc/iptables");
    scene.lab.tamper(backend).make_default().unwrap();
    let rule = "-A INPUT -p tcp --dport 8081 -j DROP";
    scene.lab.tamper(backend).iptables(rule);
    scene
}

#[test]
fn a_snapshot_from_before_the_guard() {
    for (backend, sealed) in both() {
        let mut scene = scene(backend, sealed);
        netfilter_persistent(&scene.lab, "save");
        scene.guard();
        scene.held("restore of a snapshot without the guard's rules", |lab| {
            netfilter_persistent(lab, "start");
        });
        assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        scene.held("flush", |lab| netfilter_persistent(lab, "flush"));
        scene.leave();
    }
}

#[test]
fn a_snapshot_with_the_guards_own_rules() {
    for (backend, sealed) in both() {
        let mut scene = scene(backend, sealed);
        scene.guard();
        netfilter_persistent(&scene.lab, "save");
        scene.held("restore of a snapshot with the guard's rules", |lab| {
            netfilter_persistent(lab, "start");
        });
        assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        scene
            .lab
            .host
            .sh("echo IPTABLES_RESTORE_NOFLUSH=yes >> /etc/default/netfilter-persistent");
        scene.held("the same added to what is there", |lab| {
            netfilter_persistent(lab, "start");
        });
        assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        scene.leave();
    }
}

#[test]
fn a_snapshot_with_rules_that_are_not_wanted_any_more() {
    for (backend, sealed) in both() {
        let mut scene = scene(backend, sealed);
        scene
            .lab
            .write("ecs.config", "ECS_ENABLE_TASK_IAM_ROLE=true\n");
        scene.guard();
        scene.lab.host.sh(&format!(
            "{save} | sed 's/169.254.169.254/169.254.169.253/' > /etc/iptables/rules.v4
             rm -f /etc/iptables/rules.v6",
            save = backend.save()
        ));
        scene.held(
            "restore of a snapshot with tagged rules of another version",
            |lab| {
                netfilter_persistent(lab, "start");
            },
        );
        scene.leave();
    }
}

fn both() -> impl Iterator<Item = (Backend, bool)> {
    Backend::ALL
        .into_iter()
        .flat_map(|b| [(b, true), (b, false)])
}
