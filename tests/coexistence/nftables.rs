//! nftables.service: what its start, restart and stop run.

use super::scene::{CLOSED, OPEN, Scene};
use lab::tamper::Backend;

/// Debian's /etc/nftables.conf with a rule of an administrator's.
const CONFIG: &str = "#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; tcp dport 8081 drop; }
    chain forward { type filter hook forward priority filter; }
    chain output { type filter hook output priority filter; }
}
";

#[test]
fn nftables_service_flushes_the_ruleset() {
    for sealed in [true, false] {
        let scene = Scene::guarded("nftables.service", Backend::Nft, sealed);
        scene.lab.write("nftables.conf", CONFIG);
        scene
            .lab
            .write("debian.conf", CONFIG.replace("tcp dport 8081 drop;", ""));
        scene.held("start with Debian's own file", |lab| {
            lab.host.sh("nft -f /run/lab/debian.conf");
        });
        let start = || scene.lab.host.sh("nft -f /run/lab/nftables.conf");
        for what in ["start", "restart"] {
            scene.held(what, |_| drop(start()));
            assert!(scene.is_open(OPEN) && !scene.is_open(CLOSED));
        }
        scene.held("stop", |lab| drop(lab.host.sh("nft flush ruleset")));
        assert!(scene.is_open(CLOSED));
        scene.leave();
    }
}
