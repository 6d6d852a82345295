//! firewalld, with both of its backends.

use super::scene::{CLOSED, OPEN, Scene};
use lab::Lab;
use lab::tamper::Backend;

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

/// What it does to the guard, with one of its backends.
fn story(name: &'static str, backend: &str) {
    for sealed in [true, false] {
        let scene = Scene::guarded(name, Backend::Nft, sealed);
        configure(&scene.lab, backend);
        let _bus = scene.lab.start_bus();
        let mut firewalld = None;
        let runs = |what: &str, act: &mut dyn FnMut(&Lab)| {
            scene.held(what, act);
            // Its own work is done besides.
            assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED), "{what}");
        };
        runs("start", &mut |lab| firewalld = Some(lab.start_firewalld()));
        runs("reload", &mut |lab| command(lab, "--reload"));
        let panic = |lab: &Lab| command(lab, "--panic-on");
        scene.step("panic mode on", panic, &[("task-credentials", "violated")]);
        assert!(!scene.is_open(OPEN));
        scene.credentials("panic", false);
        runs("panic mode off", &mut |lab| command(lab, "--panic-off"));
        scene.held("stop", |_| {
            firewalld.as_mut().unwrap().terminate();
        });
        assert!(scene.is_open(CLOSED));
        runs("another start", &mut |lab| {
            firewalld = Some(lab.start_firewalld());
        });
        scene.leave();
    }
}

#[test]
fn firewalld_with_nftables() {
    story("firewalld", "nftables");
}

#[test]
fn firewalld_with_iptables() {
    story("firewalld (iptables)", "iptables");
}
