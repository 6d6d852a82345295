//! ecs-init, which adds its rules at every start of the ECS agent without a look, and deletes them by
//! their bare words at every stop, and route_localnet with them.

use super::scene::Scene;
use crate::lab::tamper::Backend;

#[test]
fn ecs_init_starts_and_stops_beside_the_guard() {
    for backend in Backend::ALL {
        for sealed in [true, false] {
            let scene = Scene::guarded("ecs-init", backend, sealed);
            for what in ["start", "start without a stop"] {
                scene.held(what, |lab| lab.tamper(backend).ecs_init_pre_start());
            }
            for what in ["stop", "another stop"] {
                scene.held(what, |lab| {
                    assert!(
                        lab.tamper(backend).ecs_init_post_stop(),
                        "all of its own was there"
                    );
                });
            }
            scene.leave();
        }
    }
}

#[test]
fn ecs_init_was_there_before_the_guard() {
    for backend in Backend::ALL {
        for sealed in [true, false] {
            let mut scene = Scene::new("ecs-init, there before", backend, sealed);
            scene.lab.tamper(backend).ecs_init_pre_start();
            scene.guard();
            scene.held("stop", |lab| {
                assert!(
                    lab.tamper(backend).ecs_init_post_stop(),
                    "all of its own was there"
                );
            });
            scene.held("start", |lab| lab.tamper(backend).ecs_init_pre_start());
            scene.leave();
        }
    }
}
