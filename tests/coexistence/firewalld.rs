//! firewalld, with both of its backends.

use super::scene::{CLOSED, OPEN, Scene};
use crate::lab::Lab;
use crate::lab::tamper::Backend;

/// Container bridges in a zone that lets through, as Docker puts them there; one port open.
const ZONES: &str = r#"cd /etc/firewalld
cat > zones/docker.xml <<END
<zone target="ACCEPT">
  <interface name="docker0"/><interface name="br-0123456789ab"/><interface name="ecs-bridge"/>
</zone>
END
cat > zones/public.xml <<END
<zone><port port="8080" protocol="tcp"/></zone>
END
"#;

fn configure(lab: &Lab, backend: &str) {
    lab.install_firewalls();
    lab.host.sh(ZONES);
    let set = format!("s/^FirewallBackend=.*/FirewallBackend={backend}/");
    lab.host
        .command("sed")
        .args(["-i", &set, "/etc/firewalld/firewalld.conf"])
        .run();
}

fn command(lab: &Lab, argument: &str) {
    lab.host.command("firewall-cmd").arg(argument).run();
}

#[test]
fn firewalld_with_nftables() {
    for sealed in [true, false] {
        let scene = Scene::guarded("firewalld", Backend::Nft, sealed);
        configure(&scene.lab, "nftables");
        let _bus = scene.lab.start_bus();
        let mut firewalld = None;
        let chain = "inet firewalld";
        scene.undecided(
            "start",
            |lab| firewalld = Some(lab.start_firewalld()),
            chain,
        );
        let its_own_work = || {
            assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        };
        its_own_work();
        scene.undecided("reload", |lab| command(lab, "--reload"), chain);
        its_own_work();
        let panic = |lab: &Lab| command(lab, "--panic-on");
        scene.step("panic mode on", panic, &[("task-credentials", "undecided")]);
        assert!(!scene.is_open(OPEN));
        scene.credentials("panic", false);
        scene.undecided("panic mode off", |lab| command(lab, "--panic-off"), chain);
        its_own_work();
        scene.held("stop", |_| {
            firewalld.as_mut().unwrap().terminate();
        });
        assert!(scene.is_open(CLOSED));
        scene.undecided(
            "another start",
            |lab| firewalld = Some(lab.start_firewalld()),
            chain,
        );
        scene.leave();
    }
}

#[test]
fn firewalld_with_iptables() {
    for sealed in [true, false] {
        let scene = Scene::guarded("firewalld (iptables)", Backend::Nft, sealed);
        configure(&scene.lab, "iptables");
        let _bus = scene.lab.start_bus();
        let mut firewalld = None;
        scene.held("start", |lab| firewalld = Some(lab.start_firewalld()));
        let its_own_work = || {
            assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        };
        its_own_work();
        scene.held("reload", |lab| command(lab, "--reload"));
        its_own_work();
        let panic = |lab: &Lab| command(lab, "--panic-on");
        scene.step("panic mode on", panic, &[("task-credentials", "violated")]);
        assert!(!scene.is_open(OPEN));
        scene.credentials("panic", false);
        scene.held("panic mode off", |lab| command(lab, "--panic-off"));
        its_own_work();
        scene.held("stop", |_| {
            firewalld.as_mut().unwrap().terminate();
        });
        assert!(scene.is_open(CLOSED));
        scene.held("another start", |lab| {
            firewalld = Some(lab.start_firewalld())
        });
        scene.leave();
    }
}
