//! ufw.

use super::scene::{CLOSED, OPEN, Scene};
use lab::Lab;
use lab::tamper::Backend;

fn ufw(lab: &Lab, arguments: &str) {
    lab.host.command("ufw").args(arguments.split(' ')).run();
}

#[test]
fn ufw_drops_input_and_credentials_still_work() {
    for sealed in [true, false] {
        let scene = Scene::guarded("ufw", Backend::Nft, sealed);
        scene.lab.install_firewalls();
        // Else ufw itself would keep containers from everything.
        scene.lab.host.sh("sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY=\"ACCEPT\"/' /etc/default/ufw");
        ufw(&scene.lab, "allow 8080/tcp");
        scene.held("enable", |lab| ufw(lab, "--force enable"));
        let its_own_work = || {
            assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        };
        its_own_work();
        scene.held("reload", |lab| ufw(lab, "reload"));
        its_own_work();
        scene.held("disable", |lab| ufw(lab, "disable"));
        assert!(scene.is_open(CLOSED));
        scene.held("enable again", |lab| ufw(lab, "--force enable"));
        scene.leave();
    }
}
