//! fail2ban.

use super::scene::{OPEN, Scene};
use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const JAIL: &str = r#"rm /etc/fail2ban/jail.d/*
mkdir -p /run/fail2ban
touch /run/lab.log
cat > /etc/fail2ban/filter.d/lab.conf <<END
[Definition]
failregex = ^login failed from <HOST>$
END
cat > /etc/fail2ban/jail.d/lab.conf <<END
[lab]
enabled = true
backend = polling
logpath = /run/lab.log
port = 8080
banaction = iptables-multiport
END
"#;

fn start(lab: &Lab) -> Daemon {
    let server = lab.host.command("fail2ban-server");
    let server = Daemon::start(server.args(["-f", "--logtarget", "STDERR", "start"]));
    eventually(LONG, "fail2ban has its jail", || {
        lab.host.try_run("fail2ban-client status lab").is_ok()
    });
    server
}

fn client(lab: &Lab, arguments: &str) {
    lab.host
        .command("fail2ban-client")
        .args(arguments.split(' '))
        .run();
}

#[test]
fn fail2ban_bans() {
    for sealed in [true, false] {
        let scene = Scene::guarded("fail2ban", Backend::Nft, sealed);
        scene.lab.install_firewalls();
        scene.lab.host.sh(JAIL);
        let mut server = None;
        scene.held("start", |lab| server = Some(start(lab)));
        assert!(scene.is_open(OPEN));
        scene.held("ban", |lab| client(lab, "set lab banip 10.0.0.20"));
        assert!(!scene.is_open(OPEN));
        scene.held("stop", |lab| {
            client(lab, "stop");
            server.as_mut().unwrap().wait(LONG);
        });
        assert!(scene.is_open(OPEN));
        scene.leave();
    }
}
