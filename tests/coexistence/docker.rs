//! A start of Docker's daemon, as Docker 25 and 28 do it. `tests/docker.rs` has a real one.

use super::scene::Scene;
use lab::tamper::Backend;

#[test]
fn docker_starts() {
    for backend in Backend::ALL {
        for sealed in [true, false] {
            let scene = Scene::guarded("Docker", backend, sealed);
            scene.held("start of Docker 25", |lab| {
                lab.tamper(backend).docker25_restart()
            });
            scene.held("another", |lab| lab.tamper(backend).docker25_restart());
            scene.held("start of Docker 28", |lab| {
                lab.tamper(backend).docker28_restart()
            });
            let out = "10.0.0.20".parse().unwrap();
            let other = "172.18.0.2".parse().unwrap();
            let docker = &scene.lab.docker;
            assert!(
                docker.icmp_echo(out).unwrap(),
                "containers reach the network"
            );
            assert!(
                !docker.icmp_echo(other).unwrap(),
                "and not each other's networks"
            );
            scene.leave();
        }
    }
}
